"""``welltuned serve``: a storage for other machines and other languages."""

from __future__ import annotations

import secrets

import click

from welltuned.cli.common import DEFAULT_STORAGE
from welltuned.errors import StorageError
from welltuned.schedulers import SCHEDULERS
from welltuned.storage import open_storage
from welltuned.storage.masking import masked

PORT = 8642


@click.command()
@click.argument("storage", envvar="WELLTUNED_STORAGE", default=DEFAULT_STORAGE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes one that is free."
)
@click.option(
    "--token", envvar="WELLTUNED_TOKEN", default=None, help="What clients have to know; a new one unless given."
)
@click.option(
    "--scheduler",
    type=click.Choice(sorted(SCHEDULERS)),
    default=None,
    help="Judge what workers in other languages report, in studies that have none of their own.",
)
def serve(storage: str, host: str, port: int, token: str | None, scheduler: str | None) -> None:
    """Serve a STORAGE over HTTP, to workers on other machines and in other languages.

    STORAGE is a file or an address, welltuned.db unless given. Ends with Ctrl-C; started again, with the same token,
    everything goes on.
    """
    from welltuned.server.app import check_token, make_app
    from welltuned.server.running import address_of, is_loopback, listen, run

    token = check_token(secrets.token_urlsafe(32) if token is None else token)
    if storage.lower().startswith(("http://", "https://")):
        raise StorageError(f"{masked(storage)!r} is served already; name a file or a database")
    store = open_storage(storage)
    try:
        listening = listen(host, port)
        app = make_app(store, token, scheduler=scheduler)
        click.echo(
            f"serving {masked(storage)} at {address_of(listening, host)}\n\n"
            f"  export WELLTUNED_TOKEN={token}\n"
            f'  Study(space, storage="{address_of(listening, host)}")\n\n'
            f"For other languages see {address_of(listening, host)}/openapi.json. Ctrl-C ends it.",
        )
        if not is_loopback(host):
            click.echo(
                f"Warning: {host} can be reached from other machines and what is sent is not encrypted, the token "
                "included; use an SSH tunnel or a reverse proxy with TLS",
                err=True,
            )
        run(app, listening)
    finally:
        store.close()
