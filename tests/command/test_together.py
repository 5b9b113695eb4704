"""The command under torchrun: one run, one report, and the same bits after a process was killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import pyrozoo
from pyrozoo.command.main import main
from tests.command.test_command import run

FIT = ("model=zip_mixture", "inference=em", "data.rows=60", "data.columns=3", "model.num_components=2", "shards=3",
       "inference.restarts=2", "inference.max_iterations=400", "inference.tol=0")  # fmt: skip


def alone_in(folder: Path, *arguments: str) -> None:
    """Run the command, in one of the processes."""
    sys.argv = ["pyrozoo", *arguments, f"outputs={folder}", "progress=false"]
    with (folder / "said.txt").open("a") as said, redirect_stdout(said), suppress(SystemExit):
        main()


def torchrun(*arguments: str, folder: Path, restarts: int) -> int:
    """Start the command in two processes, as torchrun does, but of what has been imported; return its process."""
    config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", max_restarts=restarts,
                          start_method="fork", monitor_interval=0.1)  # fmt: skip
    if pid := os.fork():
        return pid
    code = 1
    try:
        elastic_launch(config, alone_in)(folder, *arguments)
        code = 0
    except BaseException:
        (folder / "error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def workers(parent: int) -> list[int]:
    """Return the processes that a process has started."""
    stats = [(int(path.parent.name), path.read_text()) for path in Path("/proc").glob("[0-9]*/stat")]
    return [number for number, text in stats if int(text.rsplit(")", 1)[1].split()[1]) == parent]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_comes_back_and_the_answer_has_the_same_bits(tmp_path, undrawn, unchecked):
    """All in one: two processes, one of them killed in the middle, one run directory, the answer of one process."""
    process = torchrun(*FIT, "checkpoint_every=5", folder=tmp_path, restarts=1)
    while not (found := list(tmp_path.rglob("checkpoint.pt"))):
        assert os.waitpid(process, os.WNOHANG) == (0, 0), (tmp_path / "error.txt").read_text()
        time.sleep(0.02)
    killed = workers(process)
    os.kill(killed[-1], signal.SIGKILL)
    assert os.waitpid(process, 0)[1] == 0, (tmp_path / "error.txt").read_text()
    said = (tmp_path / "said.txt").read_text()
    (run,) = (path.parent for path in tmp_path.rglob("metrics.json"))
    assert run == found[0].parent
    assert str(run) in said
    assert not list(run.glob("checkpoint*"))
    settings = {"rows": 60, "columns": 3, "num_components": 2, "restarts": 2, "max_iterations": 400, "tol": 0}
    alone = pyrozoo.fit("zip_mixture", "em", shards=3, progress=False, **settings)
    assert json.loads((run / "metrics.json").read_text())["iterations"] == alone.iterations > 10
    for site, value in pyrozoo.load(run).draws.items():
        assert value.equal(alone.draws[site])


def test_what_torchrun_has_no_use_for_is_refused_once(here, capsys, monkeypatch):
    """In this process, as each of the two that torchrun starts."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    for rank, said in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        code, out, err = run(capsys, "-m", "model=zip_mixture", "inference=em,cavi")
        assert (code, out, err.count("start a sweep without torchrun")) == (2, "", said)
    assert not list(here.iterdir())
