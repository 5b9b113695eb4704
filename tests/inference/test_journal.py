"""Checkpoints cost what is new, survive a kill at any moment, and those of earlier versions are taken up."""

from __future__ import annotations

import pytest
import torch

import pyrozoo
from pyrozoo.core.errors import DataError
from pyrozoo.core.world import world
from pyrozoo.inference import loop
from pyrozoo.inference.journal import Journal
from tests.case import refused

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked")

RUN = {"rows": 20, "columns": 3, "num_components": 2, "chains": 2, "warmup": 4, "draws": 40, "thin": 1,
       "progress": False}  # fmt: skip


class Killed(Exception):
    pass


def stopped(directory, monkeypatch, at, moment):
    """Run until a checkpoint is written for the so manyth time, and stop there: before it, or in the middle."""
    write, append, sizes = loop.write_part, Journal.append, [0]

    def writing(path, *rest):
        write(path, *rest)
        sizes.append(path.stat().st_size)

    def appending(self, entry):
        if len(sizes) == at and moment == "before":
            raise Killed
        append(self, entry)
        if len(sizes) == at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_part", writing)
        patch.setattr(Journal, "append", appending)
        with pytest.raises(Killed):
            pyrozoo.fit("zip_mixture", "gibbs", directory=directory, checkpoint_every=5, **RUN)
    return sizes


@pytest.fixture(scope="module")
def whole():
    return pyrozoo.fit("zip_mixture", "gibbs", **RUN)


def same(one, other):
    assert all(torch.equal(value, other.draws[site]) for site, value in one.draws.items())
    assert one.objective == other.objective
    assert one.trace.drop(columns="seconds").equals(other.trace.drop(columns="seconds"))


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(moment, whole, tmp_path, monkeypatch):
    stopped(tmp_path, monkeypatch, 7, moment)
    stopped_again = pyrozoo.resume(tmp_path)
    same(stopped_again, whole)


def test_a_checkpoint_does_not_grow_with_the_draws(tmp_path, monkeypatch):
    first, *_, last = stopped(tmp_path, monkeypatch, 8, "before")[1:]
    assert last < first + 2000, "what it was before any draw"
    saved = loop.read_checkpoint(tmp_path / "checkpoint.pt")
    journal = Journal.beside(tmp_path / "checkpoint.pt", world())
    journal.read(saved["journal"])
    kept = sum(each["process rate"].shape[1] for each in journal.entries if "process rate" in each)
    assert kept == saved["process"]["kept"] >= 25, "each draw once"


def test_a_journal_that_is_damaged_is_refused(tmp_path, monkeypatch):
    stopped(tmp_path, monkeypatch, 7, "before")
    path = tmp_path / "checkpoint.log"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert refused(DataError, pyrozoo.resume, tmp_path).startswith(f"{path} is gone or damaged")
    path.unlink()
    assert refused(DataError, pyrozoo.resume, tmp_path).startswith(f"{path} is gone or damaged")


def test_a_checkpoint_that_holds_everything_is_taken_up(whole, tmp_path, monkeypatch):
    """As earlier versions wrote it."""
    stopped(tmp_path, monkeypatch, 7, "before")
    path = tmp_path / "checkpoint.pt"
    saved, journal = loop.read_checkpoint(path), Journal.beside(path, world())
    journal.read(saved.pop("journal"))
    entries = [{name.partition(" ")[2]: value for name, value in each.items()} for each in journal.entries]
    sites = ("weights", "on_prob", "rate")
    saved["process"]["storage"] = {s: torch.cat([each[s] for each in entries if s in each], 1) for s in sites}
    saved |= {name: torch.cat([each[name] for each in entries]) for name in ("seconds", "objectives")}
    saved["figures"] = {
        name: {
            int(i): value for each in entries if f"at {name}" in each
            for i, value in zip(each[f"at {name}"], each[f"of {name}"], strict=True)
        }
        for name in {key[3:] for each in entries for key in each if key.startswith("at ")}
    }  # fmt: skip
    del saved["moments"]  # which they did not keep
    torch.save(saved, path)
    (tmp_path / "checkpoint.log").unlink()
    same(pyrozoo.resume(tmp_path), whole)
