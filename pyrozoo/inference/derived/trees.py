"""The No-U-Turn sampler of many chains at once: one transition, and the tuning of its step size and metric.

In PyTorch all chains climb their trees leaf by leaf together, and those that have turned wait. In C they go one after
another (``trees.c``). Both are after Phan, Pradhan and Jankowiak (2019, arXiv:1912.11554), whose trees need no
recursion, with multinomial draws from them (Betancourt 2017, arXiv:1701.02434).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pyrozoo.compiler.density import CompiledDensity, Memory
from pyrozoo.compiler.kernels import Kernels

KERNELS = Kernels(__file__)


class Target(Protocol):
    """A density of vectors, given what does not move."""

    @property
    def compiled(self) -> CompiledDensity | None:
        """The density of one vector with what does not move after it; None: it is not compiled."""

    @property
    def rest(self) -> Tensor:
        """What does not move, [chain, rest]."""

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return log densities [chain] and gradients [chain, size] at vectors [chain, size]."""


TARGET = 0.8
"""Mean acceptance that the step size is tuned to."""

DEEPEST = 8
"""At most 2 to this many leapfrog steps in a transition."""

DIVERGED = 1000.0
"""Loss of log density beyond which a trajectory has left the level set that it should be on."""

SHRINKAGE, OFFSET, POWER = 0.05, 10.0, 0.75
"""Gamma, t0 and kappa of dual averaging (Hoffman and Gelman 2014, JMLR 15, section 3.2.1)."""

WINDOW, LONGER = 16, 2
"""Transitions of the first window after which the metric is estimated anew, and how much longer each next one is."""

DENSE = 64
"""First coordinates, at most, of which the metric knows the correlations."""

TOWARD = 5
"""Draws that a metric without correlations counts as."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned in the warm-up; all chains share it, and it is kept once for each.

    Attributes:
        steps: Logarithm of the step size, of its average, mean error of acceptance, where the first shrinks to,
            transitions since the metric is what it is, length of the window, 1 while it is tuned: [chain, 7].
        metric: Scale of every coordinate; mean, sum of squares of positions and of gradients: [chain, 5, size].
        dense: Factor of the covariance of the first coordinates, and sum of products of positions,
            [chain, 2, first, first].
    """

    steps: Tensor
    metric: Tensor
    dense: Tensor

    @classmethod
    def started(cls, gradients: Tensor, first: int) -> Tuning:
        """Return what chains begin with.

        Args:
            gradients: At their starts, [chain, size]: they say how steep it is.
            first: Of how many coordinates the metric is to know the correlations.
        """
        count, size = gradients.shape
        slope = gradients.square().mean(0).sqrt().clamp(1e-6, 1e6)
        metric = gradients.new_zeros(5, size)
        metric[0] = slope.rsqrt().clamp(max=1.0)
        dense = torch.stack([metric[0, :first].diag(), metric.new_zeros(first, first)])
        steps = _restarted(math.log(0.1), WINDOW)
        return cls(*(torch.stack([each] * count) for each in (gradients.new_tensor(steps), metric, dense)))

    @property
    def step(self) -> Tensor:
        """Step size, a scalar."""
        return self.steps[0, 0].exp()

    def along(self, momentum: Tensor) -> Tensor:
        """Return the direction in which a momentum moves, both [chain, size]."""
        factor, scale = self.dense[0, 0], self.metric[0, 0]
        first = len(factor)
        return torch.cat([momentum[:, :first] @ factor.T, momentum[:, first:] * scale[first:]], 1)

    def back(self, gradient: Tensor) -> Tensor:
        """Return the force of a gradient on the momentum, both [chain, size]."""
        factor, scale = self.dense[0, 0], self.metric[0, 0]
        first = len(factor)
        return torch.cat([gradient[:, :first] @ factor, gradient[:, first:] * scale[first:]], 1)

    def after(self, acceptance: Tensor, places: Tensor, gradients: Tensor) -> Tuning:
        """Return what is tuned after a transition; once it is settled, this.

        Args:
            acceptance: Mean acceptance of every chain, [chain].
            places: Where the chains are, [chain, size].
            gradients: There.
        """
        log_step, average, error, center, count, window, open_ = self.steps[0].tolist()
        if not open_:
            return self
        count += 1
        rate = 1 / (count + OFFSET)
        error = (1 - rate) * error + rate * (TARGET - float(acceptance.mean()))
        log_step = center - math.sqrt(count) / SHRINKAGE * error
        weight = count**-POWER
        average = weight * log_step + (1 - weight) * average
        metric, dense = _with(self.metric[0], self.dense[0], int(count), places, gradients)
        steps = [log_step, average, error, center, count, window, 1.0]
        if count >= window:
            metric, dense = _anew(metric, dense, int(count) * len(places))
            steps = _restarted(average, LONGER * window)
        each = self.steps.new_tensor(steps), metric, dense
        return Tuning(*(new.expand_as(old) for new, old in zip(each, vars(self).values(), strict=True)))

    def settled(self) -> Tuning:
        """Return it with the average step size, which is kept from here on."""
        steps = self.steps.clone()
        steps[:, 0] = torch.where(steps[:, 4] > 0, steps[:, 1], steps[:, 0])
        steps[:, 6] = 0
        return replace(self, steps=steps)


def _restarted(log_step: float, window: float) -> list[float]:
    """Return steps that are tuned anew from a step size, towards ten times of which they shrink."""
    return [log_step, log_step, 0.0, log_step + math.log(10.0), 0.0, window, 1.0]


def _with(metric: Tensor, dense: Tensor, count: int, places: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Return running means and sums of squares with those of one more transition of all chains."""
    new = torch.stack([places, gradients])  # [2, chain, size]
    many, before = new.shape[1], (count - 1) * new.shape[1]
    mean, squares = metric[1::2], metric[2::2]
    here = new.mean(1)
    away, apart = here - mean, new - here.unsqueeze(1)
    share = before * many / (before + many)
    squares = squares + apart.square().sum(1) + share * away.square()
    mean = mean + away * (many / (before + many))
    first = len(dense[0])
    places, moved = apart[0, :, :first], away[0, :first]
    dense = torch.stack([dense[0], dense[1] + places.T @ places + share * torch.outer(moved, moved)])
    return torch.stack([metric[0], mean[0], squares[0], mean[1], squares[1]]), dense


def _anew(metric: Tensor, dense: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the metric that so many draws show, with sums of no draws.

    Of a normal coordinate the variance over that of the gradient is the fourth power of its scale (nutpie's estimate).
    """
    of_places, of_gradients = metric[2] / count, metric[4] / count
    found = (of_places / of_gradients.clamp(min=1e-20)).clamp(1e-20, 1e20) ** 0.25
    scale = torch.where((of_places > 0) & (of_gradients > 0), found, metric[0])
    factor = dense[0]
    covariance = dense[1] / count
    shrunk = (count * covariance + TOWARD * covariance.diag().diag()) / (count + TOWARD)
    new, failed = torch.linalg.cholesky_ex(shrunk)
    factor = scale[: len(factor)].diag() if int(failed) or count < 2 * len(factor) else new
    zeros = torch.zeros_like(metric)
    zeros[0] = scale
    return zeros, torch.stack([factor, torch.zeros_like(factor)])


@dataclass
class _Edges:
    """Both ends of the trees of all chains: position, momentum, gradient, [2, 3, chain, size]."""

    both: Tensor

    def at(self, forward: Tensor) -> Tensor:
        """Return the ends toward which chains go, [3, chain, size]."""
        return torch.where(forward.unsqueeze(-1), self.both[1], self.both[0])

    def put(self, forward: Tensor, end: Tensor, which: Tensor) -> None:
        """Have these ends be others where chains have grown."""
        self.both = torch.stack([
            torch.where((which & ~forward).unsqueeze(-1), end, self.both[0]),
            torch.where((which & forward).unsqueeze(-1), end, self.both[1]),
        ])  # fmt: skip


def transition(target: Target, places: Tensor, tuning: Tuning) -> tuple[Tensor, Tensor, Tensor]:
    """Move every chain once.

    Args:
        target: The density.
        places: Where chains are, [chain, size].
        tuning: Step size and metric.

    Returns:
        Places and gradients after it, [chain, size], and the mean acceptance of every chain, [chain].
    """
    compiled = target.compiled is not None and places.dtype == torch.float64 and KERNELS.serve(places)
    return (_one_by_one if compiled else _together)(target, places, tuning)


def _one_by_one(target: Target, places: Tensor, tuning: Tuning) -> tuple[Tensor, Tensor, Tensor]:
    """Move the chains in C, each with random numbers of its own."""
    density = target.compiled
    assert density is not None
    chains, size = places.shape
    memory, points = Memory(density), torch.cat([places, target.rest], 1).contiguous()
    seeds = torch.randint(2**62, (chains,))
    values, gradients, accepted = points.new_empty(chains), torch.empty_like(places), points.new_empty(chains)
    factor = tuning.dense[0, 0].contiguous()
    KERNELS(
        "transitions", torch.float64, density.address, int(memory.struct.ctypes.data), chains, size, points.shape[1],
        len(factor), DEEPEST, float(tuning.step), DIVERGED, tuning.metric[0, 0].contiguous(), factor, seeds,
        points, values, gradients, accepted,
    )  # fmt: skip
    return points[:, :size].contiguous(), gradients, accepted


def _together(target: Target, places: Tensor, tuning: Tuning) -> tuple[Tensor, Tensor, Tensor]:
    """Move the chains in PyTorch, all at once."""
    values, slopes = target(places)
    step = tuning.step
    momentum = torch.randn_like(places)
    energy = values - 0.5 * momentum.square().sum(-1)
    start = torch.stack([places, momentum, slopes])
    edges = _Edges(torch.stack([start, start]))
    kept = start
    total, sums = torch.zeros_like(values), momentum
    going = torch.ones_like(values, dtype=torch.bool)
    accepted, leaves = torch.zeros_like(values), torch.zeros_like(values)
    for depth in range(DEEPEST):
        forward = torch.rand_like(values) < 0.5
        signed = torch.where(forward, step, -step).unsqueeze(-1)
        tree = _Tree(edges.at(forward), values, sums, going)
        for leaf in range(2**depth):
            alive = tree.going
            tree.grow(target, signed, tuning, energy, leaf)
            accepted += torch.where(alive, tree.weight.clamp(max=0.0).exp(), 0.0)
            leaves += alive
            if not bool(tree.going.any()):
                break
        whole = going & tree.going
        # A half that is heavier is moved to for certain (biased progressive sampling, Betancourt 2017, section A.3.2).
        moves = whole & (torch.rand_like(values).log() < tree.total - total)
        kept = torch.where(moves.unsqueeze(-1), tree.kept, kept)
        total, sums = torch.where(whole, torch.logaddexp(total, tree.total), total), sums + tree.sums
        edges.put(forward, tree.end, whole)
        going = whole & ~turning(edges.both[0, 1], edges.both[1, 1], sums)
        if not bool(going.any()):
            break
    return kept[0], kept[2], accepted / leaves


class _Tree:
    """The other half of the trees of all chains, grown leaf by leaf from one end.

    Attributes:
        end: Position, momentum and gradient of the last leaf, [3, chain, size].
        going: Which chains still grow: none of their leaves has diverged, and no part has turned.
        weight: Logarithm of the weight of the last leaf, against that of the start.
        kept: A leaf drawn by weight, [3, chain, size].
        total: Logarithm of the sum of weights.
        sums: Sum of the momenta.
    """

    def __init__(self, end: Tensor, values: Tensor, sums: Tensor, going: Tensor):
        self.end, self.going, self.kept = end, going, end
        self.weight = torch.full_like(values, -torch.inf)
        self.total, self.sums = self.weight, torch.zeros_like(sums)
        self.checkpoints: dict[int, tuple[Tensor, Tensor]] = {}

    def grow(self, target: Target, signed: Tensor, tuning: Tuning, energy: Tensor, leaf: int) -> None:
        """Take one leapfrog step."""
        place, momentum, slope = self.end
        momentum = momentum + 0.5 * signed * tuning.back(slope)
        place = place + signed * tuning.along(momentum)
        value, slope = target(place)
        momentum = momentum + 0.5 * signed * tuning.back(slope)
        weight = value - 0.5 * momentum.square().sum(-1) - energy
        weight = weight.nan_to_num(nan=-torch.inf, posinf=-torch.inf)
        sound = (weight > -DIVERGED) & slope.isfinite().all(-1)
        going = self.going & sound
        grown = torch.stack([place, momentum, slope])
        self.end = torch.where(going.unsqueeze(-1), grown, self.end)
        total = torch.logaddexp(self.total, weight)
        takes = going & (torch.rand_like(weight).log() < weight - total)
        self.kept = torch.where(takes.unsqueeze(-1), grown, self.kept)
        self.weight, self.total = weight, torch.where(going, total, self.total)
        self.sums = self.sums + torch.where(going.unsqueeze(-1), momentum, 0.0)
        self.going = going & ~self._turned(leaf)

    def _turned(self, leaf: int) -> Tensor:
        """Return whether a subtree that ends with this leaf has turned; those that begin with an even one are kept."""
        momentum, last = self.end[1], (leaf >> 1).bit_count()
        if leaf % 2 == 0:
            self.checkpoints[last] = momentum, self.sums
            return torch.zeros_like(self.going)
        trailing = (~leaf & (leaf + 1)).bit_length() - 1  # how many ones stand at the end: subtrees that end here
        turned = torch.zeros_like(self.going)
        for i in range(last - trailing + 1, last + 1):
            first, before = self.checkpoints[i]
            turned = turned | turning(first, momentum, self.sums - before + first)
        return turned


def turning(first: Tensor, last: Tensor, sums: Tensor) -> Tensor:
    """Return whether trajectories turn back (Betancourt 2017, section A.4.2), [chain].

    Args:
        first: Momentum at one end, [chain, size].
        last: At the other.
        sums: Sum of all momenta between them, ends too.
    """
    along = sums - 0.5 * (first + last)
    return ((along * first).sum(-1) <= 0) | ((along * last).sum(-1) <= 0)
