"""The likelihood cell by cell: for rows with an exposure of their own, and for negative binomial counts.

There a cell's likelihood is no product of something of the cell and something of the component: log(omega e^-(E lambda)
+ 1 - omega) has the row's exposure E in it, log Gamma(x + r) the component's size. So every cell is evaluated under
every component, N x K x D numbers for each chain, in blocks that stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Values
from pyrozoo.data.table import Table
from pyrozoo.math.exponential_family import log_sum_of_two
from pyrozoo.math.multinomial import choose
from pyrozoo.math.special import log_factorial
from pyrozoo.models.zip_mixture.likelihood import BLOCK_ELEMENTS, Parameters, Sums
from pyrozoo.models.zip_mixture.overdispersion import log_excess

Given = tuple[Tensor, ...]
"""``Parameters``, log pi last, without a size where there is none."""


@dataclass(frozen=True)
class Cellwise:
    """What ``Layout`` is, cell by cell.

    Attributes:
        values: The counts, 0 where they are missing, [N, D].
        observed: Which are observed, [N, D], 1 or 0.
        exposure: Of the rows, [N].
        reference: Counts of a column per unit of exposure, c, [D]: large counts keep their digits beside it.
        constant: Sum over cells of x log(E c) - log x! - 1[x > 0] E c, [N].
    """

    values: Float[Tensor, "N D"]
    observed: Float[Tensor, "N D"]
    exposure: Float[Tensor, N]
    reference: Float[Tensor, D]
    constant: Float[Tensor, N]

    @classmethod
    def of(cls, data: Table) -> Cellwise:
        """Prepare a table of counts."""
        x = data.filled
        observed = data.observed.to(x.dtype)
        exposure = x.new_ones(len(x)) if data.exposure is None else data.exposure
        seen = (observed * exposure[:, None]).sum(0)
        reference = (x.sum(0) / torch.where(seen > 0, seen, 1.0)).clamp(min=1e-3)
        expected = exposure[:, None] * reference
        constant = (torch.xlogy(x, expected) - (x > 0) * expected - log_factorial(x)).sum(1)
        return cls(x, observed, exposure, reference, constant)

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.values)

    def given(self, points: Values) -> Given:
        """Return what cells are evaluated under, at points: site -> [chains, *event]."""
        return self._given(Parameters.of(points))

    def _given(self, known: Parameters) -> Given:
        size = () if known.size is None else (known.size,)
        return (*known[:4], *size, known.log_weights)

    def blocks(self, width: int) -> Iterator[slice]:
        """Cut the rows so that a block of cells times ``width`` stays in cache."""
        rows = max(16, at_once(BLOCK_ELEMENTS, self.values) // (width * self.values.shape[1]))
        for start in range(0, self.rows, rows):
            yield slice(start, start + rows)

    def _evaluated(self, rows: slice, cells: Given, apart: int) -> tuple[Tensor, Tensor]:
        """Return log p(x, on) and log p(x) of some rows' cells, but for what ``constant`` has of them.

        Args:
            rows: Which.
            cells: log rate, rate, log on, log off and, if there is one, size: [C, K, D], or [n, C, D] of the components
                that the rows are in.
            apart: Axes between rows and columns of the answer, 2 or 1.
        """
        log_rate, rate, log_on, log_off, *size = cells
        x = self.values[rows].unflatten(0, (-1, *(1,) * apart))
        exposure = self.exposure[rows].view(-1, *(1,) * (apart + 1))
        c = self.reference
        if size:
            excess = log_excess(x, exposure * rate, size[0]) + exposure * c * (x > 0)
        else:
            excess = exposure * (c * (x > 0) - rate)
        on = log_on + excess + x * (log_rate - c.log())
        seen = self.observed[rows].unflatten(0, (-1, *(1,) * apart)) > 0
        return on, torch.where(seen, torch.where(x > 0, on, log_sum_of_two(on, log_off)), 0.0)

    def responsibilities(self, given: Given, rows: slice) -> tuple[Float[Tensor, "n C K"], Float[Tensor, "n C"]]:
        """Return p(z_i = k | x_i) and log p(x_i) for a block of rows."""
        *cells, log_weights = given
        logits = self._evaluated(rows, tuple(cells), 2)[1].sum(-1) + log_weights
        total = logits.logsumexp(-1)
        return (logits - total.unsqueeze(-1)).exp(), total + self.constant[rows, None]

    def row_log_evidence(self, given: Given) -> Float[Tensor, "C N"]:
        """Return log p(x_i) of every row under every chain."""
        *cells, log_weights = given
        parts = []
        for rows in self.blocks(log_weights.numel()):
            logits = self._evaluated(rows, tuple(cells), 2)[1].sum(-1) + log_weights
            parts.append(logits.logsumexp(-1) + self.constant[rows, None])
        return torch.cat(parts).T

    def expect(self, known: Parameters) -> tuple[Sums, Float[Tensor, C]]:
        """Return the expected sums over the rows of each component, and sum_i log p(x_i)."""
        *cells, log_weights = self._given(known)
        zeros = known.rate.new_zeros
        counts, evidence, sums = zeros(log_weights.shape), zeros(len(log_weights)), _Sums.zeros(known)
        for rows in self.blocks(log_weights.numel()):
            on, value = self._evaluated(rows, tuple(cells), 2)
            logits = value.sum(-1) + log_weights
            total = logits.logsumexp(-1)
            r = (logits - total.unsqueeze(-1)).exp()
            counts += r.sum(0)
            evidence += (total + self.constant[rows, None]).sum(0)
            seen, x = self.observed[rows], self.values[rows]
            sums.add(torch.einsum("nck,nd->ckd", r, x), torch.einsum("nck,nd->ckd", r, seen))
            weight = r.unsqueeze(-1) * (on - value).exp() * seen[:, None, None]  # r_ik P(b = 1 | x, z = k)
            exposure, x = self.exposure[rows, None, None, None], x[:, None, None]
            if known.size is None:
                sums.add_on(weight.sum(0), (weight * exposure).sum(0))
                continue
            shape, rate = known.size + x, known.size + exposure * known.rate  # of g given x
            factor, log_factor = shape / rate, torch.digamma(shape) - rate.log()
            each = weight, weight * exposure * factor, weight * factor, weight * log_factor
            sums.add_on(*(part.sum(0) for part in each))
        return sums.of(counts), evidence

    def assign(self, given: Given) -> tuple[Int[Tensor, "N C"], Float[Tensor, C]]:
        """Draw the component of every row in every chain; return sum_i log p(x_i), too."""
        chosen, evidence = [], given[-1].new_zeros(len(given[-1]))
        for rows in self.blocks(given[-1].numel()):
            r, log_evidence = self.responsibilities(given, rows)
            chosen.append(choose(r))
            evidence += log_evidence.sum(0)
        return torch.cat(chosen), evidence


class _Sums:
    """Sums that are being added up, of ``Sums``."""

    def __init__(self, parts: list[Tensor]):
        self.parts = parts

    @classmethod
    def zeros(cls, known: Parameters) -> _Sums:
        """Begin at 0."""
        return cls([torch.zeros_like(known.rate) for _ in range(4 if known.size is None else 6)])

    def add(self, total: Tensor, seen: Tensor) -> None:
        """Add what does not depend on which cells are on."""
        self.parts[0] += total
        self.parts[1] += seen

    def add_on(self, *parts: Tensor) -> None:
        """Add what does: b, b E g, and of negative binomials b g and b log g."""
        for sum_, part in zip(self.parts[2:], parts, strict=True):
            sum_ += part

    def of(self, counts: Tensor) -> Sums:
        """Return them, with the rows of each component."""
        total, seen, on, exposed, *rest = self.parts
        return Sums(counts, total, on, seen, exposed, *rest)


@dataclass(frozen=True)
class Assigned:
    """Rows whose component is known in every chain, as ``Cellwise.assign`` draws them.

    Attributes:
        layout: The rows.
        component: Of each, [N, C].
        components: K.
    """

    layout: Cellwise
    component: Int[Tensor, "N C"]
    components: int

    @property
    def counts(self) -> Float[Tensor, "C K"]:
        """Return the rows of each component."""
        ones = self.layout.values.new_ones(())
        zeros = ones.new_zeros(self.component.shape[1], self.components)
        return zeros.scatter_add_(1, self.component.T, ones.expand(self.component.T.shape))

    def _added(self, into: Tensor, rows: slice, values: Float[Tensor, "n C D"]) -> None:
        chains = torch.arange(values.shape[1], device=values.device)
        place = (chains * self.components + self.component[rows]).flatten()
        into.flatten(0, 1).index_add_(0, place, values.flatten(0, 1))

    def _own(self, rows: slice, parameters: Given) -> Given:
        chains = torch.arange(self.component.shape[1], device=self.component.device)
        return tuple(each[chains, self.component[rows]] for each in parameters)

    def log_likelihood(
        self, on: Float[Tensor, "C K D"], rate: Float[Tensor, "C K D"], size: Float[Tensor, "C K D"] | None
    ) -> Float[Tensor, "C K D"]:
        """Return log p(x | z) of each component and column, b and g summed out, but for a constant."""
        parameters = (rate.log(), rate, on.log(), torch.log1p(-on), *(() if size is None else (size,)))
        result = torch.zeros_like(rate)
        for rows in self.layout.blocks(self.component.shape[1]):
            self._added(result, rows, self.layout._evaluated(rows, self._own(rows, parameters), 1)[1])
        return result

    def draw(
        self, on: Float[Tensor, "C K D"], rate: Float[Tensor, "C K D"], size: Float[Tensor, "C K D"] | None
    ) -> Sums:
        """Draw which cells are on, and the factors of those that are; return the sums."""
        layout, zeros = self.layout, torch.zeros_like(rate)
        parameters = (rate.log(), rate, on.log(), torch.log1p(-on), *(() if size is None else (size,)))
        total, seen, number, exposed = (zeros.clone() for _ in range(4))
        for rows in layout.blocks(self.component.shape[1]):
            own = self._own(rows, parameters)
            log_on, value = layout._evaluated(rows, own, 1)
            observed, x = layout.observed[rows, None], layout.values[rows, None]
            b = observed * (torch.rand_like(value) < (log_on - value).exp())
            exposure = layout.exposure[rows, None, None]
            factor = b
            if size is not None:
                factor = b * torch._standard_gamma(own[4] + x) / (own[4] + exposure * own[1])
            each = (total, x.expand_as(b)), (seen, observed.expand_as(b)), (number, b), (exposed, exposure * factor)
            for into, values in each:
                self._added(into, rows, values)
        return Sums(self.counts, total, number, seen, exposed)
