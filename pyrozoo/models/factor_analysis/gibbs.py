"""Gibbs sampling that imputes missing values, or sums them out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.core.blocks import at_once
from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import cholesky_solved, safe_cholesky, standard_normal
from pyrozoo.models.factor_analysis import em
from pyrozoo.models.factor_analysis.collapse import move, second_moments
from pyrozoo.models.factor_analysis.likelihood import Layout, Moments, augment
from pyrozoo.models.factor_analysis.posterior import Posterior
from pyrozoo.models.factor_analysis.regression import Prior, Regression, draw_noise, solve, spread
from pyrozoo.models.factor_analysis.stretch import stretch

LEAST, SHARE, MOST_PRODUCTS = 4, 0.25, 1e8
"""Columns moved with the factors summed out in one sweep, and their share; rows times squared columns above which there
are none."""


@dataclass(frozen=True)
class State(em.State):
    """Parameters and factors per chain."""

    factors: Float[Tensor, "C N M"]


class Solver(
    PointSolver,
    kind="samples",
    objective="log_joint_with_factors",
    of="result",
    state=State,
    by_row=("factors",),
    graph=True,
):
    """Gibbs sampling of p(W, mu, sigma^2, Z | observed X); Z in the order of the table's rows.

    A sweep draws the missing values given all else and moves some columns with Z summed out (``impute`` only), then
    draws Z, then the columns, then a shift of the factors against the mean and a linear map of them against the
    loadings. With every cell filled all rows share one precision, and all columns another; with missing
    values summed out every pattern has its own, and draws depend less on those before: on images with a tenth missing
    that gives a tenth of the effective draws a second (``benchmarks/``), so that filling is the default. The objective
    is log p(observed X, Z, W, mu, sigma^2) of the state after the sweep.

    Imputed values live in buffers of the solver, overwritten by each sweep before they are read: a state holds none.

    Args:
        missing: ``impute`` draws missing values; ``marginal`` never does.
        update: ``block`` draws (w_d, mu_d, sigma_d^2) together, a normal-inverse-gamma; ``single_site`` draws w_d, then
            mu_d, then sigma_d^2, each given the others.
        plain: Whether to leave out the moves of columns with the factors summed out and of factors against loadings.
    """

    def __init__(
        self, posterior: Posterior, *, missing: Literal["impute", "marginal"] = "impute",
        update: Literal["block", "single_site"] = "block", plain: bool = False,
    ):  # fmt: skip
        super().__init__(posterior)
        self.plain, self._second = plain, cast("Tensor | None", None)
        self.layout, self.single_site, self.impute = posterior.columns, update == "single_site", missing == "impute"
        self._fillers: dict[Posterior, _Filler] = {}
        self.holes = self.impute and bool(posterior.total(lambda part: torch.tensor(len(self.filler(part).cell))))
        # Columns of a filled table share one precision.
        self.prior = Prior(self.model, self._complete() if self.impute else self.layout)
        self._known: dict[Posterior, tuple[State, Tensor]] = {}

    def filler(self, part: Posterior) -> _Filler:
        """Return the table of some rows, its holes filled."""
        if part not in self._fillers:
            self._fillers[part] = _Filler(part.data, part.layout)
        return self._fillers[part]

    def _complete(self) -> Layout:
        """Return the layout of the columns of a table without holes."""
        ones, group = self.layout.seen.new_ones(1, 1), torch.zeros_like(self.layout.group)
        return replace(self.layout, seen=ones, starts=torch.tensor([0, self.posterior.rows]), group=group)

    def init(self, chains: int) -> State:
        """Return random starting points (``Posterior.initial``) with the factors that they imply for each row."""
        start = self.posterior.initial(chains)
        columns = self.layout.known(start)
        if not self.impute:
            return State(**start, factors=self.posterior.moments(columns, draw=True).factors)

        def draw(part: Posterior) -> tuple[Tensor, Any]:
            filler = self.filler(part)
            filler.forget(chains, start["mean"])
            return self._draw_factors_of_filled(filler, columns.coefficients, start["noise_variance"]), ()

        return State(**start, factors=self.posterior.over_rows(draw)[0])

    def step(self, state: State) -> tuple[State, Info]:
        """Do one sweep; return the log joint of the result."""
        columns = self.layout.known(vars(state))
        if self.impute:
            beta, noise = self._move_columns(columns.coefficients, state.noise_variance, self._filled(state))
            moments, squares = self._moments_of_filled(beta, noise)
        else:
            beta, noise = columns.coefficients, state.noise_variance
            moments, squares = self.posterior.moments(columns, draw=True), None
        factors = moments.factors
        assert factors is not None
        found = self.prior.regress(moments, squares, residual=partial(self._squared, factors))
        if self.single_site:
            beta, noise = self._one_by_one(found, beta.double(), noise.double())
        else:
            beta, noise = found.draw()
        # sum over cells of (x - beta . a)^2 = its minimum + the quadratic form of the distance from it
        residual = self._residual(found, beta)
        beta, factors, squares = self._shift_and_stretch(beta, noise, factors, moments.total.double())
        beta, noise = beta.to(state.mean), noise.to(state.mean)
        new = State(**self.layout.point(beta, noise), factors=factors)
        if self.impute:
            residual = residual - self.posterior.total(
                lambda part, z: self.filler(part).residual_of_imputed(self._fitted(part, new, z)), factors
            )
        predictive = partial(self._predictive, new) if self.impute and self.data.hidden is not None else None
        return new, Info(self._log_joint(beta, noise, squares, residual), predictive=predictive)

    @property
    def _moves(self) -> bool:
        """Whether columns are moved with the factors summed out."""
        return not self.plain and self.posterior.rows * self.data.shape[1] ** 2 <= MOST_PRODUCTS

    def _filled(self, state: State) -> Tensor | None:
        """Fill all holes; return the second moments of the filled tables where columns are moved."""
        wanted = self._moves and (self.holes or self._second is None)

        def fill(part: Posterior, factors: Tensor) -> Tensor | None:
            filler = self.filler(part)
            filler.draw(self._fitted(part, state, factors), state.noise_variance)
            return second_moments(filler.values).expand(len(factors), -1, -1) if wanted else None

        found = self.posterior.total(fill, state.factors)
        if wanted:
            self._second = found[:1] if not self.holes else found
        return self._second if self._moves else None

    def _move_columns(self, beta: Tensor, noise: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor]:
        """Move some columns with the factors summed out (``collapse.py``); the factors must be drawn anew after it."""
        if second is None:
            return beta, noise
        D = beta.shape[1]
        some = torch.randperm(D, device=beta.device)[: max(LEAST, int(SHARE * D))]
        moved = move(beta, noise, second.expand(len(beta), -1, -1), self.prior, some)
        return moved[0].to(beta), moved[1].to(noise)

    def _moments_of_filled(self, beta: Tensor, noise: Tensor) -> tuple[Moments, Float[Tensor, "C D"]]:
        """Draw the factors; return what they and the filled tables tell of the columns, and their sums of squares."""

        def draw(part: Posterior) -> tuple[Any, Any]:
            filler = self.filler(part)
            found = filler.moments(self._draw_factors_of_filled(filler, beta, noise))
            return found.factors, (found.cross, found.total, filler.squares())

        factors, (cross, total, squares) = self.posterior.over_rows(draw)
        return Moments(total.unsqueeze(1), cross, total, factors, total.new_zeros(len(total))), squares

    def _squared(self, factors: Tensor, beta: Tensor, columns: Tensor) -> Float[Tensor, "C K"]:
        """Return the sum of squared residuals of some columns, added up one by one."""

        def said(part: Posterior, z: Tensor) -> Tensor:
            layout = part.layout
            values = self.filler(part).values if self.impute else layout.values
            z = z.double() if self.impute else z[:, layout.order].double()
            residual = values[..., columns].double() - (z @ beta[..., :-1].mT + beta[..., -1].unsqueeze(1))
            if not self.impute:
                residual = torch.where(layout.observed[:, columns], residual, 0.0)
            return residual.square().sum(1)

        return self.posterior.total(said, factors)

    def _shift_and_stretch(
        self, beta: Tensor, noise: Tensor, factors: Tensor, total: Tensor
    ) -> tuple[Tensor, Tensor, Float[Tensor, C]]:
        """Move factors against mean and loadings as no value notices; return them and sum |z|^2."""
        shift, second = self._shift(beta, noise, total)
        W, mean = beta[..., :-1], beta[..., -1:] + beta[..., :-1] @ shift.unsqueeze(-1)
        by, R = shift.unsqueeze(1).to(factors), None
        if self.model.isotropic and not self.plain:
            B = self.model.loadings_precision * W.mT @ (W / noise.unsqueeze(-1))
            R, inverse = stretch(second, B, float(self.posterior.rows - self.data.shape[1]))
            W, second = W @ inverse, R @ second @ R.mT

        def moved(_: Posterior, z: Tensor) -> tuple[Tensor, Any]:
            return z - by if R is None else (z - by) @ R.mT.to(z), ()

        factors, _ = self.posterior.over_rows(moved, factors)
        return torch.cat([W, mean], -1), factors, second.diagonal(dim1=-2, dim2=-1).sum(-1)

    def _draw_factors_of_filled(self, filler: _Filler, beta: Tensor, noise_variance: Tensor) -> Float[Tensor, "C N M"]:
        """Draw z_n."""
        mean, root = self.factors_of_filled(filler, beta, noise_variance)
        return torch.baddbmm(mean, standard_normal(mean), root)

    def factors_of_filled(self, filler: _Filler, beta: Tensor, noise_variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and R of z_n ~ N(J^-1 W^T S^-1 (x_n - mu), J^-1 = R^T R), J = I + W^T S^-1 W: one of all rows."""
        W, weighted = beta[..., :-1], beta[..., :-1] / noise_variance.unsqueeze(-1)
        J = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device) + W.mT @ weighted
        L = safe_cholesky(J.double(), "the precision of the factors")
        # Two small inverses, in double precision, and products with them: faster than solving for all rows.
        root = torch.linalg.solve_triangular(L, torch.eye(L.shape[-1], dtype=L.dtype, device=L.device), upper=False)
        # J^-1 goes to the columns' side: one product with the table gives the means.
        to_mean = weighted.double() @ (root.mT @ root)
        shift = beta[..., -1].double().unsqueeze(1) @ to_mean
        return filler.times(to_mean.to(beta)).sub_(shift.to(beta)), root.to(beta)

    def _one_by_one(self, found: Regression, beta: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw w_d, mu_d and sigma_d^2 each given the other two, from the same sums as the block."""
        sd = noise.sqrt().unsqueeze(-1)
        precision = found.factor @ found.factor.mT
        # p(w | mu) of a joint normal: the w-block of the precision, and the rest times the distance of mu from its mean
        inner = torch.linalg.cholesky(precision[..., :-1, :-1])
        border = precision[..., -1] if precision.shape[1] == 1 else precision[:, found.layout.group][..., -1]
        cross, corner = border[..., :-1], border[..., -1]
        right = -cross * (beta[..., -1] - found.mean[..., -1]).unsqueeze(-1)
        standard = standard_normal(right)
        w = found.mean[..., :-1] + solve(inner, right, found.layout) + sd * spread(inner, standard, found.layout)
        # p(mu | w)
        mu = found.mean[..., -1] - ((w - found.mean[..., :-1]) * cross).sum(-1) / corner
        mu = mu + sd.squeeze(-1) * standard_normal(mu) / corner.sqrt()
        beta = torch.cat([w, mu.unsqueeze(-1)], -1)
        # p(sigma^2 | w, mu): nu = nu0 + n_d + M + 1, and the residuals at (w, mu) with what their priors add
        return beta, draw_noise(found.scale + found.away(beta), found.degrees + beta.shape[-1])

    def _residual(self, found: Regression, beta: Tensor) -> Float[Tensor, "C D"]:
        """Return the sum of squared residuals of the cells of every column, without what the priors add."""
        added = self.prior.away(beta) + self.prior.scale
        return (found.scale + found.away(beta) - added).clamp(min=0)

    def _shift(self, beta: Tensor, noise: Tensor, total: Tensor) -> tuple[Float[Tensor, "C M"], Float[Tensor, "C M M"]]:
        """Draw the shift b of z' = z - b, mu' = mu + W b, which no value notices; return it and sum z' z'^T.

        A Gibbs step along a group (Liu and Sabatti 2000, Biometrika 87): what the priors say of b is normal, with
        precision N I + lambda0 W^T S^-1 W. Without it mean and factors move each other by small steps.
        """
        W, weighted = beta[..., :-1], beta[..., :-1] / noise.unsqueeze(-1)
        whole, z, N = beta[..., -1] + self.layout.offset, total[..., -1, :-1], total[..., -1, -1]
        lam, eye = self.model.mean_precision, torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
        L = safe_cholesky(N[:, None, None] * eye + lam * W.mT @ weighted, "the precision of the shift")
        right = z - lam * (weighted.mT @ whole.unsqueeze(-1)).squeeze(-1)
        b = cholesky_solved(right.unsqueeze(-1), L)
        b = (b + torch.linalg.solve_triangular(L.mT, standard_normal(b), upper=True)).squeeze(-1)
        cross = b.unsqueeze(-1) * z.unsqueeze(-2)
        return b, total[..., :-1, :-1] - cross - cross.mT + N[:, None, None] * b.unsqueeze(-1) * b.unsqueeze(-2)

    def _log_joint(self, beta: Tensor, noise: Tensor, squares: Tensor, residual: Tensor) -> Float[Tensor, C]:
        norm = self.layout.observations * (2 * math.pi * noise).log()
        cells = -0.5 * (norm.double() + residual / noise.double()).sum(-1)
        rows = -0.5 * (squares + self.posterior.rows * self.model.num_factors * math.log(2 * math.pi))
        return cells + rows + self.prior.log_density(beta, noise).double()

    def _fitted(self, part: Posterior, state: State, factors: Tensor) -> Float[Tensor, "C cell"]:
        """Return w_d . z_n + mu_d - offset_d of every missing cell; known from the step that made the state."""
        if part not in self._known or self._known[part][0] is not state:
            self._known[part] = state, self.filler(part).fitted(factors, self.layout.coefficients(vars(state)))
        return self._known[part][1]

    def _predictive(self, state: State) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the hidden entries given parameters and factors, [C, entry]."""
        hidden = self.data.hidden
        place = self.filler(self.posterior).place(hidden.rows, hidden.columns)
        mean = self._fitted(self.posterior, state, state.factors)[:, place]
        return mean + self.layout.offset[hidden.columns], state.noise_variance[:, hidden.columns]


class _Filler:
    """A table whose holes are filled anew at every sweep, chain by chain; rows in the table's order.

    All chains share a table that has no holes: one product with the coefficients of all of them reads it once.

    Args:
        table: The table.
        layout: Its layout, for offsets and sums.
    """

    ROWS, CHAINS = 1024, 8
    """Rows that are looked at together on a CPU, where rows times columns is more than is kept; of so many chains, for
    what a card takes together."""

    def __init__(self, table: Table, layout: Layout):
        N, D = table.shape
        self.cell = (~table.observed).flatten().nonzero().flatten()
        self.layout, self.start = layout, layout.values[layout.back] if len(self.cell) else layout.values
        self.column = self.cell % D
        together = self.CHAINS * D
        self.rows = at_once(self.ROWS * together, self.start) // together
        edges = torch.arange(0, N + self.rows, self.rows, device=self.cell.device) * D
        self.edges = torch.searchsorted(self.cell, edges).tolist()
        self.values = self.start.new_empty(0, N, D) if len(self.cell) else self.start.unsqueeze(0)
        self.imputed = self.start.new_empty(0, len(self.cell))
        self.product = self.start.new_empty(0)
        self._asked: tuple[Tensor, Tensor] | None = None

    def forget(self, chains: int, like: Tensor) -> None:
        """Fill all holes with the column's mean."""
        self.imputed = like.new_zeros(chains, len(self.cell))
        if len(self.cell):
            self.values = self.start.expand(chains, -1, -1).clone()

    def draw(self, fitted: Float[Tensor, "C cell"], noise_variance: Float[Tensor, "C D"]) -> None:
        """Fill all holes with x_nd ~ N(w_d . z_n + mu_d, sigma_d^2)."""
        if len(self.imputed) != len(fitted):
            self.forget(len(fitted), fitted)
        if not len(self.cell):
            return
        sd = noise_variance.sqrt().index_select(1, self.column)
        self.imputed = standard_normal(fitted).mul_(sd).add_(fitted)
        self.values.flatten(1).index_copy_(1, self.cell, self.imputed)

    def times(self, weights: Float[Tensor, "C D M"]) -> Float[Tensor, "C N M"]:
        """Return the products of every chain's rows with its weights."""
        if len(self.cell):
            return self.values @ weights
        C, _, M = weights.shape
        return (self.start @ weights.transpose(0, 1).flatten(1)).unflatten(1, (C, M)).transpose(0, 1)

    def fitted(self, factors: Float[Tensor, "C N M"], beta: Float[Tensor, "C D A"]) -> Float[Tensor, "C cell"]:
        """Return beta . a of every hole, by blocks of whole products: faster than gathering M numbers for each."""
        (C, N, _), D = factors.shape, beta.shape[1]
        if not len(self.cell):
            return beta.new_empty(C, 0)
        augmented = augment(factors)
        if self.product.shape[0] != C or self.product.dtype != beta.dtype:
            self.product = beta.new_empty(C, min(N, self.rows), D)
        result = beta.new_empty(C, len(self.cell))
        for block, (start, stop) in enumerate(itertools.pairwise(self.edges)):
            if start == stop:
                continue
            first = block * self.rows
            rows = augmented[:, first : first + self.rows]
            product = self.product[:, : rows.shape[1]]
            torch.bmm(rows, beta.mT, out=product)  # always the same memory: fresh pages cost as much as the product
            result[:, start:stop] = product.flatten(1).index_select(1, self.cell[start:stop] - first * D)
        return result

    def moments(self, factors: Float[Tensor, "C N M"]) -> Moments:
        """Return the sums that the columns' regressions need; one matrix of second moments for all."""
        C, N, M = factors.shape
        wide = factors.new_ones(N, C, M + 1)  # (z, 1) of every row, chain beside chain
        wide[..., :M] = factors.transpose(0, 1)
        augmented = wide.transpose(0, 1)
        if len(self.cell):
            cross = self.values.mT @ augmented
        else:
            cross = (self.start.mT @ wide.flatten(1)).unflatten(1, (C, M + 1)).transpose(0, 1)
        second = augmented.mT @ augmented
        return Moments(second.unsqueeze(1), cross, second, factors, factors.new_zeros(len(factors)))

    def _sums(self, cells: Tensor, observed: Tensor) -> Tensor:
        """Add cells to what is observed, by column, in double precision."""
        D = len(self.layout.offset)
        if not len(self.cell):
            return observed.expand(len(cells), -1).to(cells)
        if cells.device.type == "cpu":
            each = torch.stack([torch.bincount(self.column, weights=row.double(), minlength=D) for row in cells])
        else:  # where counting would wait for the host
            each = cells.new_zeros(len(cells), D, dtype=torch.float64).index_add(1, self.column, cells.double())
        return (each + observed).to(cells)

    def squares(self) -> Float[Tensor, "C D"]:
        """Return the sum of squares of every filled column."""
        return self._sums(self.imputed.double().square(), self.layout.squares)

    def residual_of_imputed(self, fitted: Float[Tensor, "C cell"]) -> Float[Tensor, "C D"]:
        """Return the sum of squared residuals of the imputed cells of every column."""
        squares = (self.imputed - fitted).double().square_()
        return self._sums(squares, squares.new_zeros(len(self.layout.offset)))

    def place(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return where entries of the table, by row and column, stand among the holes."""
        key = rows * len(self.layout.offset) + columns
        if self._asked is None or not torch.equal(self._asked[0], key):
            self._asked = key, torch.searchsorted(self.cell, key)
        return self._asked[1]
