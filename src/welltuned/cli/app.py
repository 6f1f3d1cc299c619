"""The group of all commands."""

from __future__ import annotations

import logging

import click

from welltuned import __version__
from welltuned.cli.demo import demo
from welltuned.cli.saving import salvage
from welltuned.cli.serving import serve
from welltuned.cli.tuning import run, tune, worker
from welltuned.cli.viewing import best, export, list_studies, report, show


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="welltuned")
@click.option("-v", "--verbose", is_flag=True, help="Say which sampler is used and why.")
def app(verbose: bool) -> None:
    """Find the best hyperparameters, keep every trial, and see what mattered.

    Studies live in a SQLite file, welltuned.db unless --storage or the variable WELLTUNED_STORAGE names another one.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.WARNING)


for command in (demo, run, tune, worker, list_studies, show, best, report, export, serve, salvage):
    app.add_command(command)
