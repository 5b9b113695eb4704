"""The help: usage, models with their methods, data, experiments. Imports nothing heavy."""

from __future__ import annotations

from pyrozoo.command.arguments import RECOVERY
from pyrozoo.run import catalog


def help_text() -> str:
    """Return the help: usage, models with their methods, data, experiments. Imports nothing heavy."""
    lines = [
        "Usage: python -m pyrozoo model=MODEL inference=METHOD [GROUP.SETTING=VALUE ...]",
        "       python -m pyrozoo -m model=MODEL inference=METHOD,METHOD,...   a sweep is a comparison",
        "       python -m pyrozoo experiment=EXPERIMENT",
        "       python -m pyrozoo task=calibrate model=MODEL inference=METHOD   are its intervals calibrated?",
        "       python -m pyrozoo resume=RUN_DIRECTORY",
        "       python -m pyrozoo score run=RUN_DIRECTORY data=NEW.csv output=scored.xlsx   new rows",
        "       python -m pyrozoo read FILE [model=MODEL]   how it would be read",
        "       python -m pyrozoo explain model=MODEL inference=METHOD   where the updates come from: gibbs, em, cavi",
        "",
        "Models and their methods:",
    ]
    for name in catalog.models():
        lines += [f"  {name:<20}{catalog.title(name)}", f"  {'':<20}{', '.join(catalog.methods(name))}"]
    lines += ["", "Methods:"]
    lines += [f"  {name:<20}{catalog.settings('inference', name)['summary']}" for name in catalog.options("inference")]
    lines += ["", "Data:"]
    lines += [f"  {name:<20}{catalog.described('data', name)}" for name in catalog.options("data")]
    lines += ["", "Experiments:"]
    lines += [f"  {name:<20}{catalog.described('experiment', name)}" for name in catalog.options("experiment")]
    lines += [
        "",
        "Your own data:    data=FILE (a table, a list, a workbook, a picture ...)",
        "What is written beside the fit:    report=none, brief or full (python -m pyrozoo.report RUN makes the rest)",
        "Settings of one run without running it:    ... --cfg job",
        "Options of the sweep and of the command line itself:    --hydra-help",
        f"Settings of a recovery study ({', '.join(catalog.recoveries())}):    {', '.join(RECOVERY)}",
        "",
    ]
    return "\n".join(lines)
