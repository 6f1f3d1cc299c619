"""Addresses as messages may show them."""

from __future__ import annotations

import re

SECRET = re.compile(r"^(\w*[:;]?/*).*@", re.DOTALL)
PASSWORD = re.compile(r"(password\s*=\s*)('(?:\\.|[^'])*'?|(?:\\.|[^&\s\\])*)", re.IGNORECASE | re.DOTALL)


def masked(address: str) -> str:
    """Return an address without what may be a secret in it: a name, a token, a password.

    That is all between the scheme, however it is written, and the last ``@``, and what follows ``password=``, in a
    query or as libpq quotes it.

    Examples
    --------
    >>> masked("postgresql://ann:secret@host/base"), masked("host=a password='my secret' user=b")
    ('postgresql://…@host/base', 'host=a password=… user=b')
    """
    return PASSWORD.sub(r"\1…", SECRET.sub(r"\1…@", address))
