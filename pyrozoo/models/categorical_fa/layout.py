"""Answers and coefficients as the solvers see them: all categories of all items on one axis, rows on the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Values
from pyrozoo.data.survey import Survey
from pyrozoo.math.branches import may_branch

BLOCK = 2**19
"""Numbers in the largest temporary array of a block of rows on a CPU: what the processor's caches hold."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Between these, sums of exponentials keep their precision in float32, too."""

Vectors = Float[Tensor, "C B d"]
Matrices = Float[Tensor, "C B d d"]
Numbers = Float[Tensor, "C B"]
"""One for each row of a block and chain."""


@dataclass(frozen=True)
class Parameters:
    """The global sites in the order of the layout, one set per chain.

    Attributes:
        beta: Loadings of every category, the last ones of items zero; E = d + H.
        offset: Intercepts, likewise.
        mean: mu.
        covariance: Sigma.
        weights: W of the hidden units, H of them, often none.
        biases: b of them.
    """

    beta: Float[Tensor, "C P E"]
    offset: Float[Tensor, "C P"]
    mean: Float[Tensor, "C d"]
    covariance: Float[Tensor, "C d d"]
    weights: Float[Tensor, "C H d"]
    biases: Float[Tensor, "C H"]

    def features(self, z: Float[Tensor, "C d *Q"]) -> Float[Tensor, "C E *Q"]:
        """Return eta(z): z itself and, below it, tanh(W z + b)."""
        if not self.biases.shape[1]:
            return z
        flat = z.flatten(2) if z.ndim > 2 else z.unsqueeze(2)
        hidden = torch.tanh(self.weights @ flat + self.biases.unsqueeze(-1))
        return torch.cat([flat, hidden], 1).reshape(len(z), -1, *z.shape[2:])

    def logits(self, eta: Float[Tensor, "C E *Q"]) -> Float[Tensor, "C P *Q"]:
        """Return beta_ik . eta + intercept of every category."""
        flat = eta.flatten(2) if eta.ndim > 2 else eta.unsqueeze(2)
        return torch.baddbmm(self.offset.unsqueeze(-1), self.beta, flat).reshape(len(eta), -1, *eta.shape[2:])


@dataclass(frozen=True)
class Block:
    """Some rows: how often each category was chosen, and how many answers there are to each item.

    Attributes:
        rows: Which rows.
        counts: x, one or nothing for every category (more where items share their loadings and are counted together).
        answers: m.
    """

    rows: slice
    counts: Float[Tensor, "P B"]
    answers: Float[Tensor, "I B"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Items in groups of equal numbers of categories, so that sums over categories are sums over an axis.

    Where all items share their loadings and have no intercepts, they are exchangeable: a row is how often it chose each
    category, and one item of many answers stands for all.

    Attributes:
        codes: Answers, items in the order of the groups, -1 where missing; empty when ``counts`` has all.
        counts: How often a row chose each category, where items are counted together; else empty.
        groups: Items and categories of each group.
        place: Where each category of the data is on the axis; where items are counted together they share places.
        free: Where the contrasts are: the categories of the data that are not the last of their item.
        columns: How many categories each item of the data has.
        like: A number of the data's precision, on their device.
        dimension: d.
        hidden: H.
        stated: Loadings that are not free.
    """

    codes: Int[Tensor, "I N"]
    counts: Float[Tensor, "P N"]
    groups: tuple[tuple[int, int], ...]
    place: Int[Tensor, P_data]
    free: Int[Tensor, F]
    columns: tuple[int, ...]
    like: Tensor
    dimension: int
    hidden: int
    stated: Float[Tensor, "P d"] | None

    @classmethod
    def of(
        cls, data: Survey, dimension: int, hidden: int = 0, stated: Sequence[Sequence[float]] | None = None,
        together: bool = False,
    ) -> Layout:  # fmt: skip
        """Return the layout of a survey.

        Args:
            data: The survey.
            dimension: d.
            hidden: H.
            stated: Loadings that are not free, one row for every category of the data.
            together: Whether items are exchangeable, and so are counted together.
        """
        sizes, device, (N, D) = tuple(data.categories), data.values.device, data.values.shape
        if together:
            codes = torch.zeros(0, N, dtype=torch.long, device=device)
            counts = torch.stack([(data.values == k).sum(1) for k in range(sizes[0])]).to(data.values.dtype)
            groups = [(1, sizes[0])]
            place = torch.arange(sizes[0], device=device).repeat(D)
            free = place[:0]
        else:
            order = sorted(range(D), key=lambda i: sizes[i])
            codes = torch.where(data.observed, data.filled.long(), -1)[:, order].T.contiguous()
            counts = data.values.new_zeros(0, N)
            groups = [(sizes.count(size), size) for size in sorted(set(sizes))]
            starts, total = {}, 0
            for i in order:
                starts[i], total = total, total + sizes[i]
            place = torch.tensor([starts[i] + k for i, size in enumerate(sizes) for k in range(size)], device=device)
            free = place[torch.tensor([k < size - 1 for size in sizes for k in range(size)], device=device)]
        like, fixed = data.values.new_zeros(()), None
        if stated is not None:
            fixed = like.new_zeros(sum(items * size for items, size in groups), dimension)
            fixed[place] = like.new_tensor(stated)
        return cls(codes, counts, tuple(groups), place, free, sizes, like, dimension, hidden, fixed)

    @property
    def num_rows(self) -> int:
        """Return N."""
        return self.counts.shape[1]

    @property
    def num_categories(self) -> int:
        """Return P, the length of the axis of categories."""
        return sum(items * size for items, size in self.groups)

    def blocks(self, per_row: int) -> Iterator[Block]:
        """Go through the rows, as many at a time as ``per_row`` numbers for each allow."""
        step = max(1, at_once(BLOCK, self.like) // max(1, per_row))
        for start in range(0, self.num_rows, step):
            yield self.block(slice(start, min(start + step, self.num_rows)))

    def block(self, rows: slice) -> Block:
        """Return some rows."""
        if not len(self.codes):
            counts = self.counts[:, rows]
            return Block(rows, counts, counts.sum(0, keepdim=True))
        codes = self.codes[:, rows]
        parts, first = [], 0
        for items, size in self.groups:
            levels = torch.arange(size, device=codes.device)[:, None]
            parts.append((codes[first : first + items].unsqueeze(1) == levels).flatten(0, 1))
            first += items
        return Block(rows, torch.cat(parts).to(self.like.dtype), (codes >= 0).to(self.like.dtype))

    def part(self, rows: Int[Tensor, n]) -> Layout:
        """Return some rows as a layout of their own."""
        return replace(self, codes=self.codes[:, rows], counts=self.counts[:, rows])

    def by_item(self, values: Float[Tensor, "C P *Q"]) -> list[Tensor]:
        """Return views [C, items, categories, *Q], one per group."""
        parts = values.split([items * size for items, size in self.groups], 1)
        return [part.unflatten(1, group) for part, group in zip(parts, self.groups, strict=True)]

    def slices(self) -> Iterator[tuple[slice, slice]]:
        """Go through the groups: where their items are, and their categories."""
        item = first = 0
        for items, size in self.groups:
            yield slice(item, item + items), slice(first, first + items * size)
            item, first = item + items, first + items * size

    def sums(self, values: Float[Tensor, "C P *Q"]) -> Float[Tensor, "C I *Q"]:
        """Return sums over the categories of every item."""
        return _joined([part.sum(2) for part in self.by_item(values)])

    def log_sums(self, logits: Float[Tensor, "C P *Q"]) -> Float[Tensor, "C I *Q"]:
        """Return log sum exp over the categories of every item, by plain exponentials where these do (``softmax``)."""
        total = self.sums(logits.exp())
        if may_branch() and bool(((total > SMALLEST) & (total < LARGEST)).all()):
            return total.log()
        return _joined([part.logsumexp(2) for part in self.by_item(logits)])

    def softmax(self, logits: Float[Tensor, "C P *Q"]) -> tuple[Float[Tensor, "C P *Q"], Float[Tensor, "C I *Q"]]:
        """Return probabilities over the categories of every item, and log sum exp.

        Plain exponentials, a third of the cost of stable ones, where none overflows and no sum vanishes.
        """
        e = logits.exp()
        total = self.sums(e)
        if may_branch() and bool(((total > SMALLEST) & (total < LARGEST)).all()):
            return e * self.spread(1 / total), total.log()
        logs = _joined([part.logsumexp(2) for part in self.by_item(logits)])
        return (logits - self.spread(logs)).exp(), logs

    def weights(
        self, logits: Float[Tensor, "C P *Q"], answers: Float[Tensor, I * Q], shared: bool = False
    ) -> tuple[Float[Tensor, "C P *Q"], Float[Tensor, "C I *Q"]]:
        """Return m_i e_ik / zeta_i for e = exp(logits), and log zeta.

        Args:
            logits: Of every category.
            answers: m.
            shared: Whether zeta is the mean of sum_k e_ik over the answers of a row, or that sum item by item.
        """
        e = logits.exp()
        total = self.sums(e)
        count = answers.sum(0)
        if may_branch() and bool(((total > SMALLEST) & (total < LARGEST)).all()):
            if not shared:
                return e * self.spread(answers / total), total.log()
            zeta = (answers * total).sum(1, keepdim=True) / count.clamp(min=1)
            zeta = torch.where(count > 0, zeta, 1.0)
            return e * self.spread(answers / zeta.expand_as(total)), zeta.log().expand_as(total)
        logs = _joined([part.logsumexp(2) for part in self.by_item(logits)])
        if shared:
            mean = (logs + answers.log()).logsumexp(1, keepdim=True) - count.clamp(min=1).log()
            logs = torch.where(count > 0, mean, 0.0).expand_as(logs)
        return (logits - self.spread(logs)).exp() * self.spread(answers.expand_as(logs)), logs

    def spread(self, values: Float[Tensor, "C I *Q"]) -> Float[Tensor, "C P *Q"]:
        """Return the value of its item for every category."""
        parts = values.split([items for items, _ in self.groups], 1)
        pairs = zip(parts, self.groups, strict=True)
        return _joined([p.unsqueeze(2).expand(-1, -1, size, *p.shape[2:]).flatten(1, 2) for p, (_, size) in pairs])

    def log_weights(self, answers: Float[Tensor, "I B"], zeta: Float[Tensor, "C I B"]) -> Float[Tensor, "C F B"]:
        """Return log (m_i / zeta_i) for every contrast, from log zeta."""
        m = answers.expand_as(zeta)
        return self.spread(torch.where(m > 0, m.log() - zeta, -torch.inf))[:, self.free]

    def totals(self) -> Float[Tensor, P]:
        """Return how often every category was chosen."""
        return torch.stack([block.counts.sum(1) for block in self.blocks(self.num_categories)]).sum(0)

    def scattered(self, rows: Float[Tensor, "C F *E"]) -> Float[Tensor, "C P *E"]:
        """Return values of the contrasts in their places on the axis, zero for the last categories."""
        shape = len(rows), self.num_categories, *rows.shape[2:]
        return rows.new_zeros(shape).index_copy(1, self.free, rows)

    def parameters(self, draws: Values) -> Parameters:
        """Return sites [C, *event] in the order of the layout; what is no site has its fixed value."""
        first = next(iter(draws.values()))
        like, chains, d, H = first, len(first), self.dimension, self.hidden
        eye = torch.eye(d, dtype=like.dtype, device=like.device)
        zero = like.new_zeros(chains, self.num_categories)
        return Parameters(
            self.scattered(draws["loadings"]) if self.stated is None else self.stated.to(like).expand(chains, -1, -1),
            self.scattered(draws["intercepts"]) if "intercepts" in draws else zero,
            draws.get("latent_mean", like.new_zeros(chains, d)),
            draws.get("latent_covariance", eye.expand(chains, d, d)),
            draws.get("hidden_weights", like.new_zeros(chains, H, d)),
            draws.get("hidden_biases", like.new_zeros(chains, H)),
        )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
