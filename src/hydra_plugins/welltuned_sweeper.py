"""What Hydra finds by itself, once welltuned is installed: the sweeper ``welltuned``.

Every program that uses Hydra imports this module, whether it searches or not, so it loads nothing besides.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class WelltunedSweeperConf:
    """The settings of ``hydra/sweeper=welltuned``, all of them under ``hydra.sweeper``.

    Parameters
    ----------
    n_trials
        Trials of the study in all, restarts included; null for no limit, where something else ends the search.
    n_jobs
        How many trials the launcher gets at a time.
    direction
        ``minimize`` or ``maximize``; a dict of them by objective for several, or a list.
    sampler
        A name out of ``welltuned.samplers.SAMPLERS``, or a dict of a name and settings.
    seed
        Makes all suggestions repeatable. Drawn, and stored, unless given.
    storage
        Where the study is kept: a file, from where the program was started, or the address of a server; null for
        memory alone.
    name
        Which study of the storage; that of the program, and of the overrides that all jobs share, unless given.
    noisy
        Whether the same configuration gives different values.
    patience
        End the search after so many trials without improvement.
    target
        End the search when the (first) objective has reached this value.
    max_failures
        How many jobs may fail before the sweep ends with an error; null for any number.
    params
        What is searched, beside the overrides of the command line, by key: an override's value such as
        ``interval(0, 1)``, or a parameter as ``welltuned.Space.parse`` reads it.
    """

    _target_: str = "hydra_plugins.welltuned_sweeper.WelltunedSweeper"
    n_trials: int | None = 20
    n_jobs: int = 1
    direction: Any = "minimize"
    sampler: Any = None
    seed: int | None = None
    storage: str | None = "welltuned.db"
    name: str | None = None
    noisy: bool | None = None
    patience: int | None = None
    target: float | None = None
    max_failures: int | None = None
    params: Any = None


ConfigStore.instance().store(group="hydra/sweeper", name="welltuned", node=WelltunedSweeperConf, provider="welltuned")


class WelltunedSweeper(Sweeper):
    """Search with welltuned; see :mod:`welltuned.hydra`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: DictConfig | None = None
        self.launcher: Any = None
        self.hydra_context: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See :class:`hydra.plugins.sweeper.Sweeper`."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search what the overrides and ``hydra.sweeper.params`` say.

        Raises
        ------
        CompactHydraException
            From an error of ours: of this class, Hydra prints the message alone.
        """
        from welltuned.errors import WelltunedError
        from welltuned.hydra import sweep

        try:
            sweep(self, arguments)
        except WelltunedError as error:
            raise CompactHydraException(f"{type(error).__name__}: {error}") from error
