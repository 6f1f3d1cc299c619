"""Names of parametrised cases that are the same in every process."""

import re


def plain(value) -> str:
    """Return a repr without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
