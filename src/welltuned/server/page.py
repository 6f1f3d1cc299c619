"""The files of the dashboard's page. They hold no data, so the gate lets everybody have them."""

from __future__ import annotations

import functools
import gzip
import hashlib
from importlib import resources

from welltuned.errors import require
from welltuned.report import STYLE

try:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as error:
    raise require("starlette", "server", "welltuned serve") from error

FOLDER = resources.files("welltuned.server") / "static"
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
STYLE_FILE, PLOTLY_FILE = "report.css", "plotly.js"
#: the script that draws parallel coordinates is compiled as it runs; Plotly also sets styles of what it draws
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
REVALIDATE, DAY = "no-cache", "private, max-age=86400"


def _names() -> list[str]:
    return sorted(entry.name for entry in FOLDER.iterdir() if entry.name.rpartition(".")[2] in KINDS)


@functools.cache
def _file(name: str) -> tuple[bytes, bytes, str]:
    """Return what a file holds, the same packed, and what tells one version from another."""
    if name == STYLE_FILE:
        content = STYLE.encode()
    elif name == PLOTLY_FILE:
        content = _plotly()
    else:
        content = (FOLDER / name).read_bytes()
    return content, gzip.compress(content, 6), f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def _plotly() -> bytes:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()


def _serve(request: Request) -> Response:
    """Answer with a file; Starlette calls it in a thread."""
    name = request.url.path.rpartition("/")[2] or "index.html"
    try:
        content, packed, tag = _file(name)
    except ImportError:
        return Response("plotly is not installed: pip install 'welltuned[plots]'", 404, HEADERS)
    headers = {
        **HEADERS,
        "ETag": tag,
        "Cache-Control": DAY if name == PLOTLY_FILE else REVALIDATE,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = packed, "gzip"
    return Response(content, 200, headers, media_type=KINDS[name.rpartition(".")[2]])


ROUTES = tuple(
    Route(path, _serve, methods=["GET"])
    for path in ("/", *(f"/static/{name}" for name in (*_names(), STYLE_FILE, PLOTLY_FILE) if name != "index.html"))
)
#: what the gate lets pass without the token
PATHS = frozenset(route.path for route in ROUTES)
