"""``python -m pyrozoo.report DIR [DIR ...]``: write reports anew from run directories."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pyrozoo.command.terminal import complain, end, say

USAGE = """Usage: python -m pyrozoo.report DIR [DIR ...] [reference=DIR] [output=DIR] [verdict.NAME=VALUE ...]

  one run directory         its report.html, figures and tables are written anew: all, whatever report= it had
  one sweep directory       the comparison over its runs is written anew; runs without a fit are named in it
  several of either         a comparison over all of their runs, in output (default: outputs/comparisons/<time>)

  reference=DIR             the run directory of a fit that the others are held to
  verdict.NAME=VALUE        a threshold of the verdicts, such as verdict.mean_good=0.1
"""


def main() -> None:
    """Run the command and exit."""
    end(lambda: run(sys.argv[1:]), "pyrozoo.report")


def run(arguments: Sequence[str]) -> int:
    """Do what is asked for; return the exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        say(USAGE)
        return 0
    from pyrozoo.core.errors import UserError

    try:
        say(f"{rebuild(arguments)}\n")
    except UserError as error:
        return complain(str(error), "pyrozoo.report")
    return 0


def rebuild(arguments: Sequence[str]) -> Path:
    """Do what the arguments ask for; return the report's address.

    Raises:
        SettingError: An argument that is no directory and no setting.
        DataError: A directory that holds neither a run nor a sweep.
    """
    from pyrozoo.command.sweep import runs_of
    from pyrozoo.core.errors import DataError, SettingError
    from pyrozoo.run.reference import verdict_settings
    from pyrozoo.store.run_directory import CONFIG
    from pyrozoo.studies.calibrate.page import compare_calibrations, is_calibration
    from pyrozoo.studies.compare.page import compare_directories

    directories, settings, limits = [], {}, {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if sign and key in ("reference", "output"):
            settings[key] = value
        elif sign and key.startswith("verdict."):
            limits[key.removeprefix("verdict.")] = _number(argument)
        elif Path(argument).is_dir():
            directories.append(Path(argument))
        else:
            raise SettingError(f"{argument!r} is not a directory, nor reference=, output= or verdict.NAME=")
    if not directories:
        raise SettingError("name at least one run directory or sweep directory")
    runs: list[Path] = []
    for directory in directories:
        found = [directory] if (directory / CONFIG).is_file() else runs_of(directory)
        if not found:
            raise DataError(f"{directory} holds neither a run nor a sweep (no {CONFIG} in it or in a folder of it)")
        runs += found
    alone = len(directories) == len(runs) == 1 and directories == runs
    calibrations = any(is_calibration(run) for run in runs)
    if alone and calibrations:
        raise SettingError(f"{runs[0]} holds a calibration: python -m pyrozoo resume={runs[0]} writes its report anew")
    if alone and "output" not in settings:
        return _run(runs[0], settings, limits)
    new = Path("outputs") / "comparisons" / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    target = Path(settings.get("output", directories[0] if len(directories) == 1 and not alone else new))
    if calibrations:
        compare_calibrations(runs, target)
        return target / "report.html"
    thresholds, _ = verdict_settings({"verdict": limits})
    reference = Path(settings["reference"]) if "reference" in settings else None
    compare_directories(runs, target, reference=reference, limits=thresholds)
    return target / "report.html"


def _number(argument: str) -> float | None:
    from pyrozoo.core.errors import SettingError

    key, _, value = argument.partition("=")
    try:
        return None if value == "null" else float(value)
    except ValueError:
        raise SettingError(f"{key} is {value!r}; it must be a number") from None


def _run(directory: Path, settings: dict[str, str], limits: dict[str, Any]) -> Path:
    """Write what is made of one run anew."""
    from pyrozoo.run.fit import load

    fit = load(directory)
    asked = {"reference": settings.get("reference", fit.settings.get("reference"))}
    fit.settings = {**fit.settings, **asked, "verdict": (fit.settings.get("verdict") or {}) | limits}
    fit.report(directory)
    return directory / "report.html"


if __name__ == "__main__":
    main()
