"""Commands about files: ``score run=RUN data=NEW output=FILE`` answers about new rows, ``read FILE`` shows a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyrozoo.command.arguments import Arguments
from pyrozoo.command.files import typed_settings
from pyrozoo.command.terminal import complain, say
from pyrozoo.core.settings import suggestion

LAYOUT = ("path", "delimiter", "header", "encoding", "decimal", "missing", "transpose", "row_labels", "key", "row",
          "column", "value", "row_label", "column_label", "repeated", "unknown", "exposure")  # fmt: skip
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
            return complain(f"{word}: score run=RUN_DIRECTORY takes no such setting; {suggestion(name, KNOWN)}")
        try:
            settings[name] = text if name in ("score", "output") or name.startswith("data.") else yaml.safe_load(text)
        except yaml.YAMLError:
            return complain(f"{name} is {text!r}, which cannot be read")
    layout = typed_settings({name: text for name, text in settings.items() if name.startswith("data.")})
    directory, path, output = Path(settings["score"]), layout.pop("path", None), settings.get("output", "scored.csv")
    if not (directory / "metrics.json").is_file():
        return complain(f"score={directory} is not a finished run directory (no metrics.json)")
    if path is None and settings.get("answer") != "recommend":
        return complain("score run=RUN_DIRECTORY needs data=FILE: the new rows, laid out as the fitted data")
    if path is not None and not Path(path).exists():
        return complain(f"data.path: there is no file {path}")
    from pyrozoo.run.score import score as scored

    try:
        asked = {name: settings[name] for name in ("answer", "count") if name in settings}
        frame = scored(directory, None if path is None else Path(path), output, **asked, **layout)
    except UserError as error:
        return complain(str(error))
    notes = "".join(f"  note  {note}\n" for note in frame.attrs["notes"])
    say(f"{len(frame)} rows\n{notes}  {output}\n")
    return 0


def show(arguments: Arguments) -> int:
    """Show what is in a file and how it would be read; return the exit code: 2 where it would be refused."""
    from pyrozoo.core.errors import UserError
    from pyrozoo.run.reading import read

    settings = dict(arguments.settings)
    path, model = settings.pop("read"), settings.pop("model", None)
    for name in settings:
        if not name.startswith("data."):
            return complain(f"{name}: read FILE takes model=MODEL and data.* only")
    try:
        found = read(Path(path), model, **typed_settings(settings))
    except UserError as error:
        return complain(str(error))
    say(f"{found}\n")
    return 2 if found.problems else 0
