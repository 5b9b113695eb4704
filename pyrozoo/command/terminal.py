"""What a command says, and how it ends, whatever becomes of its terminal, of the disk, or of its user's patience."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pyrozoo.core.launch import first, launched

MISTAKE, INTERRUPTED = 2, 130

LONGEST = 4000
"""Letters of a line."""


def say(text: str) -> None:
    """Write to standard output, where somebody still reads it: work goes on when nobody does."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def complain(message: str, who: str = "pyrozoo") -> int:
    """Write one line to standard error, once of however many processes; return the exit code."""
    if not first():
        return MISTAKE
    line = "".join(each if each.isprintable() else "\ufffd" for each in " ".join(message.split()))
    if len(line) > LONGEST:  # of names in a file; what to type stands at the end
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    sys.stderr.write(f"{who}: {line}\n")
    return MISTAKE


def end(command: Callable[[], int], who: str = "pyrozoo") -> NoReturn:
    """Run a command and exit: 0, 2 for a mistake in the input, 130 after Ctrl-C or SIGTERM, 1 for a fault of ours."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: the first file that is opened would get its number
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115, for good
        elif hasattr(getattr(sys, name), "reconfigure"):  # a label may have letters that the terminal has not
            getattr(sys, name).reconfigure(errors="backslashreplace")
    before = signal.getsignal(signal.SIGTERM)
    if not launched():  # torchrun ends processes whose peers are gone
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = command()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        code = complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), who)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)
