"""The command line. ``main`` is what the ``welltuned`` program runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; show errors of our own family as one line, without a traceback."""
    import click

    from welltuned.cli.app import app
    from welltuned.errors import InvalidType, InvalidValue, WelltunedError

    try:
        code = app(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the second into the first
        click.echo("interrupted; everything finished so far is stored, and the same command goes on", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except WelltunedError as error:
        click.echo(f"Error: {error}", err=True)
        code = 2 if isinstance(error, (InvalidValue, InvalidType)) else 1
    sys.exit(code if isinstance(code, int) else 0)
