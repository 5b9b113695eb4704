"""``pyrozoo.read``: what a file or a table holds and how it would be used, before anything is fitted."""

from __future__ import annotations

from typing import Any

from pyrozoo.core.errors import SettingError
from pyrozoo.core.settings import suggestion
from pyrozoo.data.readers.layout import NAMES, Wanted, layout_of
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.readers.source import is_frame, read_source
from pyrozoo.run import catalog


def read(source: Any, model: str | None = None, **settings: Any) -> Reading:
    """Show how a file or a table would be read: its format, names, columns taken and left out, guesses and problems.

    Args:
        source: A path, a DataFrame, or what is like one.
        model: The model that it is for, which says whether counts, categories, a list or a picture are needed; None:
            numbers, in a table or a list.
        **settings: What is said of the data: ``delimiter``, ``missing``, ``columns``, ``row`` ... (``data.*`` of a
            command).

    Returns:
        What was found. Printed, it is a page; ``problems`` are those that a fit would be refused for.

    Raises:
        DataError: There is no such file, or nothing can be read of it at all.
        SettingError: No such model or setting.
    """
    for name in settings:
        if name not in NAMES:
            raise SettingError(f"data has no setting {name!r}; {suggestion(name, NAMES)}")
    if model is not None and (problem := catalog.check_choice("model", model)):
        raise SettingError(problem)
    if not is_frame(source) and not isinstance(source, str) and not hasattr(source, "__fspath__"):
        raise SettingError(f"a path or a table is read, not {type(source).__name__}")
    wanted = Wanted(listed=True) if model is None else catalog.wanted(model, "file")
    return read_source(source, layout_of(settings), wanted)
