"""The command: help and mistakes at once, everything else by way of Hydra."""

from __future__ import annotations

import sys

from pyrozoo.command.arguments import Arguments, early_problem
from pyrozoo.command.explaining import explain
from pyrozoo.command.help import help_text
from pyrozoo.command.jobs import recover, resume
from pyrozoo.command.scoring import score, show
from pyrozoo.command.terminal import complain, end, say
from pyrozoo.core.paths import version
from pyrozoo.run import catalog


def main() -> None:
    """Run the command line and exit."""
    end(lambda: run(Arguments.read(sys.argv[1:])))


def run(arguments: Arguments) -> int:
    """Do what is asked for; return the exit code."""
    if not arguments.words or arguments.has("-h", "--help"):
        say(help_text())
        return 0
    if arguments.has("--version"):
        say(f"pyrozoo {version()}\n")
        return 0
    if "score" in arguments.settings:
        return score(arguments)
    if "read" in arguments.settings:
        return show(arguments)
    if "explain" in arguments.settings:
        return explain(arguments)
    if problem := early_problem(arguments):
        return complain(problem)
    study = arguments.settings.get("experiment")
    if study in catalog.recoveries():
        return recover(study, arguments)
    if "resume" in arguments.settings:
        return resume(arguments)
    from pyrozoo.command.compose import compose_and_run

    return compose_and_run(arguments)
