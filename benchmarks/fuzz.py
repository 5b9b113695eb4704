"""Broken and hostile files: every one is refused in one line, or read into finite data that a fit of stays finite.

``python -m benchmarks.fuzz --files 100000`` goes on where it was stopped; ``--only 4711`` repeats one file, and leaves
it behind. File number i is the same in every run. Files are read in processes of their own, which may crash.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import math
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import pyrozoo
from benchmarks.broken_files import Mutant, directories, mutant
from pyrozoo.core.errors import UserError
from pyrozoo.data.contained import CONTAINERS, read_data
from pyrozoo.data.documents import Documents
from pyrozoo.data.grid import Grid
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets

SECONDS = 10
"""Of a processor that a file may take; of the clock, six times as many, however busy the machine is."""

MEGABYTES = 1500
"""That a process may grow by: what is larger is refused by size before it is unpacked."""

PIECE = 500
"""Files of a process."""

ONE_IN = 12
"""Of what is read, so many files are fitted, too."""

FITTED = {
    Table: (("zip_mixture", "em"), ("factor_analysis", "em"), ("gaussian_mixture", "em")),
    Survey: (("categorical_fa", "vem"),),
    Triplets: (("poisson_mf", "em"),),
    Ratings: (("gaussian_mf", "em"),),
    Documents: (("topics", "cavi"),),
    Grid: (("potts_grid", "icm"),),
}
"""Container -> models and methods that fit it within a moment."""

LARGEST = 20_000
"""Cells of what is fitted."""


class Hang(BaseException):
    """A file took longer than it may."""


class Wrong(Exception):
    """What was read or fitted is not finite."""


def tensors(value: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of a container, by name."""
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [each for f in dataclasses.fields(value) for each in tensors(getattr(value, f.name), f.name)]
    return []


def check_data(data: Any) -> None:
    """Raise Wrong where data hold what is not finite: a missing cell of a table may be NaN, and nothing else."""
    for name, value in tensors(data):
        if not value.is_floating_point():
            continue
        bad = value.isinf() if name in ("values", "observed") else ~value.isfinite()
        if bool(bad.any()):
            raise Wrong(f"{type(data).__name__}.{name} has {float(value[bad][0])}")


def check_fit(fit: Any) -> None:
    """Raise Wrong where draws or metrics of a fit are not finite."""
    for site, value in fit.draws.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise Wrong(f"{fit.model_name} by {fit.method}: {site} is not finite")
    for name, value in fit.metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise Wrong(f"{fit.model_name} by {fit.method}: metric {name} is {value}")


def cells(data: Any) -> int:
    rows, columns = data.shape[:2]
    return int(rows * columns)


def try_file(path: Path, made: Mutant) -> str:
    """Read a file as one of the containers, and fit some of what is read; return what came of it."""
    rng = made.rng
    container = CONTAINERS[made.kind] if made.kind else list(CONTAINERS.values())[int(rng.integers(len(CONTAINERS)))]
    try:
        data = read_data(path, container, **made.settings)
        if hasattr(data, "checked"):
            data.checked()
    except UserError as error:
        return said(error)
    check_data(data)
    if int(rng.integers(ONE_IN)) or cells(data) > LARGEST:
        return "read"
    choices = FITTED.get(type(data), ())
    if not choices:
        return "read"
    model, method = choices[int(rng.integers(len(choices)))]
    try:
        check_fit(pyrozoo.fit(model, method, data=data, max_iterations=3, progress=False))
    except UserError as error:
        return f"fit {said(error)}"
    return "fitted"


def said(error: UserError) -> str:
    """Return that an input was refused; its line must be one, and for people."""
    message = str(error)
    if not message.strip() or len(message) > 20_000:
        raise Wrong(f"a line of {len(message)} letters: {message[:100]!r}") from error
    return "refused"


def try_directory(path: Path, made: Mutant) -> str:
    """Load a run directory, or go on with it."""
    secret = os.environ["PYROZOO_SECRET"]
    try:
        if made.kind == "resume":
            fit = pyrozoo.resume(path, progress=False)
        else:
            fit = pyrozoo.load(path)
            list(fit.tables.items())
        check_fit(fit)
        outcome = "fitted"
    except UserError as error:
        outcome = said(error)
        if secret in str(error):
            raise Wrong("a variable of the environment reached a message") from error
    for each in path.rglob("*"):
        if each.is_file() and not each.is_symlink() and secret.encode() in each.read_bytes():
            raise Wrong(f"a variable of the environment reached {each.name}")
    return outcome


def attempt(number: int, seed: int, folder: Path) -> tuple[str, str, str]:
    """Make file ``number``, and return its format, what came of it, and of a fault the last lines of its traceback."""
    made = mutant(number, seed)
    path = folder / made.name
    try:
        made.write(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = (try_directory if made.directory else try_file)(path, made)
        return made.format, outcome, ""
    except Hang:
        return made.format, "HANG", "".join(traceback.format_stack()[-1:])
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        return made.format, f"FAULT {type(error).__name__}", f"{error} <- {' <- '.join(frames[::-1][:8])}"[:900]
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def alarm(*_: Any) -> None:
    raise Hang


def watch(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds)


def child(numbers: range, seed: int, folder: Path, pipe: int) -> None:
    """Try files, and write a line on each into a pipe: which begins, and what came of it."""
    for each in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(each, alarm)
    os.environ["PYROZOO_SECRET"] = "a-secret-of-the-environment"
    sys.stderr = sys.stdout = io.StringIO()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        os.write(pipe, f"{number}\n".encode())
        watch(SECONDS)
        try:
            found = attempt(number, seed, folder)
        finally:
            watch(0)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if now - peak > 1000 * MEGABYTES:
            found = found[0], "MEMORY", f"{(now - peak) // 1000} MB"
        peak = max(peak, now)
        os.write(pipe, (json.dumps([number, *found]) + "\n").encode())
        if now > 4_000_000:
            return  # a process that has grown makes room


def piece(numbers: range, seed: int, counts: Counter[str], faults: Any) -> int:
    """Try files in a process of its own; return the first that is left."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        if not (pid := os.fork()):
            code = 1
            try:
                os.close(read)
                child(numbers, seed, Path(folder), write)
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        at, text, killed = numbers.start, b"", False
        while True:
            ready, _, _ = select.select([read], [], [], 9 * SECONDS)
            if not ready:
                killed = True
                os.kill(pid, signal.SIGKILL)
            if ready and not (block := os.read(read, 65536)):
                break
            text += block if ready else b""
            *lines, text = text.split(b"\n")
            for line in lines:
                if line.isdigit():
                    at = int(line)
                    continue
                number, kind, outcome, why = json.loads(line)
                counts[f"{kind}: {outcome}"] += 1
                at = number + 1
                if why:
                    record(faults, number, kind, outcome, why)
        os.close(read)
        _, status = os.waitpid(pid, 0)
        if killed or status:
            made = mutant(at, seed)
            outcome = "HANG" if killed else f"CRASH {os.waitstatus_to_exitcode(status)}"
            counts[f"{made.format}: {outcome}"] += 1
            record(faults, at, made.format, outcome, "")
            at += 1
    return at


def record(faults: Any, number: int, kind: str, outcome: str, why: str) -> None:
    line = json.dumps({"number": number, "format": kind, "outcome": outcome, "why": why})
    faults.write(line + "\n")
    faults.flush()
    print(line, flush=True)


def campaign(files: int, seed: int, target: Path) -> Counter[str]:
    """Try so many files, in pieces; what has been tried is kept in a file, and what failed is tried again first."""
    target.mkdir(parents=True, exist_ok=True)
    directories()  # once, for all processes
    state = target / f"fuzz_{seed}.json"
    begun: dict[str, Any] = json.loads(state.read_text()) if state.is_file() else {"at": 0, "seconds": 0, "counts": {}}
    at, counts = begun["at"], Counter(begun["counts"])
    known = target / f"faults_{seed}.jsonl"
    before = [json.loads(line) for line in known.read_text().splitlines()] if known.is_file() else []
    with known.open("w") as faults:
        for each in before:
            counts[f"{each['format']}: {each['outcome']}"] -= 1
            piece(range(each["number"], each["number"] + 1), seed, counts, faults)
        counts = +counts
        while at < files:
            started = time.perf_counter()
            at = piece(range(at, min(at + PIECE, files)), seed, counts, faults)
            begun = {"at": at, "seconds": begun["seconds"] + time.perf_counter() - started, "counts": counts}
            state.write_text(json.dumps(begun, indent=1, sort_keys=True))
    return counts


def table(counts: Counter[str]) -> str:
    """Return the outcomes, a line per format."""
    kinds = sorted({name.partition(": ")[0] for name in counts})
    outcomes = ("refused", "read", "fitted", "fit refused")
    lines = [f"{'format':12}" + "".join(f"{each:>13}" for each in (*outcomes, "faults"))]
    for kind in kinds:
        its = {name.partition(": ")[2]: count for name, count in counts.items() if name.startswith(f"{kind}: ")}
        rest = sum(count for name, count in its.items() if name not in outcomes)
        lines.append(f"{kind:12}" + "".join(f"{its.get(each, 0):>13}" for each in outcomes) + f"{rest:>13}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=Path, default=Path("outputs") / "fuzz")
    parser.add_argument("--only", type=int)
    asked = parser.parse_args()
    if asked.only is not None:
        os.environ["PYROZOO_SECRET"] = "a-secret-of-the-environment"
        made = mutant(asked.only, asked.seed)
        path = Path(tempfile.mkdtemp()) / made.name
        made.write(path)
        print(path, made.format, made.kind, made.settings)
        print((try_directory if made.directory else try_file)(path, made))
        return
    print(table(campaign(asked.files, asked.seed, asked.target)))


if __name__ == "__main__":
    main()
