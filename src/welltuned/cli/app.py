"""The group of all commands."""

from __future__ import annotations

import logging
import sys

import click

from welltuned import __version__
from welltuned.cli.demo import demo
from welltuned.cli.moving import delete, import_study
from welltuned.cli.saving import salvage
from welltuned.cli.serving import dashboard, serve
from welltuned.cli.tracking import track
from welltuned.cli.tuning import run, tune, worker
from welltuned.cli.viewing import best, export, list_studies, report, show


class _ToStandardError(logging.Handler):
    """Print to what standard error is now: while a progress line is shown, what keeps messages above it."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), file=sys.stderr)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="welltuned")
@click.option("-v", "--verbose", is_flag=True, help="Say each result, and why which sampler is used. Before COMMAND.")
def app(verbose: bool) -> None:
    """Find the best hyperparameters, keep every trial, and see what mattered.

    Studies live in a SQLite file, welltuned.db unless --storage or the variable WELLTUNED_STORAGE names another one.
    """
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(format="%(message)s", level=level, handlers=[_ToStandardError()])


looking, moving = (list_studies, show, best, report, export), (track, import_study, delete, salvage)
for command in (demo, run, tune, worker, *looking, dashboard, serve, *moving):
    app.add_command(command)
