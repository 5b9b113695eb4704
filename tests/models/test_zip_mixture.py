"""zip_mixture: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import betaln, gammaln, logsumexp

import pyrozoo
from pyrozoo.compiler.kernels import Kernels, switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import Hidden
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture import em, gibbs, likelihood, queries
from pyrozoo.models.zip_mixture.likelihood import Layout, zero_is_on
from pyrozoo.models.zip_mixture.model import ZipMixture
from tests.case import Case, Oracle

NAN = float("nan")
MODEL = ZipMixture(2, (2.0, 1.5), 1.5, 2.0, 2.0, 1.0)
TINY = Table.of(np.array([[0, 3.0], [0, 0], [2, NAN], [1, 4], [0, 5]]))


def exact() -> Oracle:
    """Return the exact answer to the tiny instance, of which no row has an exposure."""
    return enumerated((1.0,) * 5)


@cache
def enumerated(exposure: tuple[float, ...]) -> Oracle:
    """Enumerate every assignment z and every b at a zero; given both, everything is conjugate."""
    m, x = MODEL, TINY.values.numpy()
    (N, D), K = x.shape, m.num_components
    alpha = np.asarray(m.weight_concentration)
    zeros = [(i, d) for i in range(N) for d in range(D) if x[i, d] == 0]
    log_p, parameters = [], []
    for z in itertools.product(range(K), repeat=N):
        for on in itertools.product((0, 1), repeat=len(zeros)):
            b = (x > 0).astype(float)
            for cell, value in zip(zeros, on, strict=True):
                b[cell] = value
            counts = np.bincount(z, minlength=K)
            total = gammaln(alpha.sum()) - gammaln(alpha.sum() + N) + (gammaln(alpha + counts) - gammaln(alpha)).sum()
            a1, b1, e1, f1 = (np.zeros((K, D)) for _ in range(4))
            for k, d in itertools.product(range(K), range(D)):
                rows = [i for i in range(N) if z[i] == k and not np.isnan(x[i, d])]
                n_on = sum(b[i, d] for i in rows)
                s = sum(x[i, d] for i in rows)
                a1[k, d], b1[k, d] = m.on_prob_alpha + n_on, m.on_prob_beta + len(rows) - n_on
                e1[k, d] = m.rate_shape + s
                f1[k, d] = m.rate_rate + sum(b[i, d] * exposure[i] for i in rows)
                total += betaln(a1[k, d], b1[k, d]) - betaln(m.on_prob_alpha, m.on_prob_beta)
                total += m.rate_shape * np.log(m.rate_rate) - e1[k, d] * np.log(f1[k, d])
                total += gammaln(e1[k, d]) - gammaln(m.rate_shape)
                total += sum(x[i, d] * np.log(exposure[i]) - gammaln(x[i, d] + 1) for i in rows)
            log_p.append(total)
            parameters.append((alpha + counts, a1, b1, e1, f1))
    evidence = logsumexp(log_p)
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(log_p), 100_000, p=np.exp(np.asarray(log_p) - evidence))
    conc, a1, b1, e1, f1 = (np.stack([p[j] for p in parameters])[chosen] for j in range(5))
    gamma = generator.gamma(conc)
    draws = {
        "weights": gamma / gamma.sum(1, keepdims=True),
        "on_prob": generator.beta(a1, b1),
        "rate": generator.gamma(e1) / f1,
    }
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


def ignores_prior_of_rate(posterior: Posterior) -> gibbs.Solver:
    """Plant: the Gamma's rate forgets f0."""
    return gibbs.Solver(Posterior.of(dataclasses.replace(posterior.model, rate_rate=1e-6), posterior.data))


class ZerosAreOff(gibbs.Solver):
    """Plant: every zero is a structural zero."""

    def draw_parameters(self, state, sums, counts):
        _total, _positive, _zero = sums.chunk(3, -1)
        return super().draw_parameters(
            type(state)(state.weights, torch.full_like(state.on_prob, 1e-9), state.rate), sums, counts
        )


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data; parameter ranks alone would pass it."""

    def draw_parameters(self, state, sums, counts):
        return super().draw_parameters(state, torch.zeros_like(sums), torch.zeros_like(counts))


class ForgetsPriorOfSlide(gibbs.Solver):
    """Plant: slides leave the rate's prior out."""

    def log_density(self, sums, on, rate, size):
        return super().log_density(sums, on, rate, size) + self.model.rate_rate * rate


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 5, "columns": 2},
    larger={"rows": 400, "columns": 8},
    settings={
        "em": {"restarts": 5},
        "stochastic_em": {"restarts": 3},
        "cavi": {"restarts": 5},
        "gibbs": {"warmup": 100, "draws": 300, "thin": 1},
        "svi": {
            "max_steps": 300,
            "restarts": 2,
            "restart_steps": 20,
            "window": 100,
            "draws": 200,
            "evaluation_draws": 100,
        },
        "nuts": {"chains": 2, "warmup": 30, "draws": 30, "max_tree_depth": 5},
        "laplace": {"restarts": 3, "draws": 200},
    },
    elbo_gap=5.0,
    laplace_error=2.0,
    bad={
        "negative": (np.array([[1, -2.0], [0, 3]]), "column_1"),
        "fraction": (np.array([[1, 2.0], [0.5, 3]]), "row_1"),
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "empty": (np.empty((0, 3)), "empty"),
        "no columns": (np.empty((3, 0)), "empty"),
        "one axis": (np.array([1.0, 2]), "two axes"),
        "missing column": (np.array([[1, NAN], [0, NAN]]), "column_1"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
        "frame with text": (pd.DataFrame({"count": [1, 2], "name": ["x", 2]}), "name"),
        "repeated names": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
    },
    odd={
        "one row": np.array([[0, 3.0, 1]]),
        "one column": np.array([[0.0], [3], [1], [0]]),
        "single cell": np.array([[2.0]]),
        "all zeros": np.zeros((6, 3)),
        "zero column": np.array([[0, 1.0], [0, 4], [0, 2], [0, 0]]),
        "constant": np.full((6, 2), 3.0),
        "missing row": np.array([[NAN, NAN], [1, 2], [0, 3]]),
        "large counts": np.array([[1e6, 0], [0, 1e7], [1e6 + 5, 3], [2, 1e7 - 1]]),
        "ones beside hundreds of thousands": np.random.default_rng(0).poisson([[1.0, 3e5]] * 20 + [[3e5, 1.0]] * 20),
        "fewer distinct rows than components": np.array([[1, 2.0]] * 4),
    },
    bugs={"rate_rate": ignores_prior_of_rate, "zeros": ZerosAreOff, "slide": ForgetsPriorOfSlide, "data": IgnoresData},
)


@pytest.fixture
def simulated() -> Table:
    return simulate_data(ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0), rows=60, columns=5, missing=0.2, seed=3)


def dense_log_likelihood(draw: dict[str, torch.Tensor], table: Table) -> torch.Tensor:
    """Return log p(x_i | k), [N, K], the textbook way: N x K x D, scalar densities, missing cells skipped."""
    x = table.filled[:, None, :]
    on, rate = draw["on_prob"][None], draw["rate"][None]
    poisson = torch.distributions.Poisson(rate, validate_args=False).log_prob(x).exp()
    density = on * poisson + (1 - on) * (x == 0)
    return torch.where(table.observed[:, None, :], density.log(), 0.0).sum(-1)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_matrix_product_equals_the_dense_likelihood(missing):
    model = ZipMixture(4, 2.0, 2.0, 2.0, 2.0, 1.0)
    table = simulate_data(model, rows=200, columns=7, missing=missing, seed=1)
    with seeded(0):
        draws = Posterior.of(model, table).initial(3)
    layout = Layout.of(table)
    fast = layout.row_log_evidence(layout.given(draws))
    for chain in range(3):
        draw = {site: value[chain] for site, value in draws.items()}
        slow = (dense_log_likelihood(draw, table) + draw["weights"].log()).logsumexp(1)
        torch.testing.assert_close(fast[chain], slow, rtol=1e-11, atol=1e-11)


def test_complete_data_take_two_thirds_of_the_work_and_give_the_same(monkeypatch):
    model = ZipMixture(4, 2.0, 2.0, 2.0, 2.0, 1.0)
    table = simulate_data(model, rows=150, columns=6, seed=1)
    with seeded(0):
        draws = Posterior.of(model, table).initial(3)
    short = Layout.of(table)
    monkeypatch.setattr("pyrozoo.models.zip_mixture.likelihood.LARGEST_COMPACT_COUNT", 0)
    long = Layout.of(dataclasses.replace(table))
    assert (short.compact, long.compact) == (True, False)
    arguments = long.given(draws)
    for a, b in zip(short.expected_statistics(arguments), long.expected_statistics(arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    rows = short.row_log_evidence(arguments), long.row_log_evidence(arguments)
    torch.testing.assert_close(*rows, rtol=1e-12, atol=1e-12)


def test_blocks_do_not_change_the_sums(simulated, monkeypatch):
    model = ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0)
    with seeded(0):
        draws = Posterior.of(model, simulated).initial(2)
    layout = Layout.of(simulated)
    arguments = layout.given(draws)
    with switched(False):
        whole = layout.expected_statistics(arguments)
        monkeypatch.setattr("pyrozoo.models.zip_mixture.likelihood.BLOCK_ELEMENTS", 1)
        for a, b in zip(whole, layout.expected_statistics(arguments), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def statistics(layout, given, sample=False):
    """Return the sums of an E-step, of components drawn by the same numbers whatever computes them."""
    with seeded(1):
        return layout.expected_statistics(given, sample)


def apart(ours, theirs):
    """Return the largest difference, relative to the largest entry of each."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


def e_step(K, chains, rows, columns, missing=0.0, dtype=torch.float64):
    """Return a table's layout and what multiplies it."""
    model = ZipMixture(K, 2.0, 2.0, 2.0, 2.0, 1.0)
    table = simulate_data(model, rows=rows, columns=columns, missing=missing, seed=K).to("cpu", dtype)
    with seeded(0):
        draws = Posterior.of(model, table).initial(chains)
    layout = Layout.of(table)
    return layout, layout.given(draws)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
@pytest.mark.parametrize(
    ("K", "chains", "rows", "columns", "missing"),
    [(1, 1, 5, 1, 0.0), (3, 2, 70, 4, 0.3), (5, 3, 64, 11, 0.0), (10, 4, 300, 20, 0.1), (2, 1, 1, 3, 0.0)],
)
def test_the_kernel_does_pytorchs_e_step(K, chains, rows, columns, missing, dtype, tolerance):
    layout, given = e_step(K, chains, rows, columns, missing, dtype)
    assert likelihood.KERNELS.serve(layout.design, *given)
    ours, drawn = statistics(layout, given), statistics(layout, given, sample=True)
    with switched(False):
        theirs, draws = statistics(layout, given), statistics(layout, given, sample=True)
    assert apart(ours, theirs) < tolerance
    assert drawn[1].sum(-1).equal(torch.full((chains,), rows, dtype=dtype))
    if dtype == torch.float64:  # in single precision a row may fall to the other side
        assert drawn[0].equal(draws[0])
        assert drawn[1].equal(draws[1])


def test_components_without_weight_get_no_row():
    layout, (weights, log_prior) = e_step(4, 2, 50, 6)
    log_prior[:, 2] = -torch.inf
    for sample in (False, True):
        ours = statistics(layout, (weights, log_prior), sample)
        assert (ours[1][:, 2] == 0).all()
        assert all(each.isfinite().all() for each in ours)


def test_e_steps_do_not_depend_on_the_number_of_threads(monkeypatch):
    layout, given = e_step(4, 2, 5000, 3)
    monkeypatch.setattr(likelihood, "ALONE", 0)
    found = []
    for number in (1, 2, 3, 8):
        monkeypatch.setattr(likelihood, "threads", lambda number=number: number)
        found.append((*statistics(layout, given), *statistics(layout, given, sample=True)))
    assert all(a.equal(b) for each in found for a, b in zip(each, found[0], strict=True))


def test_a_wrong_kernel_is_caught(monkeypatch):
    bad, right, wrong = Kernels(likelihood.__file__), "mask[i] /= total[i]", "mask[i] /= total[i] + 1e-9f"
    assert right in bad.text
    bad.text = bad.text.replace(right, wrong)
    monkeypatch.setattr(likelihood, "KERNELS", bad)
    with pytest.raises(AssertionError):
        test_the_kernel_does_pytorchs_e_step(3, 2, 70, 4, 0.3, torch.float64, 1e-13)


def test_large_counts_keep_their_precision():
    """A difference of one event in ten million must show: x log lambda and lgamma nearly cancel there."""
    table = Table.of(np.array([[1e7], [1e7 + 1000]]))
    model = ZipMixture(1, 1.0, 1.0, 1.0, 1.0, 1.0)
    draws = {
        "weights": torch.ones(1, 1, 1).double(),
        "on_prob": torch.full((1, 1, 1, 1), 0.5).double(),
        "rate": torch.full((1, 1, 1, 1), 1e7).double(),
    }
    value = Posterior.of(model, table).pointwise(draws)[0, 0]
    # Exactly: log ratio of Poisson(1e7 + 1000; 1e7) to Poisson(1e7; 1e7), by a sum of 1000 small terms.
    ratio = -np.log1p(np.arange(1, 1001) / 1e7).sum()
    assert float(value[1] - value[0]) == pytest.approx(ratio, abs=1e-7)


def test_bound_terms_sum_to_the_objective(simulated):
    solver = em.Solver(Posterior.of(ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0), simulated))
    with seeded(0):
        state = solver.init(4)
    for _ in range(5):
        new, info = solver.step(state)
        objective = info.objective
        terms = solver.bound_terms(state)
        assert set(terms) == {"log_likelihood", "log_latent", "entropy", "log_prior"}
        torch.testing.assert_close(sum(terms.values()), objective, rtol=1e-10, atol=0)
        state = new


@pytest.mark.parametrize("field", ["weight_concentration", "on_prob_alpha", "on_prob_beta", "rate_shape"])
def test_em_refuses_priors_without_a_mode(field):
    values = {"num_components": 2, "weight_concentration": 2.0, "on_prob_alpha": 2.0, "on_prob_beta": 2.0,
              "rate_shape": 2.0, "rate_rate": 1.0}  # fmt: skip
    with pytest.raises(SettingError, match=field):
        em.Solver(Posterior.of(ZipMixture(**{**values, field: 0.5}), TINY))


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_components", 0), ("num_components", 2.5), ("weight_concentration", [1.0, 2.0, 3.0]),
     ("weight_concentration", [1.0, -1.0]), ("rate_rate", 0.0), ("rate_shape", NAN), ("on_prob_alpha", "two")],
)  # fmt: skip
def test_model_validates_its_fields(field, value):
    with pytest.raises(SettingError, match=f"model.{field}"):
        pyrozoo.fit("zip_mixture", "em", data=np.array([[1, 2], [0, 3]]), **{"num_components": 2, field: value})


def test_affinity_is_the_co_assignment(simulated, monkeypatch):
    model = ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0)
    with seeded(0):
        draws = {site: value.unsqueeze(1) for site, value in Posterior.of(model, simulated).initial(4).items()}
    layout = Layout.of(simulated)
    matrix = queries.affinity(layout, draws)
    flat = {site: value.flatten(0, 1) for site, value in draws.items()}
    r, _ = layout.responsibilities(layout.given(flat), slice(None))
    expected = torch.einsum("isk,jsk->ij", r, r) / 4
    off = ~torch.eye(len(matrix), dtype=torch.bool)
    torch.testing.assert_close(matrix[off], expected[off])
    assert (matrix.diagonal() == 1).all()
    monkeypatch.setattr(queries, "BLOCK_ELEMENTS", 1)
    torch.testing.assert_close(queries.affinity(layout, draws), matrix, msg="a draw at a time, of many rows")


def test_completion_is_the_conditional_mean(simulated):
    """Against a direct sum over components and counts for one hidden cell."""
    model = ZipMixture(3, 2.0, 2.0, 2.0, 2.0, 1.0)
    with seeded(0):
        draws = {site: value.unsqueeze(1) for site, value in Posterior.of(model, simulated).initial(1).items()}
    values = simulated.values.clone()
    row, column = (int(i) for i in simulated.observed.nonzero()[7])
    truth = values[row, column].clone()
    values[row, column] = torch.nan
    hidden = Hidden(torch.tensor([row]), torch.tensor([column]), truth[None])
    table = Table(values, simulated.row_labels, simulated.column_labels, hidden=hidden)
    prediction = Posterior.of(model, table).predict(draws)
    draw = {site: value[0, 0] for site, value in draws.items()}
    r = torch.softmax(dense_log_likelihood(draw, table)[row] + draw["weights"].log(), 0)
    on, rate = draw["on_prob"][:, column], draw["rate"][:, column]
    counts = torch.arange(0, 200).double()
    pmf = on[:, None] * torch.distributions.Poisson(rate[:, None]).log_prob(counts).exp()
    pmf[:, 0] += 1 - on
    pmf = (r[:, None] * pmf).sum(0)
    assert float(prediction.mean) == pytest.approx(float((pmf * counts).sum()), rel=1e-9)
    assert float(prediction.log_density) == pytest.approx(float(pmf[int(truth)].log()), rel=1e-9)
    cdf = pmf.cumsum(0)
    assert abs(int(prediction.upper) - int((cdf < 0.95).sum())) <= 1
    assert abs(int(prediction.lower) - int((cdf < 0.05).sum())) <= 1


# Scale ---------------------------------------------------------------------------------------------------------------

TWO_GROUPS = {
    "of hundreds and thousands": ([1000, 500, 2000, 800], [3000, 500, 400, 900]),
    "from 747 to 3030": ([747, 1500, 3030, 900], [3030, 760, 1100, 2400]),
    "of millions": ([1e6, 5e5, 2e6, 8e5], [3e6, 5e5, 4e5, 9e5]),
    "of ones": ([6, 2, 8, 1, 3, 9], [1, 7, 1, 8, 9, 2]),
}


@pytest.mark.parametrize("method", ["em", "cavi", "gibbs"])
@pytest.mark.parametrize("name", TWO_GROUPS)
def test_two_groups_of_three_samples_are_found_on_any_scale(name, method):
    """Reads of genes: with a prior of small rates all samples were one cluster."""
    counts = np.repeat(np.array(TWO_GROUPS[name]), 3, 0)
    table = np.random.default_rng(0).poisson(counts).astype(float)
    quick = {"gibbs": {"warmup": 150, "draws": 50, "thin": 1}}.get(method, {})
    fit = pyrozoo.fit("zip_mixture", method, data=table, num_components=2, progress=False, **quick)
    cluster = queries.assign(Layout.of(fit.data), fit.aligned).argmax(1).tolist()
    assert cluster in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


def test_the_prior_of_rates_is_at_the_observed_counts_above_0():
    """Mean of 2, 4 and 6 is 4: missing and hidden counts, and zeros, say nothing."""
    model = ZipMixture(2, 2.0, 2.0, 2.0, 3.0, None)
    table = Table.of(np.array([[2.0, 0, NAN], [4, 0, 6], [900, 0, 0]])).hide(torch.tensor([2]), torch.tensor([0]))
    assert Posterior.of(model, table).model.rate_rate == pytest.approx(3 / 4)
    assert model.derived(table)["rate_rate"].how == "rate_shape / mean of the counts above 0"
    assert Posterior.of(dataclasses.replace(model, rate_rate=7.0), table).model.rate_rate == 7
    assert Posterior.of(model, Table.of(np.zeros((3, 2)))).model.rate_rate == 3
    assert Posterior.of(model, Table.blank(3, 2)).model.rate_rate == 1, "a simulation has no data to look at"


def test_slides_keep_the_density_of_probability_and_rate():
    """Against a grid: omega and lambda of one column given its zeros, its positives and their sum, b summed out."""
    model = ZipMixture(1, 1.0, 2.0, 1.5, 2.0, 3.0)
    solver = gibbs.Solver(Posterior.of(model, Table.of(np.array([[0.0], [1], [0], [0], [1], [0]]))))
    sums = torch.tensor([[[2.0, 2, 4]]]).double()
    on, rate = (np.linspace(0, end, 801)[1:-1] for end in (1, 6))
    o, r = np.meshgrid(on, rate, indexing="ij")
    density = (o * np.exp(-r) + 1 - o) ** 4 * (o * np.exp(-r)) ** 2 * r**2
    density *= o * (1 - o) ** 0.5 * r * np.exp(-3 * r)
    density /= density.sum()
    generator = np.random.default_rng(0)
    chosen = generator.choice(density.size, 40_000, p=density.ravel())
    points = (torch.as_tensor(grid.ravel()[chosen])[:, None, None] for grid in (o, r))
    state = em.State(torch.ones(40_000, 1).double(), *points)
    before = (state.on_prob.mean(), state.rate.mean(), (state.on_prob * state.rate.log()).mean())
    with seeded(0):
        for _ in range(5):
            state = solver.slid(state, sums.expand(40_000, -1, -1))
    after = (state.on_prob.mean(), state.rate.mean(), (state.on_prob * state.rate.log()).mean())
    spread = (state.on_prob.std(), state.rate.std(), (state.on_prob * state.rate.log()).std())
    for one, other, sd in zip(before, after, spread, strict=True):
        assert abs(float(one - other)) < 4 * float(sd) * (2 / 40_000) ** 0.5


@pytest.mark.slow
def test_course_figures(need):
    """The page's numbers: the mode, completion, and the mistake of reading missing columns as zeros."""
    need("zip_mixture_course")
    settings = {"num_components": 5, "weight_concentration": [3, 2, 1, 1, 1], "restarts": 200}
    fit = pyrozoo.fit("zip_mixture", "em", data="zip_mixture_course", seed=0, **settings)
    assert fit.status == "converged"
    assert fit.objective >= -12334.46
    assert len(fit.runs) == 200
    assert fit.runs["objective"].median() < fit.objective - 1, "restarts matter on these data"
    assert fit.metrics["completion_rmse"] <= 1.205
    assert fit.metrics["naive_rmse"] == pytest.approx(1.3293, abs=1e-4)
    # Read as observed zeros, the missing counts pull b with them: r and phi at x = 0, and E[x] = sum r phi lambda.
    test, draw = fit.data.test, {site: value[0, 0] for site, value in fit.draws.items()}
    zeros = Table(test.filled, test.row_labels, test.column_labels)
    r = queries.assign(Layout.of(zeros), fit.draws)
    phi = zero_is_on(draw["on_prob"].log(), draw["rate"], torch.log1p(-draw["on_prob"]))
    wrong = (r @ (phi * draw["rate"]))[test.hidden.rows, test.hidden.columns]
    assert float((wrong - test.hidden.values).square().mean().sqrt()) == pytest.approx(1.3211, abs=1e-3)
