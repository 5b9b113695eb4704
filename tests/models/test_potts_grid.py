"""potts_grid: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer import config_enumerate
from scipy import stats
from scipy.special import logsumexp

import pyrozoo
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.grid import Grid, pattern
from pyrozoo.diagnostics.verdict import verdict
from pyrozoo.math.elimination import Eliminated
from pyrozoo.models.potts_grid import bp, cavi, gibbs, icm, max_product, messages
from pyrozoo.models.potts_grid.checkerboard import Checkerboard
from pyrozoo.models.potts_grid.evidence import Strips, log_partition
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import FORBIDDEN, PottsField, PottsGrid
from pyrozoo.models.potts_grid.scale import clean_share, flip_rate, reward, strengths
from pyrozoo.models.potts_grid.view import View, labelling
from tests.case import Case, Oracle, refused

NAN, INF = float("nan"), float("inf")
COUPLING = ((0.8, 0.2, -0.3), (0.2, 0.6, 0.1), (-0.3, 0.1, 0.9))
MODEL = PottsGrid(3, 1.1, COUPLING)
TINY = Grid.of(np.array([[0, 2, 1.0], [0, NAN, 1], [2, 2, 0]]))
SMALL = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 1]])
LEFT = PottsGrid(None, None, None)
PAGE = PottsGrid(2, 10.0, ((10.0, 2.0), (2.0, 10.0)))


def brute(model: PottsGrid, data: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return every labelling and its score, term by term: no code of the package but the settings."""
    K, (height, width) = model.labels(data), data.shape
    J, x = model.coupling_matrix(data).numpy(), data.values.numpy()
    fields = np.array(list(itertools.product(range(K), repeat=height * width))).reshape(-1, height, width)
    score = np.zeros(len(fields))
    for i, j in itertools.product(range(height), range(width)):
        if not np.isnan(x[i, j]):
            score += model.observation_strength * (fields[:, i, j] == x[i, j])
        if j + 1 < width:
            score += J[fields[:, i, j], fields[:, i, j + 1]]
        if i + 1 < height:
            score += J[fields[:, i, j], fields[:, i + 1, j]]
    return fields, score


def coded(values: np.ndarray, labels: int) -> Grid:
    """Return an image that may lack some of its labels."""
    values = np.asarray(values, dtype=float)
    names = ([f"{word}_{i}" for i in range(size)] for word, size in zip(("row", "column"), values.shape, strict=True))
    return Grid(torch.as_tensor(values), *names, levels=[f"label_{k}" for k in range(labels)])


def normaliser(model: PottsGrid, data: Grid) -> float:
    return int(data.observed.sum()) * np.log(np.exp(model.observation_strength) + model.labels(data) - 1)


@cache
def exact() -> Oracle:
    fields, score = brute(MODEL, TINY)
    total = logsumexp(score)
    chosen = np.random.default_rng(0).choice(len(fields), 100_000, p=np.exp(score - total))
    return Oracle(total - normaliser(MODEL, TINY), {"label": torch.as_tensor(fields[chosen])[None]})


class ForgetsOneSide(gibbs.Solver):
    """Plant: pixels do not look to where the packed column is the same."""

    def __init__(self, posterior):
        super().__init__(posterior)
        self.board.pull = lambda other, colour: Checkerboard.pull(self.board, other, colour) - other


def doubts_too_little(posterior: Posterior) -> gibbs.Solver:
    """Plant: the image counts twice."""
    model = posterior.model
    model = dataclasses.replace(model, observation_strength=2 * model.observation_strength)
    return gibbs.Solver(Posterior.of(model, posterior.data))


def ignores_data(posterior: Posterior) -> gibbs.Solver:
    """Plant: draws from the prior, whatever the data."""
    data = posterior.data
    return gibbs.Solver(posterior.on(dataclasses.replace(data, values=torch.full_like(data.values, torch.nan))))


def lose(data: Grid) -> Grid:
    values = data.values.clone()
    values[0, 1] = torch.nan
    return dataclasses.replace(data, values=values)


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"rows": 2, "columns": 3},
    larger={"rows": 6, "columns": 40},
    settings={
        "exact": {"draws": 400},
        "cavi": {"restarts": 3, "draws": 400},
        "bp": {"restarts": 2, "draws": 400},
        "max_product": {"restarts": 3},
        "icm": {"restarts": 5},
        "gibbs": {"warmup": 50, "draws": 300, "thin": 1},
        "svi": {
            "max_steps": 300,
            "restarts": 2,
            "restart_steps": 20,
            "window": 100,
            "draws": 400,
            "evaluation_draws": 2,
        },
    },
    elbo_gap=2.0,
    laplace_error=0.0,
    bad={
        "negative": (np.array([[1, -2.0], [0, 1]]), "column_1"),
        "fraction": (np.array([[1, 2.0], [0.5, 1]]), "row_1"),
        "values of a matrix with more rows": (np.array([[0, 2], [2, 0]]), "which row is whose"),
        "infinite": (np.array([[1, INF], [0, 1]]), "column_1"),
        "a label beyond the model's": (np.array([[1, 2], [3, 0]]), "'row_1', column 'column_0'"),
        "more planes than labels": (np.eye(5)[np.arange(4).reshape(2, 2)], "num_labels"),
        "empty": (np.empty((0, 3)), "empty"),
        "one axis": (np.array([1.0, 2]), "two axes"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
    },
    odd={
        "one pixel": np.array([[0]]),
        "one row": np.array([[0, 1, 1, 2, NAN, 0]]),
        "one column": np.array([[0], [1], [2], [2]]),
        "constant": np.zeros((4, 5)),
        "nothing observed": np.full((3, 4), NAN),
        "planes": np.eye(3)[np.array([[0, 1, 2], [2, 2, 0]])],
        "integers": np.array([[0, 1], [2, 1]], dtype=np.int32),
    },
    bugs={"neighbours": ForgetsOneSide, "twice": doubts_too_little, "data": ignores_data},
    lose=lose,
    fills=frozenset({"icm", "max_product"}),
)


# Exact answers --------------------------------------------------------------------------------------------------------

TABLE = {
    "exact": [
        [5.79905571e-12, 1.95516261e-15],
        [1.51930154e-08, 6.56942344e-12],
        [0.997476218, 0.997515359],
    ],
    "cavi": [
        [5.10909027e-12, 1.71390843e-15],
        [1.52189210e-08, 5.10909027e-12],
        [0.999954602, 0.999999985],
    ],
    "bp": [
        [5.798819446e-12, 1.714185068e-15],
        [1.519301295e-08, 6.565301389e-12],
        [0.9974762177, 0.9975153592],
    ],
}
"""p(y = 1) of the image SMALL, first two columns (the third is like the first), nine digits each.

Those of belief propagation are its fixed point in arithmetic of 40 digits.
"""


@pytest.mark.parametrize("method", TABLE)
def test_figures_of_the_small_image(method):
    settings = {} if method == "exact" else {"tol": 1e-14}
    if method == "bp":
        settings["solver"] = {"damping": 0.0}
    fit = pyrozoo.fit(PAGE, method, data=SMALL, progress=False, **settings)
    prob = fit.expectations["label_probability"][..., 1].numpy()
    expected = np.array(TABLE[method])[:, [0, 1, 0]]
    # Half a unit of the last digit that is known, which is less than 1e-8 for those above 0.5.
    np.testing.assert_allclose(prob, expected, rtol=5e-9)
    if method == "exact":
        assert fit.metrics["log_z"] == pytest.approx(186.00257856088, abs=1e-9)
        np.testing.assert_allclose(fit.expectations["label_probability"][2, :, 0], [0.00252378, 0.00248464, 0.00252378],
                                   atol=5e-9)  # fmt: skip


SHAPES = [(1, 1), (1, 5), (5, 1), (2, 3), (3, 2), (3, 3), (2, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_elimination_is_enumeration(shape):
    generator = np.random.default_rng(shape[0])
    values = generator.integers(0, 3, shape).astype(float)
    values[generator.random(shape) < 0.2] = NAN
    data = dataclasses.replace(TINY, **vars_of(values))
    fields, score = brute(MODEL, data)
    weight = np.exp(score - logsumexp(score))
    potentials = Potentials.of(MODEL, data)
    np.testing.assert_allclose(potentials.score(torch.as_tensor(fields)), score, rtol=0, atol=1e-12)
    eliminated = Eliminated(potentials.unary, potentials.coupling)
    assert float(eliminated.log_z) == pytest.approx(logsumexp(score), abs=1e-11)
    found = eliminated.marginals()
    one = np.eye(3)[fields]
    np.testing.assert_allclose(found.label, np.einsum("s,shwk->hwk", weight, one), atol=1e-12)
    np.testing.assert_allclose(found.right, np.einsum("s,shwk,shwl->hwkl", weight, one[:, :, :-1], one[:, :, 1:]),
                               atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(found.below, np.einsum("s,shwk,shwl->hwkl", weight, one[:, :-1], one[:, 1:]), atol=1e-12)
    assert float(potentials.score(eliminated.most_probable())) == pytest.approx(score.max(), abs=1e-12)


def vars_of(values: np.ndarray) -> dict[str, object]:
    grid = Grid.of(np.nan_to_num(values))
    return {"values": torch.as_tensor(values), "row_labels": grid.row_labels, "column_labels": grid.column_labels}


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (3, 1), (2, 3)])
def test_exact_draws_pass_a_chi_square_test(shape):
    data = Grid.of(np.zeros(shape) + np.arange(shape[1]) % 2)
    fields, score = brute(PottsGrid(2, 0.5, ((0.6, 0.0), (0.0, 0.4))), data)
    fit = pyrozoo.fit(PottsGrid(2, 0.5, ((0.6, 0.0), (0.0, 0.4))), "exact", data=data, draws=20_000, progress=False)
    size = shape[0] * shape[1]
    code = (fit.draws["label"][0].flatten(1) * 2 ** torch.arange(size - 1, -1, -1)).sum(1)
    counts = np.bincount(code.numpy(), minlength=len(fields))
    expected = 20_000 * np.exp(score - logsumexp(score))
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    # And q is the posterior: every log ratio of p and q is the log evidence.
    joint = Posterior.of(fit.model, data).log_joint({"label": fit.draws["label"][:, :50]})
    torch.testing.assert_close(joint - fit.log_q[:, :50], torch.full_like(joint, fit.objective), rtol=0, atol=1e-10)


def test_prior_draws_pass_a_chi_square_test():
    field = PottsField(torch.tensor(COUPLING).double(), (2, 2))
    fields = field.enumerate_support()
    weight = (field.log_prob(fields)).softmax(0)
    powers = 3 ** torch.arange(3, -1, -1)
    with seeded(1):
        one_by_one = torch.stack([field.sample() for _ in range(1000)])
        posterior = Posterior.of(MODEL, coded(np.zeros((2, 2)), 3))
        together = torch.stack([each["label"] for each in posterior.prior_draws(1000)])
    for draws in (one_by_one, together, field.sample((500, 2))):
        code = (draws.reshape(1000, 4) * powers).sum(1)
        assert stats.chisquare(torch.bincount(code, minlength=81), 1000 * weight).pvalue > 1e-4
    message = refused(NotApplicable, PottsField(torch.eye(3).double(), (30, 30)).sample)
    assert "at most 7 pixels" in message


def test_fields_in_turn_are_their_own():
    """A field is eliminated once for many draws; another coupling is another field."""
    together, apart = 50 * torch.eye(2).double(), -50 * torch.eye(2).double()
    for _ in range(2):
        assert PottsField(together, (3, 4)).sample().unique().numel() == 1
        field = PottsField(apart, (3, 4)).sample()
        assert (field[1:] != field[:-1]).all()
        assert (field[:, 1:] != field[:, :-1]).all()


def test_pyros_own_enumeration_agrees():
    data = Grid.of(np.array([[0, 2, 1.0], [NAN, 1, 1]]))
    trace = poutine.trace(poutine.enum(config_enumerate(MODEL), first_available_dim=-1)).get_trace(data)
    trace.compute_log_prob()
    logs = sum(node["log_prob"] for node in trace.nodes.values() if node["type"] == "sample")
    label = trace.nodes["label"]["value"]
    assert logs.shape == (3**6,)
    fit = pyrozoo.fit(MODEL, "exact", data=data, progress=False)
    assert fit.objective == pytest.approx(float(logs.logsumexp(0)), abs=1e-11)
    weight = logs.softmax(0)
    for k in range(3):
        expected = (weight[:, None, None] * (label == k)).sum(0)
        torch.testing.assert_close(fit.expectations["label_probability"][..., k], expected, rtol=0, atol=1e-12)


def test_exact_says_which_size_would_do():
    stated = {"observation_strength": 2.0, "coupling_strength": 0.5, "progress": False}  # none to be found first
    message = refused(NotApplicable, pyrozoo.fit, "potts_grid", "exact", rows=60, columns=50, **stated)
    assert "3^51" in message
    side = int(message.split("at most ")[1].split()[0])
    assert 11 <= side <= 15
    assert "3^801" in refused(NotApplicable, pyrozoo.fit, "potts_grid", "exact", rows=1000, columns=800, **stated)
    fit = pyrozoo.fit("potts_grid", "exact", rows=10, columns=10, draws=20, **stated)
    total = fit.expectations["label_probability"].sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-10)


# Message passing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "scale"), [((1, 9), 1.0), ((8, 1), 1.0), ((1, 7), 1000.0), ((6, 1), 50.0)])
def test_messages_are_exact_on_chains(shape, scale):
    generator = np.random.default_rng(3)
    coupling = generator.normal(size=(4, 4)) * scale
    model = PottsGrid(4, 0.7 * scale, (coupling + coupling.T).tolist())
    data = generator.integers(0, 4, shape).astype(float)
    data[0, 0] = NAN
    data = coded(data, 4)
    truth = pyrozoo.fit(model, "exact", data=data, progress=False)
    fit = pyrozoo.fit(model, "bp", data=data, tol=1e-13, solver={"damping": 0.0}, progress=False)
    assert fit.status == "converged"
    assert fit.iterations <= max(shape) + 2
    assert fit.objective == pytest.approx(truth.objective, rel=1e-12, abs=1e-10)
    same = fit.expectations["label_probability"] - truth.expectations["label_probability"]
    assert same.abs().max() < 1e-10
    best = pyrozoo.fit(model, "max_product", data=data, solver={"damping": 0.0}, progress=False)
    assert torch.equal(best.draws["label"][0, 0], truth.expectations["most_probable"])


def test_messages_are_exact_on_trees():
    """A comb of missing pixels between certain ones: a certain pixel sends the same whatever it hears."""
    generator = np.random.default_rng(5)
    data = generator.integers(0, 3, (5, 7)).astype(float)
    data[2] = NAN
    data[:2, 1::2] = NAN
    data[4, 1:6] = NAN
    data[3, 3] = NAN
    model = PottsGrid(3, 200.0, COUPLING)
    truth = pyrozoo.fit(model, "exact", data=data, progress=False)
    fit = pyrozoo.fit(model, "bp", data=data, tol=1e-13, progress=False)
    assert fit.status == "converged"
    assert fit.metrics["log_z_error"] == pytest.approx(0, abs=1e-10)
    same = fit.expectations["label_probability"] - truth.expectations["label_probability"]
    assert same.abs().max() < 1e-10


def test_damping_changes_the_way_and_not_the_end():
    fits = [
        pyrozoo.fit(MODEL, "bp", data=TINY, tol=1e-12, solver={"damping": each}, progress=False) for each in (0.0, 0.6)
    ]
    assert fits[1].iterations > fits[0].iterations
    ends = [fit.expectations["label_probability"] for fit in fits]
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-9)
    assert "damping" in refused(
        SettingError, pyrozoo.fit, MODEL, "bp", data=TINY, solver={"damping": 1.0}, progress=False
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize(("labels", "height", "width"), [(2, 1, 2), (3, 1, 7), (3, 9, 1), (2, 16, 21), (4, 33, 130)])
def test_a_kernels_step_of_cavi_is_that_of_pytorch(labels, height, width, dtype, tolerance, monkeypatch):
    """Rows of any width and parity, two restarts, one and two threads."""
    with seeded(0):
        J = torch.randn(labels, labels)
        image = coded(torch.randint(labels, (height, width)).double().numpy(), labels)
    model = PottsGrid(labels, 1.5, tuple(map(tuple, (J + J.T).tolist())))
    solver = cavi.Solver(Posterior.of(model, image.to("cpu", dtype)))
    with seeded(1):
        state = solver.init(2)
    for _ in range(3):
        with switched(False):
            then, said = solver.step(state)
        now, info = solver.step(state)
        with monkeypatch.context() as patch:
            patch.setattr(cavi, "threads", lambda: 2)
            again, _ = solver.step(state)
        # What stands where no pixel is, beside the last column of odd widths, nobody reads.
        ours, theirs = (solver.board.unpack((each.black, each.white)) for each in (now, then))
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(info.objective, said.objective, rtol=tolerance, atol=tolerance)
        assert now.black.equal(again.black)
        assert now.white.equal(again.white)
        state = then


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize(("labels", "height", "width"), [(2, 1, 1), (3, 1, 7), (3, 9, 1), (2, 16, 257), (4, 33, 130)])
def test_a_kernels_sweep_is_that_of_pytorch(labels, height, width, maximise, dtype, tolerance, monkeypatch):
    """Lines, strips and tiles that end anywhere, a forbidden pair, two restarts, one and two threads."""
    with seeded(0):
        unary, J = torch.randn(height, width, labels, dtype=dtype), torch.randn(labels, labels, dtype=dtype)
        J = J + J.T
        J[0, -1] = J[-1, 0] = FORBIDDEN if labels > 2 else 0.0
        passing = messages.Passing(Potentials(unary, J, 0.0), 0.3, maximise)
        state = passing.start(2)
    for _ in range(3):
        with switched(False):
            then, *theirs = passing.sweep(state)
        now, *ours = passing.sweep(state)
        with monkeypatch.context() as patch:
            patch.setattr(messages, "threads", lambda: 2)
            again, *too = passing.sweep(state)
        torch.testing.assert_close(now.messages, then.messages, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        assert now.messages.equal(again.messages)
        assert all(one.equal(other) for one, other in zip(ours, too, strict=True))
        state = then


def test_messages_that_still_change_are_not_called_converged():
    fit = pyrozoo.fit("potts_grid", "bp", rows=30, columns=30, max_iterations=5, progress=False)
    assert fit.status == "max_iterations"
    assert fit.metrics["residual"] > 1e-3
    assert verdict(fit.metrics)[0].level == "warn"
    done = pyrozoo.fit("potts_grid", "bp", rows=30, columns=30, progress=False)
    assert done.status == "converged"
    assert done.metrics["residual"] <= 1e-8


def test_bethes_estimate_is_the_sum_over_edges_and_pixels():
    """Term by term, with explicit loops, at messages that are not converged."""
    data = Grid.of(np.array([[0, 1.0, 2], [1, NAN, 0]]))
    solver = bp.Solver(Posterior.of(MODEL, data))
    with seeded(2):
        state = solver.init(2)
    state, _ = solver.step(state)
    _, info = solver.step(state)
    found = info.objective
    m = state.messages[1].numpy()  # [from left, right, above, below; label; row; column]
    unary, J = Potentials.of(MODEL, data).unary.numpy(), np.asarray(COUPLING)
    total = 0.0
    for i, j in itertools.product(range(2), range(3)):
        belief = unary[i, j] + m[:, :, i, j].sum(0)
        degree = (i > 0) + (i < 1) + (j > 0) + (j < 2)
        total += (1 - degree) * logsumexp(belief)
        for other, there, back in (((i, j + 1), 0, 1), ((i + 1, j), 2, 3)):
            if other[0] < 2 and other[1] < 3:
                ours = belief - m[back, :, i, j]
                theirs = unary[other] + m[:, :, other[0], other[1]].sum(0) - m[there, :, other[0], other[1]]
                total += logsumexp(ours[:, None] + J + theirs)
    assert float(found[1]) == pytest.approx(total - normaliser(MODEL, data), abs=1e-10)


def test_max_product_is_at_least_as_good_as_icm_where_it_settles():
    settings = {"rows": 20, "columns": 24, "noise": 0.15, "observation_strength": 2.0, "progress": False}
    coupling = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    ours = pyrozoo.fit("potts_grid", "max_product", coupling=coupling, **settings)
    theirs = pyrozoo.fit("potts_grid", "icm", coupling=coupling, **settings)
    assert ours.objective >= theirs.objective


# Mean field -----------------------------------------------------------------------------------------------------------


def test_the_bound_stays_below_log_z_on_random_fields():
    gaps = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        K, shape = int(generator.integers(2, 4)), tuple(generator.integers(1, 4, 2))
        coupling = generator.normal(0, 1.5, (K, K))
        model = PottsGrid(K, float(generator.gamma(2)), (coupling + coupling.T).tolist())
        data = coded(generator.integers(0, K, shape), K)
        potentials = Potentials.of(model, data)
        solver = cavi.Solver(Posterior.of(model, data))
        with seeded(seed):
            state = solver.init(4)
        for _ in range(30):
            state, info = solver.step(state)
            bound = info.objective
        log_z = float(Eliminated(potentials.unary, potentials.coupling).log_z)
        gaps.append(log_z - float(bound.max()) - potentials.normaliser)
    assert min(gaps) > -1e-9
    assert max(gaps) > 0.01, "on some fields the bound is not tight"


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3, 5), (1, 1), (1, 4), (5, 1), (2, 2)])
def test_the_bound_is_its_definition(shape):
    data = coded(np.random.default_rng(0).integers(0, 3, shape), 3)
    solver, potentials = cavi.Solver(Posterior.of(MODEL, data)), Potentials.of(MODEL, data)
    with seeded(0):
        state = solver.init(3)
    for _ in range(2):
        state, info = solver.step(state)
        bound = info.objective
    q = solver.answer(state).expectations["label_probability"].numpy()
    x = data.values.numpy().astype(int)
    for chain in range(3):
        total = -(q[chain] * np.log(q[chain])).sum()
        for i, j in np.ndindex(*shape):
            total += MODEL.observation_strength * q[chain, i, j, x[i, j]]
            for a, b in ((i + 1, j), (i, j + 1)):
                if a < shape[0] and b < shape[1]:
                    total += q[chain, i, j] @ np.asarray(COUPLING) @ q[chain, a, b]
        assert float(bound[chain]) == pytest.approx(total - potentials.normaliser, abs=1e-11)


def test_gradients_reach_what_coordinate_ascent_reaches():
    settings = {"data": TINY, "progress": False}
    ours = pyrozoo.fit(MODEL, "cavi", restarts=10, **settings)
    theirs = pyrozoo.fit(MODEL, "svi", max_steps=3000, restarts=10, tol=1e-9, **settings)
    assert theirs.objective == pytest.approx(ours.objective, abs=1e-4)
    assert theirs.objective == pytest.approx(float(theirs.metrics["elbo"]), abs=4 * float(theirs.metrics["elbo_se"]))


def test_colours_are_packed_and_unpacked():
    for shape in SHAPES:
        data = coded(np.random.default_rng(1).integers(0, 3, shape), 3)
        board = Checkerboard(Potentials.of(MODEL, data))
        values = torch.rand(2, *shape, 3, dtype=torch.float64)
        torch.testing.assert_close(board.unpack(board.pack(values)), values, rtol=0, atol=0)
        padded = torch.nn.functional.pad(values, (0, 0, 1, 1, 1, 1))
        expected = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
        black, white = board.pack(values)
        found = board.unpack((board.pull(white, 0), board.pull(black, 1)))
        torch.testing.assert_close(found, expected)


def test_icm_ends_where_no_single_change_is_better():
    data = Grid.of(np.random.default_rng(2).integers(0, 3, (7, 9)))
    fit = pyrozoo.fit(MODEL, "icm", data=data, restarts=3, progress=False)
    assert fit.status == "converged"
    best, potentials = fit.draws["label"][0, 0], Potentials.of(MODEL, data)
    for i, j in np.ndindex(7, 9):
        for k in range(3):
            changed = best.clone()
            changed[i, j] = k
            assert potentials.log_joint(changed) <= potentials.log_joint(best) + 1e-12


# Strengths that are left to the image -----------------------------------------------------------------------------


def potts_field(shape: tuple[int, int], labels: int, reward: float, seed: int) -> np.ndarray:
    """Return a field after 300 sweeps of Gibbs sampling: no code of the package."""
    rng = np.random.default_rng(seed)
    field, place = rng.integers(0, labels, shape), np.indices(shape).sum(0) % 2
    for sweep in range(600):
        padded = np.pad(field, 1, constant_values=-1)
        beside = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
        equal = np.stack([sum((k == each).astype(int) for each in beside) for k in range(labels)], -1)
        mass = np.exp(reward * equal).cumsum(-1)
        drawn = (rng.random((*shape, 1)) * mass[..., -1:] > mass).sum(-1)
        field = np.where(place == sweep % 2, drawn, field)
    return field


def seen(field: np.ndarray, labels: int, rate: float, missing: float, seed: int) -> Grid:
    rng = np.random.default_rng(seed)
    flipped = (field + rng.integers(1, labels, field.shape)) % labels
    values = np.where(rng.random(field.shape) < rate, flipped, field).astype(float)
    return coded(np.where(rng.random(field.shape) < missing, NAN, values), labels)


@pytest.mark.parametrize(("shape", "labels"), [((2, 3), 2), ((3, 2), 3), ((1, 5), 3), ((3, 4), 2), ((1, 1), 4)])
def test_the_evidence_is_enumerated(shape, labels):
    """Of the whole image at once; of strips, term by term; and of a stated matrix."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, labels, shape).astype(float)
    values[0, 0] = NAN if values.size > 1 else 0.0
    matrix = rng.normal(size=(labels, labels))
    for J in (0.7 * np.eye(labels), matrix + matrix.T):

        def log_evidence(part: np.ndarray, J: np.ndarray = J) -> float:
            model, data = PottsGrid(labels, 1.3, J.tolist()), coded(part, labels)
            blank = brute(model, coded(np.full(part.shape, NAN), labels))[1]
            return logsumexp(brute(model, data)[1]) - normaliser(model, data) - logsumexp(blank)

        whole = Strips.of(values, labels)
        assert whole.exact
        assert whole.log_evidence(1.3, J) == pytest.approx(log_evidence(values), abs=1e-10)
        image = np.where(np.isnan(values), -1, values).astype(int)
        if shape[0] > 2:
            strips = Strips(image, labels, 2, 99)
            blanks = [log_partition(np.full((1, n, shape[1]), -1), 0.0, J)[0] for n in (1, 2, 3)]
            free = blanks[2] if labels**3 <= 700 and shape[0] == 3 else NAN
            pairs_of = [values[i : i + 2] for i in range(shape[0] - 1)]
            total = sum(log_evidence(each) + blanks[1] for each in pairs_of)
            total -= sum(log_evidence(each[:1]) + blanks[0] for each in pairs_of[1:])
            expected = total - (2 * blanks[1] - blanks[0] if shape[0] == 3 else free)
            assert strips.log_evidence(1.3, J) == pytest.approx(expected, abs=1e-9)


def test_strengths_are_where_the_exact_evidence_is_largest():
    """Evidence from exact fits on a grid of strengths, the field's own normaliser from an image without pixels."""
    data = seen(potts_field((5, 24), 2, 0.7, 1), 2, 0.1, 0.05, 2)
    found = LEFT.given(data)

    def objective(c: float, J: float) -> float:
        model = PottsGrid(2, c, None, J)
        posterior = Potentials.of(model, data)
        free = Eliminated(torch.zeros_like(posterior.unary), posterior.coupling).log_z
        log_z = Eliminated(posterior.unary, posterior.coupling).log_z - posterior.normaliser
        rate = 1 / (1 + np.exp(c))
        return float(log_z - free) + 9 * np.log(1 - rate) + np.log(rate)

    best = objective(found.observation_strength, found.coupling_strength)
    assert "(exact)" in LEFT.derived(data)["coupling_strength"].how
    for c in np.linspace(0.3, 5, 12):
        for J in np.linspace(0.1, 1.7, 12):
            assert objective(c, J) <= best + 1e-3
    for step in (-0.02, 0.02):
        assert objective(found.observation_strength + 4 * step, found.coupling_strength) < best + 1e-3
        assert objective(found.observation_strength, found.coupling_strength + step) < best + 1e-3


@pytest.mark.parametrize(
    ("shape", "labels", "reward_share", "rate", "within"),
    [
        ((7, 40), 3, 1.0, 0.1, (0.6, 0.25)),
        ((40, 60), 2, 0.8, 0.2, (0.4, 0.15)),
        ((40, 60), 3, 0.8, 0.1, (0.4, 0.1)),
        ((40, 60), 4, 1.0, 0.2, (0.4, 0.1)),
        ((120, 120), 3, 0.8, 0.2, (0.25, 0.08)),
    ],
)
def test_strengths_of_simulated_fields_come_back(shape, labels, reward_share, rate, within):
    """Within four standard errors, about, and nearer than what is read off lone and equal pixels."""
    c, J = np.log((1 - rate) * (labels - 1) / rate), reward_share * np.log(1 + labels**0.5)
    ours, theirs = [], []
    for seed in range(2):
        data = seen(potts_field(shape, labels, J, seed), labels, rate, 0.05, seed)
        found = strengths(data, labels, None, None)
        ours.append((found.observation - c, found.coupling - J))
        lone = flip_rate(data.values, labels)
        share = clean_share(data.values, lone, labels)
        theirs.append((np.log((1 - lone) * (labels - 1) / lone) - c, reward(share, labels) - J))
    assert (np.abs(ours) < within).all(), ours
    assert (np.square(ours).mean(0) < np.square(theirs).mean(0)).all(), (ours, theirs)


def test_what_is_stated_stays_and_the_rest_follows():
    data = seen(potts_field((30, 30), 3, 0.8, 0), 3, 0.1, 0.0, 0)
    for stated in ({"observation_strength": 1.0}, {"coupling_strength": 0.4}):
        model = dataclasses.replace(LEFT, **stated)
        assert list(model.derived(data)) == [name for name in PottsGrid.without_data if name not in stated]
    both = LEFT.given(data)
    # Less said by each pixel is made up for by neighbours that hold together.
    assert dataclasses.replace(LEFT, observation_strength=1.5).given(data).coupling_strength > both.coupling_strength
    assert list(PottsGrid(None, None, COUPLING).derived(TINY)) == ["observation_strength"]
    equal = np.diag([both.coupling_strength] * 3).tolist()
    same = PottsGrid(3, None, equal).given(data).observation_strength
    assert same == pytest.approx(both.observation_strength, abs=0.02)
    course = PAGE.to_rescale(Grid.of(SMALL))
    assert course.startswith("set model.coupling=null (a reward of ")
    assert "model.observation_strength=null (" in course
    fit = pyrozoo.fit("potts_grid", "icm", data=data, progress=False)
    assert fit.model.observation_strength == both.observation_strength
    assert fit.model.coupling_matrix(fit.data).diag().tolist() == [both.coupling_strength] * 3


def test_more_labels_than_can_be_summed_out_are_counted():
    """A speck in the middle of 5 x 5: five pixels have four equal neighbours, one of them differs."""
    speck = np.zeros((5, 5))
    speck[2, 2] = 1
    found = strengths(coded(speck, 100), 100, None, None)
    assert found.observation == pytest.approx(np.log(99 * 13 / 2))  # e = (1 + 1) / (5 + 10)
    assert "lone" in found.said


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_the_reward_is_right_at_the_critical_point(labels):
    assert reward((1 + labels**-0.5) / 2, labels) == pytest.approx(np.log(1 + labels**0.5))
    assert reward(0.9999, labels) == pytest.approx(2 * np.log(1 + labels**0.5)), "the most that is taken"
    assert reward(1 / labels, labels) == 0.1, "the least"


@pytest.mark.parametrize("name", ["spiral", "stripes", "disks"])
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.3])
def test_flips_are_taken_out(name, noise):
    """Rates within four standard errors and a tenth; shares of equal neighbours as the clean image has them."""
    clean = pattern(name, 100, 100, 3)
    found = flip_rate((noisy := clean.with_noise(noise, 1)).values, 3)
    assert found == pytest.approx(noise, abs=4 * (noise * (1 - noise) / 1500) ** 0.5 + 0.1 * noise)
    assert clean_share(noisy.values, noise, 3) == pytest.approx(clean_share(clean.values, 0.0, 3), abs=0.03)
    shown = clean_share(noisy.values, 0.0, 3)
    assert shown < clean_share(clean.values, 0.0, 3) - noise, "with the flips in it"


@pytest.mark.parametrize("name", CASE.odd)
def test_strengths_of_odd_images_are_finite(name):
    """Of a single pixel, of one row, of nothing at all."""
    model = LEFT.given(Grid.of(CASE.odd[name]))
    assert 0 < model.observation_strength < 10
    assert 0.1 <= model.coupling_strength < 3


def test_defaults_pass_everything(monkeypatch):
    """Strengths that are too weak, and those of the course, do not: simulated images look otherwise.

    Draws that are not thinned have to do what thinned ones do.
    """
    monkeypatch.setattr("pyrozoo.diagnostics.predictive.SIMULATIONS", 100)
    exact = pyrozoo.fit("potts_grid", "exact", progress=False)
    drawn = pyrozoo.fit(exact.model, "gibbs", thin=1, progress=False)
    assert {line.level for fit in (exact, drawn) for line in fit.verdict} == {"pass"}
    for fit in (exact, drawn):
        names = ("label_share", "equal_neighbours_across", "equal_neighbours_down")
        assert min(fit.metrics[f"check_{name}_p"] for name in names) > 0.05
    assert drawn.metrics["rhat_max_invariants"] <= 1.01
    assert min(drawn.metrics[f"ess_{part}_min_invariants"] for part in ("bulk", "tail")) >= 400
    right = exact.model.observation_strength
    half, weak = right / 2, {"coupling_strength": 0.5, "observation_strength": right}
    course = {"observation_strength": 10.0, "coupling": [[10, 2, 0], [2, 10, 2], [0, 2, 10]]}
    for wrong in ({"observation_strength": half}, weak, course):
        fit = pyrozoo.fit("potts_grid", "exact", **wrong, progress=False)
        assert min(fit.metrics[f"check_equal_neighbours_{side}_p"] for side in ("across", "down")) < 0.01, wrong


# Settings and bad input -----------------------------------------------------------------------------------------------

COLOURING = [[-INF, 0.3, 0.1], [0.3, -INF, 0.05], [0.1, 0.05, -INF]]


def test_forbidden_pairs_never_occur():
    """Proper colourings: neighbours must differ."""
    data = Grid.of(np.array([[0, NAN, 1], [NAN, NAN, NAN], [2, NAN, 0]]))
    model = PottsGrid(3, 1.0, COLOURING)
    fit = pyrozoo.fit(model, "exact", data=data, draws=500, progress=False)
    fields, score = brute(model, data)
    assert fit.metrics["log_z"] == pytest.approx(logsumexp(score), abs=1e-9)
    weight = np.exp(score - logsumexp(score))
    expected = np.einsum("s,shwk->hwk", weight, np.eye(3)[fields])
    np.testing.assert_allclose(fit.expectations["label_probability"], expected, atol=1e-9)
    label = fit.draws["label"][0]
    assert (label[:, 1:] != label[:, :-1]).all()
    assert (label[:, :, 1:] != label[:, :, :-1]).all()
    for method in ("cavi", "gibbs", "svi", "icm"):
        assert "-inf" in refused(NotApplicable, pyrozoo.fit, model, method, data=data, progress=False)
    chain = np.array([[0, NAN, 2, NAN, 1.0]])
    truth = pyrozoo.fit(model, "exact", data=chain, progress=False)
    ours = pyrozoo.fit(model, "bp", data=chain, tol=1e-12, progress=False)
    same = ours.expectations["label_probability"] - truth.expectations["label_probability"]
    assert same.abs().max() < 1e-10
    best = pyrozoo.fit(model, "max_product", data=chain, progress=False)
    assert torch.equal(best.draws["label"][0, 0], truth.expectations["most_probable"])
    impossible = PottsGrid(1, 1.0, [[-INF]])
    assert "no labelling" in refused(DataError, pyrozoo.fit, impossible, "exact", data=np.zeros((1, 2)), progress=False)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"coupling": [[1.0, 0.0]]}, "not square: row 0"),
        ({"coupling": [[1.0, 0.0], [0.5, 1.0]]}, "[0][1]"),
        ({"coupling": [[INF]]}, "[0][0]"),
        ({"coupling": [[NAN]]}, "[0][0]"),
        ({"coupling": [[1.0]], "num_labels": 2}, "num_labels=2"),
        ({"coupling": [["a"]]}, "[0][0]"),
        ({"coupling": []}, "coupling"),
        ({"coupling": [[1.0, 2.0], []]}, "not square: row 1"),
        ({"coupling": 3.0}, "model.coupling is 3.0"),
        ({"coupling": [[1.0, 0.0], [0.0, 1.0]], "coupling_strength": 1.0}, "coupling_strength"),
        ({"num_labels": 0}, "num_labels"),
        ({"observation_strength": -1.0}, "observation_strength"),
        ({"observation_strength": INF}, "observation_strength"),
        ({"observation_strength": NAN}, "observation_strength"),
    ],
)
def test_settings_are_refused_by_name(settings, named):
    assert named in refused(SettingError, pyrozoo.fit, "potts_grid", "cavi", data=SMALL, progress=False, **settings)


def test_methods_that_follow_gradients_are_refused_before_any_work():
    for method in ("nuts", "laplace"):
        assert "discrete" in refused(NotApplicable, pyrozoo.fit, "potts_grid", method, data=SMALL)


def test_more_colours_than_labels_are_refused():
    message = refused(
        DataError, pyrozoo.fit, "potts_grid", "bp", data=np.array([[0, 1, 2]]), num_labels=2, progress=False
    )
    assert "column_2" in message
    assert "2 that the model has" in message


# Results --------------------------------------------------------------------------------------------------------------


def test_a_run_comes_back_with_what_it_knew(tmp_path):
    fit = pyrozoo.fit("potts_grid", "exact", rows=5, columns=8, draws=50, holdout=0.1, progress=False)
    fit.save(tmp_path / "run")
    again = pyrozoo.load(tmp_path / "run")
    for name, value in fit.expectations.items():
        torch.testing.assert_close(again.expectations[name], value)
    assert fit.data.same(again.data)
    assert torch.equal(labelling(again), labelling(fit))
    assert again.data.level_names == fit.data.level_names
    assert {"pixels.csv", "neighbours.csv"} <= {path.name for path in (tmp_path / "run" / "tables").iterdir()}
    assert {"label_accuracy", "holdout_accuracy", "log_z"} <= set(fit.metrics)


@pytest.mark.usefixtures("undrawn")
def test_the_ladder_of_a_comparison(tmp_path):
    fits = [
        pyrozoo.fit(MODEL, method, data=TINY, **CASE.settings[method], progress=False)
        for method in ("cavi", "bp", "gibbs", "exact", "icm")
    ]
    comparison = pyrozoo.compare(fits)
    assert comparison.reference == "exact"
    ladder = View().compared_tables(fits, comparison.names)["ladder"].set_index("fit")
    assert ladder.loc["cavi", "log_z"] < ladder.loc["exact", "log_z"]
    assert ladder.loc["cavi", "log_z_error"] == pytest.approx(
        ladder.loc["cavi", "log_z"] - ladder.loc["exact", "log_z"], abs=1e-10
    )
    assert 0 < ladder.loc["bp", "max_marginal_error"] < ladder.loc["cavi", "max_marginal_error"]
    comparison.save(tmp_path)
    assert (tmp_path / "tables" / "ladder.csv").is_file()
    assert {"restorations.png", "disagreement.png"} <= {path.name for path in (tmp_path / "figures").iterdir()}
    assert all(picture._repr_png_() for picture in View().compared_pictures(fits, comparison.names))
    assert "Ladder" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_titles_say_how_much_is_right():
    fit = pyrozoo.fit("potts_grid", "icm", observation_strength=20.0, coupling_strength=0.1, progress=False)
    right = float((fit.data.values == fit.data.truth["label"]).double().mean())
    titles = [axes.get_title() for axes in fit.pictures["restored"].figure.axes][:3]
    assert titles == [f"the image: {right:.1%} right", f"restored by icm: {right:.1%} right", "the truth"]


def test_labels_are_drawn_in_their_own_colours():
    """And missing pixels in one that no label has: white is a label here."""
    rgba = np.zeros((4, 6, 4), dtype=np.uint8)
    rgba[..., 3], rgba[:, :3, 0], rgba[:, 4:, :3], rgba[0, 0, 3] = 255, 200, 255, 0
    fit = pyrozoo.fit("potts_grid", "icm", data=Grid.of(rgba), progress=False)
    figure = fit.pictures["restored"].figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["#000000", "#c80000", "#ffffff", "missing"]
    drawn = figure.axes[0].images[0]
    shown = (255 * drawn.to_rgba(drawn.get_array())[..., :3]).round()
    np.testing.assert_array_equal(shown[1:], rgba[1:, :, :3])
    missing = figure.legends[0].get_patches()[-1].get_facecolor()
    np.testing.assert_allclose(shown[0, 0], 255 * np.array(missing[:3]), atol=1)
    assert np.linalg.norm(shown[0, 0] - 255) > 75


def test_restoring_beats_the_image():
    for method in ("cavi", "bp", "gibbs", "icm", "max_product"):
        quick = {"warmup": 50, "draws": 50, "thin": 1} if method == "gibbs" else {}
        fit = pyrozoo.fit("potts_grid", method, rows=50, columns=50, noise=0.1, progress=False, **quick)
        flipped = float((fit.data.values != fit.data.truth["label"]).double().mean())
        assert 0.07 < flipped < 0.13
        assert fit.metrics["label_accuracy"] > 1 - flipped / 2, method


@pytest.mark.parametrize("solver", [cavi.Solver, gibbs.Solver, icm.Solver, bp.Solver, max_product.Solver])
def test_single_precision_is_kept(solver):
    data = Grid.of(np.random.default_rng(0).integers(0, 3, (6, 5))).to("cpu", torch.float32)
    made = solver(Posterior.of(MODEL, data))
    with seeded(0):
        state, info = made.step(made.init(2))
        objective = info.objective
    assert objective.dtype == torch.float32
    for each in dataclasses.fields(state):
        value = getattr(state, each.name)
        assert value.dtype in (torch.float32, torch.int64)
