"""The likelihood as one matrix product, and its transpose as the sufficient statistics.

With c_d a fixed reference rate of column d,

    log p(x | k) = x log(lambda_k / c) + 1[x > 0] (log omega_k - lambda_k + c)
                   + 1[x = 0] log(omega_k e^-lambda_k + 1 - omega_k) + 1[x > 0] log Poisson(x; c)

so with the design [x | 1[x>0] | 1[x=0]] (N x 3D, missing entries zero in all three) the log-likelihood of every row
under every component of every chain is one product, and the M-step's sums are the transposed one. The reference keeps
large counts accurate: x log lambda and lgamma(x + 1) are each huge and nearly cancel, x log(lambda / c) is not.
Nothing of size N x K x D is built; rows go through in blocks that stay in cache, so memory is data plus parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.cuda import CudaKernels, power_of_two
from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Values
from pyrozoo.data.table import Table
from pyrozoo.math.exponential_family import log_sum_of_two
from pyrozoo.math.multinomial import choose
from pyrozoo.math.special import log_factorial

BLOCK_ELEMENTS = 2**18
"""Elements of a block of responsibilities (rows x chains x components) on a CPU: 2 MB in float64, about a core's
cache."""

KERNELS, CUDA = Kernels(__file__), CudaKernels(__file__)

ELEMENTS = 2**11
"""Responsibilities of one program on CUDA."""

MOST_IN_ONE_PASS = 2**16
"""Components times columns of the design up to which sums stay in a core's cache, and rows go in one pass in C."""

BLOCKS = 64
"""Most blocks of rows that the kernel works on apart."""

ALONE = 2**22
"""Multiplications up to which one thread does it: starting more takes longer."""

LARGEST_COMPACT_COUNT = 1e4
"""Up to this count the design may leave its third part out without losing digits that matter."""

LARGEST_FLOAT32_COUNT = 2**20
"""Above this, float32 loses tenths of a nat in one Poisson term."""

Given = tuple[Float[Tensor, "C K F"], Float[Tensor, "C K"]]
"""What multiplies the design, and log pi or its expectation."""

Cells = Float[Tensor, "*C D"]


class Parameters(NamedTuple):
    """What is known of the parameters of every component and column: values for EM and Gibbs, expectations for CAVI.

    ``size`` is there where counts are negative binomial.
    """

    log_rate: Float[Tensor, "*C K D"]
    rate: Float[Tensor, "*C K D"]
    log_on: Float[Tensor, "*C K D"]
    log_off: Float[Tensor, "*C K D"]
    log_weights: Float[Tensor, "*C K"]
    size: Float[Tensor, "*C K D"] | None = None

    @classmethod
    def of(cls, points: Values) -> Parameters:
        """Return them at points: site -> [chains, *event]."""
        tiny = torch.finfo(points["rate"].dtype).tiny  # a rate or probability of 0 must not make 0 * inf in the product
        rate, on = points["rate"].clamp(min=tiny), points["on_prob"].clamp(min=tiny)
        logs = rate.log(), rate, on.log(), torch.log1p(-on)
        return cls(*logs, points["weights"].log(), points["size"].clamp(min=tiny) if "size" in points else None)


@dataclass(frozen=True)
class Sums:
    """What solvers need of the data and what is hidden: sums over the rows of each component, [chain, K, column].

    With b whether a cell is on and g its Gamma factor (1 where counts are Poisson), expected or drawn.

    Attributes:
        counts: Rows, [chain, K].
        total: Of x.
        on: Of b.
        seen: Of observed cells.
        exposed: Of b E g: what rates are exposed to.
        factors: Of b g; None where counts are Poisson.
        log_factors: Of b log g; None there, too.
    """

    counts: Float[Tensor, "C K"]
    total: Float[Tensor, "C K D"]
    on: Float[Tensor, "C K D"]
    seen: Float[Tensor, "C K D"]
    exposed: Float[Tensor, "C K D"]
    factors: Float[Tensor, "C K D"] | None = None
    log_factors: Float[Tensor, "C K D"] | None = None


@dataclass(frozen=True)
class Layout:
    """What every step shares: the design matrix, the reference rates and the constant of each row.

    Attributes:
        design: [N, 3D], x | 1[x > 0] | 1[x = 0]; without missing entries [N, 2D], x | 1[x > 0], since the third is the
            rest: a third of the work.
        reference: [D], the column means, c.
        constant: [N], sum over positive entries of log Poisson(x; c).
    """

    design: Float[Tensor, "N parts_D"]
    reference: Float[Tensor, D]
    constant: Float[Tensor, N]

    @classmethod
    def of(cls, data: Table) -> Layout:
        """Prepare a table of counts."""
        x, dtype = data.filled, data.values.dtype
        positive = (x > 0).to(dtype)
        zero = data.observed.to(dtype) - positive
        seen = data.observed.sum(0).clamp(min=1)
        reference = (x.sum(0) / seen).clamp(min=1e-3)
        constant = (torch.xlogy(x, reference) - positive * reference - log_factorial(x)).sum(1)
        # The rest is a difference, which costs digits where log(1 - omega) can be as large as a huge rate.
        compact = bool(data.observed.all()) and float(x.max()) < LARGEST_COMPACT_COUNT
        parts = [x, positive] if compact else [x, positive, zero]
        return cls(torch.cat(parts, 1), reference, constant)

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.design)

    @property
    def compact(self) -> bool:
        """Return whether the third part of the design is left out."""
        return self.design.shape[1] == 2 * len(self.reference)

    def given(self, points: Values) -> Given:
        """Return what multiplies the design, and log pi, at points: site -> [chains, *event]."""
        return self._given(Parameters.of(points))

    def _given(self, known: Parameters) -> Given:
        return natural_weights(*known[:4], self.reference), known.log_weights

    def _logits(self, given: Given) -> tuple[Float[Tensor, "columns rows_of_product"], Float[Tensor, "C K"]]:
        """Return what multiplies the design, transposed, and what is added to the product."""
        weights, log_prior = given
        if self.compact:
            total, positive, zero = weights.chunk(3, -1)
            weights, log_prior = torch.cat([total, positive - zero], -1), log_prior + zero.sum(-1)
        return weights.flatten(0, 1).T, log_prior

    def blocks(self, width: int) -> Iterator[slice]:
        """Cut the rows so that a block times ``width`` stays in cache."""
        rows = max(16, at_once(BLOCK_ELEMENTS, self.design) // width)
        for start in range(0, self.design.shape[0], rows):
            yield slice(start, start + rows)

    def responsibilities(self, given: Given, rows: slice) -> tuple[Float[Tensor, "n C K"], Float[Tensor, "n C"]]:
        """Return p(z_i = k | x_i) and log p(x_i) for a block of rows."""
        product, added = self._logits(given)
        logits = (self.design[rows] @ product).unflatten(1, added.shape)
        if CUDA.serve(logits, added):
            return logits, self._softened(logits, added, rows)
        logits.add_(added)
        top = logits.amax(-1, keepdim=True)
        r = logits.sub_(top).exp_()
        total = r.sum(-1, keepdim=True)
        r.div_(total)
        return r, (top + total.log()).squeeze(-1) + self.constant[rows, None]

    def _softened(self, logits: Tensor, added: Float[Tensor, "C K"], rows: slice) -> Float[Tensor, "n C"]:
        """Replace what ``responsibilities`` has from the product by what it returns; return log p(x_i)."""
        (n, C, K), constant = logits.shape, self.constant[rows]
        evidence, width = logits.new_empty(n, C), power_of_two(K)
        at_a_time = max(1, ELEMENTS // width)
        programs = (-(-n * C // at_a_time),)
        CUDA(
            "soften", programs, logits, added.contiguous(), constant, evidence, n * C, C, K=K, WIDTH=width, B=at_a_time
        )
        return evidence

    def expected_statistics(
        self, given: Given, sample: bool = False
    ) -> tuple[Float[Tensor, "C K F"], Float[Tensor, "C K"], Float[Tensor, C]]:  # fmt: skip
        """Sum the design over the rows of each component, weighted by responsibility or by a drawn assignment.

        Args:
            given: What multiplies the design, and log pi or its expectation.
            sample: Draw one assignment per row and chain in place of the responsibilities.

        Returns:
            Sums [C, K, 3D] of x | 1[x>0] | 1[x=0], row counts [C, K], and sum_i log p(x_i) [C].
        """
        (C, K), zeros = given[1].shape, given[1].new_zeros
        sums, counts, evidence = zeros(C * K, self.design.shape[1]), zeros(C, K), zeros(C)
        if sums.numel() <= MOST_IN_ONE_PASS and KERNELS.serve(self.design, *given):
            self._add_in_one_pass(given, sample, sums, counts, evidence)
        else:
            for rows in self.blocks(C * K):
                r, log_evidence = self.responsibilities(given, rows)
                if sample:
                    r = torch.zeros_like(r).scatter_(-1, choose(r).unsqueeze(-1), 1.0)
                sums.addmm_(r.flatten(1).T, self.design[rows])
                counts += r.sum(0)
                evidence += log_evidence.sum(0)
        result = sums.unflatten(0, (C, K))
        if self.compact:
            result = torch.cat([result, (counts.unsqueeze(-1) - result.chunk(2, -1)[1]).clamp(min=0)], -1)
        return result, counts, evidence

    def _add_in_one_pass(self, given: Given, sample: bool, sums: Tensor, counts: Tensor, evidence: Tensor) -> None:
        """Let the kernel add what ``expected_statistics`` returns."""
        (N, F), (C, K), design = self.design.shape, counts.shape, self.design
        product, added = self._logits(given)
        wide = 64 // design.element_size()
        tall, width = -(-C * K // 6) * 6, -(-F // wide) * wide  # as the kernel takes them
        weights = design.new_zeros(tall, width)
        weights[: C * K, :F] = product.T
        uniform = torch.rand(N, C, dtype=design.dtype) if sample else None
        number = threads() if N * C * K * F > ALONE else 1
        scratch = design.new_empty(number, tall * (width + 33) + 64 * width + C)
        # As many rows in a block as take longer than adding its sums up.
        rows = max(1024, -(-N // BLOCKS // 32) * 32)
        tensors = (each.contiguous() for each in (design, weights, added, self.constant))
        KERNELS(
            "expected", design.dtype, *tensors, uniform, sums, counts, evidence, scratch, N, F, C, K, tall, width, rows,
            number,
        )  # fmt: skip

    def expect(self, known: Parameters) -> tuple[Sums, Float[Tensor, C]]:
        """Return the expected sums over the rows of each component, and sum_i log p(x_i)."""
        sums, counts, evidence = self.expected_statistics(self._given(known))
        total, positive, zero = sums.chunk(3, -1)
        on = positive + zero_is_on(known.log_on, known.rate, known.log_off) * zero
        return Sums(counts, total, on, positive + zero, on), evidence

    def row_log_evidence(self, given: Given) -> Float[Tensor, "C N"]:
        """Return log p(x_i) of every row under every chain."""
        (product, added), parts = self._logits(given), []
        for rows in self.blocks(added.numel()):  # out of place: gradients flow through
            logits = (self.design[rows] @ product).unflatten(1, added.shape) + added
            parts.append(logits.logsumexp(-1) + self.constant[rows, None])
        return torch.cat(parts).T


def natural_weights(
    log_rate: Cells, rate: Cells, log_on: Cells, log_off: Cells, reference: Float[Tensor, D]
) -> Float[Tensor, "*C three_D"]:  # fmt: skip
    """Return what multiplies the design: values for EM and Gibbs, expected values for CAVI."""
    on_zero = log_on - rate
    return torch.cat([log_rate - reference.log(), on_zero + reference, log_sum_of_two(on_zero, log_off)], -1)


def zero_is_on(log_on: Cells, rate: Cells, log_off: Cells) -> Cells:
    """Return phi = P(b = 1 | x = 0, z = k) = omega e^-lambda / (omega e^-lambda + 1 - omega)."""
    return torch.sigmoid(log_on - rate - log_off)
