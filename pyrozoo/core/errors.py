"""The mistakes a user can make: each is one line, and exit code 2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

QUOTED, WORD, BLANKS = 200, 1000, 40
"""Letters of a quoted text, of a word and of blanks in a row, beyond which a message leaves out the middle."""

_LONG = re.compile(
    rf"""(?<!\w)'(?:[^'\\]|\\.){{{QUOTED},}}'(?!\w)|(?<!\w)"(?:[^"\\]|\\.){{{QUOTED},}}"(?!\w)"""
    rf"|(?<!\S)\S{{{WORD},}}|(?<!\s)\s{{{BLANKS},}}"
)


def shortened(message: str) -> str:
    """Return a message in which no cell, name or path of a file takes pages: the middle of what is long is left out."""
    return _LONG.sub(lambda found: f"{found[0][:80]} ... {found[0][-20:]}", message)


class UserError(Exception):
    """A mistake in the input: shown as one line, exit code 2, nothing half written."""

    def __init__(self, message: object = ""):
        super().__init__(shortened(str(message)))


class DataError(UserError):
    """The data cannot be used; the message names the column or the cell."""


class SettingError(UserError):
    """A setting is unknown or out of range; the message names the field."""


class NotApplicable(UserError):
    """The method does not apply to the model; the message names the methods that do. A sweep lists it and goes on."""


class NumericalError(UserError):
    """A computation could not be carried out in floating point; the message says where and what to try."""


NOTED: tuple[type[Exception], ...] = (Exception,)
"""Faults of which ``noted`` makes notes."""


@contextmanager
def noted(notes: list[str], what: str, again: str = "") -> Iterator[None]:
    """Go on when a block fails, and say so in a note: what is made of a fit must not lose it.

    Args:
        notes: Gets the note.
        what: What could not be made.
        again: What to type to try again, if anything.
    """
    try:
        yield
    except OSError:  # what cannot be written, as on a full disk, is the user's to mend
        raise
    except NOTED as error:
        said = f"{what} could not be made: {'' if isinstance(error, UserError) else f'{type(error).__name__}, '}"
        said += first_line(error) + (f" ({again} tries again)" if again else "")
        if said not in notes:
            notes.append(said)


def first_line(error: Exception) -> str:
    """Return what an error says in one line, at least what it is."""
    return (str(error).splitlines() or [type(error).__name__])[0]
