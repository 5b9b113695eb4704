"""Forward and backward recursions against every path, in C and in PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pyrozoo.compiler.kernels import Kernels, switched
from pyrozoo.math import markov_chains
from pyrozoo.math.markov_chains import Steps, log_evidence, most_probable, scanned, simulate, smooth

FORMS = [([3, 1, 5, 4, 2, 6, 7], 2, 3), ([4], 1, 1), ([1, 1], 3, 2), ([40, 33, 70, 2, 41], 2, 5), ([9] * 9, 1, 7)]


def chains(lengths, C, K, scale=1.0, dtype=torch.float64):
    """Return steps, and random chains with log emissions of a spread."""
    steps, generator = Steps(torch.tensor(lengths)), torch.Generator().manual_seed(K)
    weights = torch.rand(C, K + 1, K, generator=generator, dtype=torch.float64) ** 3 + 1e-9
    weights = (weights / weights.sum(-1, keepdim=True)).to(dtype)
    noise = torch.randn(steps.count, C, K, generator=generator, dtype=torch.float64)
    return steps, weights[:, 0], weights[:, 1:], (scale * noise).to(dtype)


def every_path(steps, initial, transition, log_emission, c):
    """Return log p of each sequence, p(z_t | x), sums of pairs and the best path's log density, path by path."""
    pi, A, e = (each[:, c] if i == 2 else each[c] for i, each in enumerate((initial, transition, log_emission)))
    pi, A, e = (each.numpy() for each in (pi, A, e))
    K, logs, best = len(pi), [], []
    probability, pairs = np.zeros((steps.count, K)), np.zeros((K, K))
    for start, length in zip(steps.starts.tolist(), steps.lengths.tolist(), strict=True):
        paths = np.array(list(itertools.product(range(K), repeat=length)))
        log = np.log(pi[paths[:, 0]]) + np.log(A[paths[:, :-1], paths[:, 1:]]).sum(1)
        log += e[start + np.arange(length), paths].sum(1)
        weight = np.exp(log - np.logaddexp.reduce(log))
        logs.append(np.logaddexp.reduce(log))
        best.append(log.max())
        for t in range(length):
            np.add.at(probability[start + t], paths[:, t], weight)
        for t in range(length - 1):
            np.add.at(pairs, (paths[:, t], paths[:, t + 1]), weight)
    return np.array(logs), probability, pairs, np.array(best)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_every_path_is_summed(on, scale):
    given = chains([4, 2, 5, 1, 3, 6], 2, 3, scale)
    with switched(on):
        found, (_, best) = smooth(*given), most_probable(*given)
        scan = scanned(*given)
    for c in range(2):
        logs, probability, pairs, most = every_path(*given, c)
        for ours, exact in (
            (found.log_evidence[:, c], logs), (scan[:, c], logs), (found.probability[:, c], probability),
            (found.pairs[c], pairs), (best[:, c], most),
            (found.first[c], probability[given[0].starts.numpy()].sum(0)),
        ):  # fmt: skip
            np.testing.assert_allclose(ours.numpy(), exact, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
@pytest.mark.parametrize(("lengths", "C", "K"), FORMS)
def test_the_kernel_does_pytorchs_recursions(lengths, C, K, dtype, tolerance):
    for scale in (1.0, 30.0, 1000.0):
        given = chains(lengths, C, K, scale, dtype)
        torch.manual_seed(0)
        uniform = torch.rand(given[0].count, C, dtype=dtype)
        weight = torch.rand(len(lengths), C, dtype=dtype)
        for more in ({}, {"weight": weight}, {"uniform": uniform, "weight": weight}):
            if more.get("uniform") is not None and dtype == torch.float32:
                continue  # in single precision a path may fall to the other side
            assert markov_chains.KERNELS.serve(*given[1:])
            ours = smooth(*given, **more)
            with switched(False):
                theirs = smooth(*given, **more)
            for a, b in zip(ours, theirs, strict=True):
                assert (a - b).abs().max() <= tolerance * (1 + b.abs().max())


def test_drawn_paths_come_as_often_as_they_should():
    steps, *rest = chains([5], 1, 3)
    many = Steps(torch.full((20_000,), 5))
    repeated = (*rest[:2], rest[2].repeat(20_000, 1, 1))
    torch.manual_seed(0)
    drawn = smooth(many, *repeated, uniform=torch.rand(100_000, 1, dtype=torch.float64)).probability
    assert (drawn.sum(-1) == 1).all()
    exact = smooth(steps, *rest)
    share = drawn[:, 0].unflatten(0, (-1, 5)).mean(0)
    assert (share - exact.probability[:, 0]).abs().max() < 4 * 0.5 / np.sqrt(20_000)


def test_a_wrong_kernel_is_caught(monkeypatch):
    bad, right, wrong = Kernels(markov_chains.__file__), "next[k] / sum,", "next[k] / (sum + 1e-9f),"
    assert right in bad.text
    bad.text = bad.text.replace(right, wrong)
    monkeypatch.setattr(markov_chains, "KERNELS", bad)
    with pytest.raises(AssertionError):
        test_the_kernel_does_pytorchs_recursions([40, 33, 70, 2, 41], 2, 5, torch.float64, 1e-11)


def test_smoothing_does_not_depend_on_the_number_of_threads(monkeypatch):
    given = chains([7, 3, 9] * 30, 2, 4)
    found = []
    for number in (1, 2, 5):
        monkeypatch.setattr(markov_chains, "threads", lambda number=number: number)
        found.append(smooth(*given))
    assert all(a.equal(b) for each in found for a, b in zip(each, found[0], strict=True))


def test_derivatives_of_any_order_are_the_scans():
    steps, *given = chains([4, 2, 3], 2, 3)
    given = [each.requires_grad_() for each in given]
    weight = torch.rand(3, 2, dtype=torch.float64)
    ours, theirs = (
        torch.autograd.grad((f(steps, *given) * weight).sum(), given) for f in (log_evidence, scanned)
    )  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    assert torch.autograd.gradgradcheck(lambda *each: log_evidence(steps, *each).sum(), given)


def test_an_impossible_step_leaves_no_nan():
    steps, initial, transition, log_e = chains([6, 4], 1, 3)
    log_e[2] = -torch.inf
    initial, transition = initial.clone(), transition.clone()
    transition[:, 0] = torch.tensor([1.0, 0, 0])
    for on in (True, False):
        with switched(on):
            found = smooth(steps, initial, transition, log_e)
        assert found.log_evidence[0].isneginf().all()
        assert found.probability.isfinite().all()
        assert found.pairs.isfinite().all()


def test_a_state_that_must_be_is_found_however_improbable():
    """The chain can only be in state 0, which explains the step 2000 nats worse than the others."""
    steps, initial = Steps(torch.tensor([3])), torch.tensor([[1.0, 0.0]]).double()
    transition = torch.eye(2).double()[None]
    log_e = torch.tensor([[[-2000.0, 0.0]]]).double().expand(3, 1, 2)
    for on in (True, False):
        with switched(on):
            found = smooth(steps, initial, transition, log_e)
        assert float(found.log_evidence) == pytest.approx(-6000)
        assert (found.probability[:, 0, 0] == 1).all()


def test_simulated_paths_follow_the_chain():
    _, initial, transition, _ = chains([2], 1, 3)
    torch.manual_seed(0)
    state = simulate(Steps(torch.full((20_000,), 2)), initial[0], transition[0]).view(-1, 2)
    joint = (
        torch.zeros(3, 3).double().index_put((state[:, 0], state[:, 1]), torch.tensor(1.0).double(), accumulate=True)
    )
    exact = initial[0].unsqueeze(-1) * transition[0]
    assert (joint / 20_000 - exact).abs().max() < 4 * 0.5 / np.sqrt(20_000)
