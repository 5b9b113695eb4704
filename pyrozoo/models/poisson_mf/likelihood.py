"""The Poisson likelihood of listed cells and of all the zeros between them, and what every solver takes from it.

With s_nm = theta_n . eta_m, log p(x) = sum over listed cells (x log s - log x!) - sum over observed cells s, and the
last sum over all cells is one of K products of totals, so that only listed and unobserved cells are ever visited.
Where rows have an exposure E_n, s_nm = E_n theta_n . eta_m: E theta stands where theta does (``exposed``), but for how
a count is shared among the factors, which it does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import constraints as C
from torch import Tensor

from pyrozoo.compiler.cuda import CudaKernels, power_of_two
from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.core.blocks import at_once
from pyrozoo.data.triplets import Triplets
from pyrozoo.math.branches import holds
from pyrozoo.math.multinomial import allot
from pyrozoo.program.whole import Whole

LARGEST_FLOAT32_COUNT = 2**24
"""Larger counts are not whole numbers in single precision."""

BLOCK = 2**18
"""Numbers of a block of listed cells by factors, on a CPU: what stays in the cache of one core."""

KERNELS, CUDA = Kernels(__file__), CudaKernels(__file__)

PRODUCTS, MOST_EVENTS = 2**9, 256
"""Products of factors that a program on CUDA holds, and events of a cell that it draws one by one."""

BLOCKS, BLOCK_CELLS = 32, 16
"""Most blocks of rows that the kernel works on apart, and cells for each column in a block: adding blocks up costs."""

ALONE = 2**20
"""Cells times factors up to which one thread does it: starting more takes longer."""

CHUNK, VECTOR = 64, 32
"""Cells that the kernel takes at a time, and bytes of its vectors."""

LOWEST = {dtype: torch.finfo(dtype).tiny / torch.finfo(dtype).eps for dtype in (torch.float64, torch.float32)}
"""Below these theta . eta has lost digits, or is 0."""

SIMULATED, EVENTS_PER_CELL = 2**22, 0.25
"""Cells simulated at a time; with fewer expected events per cell, events are drawn instead of cells."""


def exposed(row_factors: Float[Tensor, "*b N K"], data: Triplets) -> Float[Tensor, "*b N K"]:
    """Return E_n theta_n of the rows of the data."""
    return row_factors if data.exposure is None else row_factors * data.exposure.unsqueeze(-1)


def log_base(data: Triplets) -> Tensor:
    """Return what the listed cells' log-likelihood has beside x log theta . eta: the sum of x log E_n - log x!."""
    if data.exposure is None:
        return -data.log_factorial
    return data.counts @ data.exposure.log()[data.pattern.rows] - data.log_factorial


def pointwise(
    row_factors: Float[Tensor, "*b N K"], column_factors: Float[Tensor, "*b M K"], data: Triplets
) -> Float[Tensor, "*b N"]:
    """Return log p(x_n | theta_n, eta) of every row of the data; ``row_factors`` are exposed ones."""
    x = data.counts
    tiny = torch.finfo(row_factors.dtype).tiny
    s = data.pattern.sampled(row_factors, column_factors)
    terms = torch.xlogy(x, s.clamp(min=tiny)) - data.log_factorials
    total = (row_factors * column_factors.sum(-2, keepdim=True)).sum(-1)
    result = data.pattern.row_sums(terms) - total
    unknown = data.unobserved_pattern
    if unknown is None:
        return result
    return result + unknown.row_sums(unknown.sampled(row_factors, column_factors))


def shared(
    row_factors: Float[Tensor, "C N K"], column_factors: Float[Tensor, "C M K"], data: Triplets,
    logs: tuple[Tensor, Tensor] | None = None, whole: Float[Tensor, "C M W"] | None = None,
) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C M K"], Float[Tensor, C]]:  # fmt: skip
    """Share every count among the factors in proportion to theta_nk eta_mk.

    Args:
        row_factors: theta, or exp E log theta.
        column_factors: eta, or exp E log eta.
        data: The counts.
        logs: Their logarithms where the caller has them, for when products fall below the range of floats.
        whole: ``whole_vectors(column_factors)`` where the caller has them.

    Returns:
        Expected counts of each row and factor, of each column and factor, and sum of x log s - log x!, in which s has
        the row's exposure.
    """
    x, pattern = data.counts, data.pattern
    if not len(x):
        return torch.zeros_like(row_factors), torch.zeros_like(column_factors), x.new_zeros(len(row_factors))
    if KERNELS.serve(row_factors, column_factors, x):
        of_rows, of_columns, evidence, lowest = _one_pass(row_factors, column_factors, data, whole=whole)
    else:
        of_rows, of_columns, evidence, lowest = pattern.shared(x, row_factors, column_factors, data.counts_by_column)
    if not holds(~(lowest < LOWEST[x.dtype])):
        return shared_logs(*_logs(row_factors, column_factors, logs), data)
    return of_rows, of_columns, evidence + log_base(data)


def row_shares(
    row_factors: Float[Tensor, "C N K"], column_factors: Float[Tensor, "C M K"], data: Triplets,
    logs: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "C N K"]:  # fmt: skip
    """Return the first of what ``shared`` does alone, which takes half as long."""
    x, pattern = data.counts, data.pattern
    if not len(x):
        return torch.zeros_like(row_factors)
    if KERNELS.serve(row_factors, column_factors, x):
        of_rows, _, _, lowest = _one_pass(row_factors, column_factors, data, columns=False)
    else:
        of_rows, _, _, lowest = pattern.shared(x, row_factors, column_factors)
    if lowest < LOWEST[x.dtype]:
        return shared_logs(*_logs(row_factors, column_factors, logs), data)[0]
    return of_rows


def _logs(row_factors: Tensor, column_factors: Tensor, logs: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    tiny = torch.finfo(row_factors.dtype).tiny
    return logs or (row_factors.clamp(min=tiny).log(), column_factors.clamp(min=tiny).log())


def whole_vectors(column_factors: Float[Tensor, "C M K"]) -> Float[Tensor, "C M W"]:
    """Return columns with as many zeros behind them as fill the processor's vectors, as the kernel reads them."""
    more = _width(column_factors) - column_factors.shape[-1]
    return torch.nn.functional.pad(column_factors, (0, more)).contiguous() if more else column_factors.contiguous()


def _width(factors: Float[Tensor, "*b K"]) -> int:
    """Return how many numbers the fewest whole vectors hold that hold K."""
    lanes = VECTOR // factors.itemsize
    return -(-factors.shape[-1] // lanes) * lanes


def _one_pass(
    row_factors: Float[Tensor, "C N K"], column_factors: Float[Tensor, "C M K"], data: Triplets, columns: bool = True,
    whole: Float[Tensor, "C M W"] | None = None,
) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C _ K"], Float[Tensor, C], Float[Tensor, ""]]:  # fmt: skip
    """Return sums of rows, of columns (without ``columns`` none), of x log s, and the least s, by the kernel."""
    (C, N, K), (_, M, _), pattern, x = row_factors.shape, column_factors.shape, data.pattern, data.counts
    rows, etas = row_factors.contiguous(), column_factors.contiguous()
    number = threads() if len(x) * K > ALONE else 1
    blocks = max(1, min(BLOCKS, len(x) // (BLOCK_CELLS * M)))
    of_rows, of_columns = torch.empty_like(rows), etas.new_empty(C, M if columns else 0, K)
    evidence, lowest = x.new_empty(C, blocks), x.new_empty(C, blocks)
    if whole is None and len(x) > M:  # else whole vectors are made cell by cell
        whole = whole_vectors(etas)
    scratch = x.new_empty(number * (2 + CHUNK + M * columns), _width(etas))
    for chain in range(C):
        KERNELS(
            "shared", x.dtype, rows[chain], etas[chain], None if whole is None else whole[chain], pattern.starts,
            pattern.columns, x, of_rows[chain], of_columns[chain] if columns else None, evidence[chain], lowest[chain],
            scratch, N, M, K, blocks, number,
        )  # fmt: skip
    return of_rows, of_columns, evidence.sum(-1), lowest.min()


def shared_logs(
    row_logs: Float[Tensor, "C N K"], column_logs: Float[Tensor, "C M K"], data: Triplets
) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C M K"], Float[Tensor, C]]:
    """Do the same from logarithms, cell by cell: slower, and right however small the factors are."""

    def share(logs: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        log_s = logs.logsumexp(-1)
        return count[:, None] * (logs - log_s[..., None]).exp(), log_s

    return cell_by_cell(share, row_logs, column_logs, data, torch.add)


def cell_by_cell(
    share: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], rows: Float[Tensor, "C N K"],
    columns: Float[Tensor, "C M K"], data: Triplets, together: Callable[[Tensor, Tensor], Tensor] = torch.mul,
) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C M K"], Float[Tensor, C]]:  # fmt: skip
    """Share the counts of listed cells among the factors in blocks; return what ``shared`` does.

    Args:
        share: From rows and columns of cells together [C, cell, K], and counts [cell], to shares and log s.
        rows: theta, or its logarithm.
        columns: eta, or its logarithm.
        data: The counts.
        together: Takes both.
    """
    of_rows, of_columns = torch.zeros_like(rows), torch.zeros_like(columns)
    cells = data.pattern.rows, data.pattern.columns, data.counts
    evidence = _shared_by_cells(share, rows, columns, cells, together, of_rows, of_columns)
    return of_rows, of_columns, log_base(data) + evidence


def _shared_by_cells(
    share: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], rows: Tensor, columns: Tensor, cells: tuple[Tensor, ...],
    together: Callable[[Tensor, Tensor], Tensor], of_rows: Tensor, of_columns: Tensor,
) -> Float[Tensor, C]:  # fmt: skip
    """Add the shares of cells (row, column, count) to the sums of rows and columns; return the sum of x log s."""
    evidence = rows.new_zeros(len(rows))
    step = max(1, at_once(BLOCK, rows) // (rows.shape[0] * rows.shape[2]))
    for i, j, count in zip(*(each.split(step) for each in cells), strict=True):
        z, log_s = share(together(rows[:, i], columns[:, j]), count)
        of_rows.index_add_(1, i, z)
        of_columns.index_add_(1, j, z)
        evidence += log_s @ count
    return evidence


def allotted(
    theta: Float[Tensor, "C N K"], eta: Float[Tensor, "C M K"], data: Triplets
) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C M K"], Float[Tensor, C]]:
    """Draw how every count is shared among the factors, z | x, theta, eta; return what ``shared`` does, of the draw."""

    def share(products: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        z, s = allot(count.expand(len(products), -1), products)
        return z, s.clamp(min=torch.finfo(s.dtype).tiny).log()

    x = data.counts
    if not (len(x) and CUDA.serve(theta, eta, x)):
        return cell_by_cell(share, theta, eta, data)
    of_rows, of_columns, evidence = _allotted_on_cuda(theta.contiguous(), eta.contiguous(), data)
    if data.largest > MOST_EVENTS:
        many = (x > MOST_EVENTS).nonzero().flatten()
        cells = data.pattern.rows[many], data.pattern.columns[many], x[many]
        _shared_by_cells(share, theta, eta, cells, torch.mul, of_rows, of_columns)
    return of_rows, of_columns, log_base(data) + evidence


def _allotted_on_cuda(
    theta: Float[Tensor, "C N K"], eta: Float[Tensor, "C M K"], data: Triplets
) -> tuple[Float[Tensor, "C N K"], Float[Tensor, "C M K"], Float[Tensor, C]]:
    """Draw the shares of counts up to ``MOST_EVENTS``; return their sums, and the sum of x log s over all cells."""
    (C, N, K), M, x = theta.shape, eta.shape[1], data.counts
    width = power_of_two(K)
    at_a_time = max(1, PRODUCTS // width)
    programs = -(-len(x) // at_a_time)
    sums = [torch.zeros_like(each, dtype=torch.int32) for each in (theta, eta)]
    evidence = x.new_empty(C, programs)
    seed = torch.randint(2**62, (1,), device=x.device)  # from torch's generator of the device
    CUDA(
        "allot", (programs, C), data.pattern.rows, data.pattern.columns, x, theta, eta, seed, *sums, evidence, len(x),
        N, M, K=K, WIDTH=width, B=at_a_time, MOST=MOST_EVENTS, TINY=torch.finfo(x.dtype).tiny,
    )  # fmt: skip
    of_rows, of_columns = (each.to(x.dtype) for each in sums)
    return of_rows, of_columns, evidence.sum(1)


def row_exposure(
    column_factors: Float[Tensor, "C M K"], data: Triplets, total: Float[Tensor, "C 1 K"] | None = None
) -> Float[Tensor, "C N_or_1 K"]:
    """Return E_n times the sum of eta_mk over the columns m observed in row n.

    One row stands for all when all are observed, and none has an exposure.

    Args:
        column_factors: eta.
        data: The rows.
        total: The sum of eta over all columns, where the caller has it.
    """
    total = _exposure(column_factors, data, total, of_columns=False)
    return total if data.exposure is None else total * data.exposure[:, None]


def column_exposure(row_factors: Float[Tensor, "C N K"], data: Triplets) -> Float[Tensor, "C M_or_1 K"]:
    """Return the sum of E_n theta_nk over the rows n in which column m is observed."""
    return _exposure(exposed(row_factors, data), data, of_columns=True)


def _exposure(factors: Tensor, data: Triplets, total: Tensor | None = None, *, of_columns: bool) -> Tensor:
    total = factors.sum(-2, keepdim=True) if total is None else total
    unknown = data.unobserved_pattern
    if unknown is None:
        return total
    ones = factors.new_ones(len(factors), len(unknown.columns))
    lost = unknown.transposed_times(ones, factors) if of_columns else unknown.times(ones, factors)
    return (total - lost).clamp(min=0)


def expected_total(
    row_factors: Float[Tensor, "C N K"], column_factors: Float[Tensor, "C M K"], data: Triplets,
    of_columns: Float[Tensor, "C 1 K"] | None = None,
) -> Float[Tensor, C]:  # fmt: skip
    """Return the sum of E_n theta_n . eta_m over all observed cells; ``of_columns`` as in ``row_exposure``."""
    row_factors = exposed(row_factors, data)
    of_columns = column_factors.sum(-2, keepdim=True) if of_columns is None else of_columns
    total = (row_factors.sum(-2) * of_columns.squeeze(-2)).sum(-1)
    unknown = data.unobserved_pattern
    return total if unknown is None else total - unknown.sampled(row_factors, column_factors).sum(-1)


class FactorPoisson(Whole):
    """x_nm ~ Poisson(sum_k theta_nk eta_mk), independently; a value is a list of entries, as ``Triplets.values``.

    Batch shape (N,): the log density of every row. Unobserved pairs count for nothing.

    Args:
        row_factors: theta, exposed.
        column_factors: eta.
        data: Says which pairs are unobserved; its own values are recognised and not sorted again.
    """

    support = C.independent(C.nonnegative, 2)

    def __init__(self, row_factors: Float[Tensor, "N K"], column_factors: Float[Tensor, "M K"], data: Triplets):
        self.row_factors, self.column_factors, self.data = row_factors, column_factors, data
        super().__init__(row_factors.shape[:1], data.values.shape)

    def log_prob(self, value: Tensor) -> Float[Tensor, N]:
        """Return the log density of each row."""
        data = self.data if value is self.data.values else replace(self.data, values=torch.as_tensor(value))
        return pointwise(self.row_factors, self.column_factors, data)

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "entry 3"]:
        """Draw a matrix; only its cells that are not 0 are made."""
        with torch.no_grad():
            theta, eta = self.row_factors, self.column_factors
            cells = len(theta) * len(eta)
            if float(theta.sum(0) @ eta.sum(0)) < EVENTS_PER_CELL * cells:
                return _events(theta, eta)
            step = max(1, SIMULATED // len(eta))
            parts = []
            for start in range(0, len(theta), step):
                counts = torch.poisson(theta[start : start + step] @ eta.T)
                row, column = counts.nonzero(as_tuple=True)
                where = torch.stack([row + start, column], 1).to(counts.dtype)
                parts.append(torch.cat([where, counts[row, column, None]], 1))
            return torch.cat(parts)


def _events(theta: Tensor, eta: Tensor) -> Tensor:
    """Draw events one by one: their number per factor is Poisson, their rows and columns are independent given it."""
    totals = torch.poisson(theta.sum(0) * eta.sum(0)).long().tolist()
    places = [
        torch.multinomial(theta[:, k], count, replacement=True) * len(eta)
        + torch.multinomial(eta[:, k], count, replacement=True)
        for k, count in enumerate(totals)
        if count
    ]
    if not places:
        return theta.new_zeros(0, 3)
    place, counts = torch.cat(places).unique(return_counts=True)
    return torch.stack([place // len(eta), place % len(eta), counts], 1).to(theta.dtype)
