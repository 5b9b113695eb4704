"""What happens around a command: signals, disks, homes, terminals, other commands. One line, and nothing is lost."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

import pyrozoo
from pyrozoo.command.main import main
from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import alone
from pyrozoo.core.progress import Forecast
from pyrozoo.inference.graphs import Steps
from pyrozoo.inference.journal import Journal
from pyrozoo.report.__main__ import main as report
from tests.case import refused
from tests.command.test_command import SMALL, only_run, run

pytestmark = [pytest.mark.usefixtures("undrawn", "unchecked"),
              pytest.mark.skipif(not hasattr(os, "fork"), reason="commands run in forks")]  # fmt: skip

FIT = [*SMALL, "inference=em", "inference.restarts=2", "inference.tol=0", "inference.max_iterations=30", "report=none"]


def apart(*arguments: str, before=lambda: None, command=main) -> tuple[int, str]:
    """Run a command in a process of its own, which may be limited; return exit code, or minus a signal, and errors."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        code = 99
        try:
            os.close(read)
            sys.stdout, sys.stderr = io.StringIO(), io.TextIOWrapper(io.FileIO(write, "w"), write_through=True)
            sys.argv = ["pyrozoo", *arguments]
            before()
            command()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:
            sys.stderr.write(f"Traceback: {error!r}")
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def one_line(said: str) -> bool:
    return said.startswith("pyrozoo") and said.count("\n") == 1 and "Traceback" not in said


# Signals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_ends_a_fit_with_what_it_has(here, capsys, monkeypatch, number):
    step, before = Steps.__call__, signal.getsignal(signal.SIGTERM)
    steps: list[int] = []

    def stepping(self, *arguments):
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), number)
        return step(self, *arguments)

    monkeypatch.setattr(Steps, "__call__", stepping)
    code, _, err = run(capsys, *FIT, "checkpoint_every=5")
    assert (code, err) == (130, "")
    directory = only_run(here)
    assert json.loads((directory / "metrics.json").read_text())["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before
    code, _, err = run(capsys, f"resume={directory}")
    assert (code, err) == (0, "")
    assert json.loads((directory / "metrics.json").read_text())["iterations"] == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_in_a_report_leaves_the_fit_as_it_was(here, monkeypatch, number):
    directory = pyrozoo.fit("zip_mixture", "em", rows=30, columns=3, progress=False).save("run", report="none")
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    def interrupted(picture):
        os.kill(os.getpid(), number)

    monkeypatch.setattr("pyrozoo.report.html.png", interrupted)
    assert apart("run", command=report) == (130, "")
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != "metrics.json")
    assert not [path for path in directory.rglob(".*") if path.name != ".hydra"], "no temporary file is left"
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert pyrozoo.load("run").status == "converged"


def test_a_signal_ends_a_sweep_with_a_report_of_what_it_has(here, capsys, monkeypatch):
    step = Steps.__call__

    def stepping(self, *arguments):
        if type(self.solver).__module__.endswith("cavi"):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    monkeypatch.setattr(Steps, "__call__", stepping)
    code, out, err = run(capsys, "-m", *FIT[:-1], "inference=em,cavi,laplace", "report=none")
    assert (code, err) == (130, "")
    table = pd.read_csv(Path(out.strip().splitlines()[-1]) / "comparison.csv")
    assert table["status"].tolist() == ["max_iterations", "interrupted"]


# Disks ----------------------------------------------------------------------------------------------------------------


def limited(size: int):
    """Return what limits files of a process to so many bytes, which is what a full disk says to whoever writes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [100, 2500, 20_000])
@pytest.mark.parametrize("more", [[], ["checkpoint_every=3"]], ids=["plain", "checkpoints"])
def test_a_full_disk_is_one_line(here, size, more):
    """Whether it is full at the configuration, at a checkpoint, or at the fit."""
    code, said = apart(*FIT, *more, before=limited(size))
    assert code == 2
    assert one_line(said), said
    assert "File too large" in said
    assert not list(here.rglob("metrics.json"))
    for directory in {path.parent for path in here.rglob("checkpoint.pt")}:
        assert f"{directory.relative_to(here)} continues" in said
        assert apart(f"resume={directory}") == (0, ""), "there is room again"


def test_a_full_disk_in_the_middle_of_a_sampler(here, monkeypatch):
    append, count = Journal.append, []

    def appending(self, entry):
        count.append(1)
        if len(count) == 4:
            limited(self.end + 10)()
        append(self, entry)

    monkeypatch.setattr(Journal, "append", appending)
    sizes = {"rows": 60, "columns": 4, "num_components": 2, "chains": 1, "warmup": 5, "draws": 40, "thin": 1}
    words = [
        *SMALL,
        "inference=gibbs",
        *(f"inference.{name}={sizes[name]}" for name in ("chains", "warmup", "draws", "thin")),
    ]
    code, said = apart(*words, "checkpoint_every=6", "report=none")
    assert code == 2
    assert one_line(said), said
    monkeypatch.undo()
    monkeypatch.chdir(here)
    (directory,) = (path.parent for path in here.rglob("checkpoint.pt"))
    whole = pyrozoo.fit("zip_mixture", "gibbs", progress=False, **sizes)
    assert pyrozoo.resume(directory, progress=False).objective == whole.objective


def test_a_full_disk_in_a_sweep_and_in_a_report(here):
    code, said = apart("-m", *FIT, "inference=em,cavi", before=limited(20_000))
    assert code == 2
    assert "Traceback" not in said
    assert "failed: 0_zip_mixture_em, 1_zip_mixture_cavi" in said
    directory = pyrozoo.fit("zip_mixture", "em", rows=30, columns=3, progress=False).save("run", report="none")
    code, said = apart("run", command=report, before=limited(1000))
    assert code == 2
    assert one_line(said), said
    assert pyrozoo.load(directory).status == "converged"


def test_a_folder_that_may_not_be_written_to(monkeypatch):
    """To root every folder may be: the command runs as nobody, in a folder that anybody comes into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    Path("outputs").mkdir(mode=0o555)

    def nobody() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setuid(65534)

    code, said = apart(*FIT, before=nobody)
    assert code == 2
    assert one_line(said), said
    assert "Permission denied" in said
    assert "outputs" in said
    shutil.rmtree(folder)


# Homes, compilers and terminals ---------------------------------------------------------------------------------------


LITTLE = """
import sys
from pyrozoo.__main__ import main
try:
    main()
finally:
    print({"arviz", "sympy", "matplotlib.pyplot", "nutpie"} & set(sys.modules), file=sys.stderr)
"""


def test_no_home_no_compiler_and_nobody_who_reads(here):
    """Kernels in C fall back to Python, caches are made elsewhere, a fit is written whoever reads, and loads little."""
    environment = {"PATH": "", "HOME": "/nonexistent", "OMP_NUM_THREADS": "1", "LC_ALL": "C",
                   "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}  # fmt: skip
    words = ["model=topics", "inference=gibbs", "data.rows=20", "inference.draws=5", "inference.warmup=5"]
    started = [sys.executable, "-c", LITTLE, *words, "report=none"]
    process = subprocess.Popen(started, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait() == 0, said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert said.splitlines()[-1] == "set()", "what a fit has no use for is imported"
    assert only_run(here)


@pytest.mark.parametrize("redirect", ["| true", ">&-", "2>&- >&-"])
def test_help_that_nobody_reads(redirect):
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {sys.executable} -m pyrozoo --help {redirect}"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# Other commands -------------------------------------------------------------------------------------------------------


def test_two_runs_in_one_directory(here, capsys):
    sizes = {"rows": 60, "columns": 4, "num_components": 2, "tol": 0.0, "restarts": 2}
    pyrozoo.fit("zip_mixture", "em", max_iterations=20, checkpoint_every=5, directory=here / "run", **sizes)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    read, write = os.pipe()
    done, end = os.pipe()
    if not (pid := os.fork()):
        os.close(end)
        with alone(here / "run") as free:
            os.write(write, b"y" if free else b"n")
            os.read(done, 1)
        os._exit(0)
    assert os.read(read, 1) == b"y"
    code, _, err = run(capsys, "resume=run")
    assert (code, err) == (2, "pyrozoo: run is in use: another process runs in it\n")
    assert "is in use" in refused(SettingError, pyrozoo.resume, "run", progress=False)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    os.close(end)
    os.close(done)
    os.waitpid(pid, 0)
    assert run(capsys, "resume=run")[0] == 0, "a process that is gone keeps nothing"
    for each in (read, write):
        os.close(each)


def test_two_runs_in_one_second(here, capsys):
    for _ in range(2):
        assert run(capsys, *FIT)[0] == 0
    assert len(list(here.rglob("metrics.json"))) == 2


# Time -----------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_long_run_says_so_early(caplog, monkeypatch):
    monkeypatch.setattr("pyrozoo.core.progress.time.monotonic", Clock(7.0))
    forecast = Forecast(400, 0, "nuts (4 chains)")
    for done in (0, 1, 2, 3):
        forecast.look(done)
    (said,) = caplog.messages
    assert said.startswith("nuts (4 chains): 1 of 400 iterations in 14 seconds: at this speed all take 93 minutes;")
    short = Forecast(5, 0, "nuts")
    for done in range(5):
        short.look(done)
    assert len(caplog.messages) == 1


def test_a_limit_ends_a_run_with_what_it_has(here, monkeypatch):
    sizes = {"rows": 40, "columns": 4, "num_components": 2, "chains": 2, "warmup": 5, "draws": 20, "thin": 1}
    whole = pyrozoo.fit("zip_mixture", "gibbs", progress=False, **sizes)
    monkeypatch.setattr("pyrozoo.inference.loop.time.perf_counter", Clock(1.0))
    part = pyrozoo.fit(
        "zip_mixture", "gibbs", seconds=60.0, checkpoint_every=1, directory="run", progress=False, **sizes
    )
    assert part.status == "interrupted"
    assert 0 < part.draws["rate"].shape[1] < 20
    monkeypatch.undo()
    monkeypatch.chdir(here)
    again = pyrozoo.resume("run", seconds=None, progress=False)
    assert (again.status, again.objective) == ("completed", whole.objective)
