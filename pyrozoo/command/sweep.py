"""The Hydra callback that turns a finished sweep into a comparison. Light to import: Hydra loads it at every start."""

from __future__ import annotations

import math
import os
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

LAUNCHERS = ("hydra_plugins", "joblib", "submitit")
"""Packages that run jobs; what they raise is about a job, not in it."""

PATIENCE = 30
"""Seconds that cancelled jobs are given to end."""


@dataclass
class Sweep:
    """A sweep of this process, from its beginning to its report.

    Attributes:
        directory: Where it goes, once it has begun.
        failed: Names of the jobs that failed, once the comparison is written.
        answers: What the comparison begins with, once it is written.
        problem: Why it could not be written.
        jobs: How many jobs it has.
        submitted: What submitit calls jobs, once they are submitted.
        settings: Reference and thresholds of the verdicts.
    """

    directory: Path | None = None
    failed: list[str] | None = None
    answers: tuple[str, ...] = ()
    problem: str = ""
    jobs: int = 0
    submitted: Sequence[Any] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def finish(self) -> None:
        """Write the comparison over the jobs there are."""
        from pyrozoo.diagnostics.verdict import Thresholds
        from pyrozoo.studies.calibrate.page import compare_calibrations, is_calibration
        from pyrozoo.studies.compare.page import compare_directories

        assert self.directory is not None
        runs = runs_of(self.directory)
        reference, limits = self.settings["reference"], Thresholds(**self.settings["verdict"])
        if any(is_calibration(run) for run in runs):
            written = compare_calibrations(runs, self.directory)
        else:
            written = compare_directories(
                runs, self.directory, reference=None if reference is None else Path(reference), limits=limits
            )
        absent = written.absent
        self.failed = absent.loc[absent["status"] != "not_applicable", "run"].tolist()
        self.answers = written.answers

    def cut_short(self, status: str, why: str) -> None:
        """Write the comparison over the jobs that have finished, once no job runs any more.

        Args:
            status: Of jobs that have not: failed, or interrupted, when those submitted elsewhere are cancelled.
            why: What to say of them.
        """
        from pyrozoo.core.errors import DataError
        from pyrozoo.store.run_directory import read_config, write_failure
        from pyrozoo.studies.calibrate.page import RANKS

        assert self.directory is not None
        for each in self.submitted if status == "interrupted" else ():
            each.cancel(check=False)
        patience = PATIENCE if status == "interrupted" else math.inf
        begun = time.monotonic()
        while not all(each.done() for each in self.submitted) and time.monotonic() - begun < patience:
            time.sleep(0.2)
        for directory in runs_of(self.directory):
            if not any((directory / file).is_file() for file in ("metrics.json", RANKS)):
                try:
                    config = read_config(directory)
                    write_failure(directory, status, why, config["model"]["name"], config["inference"]["name"])
                except (DataError, KeyError):
                    continue  # stopped while its configuration was written; the report names it all the same
        self.finish()


_CURRENT: ContextVar[Sweep] = ContextVar("sweep")


@contextmanager
def sweeping() -> Iterator[Sweep]:
    """Give the sweep that Hydra's callback fills, if a sweep begins in this block."""
    sweep = Sweep()
    token = _CURRENT.set(sweep)
    try:
        yield sweep
    finally:
        _CURRENT.reset(token)


class Comparison(Callback):
    """Hydra's callback: it learns where a sweep goes, and writes comparison.csv and report.html over its runs."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Remember where the sweep goes, so that one cut short can still be reported; prepare for a parallel one."""
        # PyTorch half imported cannot be imported again, and reports need it.
        import_module("pyrozoo.studies.calibrate.run")
        sweep = _CURRENT.get()
        # A swept group is not chosen yet, so that only these can be resolved.
        sweep.settings = {name: config[name] for name in ("reference", "verdict")}
        sweep.directory = Path(str(config.hydra.sweep.dir))
        sweep.jobs = count_jobs(list(config.hydra.overrides.task))
        launcher = str(config.hydra.launcher.get("_target_"))
        if launcher.endswith(("JoblibLauncher", "LocalLauncher")):
            share_cores(config, sweep.jobs)
        if "submitit" in launcher:
            remember_submitted(sweep)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Compare the runs; Hydra would go on without a word where that fails."""
        from pyrozoo.core.errors import UserError

        try:
            _CURRENT.get().finish()
        except (UserError, OSError) as error:
            said = f"{error.strerror or error}: {error.filename}" if isinstance(error, OSError) else str(error)
            _CURRENT.get().problem = said


def runs_of(directory: Path) -> list[Path]:
    """Return the job directories of a sweep, in the order of the jobs."""
    found = [path.parent for path in directory.glob("[!.]*/.hydra")]  # .submitit is a launcher's own

    def order(path: Path) -> tuple[int, str]:
        number = re.match(r"\d+", path.name)
        return int(number[0]) if number else -1, path.name

    return sorted(found, key=order)


def of_a_launcher(error: Exception) -> bool:
    """Return whether what runs the jobs raised this: a job was killed, or could not be started."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] in LAUNCHERS


def count_jobs(overrides: Sequence[str]) -> int:
    """Return how many jobs a sweep has: the product of what its settings are swept over."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return math.prod(len(list(each.sweep_iterator())) for each in parsed if each.is_sweep_override())


def share_cores(config: Any, jobs: int) -> None:
    """Give every job on this machine its share of the cores, where nobody has said otherwise.

    joblib divides the cores by the number of its workers: as many as there are cores, however few the jobs. submitit
    starts all jobs at once and divides nothing.
    """
    from joblib import cpu_count
    from omegaconf import read_write

    if "n_jobs" not in config.hydra.launcher:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // jobs)))
    elif config.hydra.launcher.n_jobs == -1:
        with read_write(config):
            config.hydra.launcher.n_jobs = min(jobs, cpu_count())
    # A worker that is killed leaves semaphores, which are cleaned up; nobody need hear of it.
    quiet = [text for text in (os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker") if text]
    os.environ["PYTHONWARNINGS"] = ",".join(quiet)


def remember_submitted(sweep: Sweep) -> None:
    """Have submitit leave its jobs in ``Sweep.submitted``: its launcher forgets those that run when one fails."""
    from submitit import AutoExecutor

    submit = AutoExecutor.map_array

    def map_array(self: Any, function: Any, *arguments: Any) -> Sequence[Any]:
        sweep.submitted = submit(self, function, *arguments)
        return sweep.submitted

    setattr(AutoExecutor, "map_array", map_array)  # noqa: B010
