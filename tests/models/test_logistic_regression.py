"""logistic_regression: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, log_expit, logsumexp
from sklearn.linear_model import LogisticRegression as SkLogistic

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.responses import Responses
from pyrozoo.data.simulate import simulate_data
from pyrozoo.math import polya_gamma
from pyrozoo.math.logistic_normal import tilted
from pyrozoo.math.natural_normal import NaturalNormal
from pyrozoo.models.logistic_regression import em, ep, exact, gibbs, jaakkola_jordan
from pyrozoo.models.logistic_regression.model import LogisticRegression
from pyrozoo.testing import laws
from tests.case import Case, Oracle, refused

NAN = float("nan")
MODEL = LogisticRegression("bernoulli", True, True, 1.3, 1.9, 2.0, 1.0)
LINEAR = LogisticRegression("normal", True, True, 1.3, 1.9, 5.0, 0.7)
TINY = Responses.of(np.array([[0.3, 1], [-1.2, 0], [2.1, 1], [0.9, NAN], [-0.4, 1], [1.4, 0], [0.1, 0.0]]))


def log_joint(model: LogisticRegression, data: Responses, beta: np.ndarray) -> np.ndarray:
    """Return log p(y, beta) of coefficients [G, P], by sums over the definition."""
    x, y = data.standard().numpy(), data.values[:, 0].numpy()
    design = np.column_stack([np.ones(len(x)), x]) if model.intercept else x
    s = np.array([model.intercept_scale] * model.intercept + [model.coefficient_scale] * x.shape[1])
    psi, seen = beta @ design.T, ~np.isnan(y)
    prior = (-0.5 * (beta / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi)).sum(1)
    return prior + log_expit(np.where(y == 1, 1, -1) * psi)[:, seen].sum(1)


def on_grid(model: LogisticRegression, data: Responses, wide: float = 12.0, cells: int = 500):
    """Return points, their shares, and the log evidence: the midpoint rule over a square, two coefficients."""
    at = (np.arange(cells) + 0.5) / cells * 2 * wide - wide
    beta = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    log_p = log_joint(model, data, beta)
    evidence = logsumexp(log_p) + 2 * np.log(2 * wide / cells)
    return beta, np.exp(log_p - logsumexp(log_p)), evidence, 2 * wide / cells


@cache
def oracle() -> Oracle:
    """Quadrature over a fine square; draws are spread evenly over its cells."""
    beta, share, evidence, width = on_grid(MODEL, TINY)
    rng = np.random.default_rng(0)
    drawn = beta[rng.choice(len(beta), 100_000, p=share)] + (rng.random((100_000, 2)) - 0.5) * width
    return Oracle(float(evidence), {"coefficients": torch.as_tensor(drawn)[None]})


def lose(data: Responses) -> Responses:
    """Lose some responses, always the same ones."""
    values = data.values.clone()
    values[1:3] = NAN
    return dataclasses.replace(data, values=values)


def of_other_prior(posterior: Posterior) -> Solver:
    """Plant: the coefficients' prior has twice the sd."""
    return gibbs.Solver(Posterior.of(dataclasses.replace(posterior.model, coefficient_scale=3.8), posterior.data))


def with_zeros(posterior: Posterior) -> Solver:
    """Plant: missing responses are read as zeros."""
    return gibbs.Solver(posterior.on(dataclasses.replace(posterior.data, values=posterior.data.filled)))


def without_data(posterior: Posterior) -> Solver:
    """Plant: draws from the prior, whatever the data; ranks of parameters alone would pass it."""
    values = torch.full_like(posterior.data.values, NAN)
    return gibbs.Solver(posterior.on(dataclasses.replace(posterior.data, values=values)))


class OfNothing(gibbs.Solver):
    """Plant: the Polya-Gamma variables do not look at the coefficients."""

    def step(self, state):
        _, info = super().step(state)
        omega = polya_gamma.draw(torch.zeros_like(self.posterior.linear(vars(state))))
        return em.State(NaturalNormal.of(self.posterior.precision(omega), self.posterior.pull).draw()), info


class Whole(gibbs.Solver):
    """Plant: the likelihood pulls by y, not by y - 1/2."""

    def step(self, state):
        _, info = super().step(state)
        p = self.posterior
        omega = polya_gamma.draw(p.linear(vars(state)))
        return em.State(NaturalNormal.of(p.precision(omega), p.response @ p.design).draw()), info


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=oracle,
    shape={"rows": 6, "columns": 1},
    lose=lose,
    larger={"rows": 300, "columns": 1},
    settings={
        "em": {"restarts": 3},
        "ep": {"restarts": 2, "draws": 300},
        "jaakkola_jordan": {"draws": 300},
        "exact": {"draws": 300},
        "gibbs": {"warmup": 50, "draws": 200, "thin": 1},
        "svi": {"max_steps": 300, "restarts": 2, "restart_steps": 20, "window": 100, "draws": 200,
                "evaluation_draws": 100},
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    elbo_gap=1.0,
    laplace_error=0.3,
    bad={
        "infinite": (np.array([[np.inf, 1], [0, 0]]), "column_0"),
        "missing covariate": (np.array([[1, 1], [NAN, 0]]), "column_0"),
        "empty": (np.empty((0, 2)), "empty"),
        "one axis": (np.array([1.0, 0]), "two axes"),
        "no class": (np.array([[1, 2.0], [0, 1]]), "neither 0 nor 1"),
        "three classes": (pd.DataFrame({"size": [1, 2, 4], "kind": ["x", "y", "z"]}), "kind"),
        "no such category": (pd.DataFrame({"size": [1, 2], "name": ["x", None], "y": [0, 1]}), "name"),
    },
    odd={
        "one row": np.array([[2.0, 1]]),
        "no response": np.array([[1.0, NAN], [2, NAN]]),
        "constant": np.array([[3.0, 1], [3, 0], [3, 1]]),
        "separable": np.array([[1.0, 0], [2, 0], [3, 1], [4, 1]]),
        "tiny and huge": np.array([[1e-9, 1e9, 1], [2e-9, -1e9, 0], [3e-9, 2e9, 0]]),
        "no covariate": np.array([[1.0], [0], [1]]),
    },
    bugs={"whole": Whole, "of_nothing": OfNothing, "zeros": with_zeros, "scale": of_other_prior, "data": without_data},
)  # fmt: skip


def table_of(posterior: Posterior, **draws) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and covariance by each method that has a closed form, and by draws of others."""
    found = {name: (value.mean(0), np.cov(value.T)) for name, value in draws.items()}
    for name, solver, steps in (
        ("jaakkola_jordan", jaakkola_jordan.Solver(posterior), 300),
        ("ep", ep.Solver(posterior), 60),
    ):
        with seeded(0):
            q = solver.finish(solver.after(steps))
        found[name] = q.mean[0].numpy(), q.covariance[0].numpy()
    return found


SKEWED = simulate_data(LogisticRegression("bernoulli", True, True, 1.0, 2.0, 1.0, 1.0), seed=8, rows=20, columns=1)
USUAL = LogisticRegression("bernoulli", True, True, 2.5, 2.5, 1.0, 1.0)


def test_the_grid_is_the_posterior():
    for model, data in ((MODEL, TINY), (USUAL, SKEWED)):
        beta, share, evidence, _ = on_grid(model, data, wide=25.0, cells=900)
        solver = exact.Solver(Posterior.of(model, data))
        state, info = solver.step(solver.init(4000))
        assert float(info.objective[0]) == pytest.approx(evidence, abs=1e-8)
        mean, covariance = solver.moments
        expected = share @ beta
        np.testing.assert_allclose(mean, expected, atol=1e-8)
        np.testing.assert_allclose(covariance, ((beta - expected).T * share) @ (beta - expected), atol=1e-7)
        with seeded(1):
            drawn = solver.answer(state).draws()["coefficients"]
        error = (drawn.mean(0) - mean) / (covariance.diagonal() / 4000).sqrt()
        assert error.abs().max() < 4
        assert ((torch.cov(drawn.T) / covariance).diagonal() - 1).abs().max() < 0.15  # 4.5 errors of a skewed variance


def test_three_coefficients_and_no_more():
    data = simulate_data(USUAL, seed=2, rows=15, columns=3)
    without = dataclasses.replace(USUAL, intercept=False)
    solver = exact.Solver(Posterior.of(without, data))
    with seeded(0):
        chain, warm = gibbs.Solver(Posterior.of(without, data)), []
        state = chain.init(400)
        for sweep in range(60):
            state, _ = chain.step(state)
            if sweep > 10:
                warm.append(state.coefficients)
    drawn = torch.cat(warm)
    error = (drawn.mean(0) - solver.moments[0]) / solver.moments[1].diagonal().sqrt()
    assert error.abs().max() < 0.05  # 400 chains of 49 sweeps that keep an effective draw in five: 0.014
    with pytest.raises(NotApplicable, match="at most 3"):
        exact.Solver(Posterior.of(USUAL, data))


def test_ep_is_better_than_jaakkola_jordan_which_is_better_than_nothing():
    """Errors of means, in posterior sds, and of sds, in parts; nothing: the prior."""
    posterior = Posterior.of(USUAL, SKEWED)
    mean, covariance = (each.numpy() for each in exact.Solver(posterior).moments)
    prior = np.zeros((1, 2)), np.diag([2.5**2] * 2)
    found = {**table_of(posterior), "nothing": (prior[0][0], prior[1])}
    sd = np.sqrt(np.diag(covariance))
    off = {name: np.abs(m - mean) / sd for name, (m, _) in found.items()}
    parts = {name: np.abs(np.sqrt(np.diag(c)) / sd - 1) for name, (_, c) in found.items()}
    for error in (off, parts):
        assert (error["ep"] < error["jaakkola_jordan"]).all()
        assert (error["jaakkola_jordan"] < error["nothing"]).all()
    assert off["ep"].max() < 0.05
    assert parts["ep"].max() < 0.1
    assert (np.diag(found["jaakkola_jordan"][1]) < np.diag(covariance)).all()  # too sure, always


def test_what_is_said_of_the_evidence():
    """The bound stays below, at any state; EP's estimate is closer than Laplace's."""
    posterior = Posterior.of(USUAL, SKEWED)
    evidence = float(exact.Solver(posterior).grid.log_mass)
    bound, matched = jaakkola_jordan.Solver(posterior), ep.Solver(posterior)
    with seeded(0):
        state = bound.init(20)
        for _ in range(30):
            state, info = bound.step(state)
            assert (info.objective < evidence).all()
        ended = matched.step(matched.after(60))[1]
    assert evidence - float(info.objective.max()) > 5 * abs(float(ended.objective) - evidence)


def test_eps_evidence_is_closer_than_laplaces():
    """Mean errors over six data sets of 20 rows: 0.01 and 0.06."""
    errors = []
    for seed in range(6):
        posterior = Posterior.of(
            USUAL, simulate_data(dataclasses.replace(USUAL, intercept_scale=0.5, coefficient_scale=0.5), seed=seed,
                                 rows=20, columns=1)
        )  # fmt: skip
        evidence = float(exact.Solver(posterior).grid.log_mass)
        with seeded(0):
            beta = em.Solver(posterior).after(60).coefficients
            solver = ep.Solver(posterior)
            found = float(solver.step(solver.after(15))[1].objective)
        prob = posterior.linear({"coefficients": beta}).sigmoid()
        curvature = posterior.precision(prob * (1 - prob))[0]
        top = float(posterior.log_density({"coefficients": beta[:, None]}))
        laplace = top + np.log(2 * np.pi) - 0.5 * float(torch.logdet(curvature))
        errors.append([abs(found - evidence), abs(laplace - evidence)])
    ours, theirs = np.mean(errors, 0)
    assert ours < 0.3 * theirs


@pytest.mark.parametrize("schedule", ep.SCHEDULES)
def test_schedules_of_ep_end_at_one_point(schedule):
    posterior = Posterior.of(USUAL, SKEWED)
    solver = ep.Solver(posterior, schedule=schedule)
    with seeded(1):
        state = solver.after(60 if schedule == "parallel" else 25)
    _, info = solver.step(state)
    assert float(info.residual) < 1e-7
    usual = ep.Solver(posterior)
    torch.testing.assert_close(solver.finish(state).mean, usual.finish(usual.after(80)).mean, rtol=0, atol=1e-6)


def test_ep_of_one_row_is_exact():
    """One factor takes the moments of the posterior itself."""
    data = Responses.of(np.array([[2.0, 1]]))
    posterior = Posterior.of(dataclasses.replace(USUAL, intercept=False, standardize=False), data)
    solver, grid = ep.Solver(posterior, damping=0.0), exact.Solver(posterior)
    state = solver.after(2)
    q = solver.finish(state)
    mean, covariance = grid.moments
    torch.testing.assert_close(q.mean[0], mean, rtol=0, atol=1e-7)
    torch.testing.assert_close(q.covariance[0], covariance, rtol=0, atol=1e-7)
    assert float(solver.step(state)[1].objective) == pytest.approx(float(grid.grid.log_mass), abs=1e-8)


@pytest.mark.parametrize(("mean", "variance"), [(0.3, 0.01), (-2.0, 1.0), (5.0, 4.0), (-30.0, 100.0), (1.0, 1e4)])
def test_moments_of_one_row(mean, variance):
    def density(psi):
        return np.exp(log_expit(-psi) - 0.5 * (psi - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)

    log_mass, middle, spread = (float(each) for each in tilted(*map(torch.tensor, (mean, variance, -1.0))))
    ends = middle - 12 * spread**0.5, middle + 12 * spread**0.5
    options = {"limit": 200, "epsabs": 0, "epsrel": 1e-11, "points": [max(min(0.0, ends[1]), ends[0]), middle]}
    mass = quad(density, *ends, **options)[0]
    expected = quad(lambda psi: psi * density(psi), *ends, **options)[0] / mass
    square = quad(lambda psi: (psi - expected) ** 2 * density(psi), *ends, **options)[0] / mass
    assert log_mass == pytest.approx(np.log(mass), abs=1e-5)
    assert middle == pytest.approx(expected, abs=1e-4 * square**0.5)
    assert spread == pytest.approx(square, rel=1e-4)


def test_polya_gamma_draws_have_their_laplace_transform():
    """E exp(-t omega) = cosh(psi / 2) / cosh(sqrt(psi^2 / 4 + t / 2)) (Polson, Scott and Windle 2013, eq. 3)."""
    psi = torch.tensor([0.0, 0.7, -2.5, 3.0, 3.2, 9.0, 40.0], dtype=torch.float64).repeat_interleave(20_000)
    with seeded(0):
        omega = polya_gamma.draw(psi).reshape(7, -1)
    assert (omega > 0).all()
    at = psi.reshape(7, -1)[:, 0]
    for t in (0.5, 3.0, 20.0):
        expected = torch.exp(_log_cosh(at / 2) - _log_cosh((at.square() / 4 + t / 2).sqrt()))
        drawn = torch.exp(-t * omega)
        assert ((drawn.mean(1) - expected).abs() < 4.5 * drawn.std(1) / 20_000**0.5).all()


def _log_cosh(x: torch.Tensor) -> torch.Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - np.log(2)


def test_linear_regression_is_conjugate():
    """Against quadrature over the noise's variance of normal densities, which knows nothing of Gamma functions."""
    data = simulate_data(LINEAR, seed=1, rows=8, columns=1, missing=0.2)
    posterior = Posterior.of(LINEAR, data)
    x, y = data.standard().numpy(), data.values[:, 0].numpy()
    seen = ~np.isnan(y)
    design, y = np.column_stack([np.ones(len(x)), x])[seen], y[seen]
    scale = np.diag([LINEAR.intercept_scale**2, LINEAR.coefficient_scale**2])
    unit = np.eye(len(y)) + design @ scale @ design.T  # of y given v, in units of v
    gain = scale @ design.T @ np.linalg.inv(unit)
    nu, t = LINEAR.noise_degrees, LINEAR.noise_scale
    v = np.exp(np.linspace(-6, 7, 4001))
    prior = -(nu / 2 + 1) * np.log(v) - nu * t**2 / (2 * v)
    prior -= logsumexp(prior + np.log(v)) + np.log(np.log(v[1] / v[0]))
    log_p = prior - 0.5 * (
        len(y) * np.log(2 * np.pi * v) + np.linalg.slogdet(unit)[1] + y @ np.linalg.solve(unit, y) / v
    )
    evidence = logsumexp(log_p + np.log(v)) + np.log(np.log(v[1] / v[0]))
    share = np.exp(log_p + np.log(v) - logsumexp(log_p + np.log(v)))
    fit = pyrozoo.fit(LINEAR, "exact", data=data, draws=4000, progress=False)
    assert fit.objective == pytest.approx(evidence, abs=1e-4)
    solver = exact.Solver(posterior)
    np.testing.assert_allclose(solver.moments[0], gain @ y, atol=1e-10)
    np.testing.assert_allclose(solver.moments[1], (share @ v) * (scale - gain @ design @ scale), rtol=1e-3)
    beta = np.array([[0.3, -1.0], [0.0, 2.0], [-1.5, 0.4]])
    away = y - beta @ design.T
    given_v = prior - 0.5 * (
        (len(y) + 2) * np.log(v) + ((away**2).sum(1) + (beta**2 / np.diag(scale)).sum(1))[:, None] / v
    )
    np.testing.assert_allclose(
        solver.log_density(torch.as_tensor(beta)).diff(), np.diff(logsumexp(given_v + np.log(v), 1)), rtol=1e-4
    )
    laws.one_density(posterior)
    laws.objective_is_the_joint(gibbs.Solver(posterior))
    laws.objective_is_the_joint(em.Solver(posterior))
    laws.never_falls(em.Solver(posterior), steps=3)
    for method in ("ep", "jaakkola_jordan"):
        assert "inference=exact" in refused(NotApplicable, pyrozoo.fit, LINEAR, method, data=data, progress=False)


def test_linear_regression_predicts_in_the_responses_own_units():
    rng = np.random.default_rng(0)
    x = rng.normal(50, 10, 200)
    frame = pd.DataFrame({"age": x, "income": 30_000 + 400 * x + rng.normal(0, 2000, 200)})
    fit = pyrozoo.fit("logistic_regression", "exact", data=frame, likelihood="normal", holdout=0.3, progress=False)
    assert float(fit.metrics["holdout_rmse"]) < 2500
    new = fit.predict(pd.DataFrame({"age": [40.0, 60.0]}))
    np.testing.assert_allclose(new["income"], [46_000, 54_000], atol=800)


CREDIT = pd.DataFrame(
    {
        "age": [23, 45, 31, 60, 52, 40, 28, 35],
        "paid": ["no", "yes", "yes", "yes", "no", "yes", "no", "yes"],
        "home": ["rents", "owns", "rents", "owns", "free", "owns", "free", "rents"],
        "married": [True, False, True, True, False, False, True, False],
    }
)


def test_a_course_own_table(tmp_path):
    CREDIT.to_csv(tmp_path / "credit.csv", index=False)
    for source in (CREDIT, tmp_path / "credit.csv"):
        fit = pyrozoo.fit("logistic_regression", "ep", data=source, response="paid", progress=False)
        names = fit.data.coords["coefficient"]
        assert names == ["intercept", "age", "home=owns", "home=rents", "married"]
        assert fit.data.values[:, 0].tolist() == [0, 1, 1, 1, 0, 1, 0, 1]
        said = " ".join(fit.data.notes)
        assert "'yes' is 1" in said
        assert "compared with 'free'" in said
        assert fit.inference_data.posterior["coefficients"].dims[-1] == "coefficient"
        table = fit.tables["coefficients"].set_index("coefficient")
        assert list(table.index) == names
        # Per year, and per sd of age: one is the other over the sd.
        assert table.loc["age", "per_unit"] == pytest.approx(table.loc["age", "mean"] / CREDIT["age"].std(ddof=0))
    with pytest.raises(DataError, match="3 categories"):
        pyrozoo.fit("logistic_regression", "ep", data=CREDIT, response="home", progress=False)
    with pytest.raises(DataError, match="no such column"):
        pyrozoo.fit("logistic_regression", "ep", data=CREDIT, response="payed", progress=False)


def test_new_rows_get_probabilities():
    fit = pyrozoo.fit("logistic_regression", "ep", data=CREDIT, response="paid", progress=False)
    new = pd.DataFrame({"home": ["owns", "free"], "age": [50, 25], "married": [False, True], "name": ["a", "b"]})
    said = fit.predict(new)
    draws = fit.draws["coefficients"][0].numpy()
    age = (new["age"].to_numpy() - CREDIT["age"].mean()) / CREDIT["age"].std(ddof=0)
    design = np.column_stack([np.ones(2), age, [1, 0], [0, 0], [0, 1]])
    np.testing.assert_allclose(said["paid"], expit(draws @ design.T).mean(0), rtol=1e-6)
    assert list(said["name"]) == ["a", "b"]
    with pytest.raises(DataError, match="never seen in training"):
        fit.predict(new.assign(home="castle"))
    with pytest.raises(DataError, match="no column 'age'"):
        fit.predict(new.drop(columns="age"))


def test_a_run_directory_gives_everything_back(tmp_path):
    new = CREDIT.head(3).drop(columns="paid")
    CREDIT.assign(paid=[*CREDIT["paid"].head(7), None]).to_csv(tmp_path / "credit.csv", index=False)
    made = {"data": tmp_path / "credit.csv", "response": "paid", "test": CREDIT.head(2), "holdout": 0.2}
    fit = pyrozoo.fit("logistic_regression", "ep", progress=False, **made)
    fit.save(tmp_path / "run", report="brief")
    again = pyrozoo.load(tmp_path / "run")
    assert again.data.same(fit.data)
    assert (again.data.coding, tuple(again.data.levels)) == (fit.data.coding, fit.data.levels)
    torch.testing.assert_close(again.data.test.covariates, fit.data.test.covariates)
    pd.testing.assert_frame_equal(again.predict(new), fit.predict(new))
    results = pd.read_csv(tmp_path / "run" / "results.csv")
    assert results.loc[7, "filled"] == "paid"
    assert results.loc[7, "paid"] == ("yes" if results.loc[7, "probability[paid=yes]"] >= 0.5 else "no")


def test_held_out_log_score_of_the_breast_cancer():
    fit = pyrozoo.fit("logistic_regression", "ep", data="breast_cancer", progress=False)
    assert fit.status == "converged"
    assert len(fit.data.hidden.values) == 114
    assert float(fit.metrics["holdout_elpd"]) > -0.08
    point = pyrozoo.fit("logistic_regression", "em", data="breast_cancer", restarts=1, progress=False)
    assert float(fit.metrics["holdout_elpd"]) > float(point.metrics["holdout_elpd"])


def test_settings_of_ep_are_checked():
    for wrong, said in (({"schedule": "random"}, "parallel or sequential"), ({"damping": 1.0}, "in \\[0, 1\\)")):
        with pytest.raises(SettingError, match=said):
            ep.Solver(Posterior.of(MODEL, TINY), **wrong)


def test_the_beetles_of_bugs():
    """Eight doses, 481 beetles (BUGS examples, volume 2); figures of 10,000 draws as JAGS's own tests have them."""
    dose = np.array([1.6907, 1.7242, 1.7552, 1.7842, 1.8113, 1.8369, 1.8610, 1.8839])
    count, killed = np.array([59, 60, 62, 56, 63, 59, 62, 60]), np.array([6, 13, 18, 28, 52, 53, 61, 60])
    y = np.concatenate([np.arange(n) < r for n, r in zip(count, killed, strict=True)]).astype(float)
    data = Responses.of((np.repeat(dose - dose.mean(), count)[:, None], y))
    plain = LogisticRegression("bernoulli", True, False, 1000**0.5, 1000**0.5, 1.0, 1.0)
    mean, covariance = (each.numpy() for each in exact.Solver(Posterior.of(plain, data)).moments)
    back = np.array([1.0, -dose.mean()])
    assert mean[1] == pytest.approx(34.308, abs=4 * 0.042)
    assert back @ mean == pytest.approx(-60.783, abs=4 * 0.075)
    assert covariance[1, 1] ** 0.5 == pytest.approx(2.896, rel=0.03)
    assert (back @ covariance @ back) ** 0.5 == pytest.approx(5.152, rel=0.03)


def test_em_ends_where_scikit_learn_does():
    data = simulate_data(USUAL, seed=4, rows=80, columns=3)
    posterior = Posterior.of(dataclasses.replace(USUAL, intercept=False), data)
    theirs = SkLogistic(C=2.5**2, fit_intercept=False, tol=1e-10).fit(data.covariates, data.values[:, 0])
    with seeded(0):
        ours = em.Solver(posterior).after(300).coefficients[0]
    np.testing.assert_allclose(ours, theirs.coef_[0], rtol=1e-5)


def test_moments_of_a_linear_regression_are_those_of_its_draws():
    """Of twelve rows, whose noise is far from known: within four standard errors, or so, of 20,000 draws."""
    model = dataclasses.replace(USUAL, likelihood="normal")
    solver = exact.Solver(Posterior.of(model, simulate_data(model, seed=4, rows=12, columns=1)))
    with seeded(0):
        draws = solver.draw(20_000)["coefficients"]
    mean, covariance = solver.moments
    torch.testing.assert_close(draws.mean(0), mean, atol=4 * float(covariance.diag().max() / 20_000) ** 0.5, rtol=0)
    torch.testing.assert_close(draws.T.cov().diag(), covariance.diag(), rtol=0.06, atol=0)
