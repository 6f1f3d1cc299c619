"""Addresses as messages may show them."""

from __future__ import annotations

import re

#: what is an address, with a scheme or with something like one
SECRET = re.compile(r"^((?:(?:postgres(?:ql)?|https?):?/*|\w*[:;]?//)).*@", re.DOTALL | re.IGNORECASE)
PASSWORD = re.compile(r"(password\s*=\s*)('(?:\\.|[^'])*'?|(?:\\.|[^&\s\\])*)", re.IGNORECASE | re.DOTALL)


def masked(address: str) -> str:
    """Return an address without what may be a secret in it: a name, a token, a password.

    That is all between the scheme, however it is written, and the last ``@``, and what follows ``password=``, in a
    query or as libpq quotes it. The path of a file stays as it is.

    Examples
    --------
    >>> masked("postgresql://ann:secret@host/base"), masked("host=a password='my secret' user=b"), masked("a@b.db")
    ('postgresql://…@host/base', 'host=a password=… user=b', 'a@b.db')
    """
    return PASSWORD.sub(r"\1…", SECRET.sub(r"\1…@", address))
