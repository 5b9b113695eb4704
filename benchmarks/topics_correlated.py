"""Correlated topics: held-out tokens against LDA, like with like, and against peers; intervals of correlations.

Corpora, splits and peers are those of ``benchmarks.topics``. Differences are of documents, in pairs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import pyrozoo
from benchmarks import topics as lda
from benchmarks.harness import Row
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import UserError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.documents import Documents, completion
from pyrozoo.models.topics import cvb0, laplace_em
from pyrozoo.models.topics.likelihood import shares, with_last
from pyrozoo.models.topics.model import Topics

SWEEPS, LOOK = 30, 5
"""Steps of laplace_em, and after how many its held-out figure is looked at."""

QUIET = {"progress": False}

PEERS = {"tomotopy_lda": 300, "tomotopy_ct": 50}

SIMULATED = {"documents": 500, "words": 200, "tokens": 150, "topics": 6, "replicates": 10}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "laplace_em": ("laplace_em", {"restarts": 3, "max_iterations": 60, "draws": 400}),
    "delta": ("laplace_em", {"restarts": 3, "max_iterations": 60, "draws": 400, "solver": {"variant": "delta"}}),
    "vem": ("vem", {"restarts": 3, "max_iterations": 100, "draws": 400}),
    "gibbs": ("gibbs", {"chains": 1, "warmup": 200, "draws": 200, "thin": 3, "solver": {"sweeps": 1}}),
}


def model(topics: int) -> Topics:
    """Return the correlated topic model; its prior lets logits differ by four."""
    return Topics(topics, "logistic_normal", 0.1, 0.05, 1.0, 4.0)


def climb(topics: int, data: Documents) -> tuple[lda.Found, list[tuple[float, float]]]:
    """Fit by laplace_em; return what it says, and (seconds, macro) on the way."""
    posterior, curve = Posterior.of(model(topics), data), []
    with seeded(0), torch.no_grad():
        started, looking = time.process_time(), 0.0
        solver = laplace_em.Solver(posterior)
        state = solver.init(1)
        for step in range(SWEEPS):
            state, _ = solver.step(state)
            if step % LOOK == LOOK - 1:
                begun = time.process_time()
                logs = posterior.of_means(shares(state.logits[0]), state.words[0]).log_density
                curve.append((begun - started - looking, lda.scores(logs, data)[0]))
                looking += time.process_time() - begun
        seconds = time.process_time() - started - looking
        averaged = with_draws(solver, state, data)
    return lda.Found(averaged, logs, seconds), curve


def with_draws(solver: laplace_em.Solver, state: laplace_em.State, data: Documents, count: int = 20) -> torch.Tensor:
    """Return log probabilities of hidden tokens, q(eta) averaged over draws, of held-out documents only."""
    held = data.hidden.rows.unique()
    few = laplace_em.State(**{**vars(state), "logits": state.logits[:, held]})
    part = Posterior.of(solver.model, data.only(held))
    one = laplace_em.Solver(part)
    one.full = solver.full
    q = one.finish(few)
    noise = torch.randn(count, *q.logits.shape[1:], 1, dtype=q.logits.dtype)
    theta = shares(state.logits[0]).clone()
    theta[held] = shares(q.logits + (q.factor @ noise)[..., 0]).mean(0)
    return Posterior.of(solver.model, data).of_means(theta, state.words[0]).log_density


def shown(every: dict[str, list[Any]]) -> str:
    """Return figures of the last split."""
    last = {name: its[-1] for name, its in every.items()}
    return "; ".join(f"{name} {lda.scores(f.plugin, d)[0]:.4f} in {f.seconds:.0f} s" for name, (f, d) in last.items())


def race(topics: int) -> Iterator[Row]:
    """Compare with LDA by cvb0 and by Gibbs sampling, and with peers, on AP."""
    every: dict[str, list[Any]] = {}
    for split in range(lda.SPLITS):
        data = lda.corpus("ap", split)
        found, _ = climb(topics, data)
        every.setdefault("laplace_em", []).append((found, data))
        every.setdefault("LDA cvb0", []).append((lda.variational(cvb0, 100, topics, data)[0], data))
        every.setdefault("LDA gibbs", []).append((lda.sampled(topics, data), data))
        for who, iterations in PEERS.items():
            if (out := lda.peer(who, iterations, topics, data)) is not None:
                logs = [torch.as_tensor(out[part]) for part in ("averaged", "plugin")]
                best = [max(each, key=lambda one, d=data: lda.scores(one, d)[0]) for each in logs]
                every.setdefault(who, []).append((lda.Found(*best, float(out["seconds"][-1])), data))
        print(f"K = {topics}, split {split}, macro, plug-in: {shown(every)}", flush=True)
    mine = float(np.mean([found.seconds for found, _ in every["laplace_em"]]))
    for name, its in every.items():
        averaged, plugin = (
            lda.said([lda.scores(getattr(f, part), d) for f, d in its]) for part in ("averaged", "plugin")
        )
        seconds = float(np.mean([found.seconds for found, _ in its]))
        note = f"{lda.SPLITS} splits: averaged {averaged}; plug-in {plugin}"
        if name == "laplace_em":
            yield Row(f"topics, AP, K = {topics}, CTM laplace_em", mine, "", None, note)
            continue
        for part in ("plugin", "averaged"):
            pairs = [[completion(d.hidden, getattr(f, part))[0] for f, d in every[who]] for who in ("laplace_em", name)]
            note += f"; CTM is ahead by {lda.ahead(*pairs)} a document, {part}"
        yield Row(f"topics, AP, K = {topics}, CTM laplace_em", mine, name, seconds, note)


def poliblog(topics: int = 100) -> Iterator[Row]:
    """Predict held-out tokens of poliblog5k, of which stm's vignette has -6.81 in 14.3 minutes (macro, plug-in)."""
    its, curves = [], []
    for split in range(lda.SPLITS):
        data = lda.corpus("poliblog5k", split)
        found, curve = climb(topics, data)
        its.append((found, data))
        curves.append(curve)
        print(f"split {split}: {curve}", flush=True)
    averaged, plugin = (lda.said([lda.scores(getattr(f, part), d) for f, d in its]) for part in ("averaged", "plugin"))
    way = "; ".join(f"{seconds:.0f} s {macro:.4f}" for seconds, macro in np.mean(curves, 0))
    note = f"{lda.SPLITS} splits: averaged {averaged}; plug-in {plugin}; on the way, macro: {way}"
    seconds = float(np.mean([found.seconds for found, _ in its]))
    yield Row(f"topics, poliblog5k, K = {topics}, CTM laplace_em", seconds, "stm (published)", 14.3 * 60, note)


def correlations(covariance: torch.Tensor) -> torch.Tensor:
    """Return correlations of logits less their mean over topics, which no topic is special in, [..., K, K]."""
    whole = with_last(with_last(covariance).mT)
    centred = whole - whole.mean(-1, keepdim=True)
    centred = centred - centred.mean(-2, keepdim=True)
    sd = centred.diagonal(dim1=-2, dim2=-1).clamp(min=1e-300).sqrt()
    return centred / sd[..., :, None] / sd[..., None, :]


def known() -> torch.Tensor:
    """Return a covariance of logits: topics go together in pairs, one pair against another."""
    K = SIMULATED["topics"]
    whole = 2.0 * torch.eye(K, dtype=torch.float64)
    for one, other, size in ((0, 1, 0.8), (2, 3, 0.6), (0, 2, -0.4), (4, 5, 0.3)):
        whole[one, other] = whole[other, one] = 2 * size
    return whole


def simulated(seed: int) -> tuple[Documents, np.ndarray]:
    """Return documents of topics with known correlations, and words of these topics."""
    generator, s = np.random.default_rng(seed), SIMULATED
    beta = generator.dirichlet(np.full(s["words"], 0.1), s["topics"])
    eta = generator.multivariate_normal(np.zeros(s["topics"]), known().numpy(), s["documents"])
    theta = np.exp(eta) / np.exp(eta).sum(1, keepdims=True)
    counts = np.stack([generator.multinomial(s["tokens"], each @ beta) for each in theta])
    return Documents.of(counts.astype(float)), beta


def coverage() -> Iterator[Row]:
    """Count how often 90% intervals hold the known correlations, and how much these shrink."""
    K = SIMULATED["topics"]
    last = known() - known()[:, -1:]
    truth = correlations((last - last[-1:])[:-1, :-1])
    pairs = torch.triu_indices(K, K, 1)
    true = truth[pairs[0], pairs[1]]
    for name, (method, settings) in WAYS.items():
        inside, widths, means, seconds, failed = [], [], [], 0.0, 0
        for seed in range(SIMULATED["replicates"]):
            data, beta = simulated(seed)
            of = Topics(K, "logistic_normal", 0.1, 0.1, 1.0, 1.0)
            try:
                fit = pyrozoo.fit(of, method, data, **{**QUIET, **settings})
            except UserError as refusal:
                print(name, seed, refusal, flush=True)
                failed += 1
                continue
            seconds += fit.seconds
            words = fit.draws["topic_words"].mean((0, 1)).numpy()
            order = linear_sum_assignment(-np.sqrt(beta) @ np.sqrt(words).T)[1]
            found = correlations(fit.draws["logit_covariance"][0])[:, order][:, :, order][:, pairs[0], pairs[1]]
            low, high = found.quantile(0.05, 0), found.quantile(0.95, 0)
            inside.append(((low <= true) & (true <= high)).double().mean())
            widths.append((high - low).mean())
            means.append(found.mean(0))
        if not means:
            yield Row(f"topics, correlations by {name}", 0.0, "", None, "no replicate could be fitted")
            continue
        middle = torch.stack(means).mean(0)
        slope = float((middle * true).sum() / true.square().sum())
        share, error = (float(each) for each in (torch.stack(inside).mean(), torch.stack(inside).std()))
        note = (
            f"90% intervals hold {share:.1%} (+- {1.96 * error / len(inside) ** 0.5:.1%}) of {len(true)} known "
            f"correlations in {len(inside)} corpora, mean width {float(torch.stack(widths).mean()):.3f}; "
            f"means are {slope:.2f} times the truth" + (f"; {failed} failed" if failed else "")
        )
        yield Row(f"topics, correlations by {name}", seconds / len(inside), "", None, note)


def rows() -> Iterator[Row]:
    yield from coverage()
    yield from poliblog()
    for topics in lda.TOPICS:
        yield from race(topics)
