"""The command under torchrun: one run, one report, and the same bits after a process was killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import pyrozoo
from pyrozoo.command.main import main
from pyrozoo.core.world import world
from pyrozoo.inference.graphs import Steps
from tests.command.test_command import run

FIT = ("model=zip_mixture", "inference=em", "data.rows=60", "data.columns=3", "model.num_components=2", "shards=3",
       "inference.restarts=2", "inference.max_iterations=60", "inference.tol=0")  # fmt: skip


def one_of_two(folder: Path, *arguments: str) -> None:
    """Run the command in one of the processes; the second one is killed in its 12th step, unless it has come back."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a process that torchrun starts has no handlers of others
    world.cache_clear()  # nor knows it who the process was alone with that it is a fork of
    rank, back = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    step, steps = Steps.__call__, folder / f"steps-{rank}-{back}.txt"

    def stepping(self: Steps, *arguments: Any) -> Any:
        with steps.open("a") as file:
            file.write(".")
        if (rank, back) == ("1", "0") and steps.stat().st_size == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    Steps.__call__ = stepping
    sys.argv = ["pyrozoo", *arguments, f"outputs={folder}", "progress=false"]
    with (folder / "said.txt").open("a") as said, redirect_stdout(said), suppress(SystemExit):
        main()


def torchrun(*arguments: str, folder: Path, restarts: int) -> None:
    """Run the command in two processes, as torchrun does, but as forks, which have imported everything."""
    config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", max_restarts=restarts,
                          start_method="fork", monitor_interval=0.1)  # fmt: skip
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0, (folder / "error.txt").read_text()
        return
    code = 1
    try:
        elastic_launch(config, one_of_two)(folder, *arguments)
        code = 0
    except BaseException:
        (folder / "error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks")
def test_a_killed_process_comes_back_and_the_answer_has_the_same_bits(tmp_path, undrawn, unchecked):
    """All in one: two processes, one of them killed in the middle, one run directory, the answer of one process."""
    torchrun(*FIT, "checkpoint_every=5", folder=tmp_path, restarts=1)
    said = (tmp_path / "said.txt").read_text()
    (run,) = (path.parent for path in tmp_path.rglob("metrics.json"))
    assert len(list(tmp_path.rglob("config.yaml"))) == 1, "it went on in the same directory"
    assert len((tmp_path / "steps-1-1.txt").read_text()) == 60 - 10, "from its checkpoint"
    assert str(run) in said
    assert not list(run.glob("checkpoint*"))
    settings = {"rows": 60, "columns": 3, "num_components": 2, "restarts": 2, "max_iterations": 60, "tol": 0}
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
