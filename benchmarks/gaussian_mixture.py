"""gaussian_mixture: EM and CAVI against scikit-learn's, from the same starts to the same tolerance, and with holes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as TheirMixture

from benchmarks.harness import Row, alone
from pyrozoo.data.table import Table
from pyrozoo.inference.state import take
from pyrozoo.models.gaussian_mixture import cavi, em
from pyrozoo.models.gaussian_mixture.model import GaussianMixture
from pyrozoo.models.gaussian_mixture.posterior import Posterior

ROWS, COLUMNS, COMPONENTS, RESTARTS, FEW = 100_000, 10, 20, 10, 2
TOLERANCE, MOST = 1e-3, 100
"""Change of the objective, of EM per row, and iterations: scikit-learn's own."""


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return processor seconds, of minutes rather than of turns, and what came of it."""
    started = time.process_time()
    found = function(*arguments)
    return time.process_time() - started, found


def clusters(rows: int, missing: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means, shapes = rng.normal(0, 2, (COMPONENTS, COLUMNS)), rng.normal(0, 0.5, (COMPONENTS, COLUMNS, COLUMNS))
    z = rng.integers(COMPONENTS, size=rows)
    x = means[z] + np.einsum("nij,nj->ni", (shapes + np.eye(COLUMNS))[z], rng.normal(size=(rows, COLUMNS)))
    x[rng.random(x.shape) < missing] = np.nan
    return x


def model(**changes: Any) -> GaussianMixture:
    # As good as flat, as scikit-learn's EM has no prior
    stated = {"concentration": 1.0, "mean_precision": 1e-6, "degrees": 1e-6, **changes}
    return GaussianMixture(num_components=COMPONENTS, covariance_type="full", weight_prior="dirichlet", location=None,
                           scale=1.0, **stated)  # fmt: skip


def run(solver: Any, state: Any, tolerance: float = TOLERANCE, most: int = MOST) -> tuple[list[Any], int]:
    """Step until the objective per row changes by less; restarts that are there leave the batch."""
    before, rows, steps, ends = None, solver.posterior.rows, 0, []
    for _ in range(most):
        state, info = solver.step(state)
        objective, steps = info.objective / rows, steps + len(info.objective)
        there = objective < -torch.inf if before is None else (objective - before).abs() < tolerance
        ends += [take(state, there.nonzero().flatten())] if bool(there.any()) else []
        state, before = take(state, (~there).nonzero().flatten()), objective[~there]
        if not len(before):
            break
    return [*ends, state] if len(before) else ends, steps


def log_density(solver: Any, ends: list[Any]) -> float:
    """Return the log density per row of the best restart."""
    each = (solver.posterior.layout.expect(solver.posterior.known(vars(state)))[1] for state in ends)
    return float(torch.cat(list(each)).max() / solver.posterior.rows)


def their_em(x: np.ndarray, starts: em.State) -> tuple[np.ndarray, int]:
    best, steps = [], 0
    for w, m, s in zip(*(part.numpy() for part in vars(starts).values()), strict=True):
        fit = TheirMixture(COMPONENTS, tol=TOLERANCE, max_iter=MOST, weights_init=w, means_init=m,
                           precisions_init=np.linalg.inv(s), init_params="random_from_data").fit(x)  # fmt: skip
        best.append(fit.lower_bound_)
        steps += fit.n_iter_
    return np.array(best), steps


class Started(BayesianGaussianMixture):
    """Theirs from given responsibilities."""

    def begin(self, responsibilities: np.ndarray) -> Started:
        self.responsibilities = responsibilities
        return self

    def _initialize_parameters(self, X: np.ndarray, *_: Any, **__: Any) -> None:
        self._initialize(X, self.responsibilities)


def their_cavi(x: np.ndarray, posterior: Posterior, shares: list[np.ndarray], tol: float, most: int) -> tuple[Any, int]:
    m, D, steps = posterior.model, COLUMNS, 0
    for share in shares:
        fit = Started(n_components=COMPONENTS, weight_concentration_prior_type="dirichlet_distribution",
                      tol=tol, max_iter=most, weight_concentration_prior=m.concentration,
                      mean_precision_prior=m.mean_precision,
                      mean_prior=np.array(m.location), degrees_of_freedom_prior=m.degrees + D - 1,
                      covariance_prior=m.degrees * m.scale**2 * np.eye(D), reg_covar=0.0)  # fmt: skip
        fit = fit.begin(share).fit(x)
        steps += fit.n_iter_
    return fit, steps


def shares_of(posterior: Posterior, starts: em.State) -> list[np.ndarray]:
    found = []
    for chain in range(len(starts.weights)):
        point = {site: value[chain : chain + 1] for site, value in vars(starts).items()}
        found.append(posterior.layout.by_row(posterior.known(point), lambda logits: logits.softmax(1))[0].T.numpy())
    return found


def memory_of_em(missing: float, restarts: int, steps: int) -> None:
    solver = em.Solver(Posterior.of(model(), Table.of(clusters(ROWS, missing))))
    torch.manual_seed(0)
    run(solver, solver.init(restarts), 0.0, steps)


def rows() -> Iterator[Row]:
    warnings.simplefilter("ignore", ConvergenceWarning)
    yield from rows_of_em()
    yield from rows_of_cavi()
    yield from rows_with_holes()


SIZE = f"N={ROWS}, D={COLUMNS}, K={COMPONENTS}, full"


def started(posterior: Posterior) -> em.State:
    torch.manual_seed(0)
    return em.Solver(posterior).init(RESTARTS)


def rows_of_em() -> Iterator[Row]:
    x = clusters(ROWS)
    solver = em.Solver(Posterior.of(model(), Table.of(x)))
    starts = started(solver.posterior)
    fast, (ours, own) = timed(run, solver, starts)
    slow, (theirs, their) = timed(their_em, x, starts)
    best = log_density(solver, ours), theirs.max()
    assert abs(best[0] - best[1]) < 0.01, f"the best restarts end elsewhere: {best}"
    _, peak = alone(memory_of_em, 0.0, RESTARTS, 3)
    note = f"best log density per row {best[0]:.4f} and {best[1]:.4f}; {own} and {their} iterations in all"
    yield Row(f"gaussian_mixture EM, {SIZE}, {RESTARTS} restarts in one batch, same starts and tolerance", fast,
              "scikit-learn GaussianMixture, one start after another", slow, note, peak)  # fmt: skip


def rows_of_cavi() -> Iterator[Row]:
    x = clusters(ROWS)
    bayes = Posterior.of(model(concentration=2.0, mean_precision=0.01, degrees=3.0), Table.of(x))
    starts, solver = take(started(bayes), torch.arange(FEW)), cavi.Solver(bayes)
    shares, first = shares_of(bayes, starts), solver.given(bayes.layout.expect(bayes.known(vars(starts)))[0])
    state = take(first, torch.tensor([0]))
    for _ in range(5):
        state, _ = solver.step(state)
    one, _ = their_cavi(x, bayes, shares[:1], 0.0, 5)
    apart = np.abs(one.means_ - (state.mean[0] + bayes.prior.location).numpy()).max()
    assert apart < 1e-6, f"factors differ by {apart} after five steps from one start"
    fast, (_, own) = timed(run, solver, first, TOLERANCE / ROWS)
    slow, (_, their) = timed(their_cavi, x, bayes, shares, TOLERANCE, MOST)
    yield Row(f"gaussian_mixture CAVI, {SIZE}, {FEW} restarts in one batch, same starts and tolerance", fast,
              "scikit-learn BayesianGaussianMixture, one start after another", slow,
              f"the same factors after five steps; {own} and {their} iterations in all")  # fmt: skip


def rows_with_holes() -> Iterator[Row]:
    for missing, name in ((0.0, "complete"), (0.1, "a tenth of the cells missing: scikit-learn refuses them")):
        seconds, peak = alone(memory_of_em, missing, 1, 10)
        yield Row(f"gaussian_mixture EM, {SIZE}, {name}, 1 restart x 10 iterations", seconds, "", None,
                  "simulation included", peak)  # fmt: skip
