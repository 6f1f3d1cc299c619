"""``welltuned serve``: a storage for other machines and other languages, and ``welltuned dashboard``: for a browser."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from welltuned.cli.common import DEFAULT_STORAGE
from welltuned.errors import StorageError
from welltuned.schedulers import SCHEDULERS
from welltuned.storage import open_storage
from welltuned.storage.masking import masked

PORT = 8642
Command = Callable[..., Any]


def _serving(port: int | None, told: str) -> Callable[[Command], Command]:
    """Add what both commands take."""
    options = (
        click.argument("storage", envvar="WELLTUNED_STORAGE", default=DEFAULT_STORAGE),
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option("--port", type=click.IntRange(0, 65535), default=port, show_default=port is not None, help=told),
        click.option(
            "--token",
            envvar="WELLTUNED_TOKEN",
            default=None,
            help="What clients have to know; a new one unless given.",
        ),
        click.option(
            "--scheduler",
            type=click.Choice(sorted(SCHEDULERS)),
            default=None,
            help="Judge what workers in other languages report, in studies that have none of their own.",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@_serving(PORT, "0 takes one that is free.")
def serve(storage: str, host: str, port: int, token: str | None, scheduler: str | None) -> None:
    """Serve a STORAGE over HTTP: to workers on other machines and in other languages, and to a browser.

    STORAGE is a file or an address, welltuned.db unless given. Ends with Ctrl-C; started again, with the same token,
    everything goes on.
    """
    _serve(storage, host, port, token, scheduler, for_workers=True)


@click.command()
@_serving(None, f"{PORT} unless given, or one that is free where that is taken.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
def dashboard(
    storage: str, host: str, port: int | None, token: str | None, scheduler: str | None, no_browser: bool
) -> None:
    """Watch the studies of a STORAGE in a browser, as they run.

    STORAGE is a file or an address, welltuned.db unless given; studies appear as they are made. Ends with Ctrl-C. It
    serves as `welltuned serve` does.
    """
    _serve(storage, host, port, token, scheduler, browser=not no_browser)


def _serve(
    storage: str,
    host: str,
    port: int | None,
    token: str | None,
    scheduler: str | None,
    *,
    for_workers: bool = False,
    browser: bool = False,
) -> None:
    from welltuned.server.app import check_token, make_app
    from welltuned.server.running import address_of, is_loopback, run

    token = check_token(secrets.token_urlsafe(32) if token is None else token)
    if storage.lower().startswith(("http://", "https://")):
        raise StorageError(f"{masked(storage)!r} is served already; name a file or a database")
    store = open_storage(storage)
    try:
        app = make_app(store, token, scheduler=scheduler)
        listening = _listen(host, port)
        address = address_of(listening, host)
        page = f"{address}/#token={quote(token, safe='')}"
        click.echo(f"serving {masked(storage)} at {address}\n\n  in the browser: {page}\n")
        if for_workers:
            click.echo(f'  export WELLTUNED_TOKEN={token}\n  Study(space, storage="{address}")\n')
            click.echo(f"For other languages see {address}/openapi.json. Ctrl-C ends it.")
        else:
            click.echo("Ctrl-C ends it.")
        if browser:  # some hold up whoever opens them
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
        if not is_loopback(host):
            click.echo(
                f"Warning: {host} can be reached from other machines and what is sent is not encrypted, the token "
                "included; use an SSH tunnel or a reverse proxy with TLS",
                err=True,
            )
        run(app, listening)
    finally:
        store.close()


def _listen(host: str, port: int | None) -> socket.socket:
    from welltuned.server.running import listen

    if port is not None:
        return listen(host, port)
    try:
        return listen(host, PORT)
    except StorageError:
        return listen(host, 0)
