"""The mistakes a user can make: each is one line, and exit code 2."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the input: shown as one line, exit code 2, nothing half written."""


class DataError(UserError):
    """The data cannot be used; the message names the column or the cell."""


class SettingError(UserError):
    """A setting is unknown or out of range; the message names the field."""


class NotApplicable(UserError):
    """The method does not apply to the model; the message names the methods that do. A sweep lists it and goes on."""


class NumericalError(UserError):
    """A computation could not be carried out in floating point; the message says where and what to try."""


def first_line(error: Exception) -> str:
    """Return what an error says in one line, at least what it is."""
    return (str(error).splitlines() or [type(error).__name__])[0]
