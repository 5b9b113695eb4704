"""The command that answers about new rows with a saved fit: ``score=RUN_DIRECTORY data.path=NEW.csv output=FILE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pyrozoo.command.arguments import Arguments
from pyrozoo.command.jobs import complain
from pyrozoo.core.settings import suggestion

LAYOUT = ("path", "delimiter", "header", "row_labels", "key", "row", "column", "value", "row_label", "column_label",
          "repeated", "unknown")  # fmt: skip
"""What can be said of the file of new rows."""

KNOWN = ("score", "output", "answer", "count", *(f"data.{name}" for name in LAYOUT))


def score(arguments: Arguments) -> int:
    """Write new rows with their answers to a file; return the exit code."""
    import yaml

    from pyrozoo.core.errors import UserError

    settings: dict[str, Any] = {}
    for word in arguments:
        name, sign, text = word.partition("=")
        if not sign or name not in KNOWN:
            return complain(f"{word}: score=RUN_DIRECTORY takes no such setting; {suggestion(name, KNOWN)}")
        try:
            plain = name in ("score", "output", "data.path", "data.delimiter")
            settings[name] = text if plain else yaml.safe_load(text)
        except yaml.YAMLError:
            return complain(f"{name} is {text!r}, which cannot be read")
    layout = {name.removeprefix("data."): value for name, value in settings.items() if name.startswith("data.")}
    directory, path, output = Path(settings["score"]), layout.pop("path", None), settings.get("output", "scored.csv")
    if not (directory / "metrics.json").is_file():
        return complain(f"score={directory} is not a finished run directory (no metrics.json)")
    if path is None and settings.get("answer") != "recommend":
        return complain("score=RUN_DIRECTORY needs data.path=FILE: the new rows, laid out as the fitted data")
    if path is not None and not Path(path).is_file():
        return complain(f"data.path: there is no file {path}")
    from pyrozoo.run.score import score as scored

    try:
        asked = {name: settings[name] for name in ("answer", "count") if name in settings}
        frame = scored(directory, None if path is None else Path(path), output, **asked, **layout)
    except UserError as error:
        return complain(str(error))
    notes = "".join(f"  note  {note}\n" for note in frame.attrs["notes"])
    sys.stdout.write(f"{len(frame)} rows\n{notes}  {output}\n")
    return 0
