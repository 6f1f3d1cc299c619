"""Addresses as messages may show them."""

from __future__ import annotations

import re


def masked(address: str) -> str:
    """Return an address without what may be a secret in it: a name, a token, a password.

    That is all between ``//`` and the last ``@``, wherever it should have ended, and ``password=`` in a query.
    """
    return re.sub(r"(password=)[^&\s]*", r"\1…", re.sub(r"//.*@", "//…@", address, flags=re.DOTALL))
