"""Hidden Markov chains: their likelihood, and what is known of their states, of many sequences and parameters at once.

Arrays by step are [N, C, K]: the steps of all sequences one after another, parameters, states. Where a compiler is
there, the recursions run in C (``markov_chains.c``), several sequences side by side; the PyTorch code beside them is
their oracle, and what gradients of any order and other devices use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.compiler.kernels import Kernels, threads

KERNELS = Kernels(__file__)

LANES = {torch.float64: 4, torch.float32: 8}
"""Sequences that the kernel works on side by side: as many as a vector register holds."""

GROUPS = 4
"""Groups of so many sequences that one block of the kernel's work takes."""


class Smoothed(NamedTuple):
    """What forward and backward recursions say.

    Attributes:
        log_evidence: log p(x_s) of every sequence.
        probability: p(z_t = k | x), or 1 for the state that was drawn.
        first: Sums of these over the first steps.
        pairs: Sums over steps of p(z_t = k, z_{t+1} = l | x), or how often the drawn paths go from k to l.
    """

    log_evidence: Float[Tensor, "S C"]
    probability: Float[Tensor, "N C K"]
    first: Float[Tensor, "C K"]
    pairs: Float[Tensor, "C K K"]


@dataclass(frozen=True, eq=False)
class Steps:
    """Where the steps of sequences stand: those of the first, then those of the second, and so on.

    Attributes:
        lengths: Steps of each, at least 1.
    """

    lengths: Int[Tensor, S]

    @cached_property
    def starts(self) -> Int[Tensor, S]:
        """Where each begins."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def count(self) -> int:
        """N, the steps of all."""
        return int(self.lengths.sum())

    @cached_property
    def longest(self) -> int:
        """The steps of the longest."""
        return int(self.lengths.max())

    @cached_property
    def order(self) -> Int[Tensor, S]:
        """The sequences, the longest first, so that those that still go are always the first ones."""
        return self.lengths.argsort(descending=True, stable=True)

    @cached_property
    def going(self) -> list[int]:
        """How many have a step t, for t = 0, 1, ..."""
        ended = torch.bincount(self.lengths, minlength=self.longest + 1).cumsum(0)
        return (len(self.lengths) - ended[: self.longest]).tolist()

    @cached_property
    def sequence(self) -> Int[Tensor, N]:
        """Which sequence each step is of."""
        index = torch.arange(len(self.lengths), device=self.lengths.device)
        return index.repeat_interleave(self.lengths)

    def at(self, t: int) -> Int[Tensor, G]:
        """Return where step t stands of those that have it, in their order."""
        return self.starts[self.order[: self.going[t]]] + t

    def forward(self) -> Iterator[tuple[int, Int[Tensor, G]]]:
        """Go through the steps t, with ``at`` of each."""
        for t in range(self.longest):
            yield t, self.at(t)


def smooth(
    steps: Steps, initial: Float[Tensor, "C K"], transition: Float[Tensor, "C K K"],
    log_emission: Float[Tensor, "N C K"], *, uniform: Float[Tensor, "N C"] | None = None,
    weight: Float[Tensor, "S C"] | None = None,
) -> Smoothed:  # fmt: skip
    """Filter forward, then smooth backward, or draw paths (Rabiner 1989, Proc. IEEE 77; Scott 2002, JASA 97).

    Forward, a_t(k) = p(z_t = k | x_1..t) is normalised at every step. Backward,
    p(z_t = i | x) = a_t(i) sum_j A_ij p(z_{t+1} = j | x) / p(z_{t+1} = j | x_1..t), in which nothing overflows.

    Args:
        steps: Where the steps stand.
        initial: p(z_1).
        transition: p(z_{t+1} | z_t), in rows.
        log_emission: log p(x_t | z_t = k).
        uniform: Numbers from 0 to 1 by which paths are drawn; None: probabilities.
        weight: How much each sequence counts in ``first`` and ``pairs``; None: 1.
    """
    given = [each.contiguous() for each in (initial, transition, log_emission)]
    given += [each.contiguous() for each in (uniform, weight) if each is not None]
    if not KERNELS.serve(*given):
        return _smooth(steps, initial, transition, log_emission, uniform, weight)
    (_, C, K), S, lanes = log_emission.shape, len(steps.lengths), LANES[log_emission.dtype]
    found = torch.empty_like(given[2])
    evidence, first, pairs = found.new_empty(S, C), found.new_zeros(C, K), found.new_zeros(C, K, K)
    workers = threads()
    size = (steps.longest + 1) * K * lanes + (64 + 6 * K + 2 * K * K + 70 * K) * lanes + 64
    scratch = found.new_empty(workers * size)
    rest = iter(given[3:])
    drawn, weights = (next(rest) if each is not None else None for each in (uniform, weight))
    KERNELS(
        "smooth", found.dtype, *given[:3], drawn, weights, steps.starts, steps.lengths, steps.order, found, evidence,
        first, pairs, scratch, size, S, C, K, GROUPS, workers,
    )  # fmt: skip
    return Smoothed(evidence, found, first, pairs)


def _smooth(
    steps: Steps, initial: Tensor, transition: Tensor, log_emission: Tensor, uniform: Tensor | None,
    weight: Tensor | None,
) -> Smoothed:  # fmt: skip
    """Do the same in PyTorch, all sequences that have a step at once."""
    filtered, log_scale = _filter(steps, initial, transition, log_emission)
    evidence = log_scale.new_zeros(len(steps.lengths), log_scale.shape[1]).index_add(0, steps.sequence, log_scale)
    smoothed, pairs = torch.empty_like(filtered), torch.zeros_like(transition)
    share = torch.ones_like(evidence) if weight is None else weight
    for t in reversed(range(steps.longest)):
        at, on = steps.at(t), steps.going[t + 1] if t + 1 < steps.longest else 0
        now, last = at[:on], at[on:]
        ends = filtered[last]
        smoothed[last] = ends if uniform is None else _one_of(ends, uniform[last])
        if not on:
            continue
        a, after = filtered[now], smoothed[now + 1]  # [G, C, K]
        w = share[steps.order[:on]]
        if uniform is None:
            predicted = torch.einsum("gci,cij->gcj", a, transition)
            ratio = torch.where(predicted > 0, after / predicted, 0.0)
            smoothed[now] = a * torch.einsum("gcj,cij->gci", ratio, transition)
            pairs += torch.einsum("gc,gci,gcj->cij", w, a, ratio)
        else:
            smoothed[now] = _one_of(a * torch.einsum("gcj,cij->gci", after, transition), uniform[now])
            pairs += torch.einsum("gc,gci,gcj->cij", w, smoothed[now], after)
    if uniform is None:
        pairs = pairs * transition
    first = (smoothed[steps.starts] * share.unsqueeze(-1)).sum(0)
    return Smoothed(evidence, smoothed, first, pairs)


def _filter(
    steps: Steps, initial: Tensor, transition: Tensor, log_emission: Tensor
) -> tuple[Float[Tensor, "N C K"], Float[Tensor, "N C"]]:
    """Return p(z_t | x_1..t), and log p(x_t | x_1..t-1)."""
    filtered, log_scale = torch.empty_like(log_emission), torch.empty_like(log_emission[..., 0])
    tiny = torch.finfo(log_emission.dtype).tiny
    for t, at in steps.forward():
        if t:
            predicted = torch.einsum("gci,cij->gcj", filtered[at - 1], transition)
        else:
            predicted = initial.expand(len(at), *initial.shape)
        # Of states that can be: others may explain the step much better, and leave nothing of these.
        log_e = torch.where(predicted > tiny, log_emission[at], -torch.inf)
        most = log_e.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        joint = predicted * (log_e - most).exp()
        total = joint.sum(-1, keepdim=True)
        filtered[at] = torch.where(total > 0, joint / total, 1 / joint.shape[-1])
        log_scale[at] = (total.log() + most).squeeze(-1)
    return filtered, log_scale


def _one_of(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return 1 for the state that a uniform number chooses among weights, 0 for the others."""
    cumulative = weights.cumsum(-1)
    chosen = (cumulative[..., :-1] <= (uniform * cumulative[..., -1]).unsqueeze(-1)).sum(-1)
    return torch.nn.functional.one_hot(chosen, weights.shape[-1]).to(weights.dtype)


class _Evidence(torch.autograd.Function):
    """log p(x_s) with its gradient from the smoothed states: d log p / d log e_t(k) = p(z_t = k | x), and so on."""

    @staticmethod
    def forward(ctx: Any, initial: Tensor, transition: Tensor, log_emission: Tensor, steps: Steps) -> Tensor:
        ctx.save_for_backward(initial, transition, log_emission)
        ctx.steps = steps
        return smooth(steps, initial, transition, log_emission).log_evidence

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,), (initial, transition, log_emission) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of the gradient is wanted
            with torch.enable_grad():
                value = scanned(ctx.steps, initial, transition, log_emission)
                found = torch.autograd.grad(value, (initial, transition, log_emission), weight, create_graph=True)
            return *found, None
        done = smooth(ctx.steps, initial, transition, log_emission, weight=weight)
        by_step = done.probability * weight[ctx.steps.sequence].unsqueeze(-1)
        return _over(done.first, initial), _over(done.pairs, transition), by_step, None


def _over(counts: Tensor, probability: Tensor) -> Tensor:
    return torch.where(probability > 0, counts / probability, 0.0)


def log_evidence(
    steps: Steps, initial: Float[Tensor, "C K"], transition: Float[Tensor, "C K K"],
    log_emission: Float[Tensor, "N C K"],
) -> Float[Tensor, "S C"]:  # fmt: skip
    """Return log p(x_s) of every sequence, with derivatives of any order."""
    given = (initial, transition, log_emission)
    with torch.no_grad():
        fast = KERNELS.serve(*given)
    if not fast:
        return scanned(steps, *given)
    return _Evidence.apply(*given, steps) if torch.is_grad_enabled() else smooth(steps, *given).log_evidence


def scanned(
    steps: Steps, initial: Float[Tensor, "C K"], transition: Float[Tensor, "C K K"],
    log_emission: Float[Tensor, "N C K"],
) -> Float[Tensor, "S C"]:  # fmt: skip
    """Return log p(x_s) by a parallel scan: products of neighbouring steps, then of pairs of steps, and so on.

    It takes log2 T rounds in place of T steps, and K times the multiplications (Sarkka and Garcia-Fernandez 2021, IEEE
    Trans. Automatic Control 66).
    """
    T, K = steps.longest, initial.shape[-1]
    t = torch.arange(T, device=steps.lengths.device)
    there = t < steps.lengths.unsqueeze(-1)  # [S, T]
    place = torch.where(there, steps.starts.unsqueeze(-1) + t, 0)
    log_e = log_emission[place]  # [S, T, C, K]
    value = initial.log() + log_e[:, 0]  # [S, C, K]
    if T > 1:
        low = -1e30 if log_emission.dtype == torch.float64 else -1e15
        still = torch.where(torch.eye(K, dtype=torch.bool, device=log_e.device), 0.0, low).to(log_e)
        factor = transition.log() + log_e[:, 1:].unsqueeze(-2)  # [S, T - 1, C, K, K]
        factor = torch.where(there[:, 1:, None, None, None], factor, still)
        while factor.shape[1] > 1:
            if factor.shape[1] % 2:
                factor = torch.cat([factor, still.expand_as(factor[:, :1])], 1)
            factor = _product(factor[:, ::2], factor[:, 1::2])
        value = (value.unsqueeze(-1) + factor[:, 0]).logsumexp(-2)
    return value.logsumexp(-1)


def _product(one: Tensor, other: Tensor) -> Tensor:
    return (one.unsqueeze(-1) + other.unsqueeze(-3)).logsumexp(-2)


def most_probable(
    steps: Steps, initial: Float[Tensor, "C K"], transition: Float[Tensor, "C K K"],
    log_emission: Float[Tensor, "N C K"],
) -> tuple[Int[Tensor, "N C"], Float[Tensor, "S C"]]:  # fmt: skip
    """Return the most probable path of every sequence, and its log density with the data (Viterbi 1967)."""
    log_a, back = transition.log(), torch.empty(log_emission.shape, dtype=torch.long, device=log_emission.device)
    value, best = torch.empty_like(log_emission), torch.empty_like(log_emission[..., 0], dtype=torch.long)
    for t, at in steps.forward():
        if t == 0:
            value[at] = initial.log() + log_emission[at]
            continue
        most, back[at] = (value[at - 1].unsqueeze(-1) + log_a).max(-2)
        value[at] = most + log_emission[at]
    for t in reversed(range(steps.longest)):
        at, on = steps.at(t), steps.going[t + 1] if t + 1 < steps.longest else 0
        best[at[on:]] = value[at[on:]].argmax(-1)
        best[at[:on]] = back[at[:on] + 1].gather(-1, best[at[:on] + 1].unsqueeze(-1)).squeeze(-1)
    return best, value[steps.starts + steps.lengths - 1].amax(-1)


def simulate(steps: Steps, initial: Float[Tensor, K], transition: Float[Tensor, "K K"]) -> Int[Tensor, N]:
    """Draw paths from the chain itself, from torch's global generator."""
    state = torch.empty(steps.count, dtype=torch.long, device=initial.device)
    uniform = torch.rand(steps.count, dtype=initial.dtype, device=initial.device)
    for t, at in steps.forward():
        weights = transition[state[at - 1]] if t else initial.expand(len(at), -1)
        state[at] = _one_of(weights, uniform[at]).argmax(-1)
    return state
