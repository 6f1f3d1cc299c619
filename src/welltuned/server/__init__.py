"""A storage over HTTP: ``make_app`` builds the application, ``welltuned serve`` runs it.

One table of operations drives the routes, the checks of what is sent, and the OpenAPI description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from welltuned.server.app import make_app

__all__ = ["make_app"]


def __getattr__(name: str) -> Any:
    if name != "make_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from welltuned.server.app import make_app

    return make_app
