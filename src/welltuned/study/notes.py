"""What people write down of a study as a whole: a version of the data, a commit, whoever asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from welltuned.storage import StudyRow

NOTE = "note:"  # each is an attribute of its own, so that of two processes that note at once neither loses anything


def as_attributes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes as what is stored of a study."""
    return {NOTE + name: value for name, value in notes.items()}


def in_words(notes: Mapping[str, Any]) -> str:
    """Return notes as one line of text."""
    return ", ".join(f"{name} = {value}" for name, value in notes.items())


def notes_of(row: StudyRow) -> dict[str, Any]:
    """Return the notes of a stored study, in the order in which they were first made."""
    return {name.removeprefix(NOTE): value for name, value in row.attributes.items() if name.startswith(NOTE)}
