"""topics: held-out tokens against tomotopy and scikit-learn, sweeps per second, and documents that need no memory.

Peers run in an environment of their own (tomotopy, scikit-learn), whose Python ``PYROZOO_TOPICS`` names; the corpora
are found in PYROZOO_DATA. ``PYROZOO_TOPICS_SPLITS`` says how many splits, five unless stated. Each split keeps half of
the tokens of a tenth of the documents; all methods see the same halves. Differences are of documents, in pairs. Seconds
are of the processor, of one thread.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Row, alone
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.seeds import seeded
from pyrozoo.data.documents import Documents, completion
from pyrozoo.data.named import documents_npz
from pyrozoo.models.topics import cavi, cvb0, gibbs, stochastic_cavi
from pyrozoo.models.topics.model import Topics
from pyrozoo.models.topics.sweeps import draw

TOPICS, SPLITS = (20, 60, 100), int(os.environ.get("PYROZOO_TOPICS_SPLITS", "5"))
PEERS = {"tomotopy_lda": 300, "tomotopy_ct": 50, "sklearn_online": 10}
"""Peer -> iterations."""

PASSES = 20
"""Passes of scikit-learn, of which the best counts."""

SWEEPS, WARMUP, DRAWS = 10, 10, 20
"""Collapsed sweeps of a step, steps that are left out, and steps that are averaged."""

LARGE = {"rows": 100_000, "columns": 20_000, "tokens": 100, "topics": 100}


def corpus(name: str, split: int) -> Documents:
    """Return a corpus with half of the tokens of a tenth of its documents hidden."""
    path = Path(os.environ["PYROZOO_DATA"], "topics", f"{name}.npz")
    return documents_npz(path).hold_out(0.1, split)


def model(topics: int) -> Topics:
    """Return LDA with the concentrations that conf states."""
    return Topics(topics, "dirichlet", 0.1, 0.05, 1.0, 1.0)


@dataclass
class Found:
    """What a method says of hidden tokens: log probabilities, averaged and at one point, and its seconds."""

    averaged: torch.Tensor
    plugin: torch.Tensor
    seconds: float


def stepped(solver: Any, steps: int) -> tuple[Any, float]:
    """Return the state after so many steps, and processor seconds."""
    with seeded(0), torch.no_grad():
        started = time.process_time()
        state = solver.after(steps)
        return state, time.process_time() - started


def posterior_of(its: Topics, data: Documents) -> Any:
    """Return the posterior."""
    return Posterior.of(its, data)


def variational(method: Any, steps: int, topics: int, data: Documents) -> Found:
    """Fit by cavi or cvb0."""
    solver = method.Solver(posterior_of(model(topics), data))
    state, seconds = stepped(solver, steps)
    answer = solver.answer(state)
    logs = answer.prediction().log_density
    return Found(logs, logs, seconds)


def sampled(topics: int, data: Documents) -> Found:
    """Draw by Gibbs sampling."""
    posterior = posterior_of(model(topics), data)
    solver, running = gibbs.Solver(posterior, SWEEPS), posterior.running_prediction()
    total: dict[str, Any] = {}
    with seeded(0), torch.no_grad():
        started = time.process_time()
        state = solver.init(1)
        for step in range(WARMUP + DRAWS):
            state, info = solver.step(state)
            if step >= WARMUP and info.predictive is not None:
                running.add(*info.predictive())
                total = {name: total.get(name, 0) + value[0] for name, value in vars(state).items()}
        seconds = time.process_time() - started
    means = {name: value / DRAWS for name, value in total.items()}
    plugin = posterior.hidden_probabilities(means).log()
    return Found(running.prediction().log_density, plugin, seconds)


def peer(who: str, iterations: int, topics: int, data: Documents) -> dict[str, np.ndarray] | None:
    """Run a peer in its own environment; None where there is none."""
    python = os.environ.get("PYROZOO_TOPICS")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "data.npz"), Path(folder, "out.npz")
        cells = {"start": data.pattern.starts, "word": data.pattern.columns, "count": data.counts,
                 "document": data.hidden.rows, "token": data.hidden.columns}  # fmt: skip
        np.savez(given, size=data.shape[1], **{name: value.numpy() for name, value in cells.items()})
        script = Path(__file__).with_name("topics_peers.py")
        subprocess.run([python, str(script), str(given), str(found), who, str(topics), str(iterations)], check=True)
        with np.load(found) as arrays:
            return {name: arrays[name] for name in arrays.files}


def scores(logs: torch.Tensor, data: Documents) -> tuple[float, float]:
    """Return macro and micro mean log probability of a hidden token."""
    of_documents, tokens, _ = completion(data.hidden, logs)
    return float(of_documents.mean()), float((of_documents * tokens).sum() / tokens.sum())


def said(found: list[tuple[float, float]]) -> str:
    """Return the means over splits."""
    macro, micro = np.mean(found, 0)
    return f"macro {macro:.4f}, micro {micro:.4f}"


def ahead(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> str:
    """Return by how much documents are better predicted, with a 95% interval over the documents of all splits."""
    apart = torch.cat([a - b for a, b in zip(mine, theirs, strict=True)])
    error = 1.96 * float(apart.std()) / len(apart) ** 0.5
    return f"{float(apart.mean()):+.4f} [{float(apart.mean()) - error:+.4f}, {float(apart.mean()) + error:+.4f}]"


def race(topics: int) -> Iterator[Row]:
    """Compare held-out tokens of AP with every peer on the same splits."""
    ours: dict[str, Callable[[Documents], Found]] = {
        "cavi": lambda data: variational(cavi, 50, topics, data),
        "cvb0": lambda data: variational(cvb0, 100, topics, data),
        "gibbs": partial(sampled, topics),
    }
    every: dict[str, list[Any]] = {}
    for split in range(SPLITS):
        data = corpus("ap", split)
        for name, fit in ours.items():
            found = fit(data)
            every.setdefault(name, []).append((found, data))
        for who, iterations in PEERS.items():
            if (out := peer(who, iterations, topics, data)) is not None:
                logs = [torch.as_tensor(out[part]) for part in ("averaged", "plugin")]
                best = [max(each, key=lambda one, d=data: scores(one, d)[0]) for each in logs]
                every.setdefault(who, []).append((Found(*best, float(out["seconds"][-1])), data))
    per = {name: [completion(data.hidden, found.averaged)[0] for found, data in its] for name, its in every.items()}
    for name, its in every.items():
        averaged, plugin = (said([scores(getattr(f, part), d) for f, d in its]) for part in ("averaged", "plugin"))
        seconds = float(np.mean([found.seconds for found, _ in its]))
        note = f"{SPLITS} splits: averaged {averaged}; plug-in {plugin}"
        if name not in ours:
            note += (
                f"; gibbs is ahead by {ahead(per['gibbs'], per[name])} a document, cavi {ahead(per['cavi'], per[name])}"
            )
            mine = float(np.mean([found.seconds for found, _ in every["gibbs"]]))
            yield Row(f"topics, AP, K = {topics}, gibbs", mine, name, seconds, note)
        else:
            yield Row(f"topics, AP, K = {topics}, {name}", seconds, "", None, note)


def to_best(topics: int = 20) -> Iterator[Row]:
    """Time until scikit-learn's best held-out figure."""
    data = corpus("ap", 0)
    for who in ("sklearn_online", "sklearn_batch"):
        if (out := peer(who, PASSES, topics, data)) is None:
            return
        theirs = [scores(torch.as_tensor(each), data)[0] for each in out["plugin"]]
        best = int(np.argmax(theirs))
        posterior = posterior_of(model(topics), data)
        with seeded(0), torch.no_grad():
            started, found, steps = time.process_time(), -np.inf, 0
            solver = cavi.Solver(posterior, sweeps=20)
            state, looking = solver.init(1), 0.0
            while found < theirs[best] and steps < 500:
                state, _ = solver.step(state)
                begun = time.process_time()
                found = scores(posterior.of_means(state.gamma[0], state.words[0]).log_density, data)[0]
                looking, steps = looking + time.process_time() - begun, steps + 1
        mine = time.process_time() - started - looking
        when = f"after pass {(best + 1) * PASSES // 10} of {PASSES}"
        note = f"theirs: macro {theirs[best]:.4f} {when}; ours {found:.4f} after {steps} steps"
        yield Row(
            f"topics cavi, AP, K = {topics}, until the best of {who}", mine, who, float(out["seconds"][best]), note
        )


def speeds() -> Iterator[Row]:
    """Time sweeps through all tokens: collapsed Gibbs of ours and of tomotopy, one worker each."""
    data = corpus("ap", 0)
    tokens = float(data.lengths.sum())
    for topics in TOPICS:
        out = peer("tomotopy_lda", 100, topics, data)
        like, K = data.values, topics
        theta, beta = like.new_full((1, data.shape[0], K), 1 / K), like.new_full((1, data.shape[1], K), 1 / K)
        alpha = like.new_full((K,), 0.1)
        with seeded(0):
            draw(theta, beta, data, 1, alpha, 0.05)
            started = time.process_time()
            draw(theta, beta, data, 100, alpha, 0.05)
            mine = (time.process_time() - started) / 101
        theirs = None if out is None else tokens / float(out["speed"])
        note = f"tokens a second: {tokens / mine:.3g}" + ("" if out is None else f"; theirs {float(out['speed']):.3g}")
        yield Row(f"topics, a sweep of collapsed Gibbs, AP, K = {topics}, 1 thread", mine, "tomotopy LDA", theirs, note)


def poliblog(topics: int = 100) -> Iterator[Row]:
    """Predict held-out tokens of poliblog5k, of which stm's vignette has -6.81 in 14.3 minutes (macro, plug-in)."""
    its = []
    for split in range(SPLITS):
        data = corpus("poliblog5k", split)
        its.append((sampled(topics, data), data))
    averaged, plugin = (said([scores(getattr(f, part), d) for f, d in its]) for part in ("averaged", "plugin"))
    seconds = float(np.mean([found.seconds for found, _ in its]))
    note = f"{SPLITS} splits: averaged {averaged}; plug-in {plugin}; stm: macro -6.81, on a machine of its vignette"
    yield Row(f"topics, poliblog5k, K = {topics}, gibbs", seconds, "stm (published)", 14.3 * 60, note)


def simulated() -> Documents:
    """Return many documents of few topics each, made quickly."""
    D, V, N, K = LARGE["rows"], LARGE["columns"], LARGE["tokens"], LARGE["topics"]
    generator = np.random.default_rng(0)
    topic = generator.integers(K, size=(D, 3))
    which = np.take_along_axis(topic, generator.integers(3, size=(D, N)), 1)
    word = (which * (V // K) + (generator.pareto(1.0, size=(D, N)) * 5).astype(np.int64)) % V
    place, count = np.unique(np.arange(D)[:, None] * V + word, return_counts=True)
    starts = np.searchsorted(place, np.arange(D + 1) * V)
    arrays = {"start": starts, "word": place % V, "count": count, "vocabulary": np.arange(V)}
    return Documents.of_arrays(arrays)


def held(documents: int, go: bool) -> None:
    """Hold so many of the documents, and go through them once by stochastic_cavi; making them does not count."""
    data = simulated().to("cpu", torch.float32)
    if documents < data.shape[0]:
        data = data.only(torch.arange(documents))
    assert len(data.counts) == len(data.pattern.by_column)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins here
    if go:
        solver = stochastic_cavi.Solver(posterior_of(model(LARGE["topics"]), data), start="random", batch_size=1024)
        with seeded(0), torch.no_grad():
            solver.step(solver.init(1))


def memory() -> Iterator[Row]:
    """Measure what a pass over many documents needs beside the data: as much for a quarter of them."""
    for documents in (LARGE["rows"] // 4, LARGE["rows"]):
        _, data = alone(held, documents, False)
        seconds, peak = alone(held, documents, True)
        what = f"{documents} documents of {LARGE['tokens']} tokens, V = {LARGE['columns']}, K = {LARGE['topics']}"
        note = f"a pass and making the data, float32; {peak - data:.0f} MB beside those with the data alone, {data:.0f}"
        yield Row(f"topics stochastic_cavi, {what}", seconds, "", None, note, peak)


def rows() -> Iterator[Row]:
    yield from speeds()
    yield from to_best()
    yield from memory()
    yield from poliblog()
    for topics in TOPICS:
        yield from race(topics)
