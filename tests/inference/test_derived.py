"""Methods derived from a program: exact where the posterior is known, and right where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrozoo
from pyrozoo.compiler.density import CompiledDensity
from pyrozoo.compiler.kernels import switched
from pyrozoo.contracts.model import Model, Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.paths import PACKAGE
from pyrozoo.core.seeds import seeded
from pyrozoo.data.arguments import Arguments
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.inference.derived import cavi, em, gibbs, trees
from pyrozoo.math.mixing import ess
from pyrozoo.testing.laws import never_falls, objective_is_the_joint
from pyrozoo.testing.samplers import geweke
from tests.case import refused

pytestmark = pytest.mark.usefixtures("unchecked", "double")


@dataclass(frozen=True)
class Clusters(Model):
    """Rows of two kinds: a conjugate mixture, its labels enumerated."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        weights = pyro.sample("weights", dist.Dirichlet(x.new_full((2,), 3.0)))
        with pyro.plate("component", 2, dim=-2), pyro.plate("column", x.shape[1], dim=-1) as column:
            centre = pyro.sample("centre", dist.Normal(x.new_zeros(()), 1.0))
            precision = pyro.sample("precision", dist.Gamma(x.new_tensor(4.0), 4.0))
        with pyro.plate("row", len(x), dim=-2):
            z = pyro.sample("cluster", dist.Categorical(weights)).squeeze(-1)
            with pyro.plate("column_", x.shape[1], dim=-1):
                cells = dist.Normal(centre[z], precision[z].rsqrt()).mask(data.observed)
                pyro.sample("values", cells, obs=x)
        assert len(column) == x.shape[1]


@dataclass(frozen=True)
class Curved(Model):
    """Counts whose logarithmic rates are normal: no conditional is conjugate, but for that of the mean."""

    def __call__(self, data: Table) -> None:
        x = data.filled
        mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 1.0))
        spread = pyro.sample("spread", dist.HalfNormal(x.new_ones(())))
        with pyro.plate("row", len(x), dim=-2):
            log_rate = pyro.sample("log_rate", dist.Normal(mean, 0.3 + spread))
            with pyro.plate("column", x.shape[1], dim=-1):
                pyro.sample("counts", dist.Poisson(log_rate.exp()).mask(data.observed), obs=x)


@pytest.mark.slow
@pytest.mark.parametrize("model", [Clusters(), Curved()], ids=str)
def test_gibbs_draws_from_the_joint_distribution(model):
    scores = geweke(model, Table.blank(rows=4, columns=2), gibbs.Solver, sweeps=400, seed=3)
    assert float(scores.abs().max()) < 4.5, scores[scores.abs() > 4]


def test_gibbs_of_a_plain_function_is_exact():
    heads = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])

    def coin(heads):
        bias = pyro.sample("bias", dist.Beta(2.0, 2.0))
        with pyro.plate("toss", len(heads)):
            pyro.sample("heads", dist.Bernoulli(bias), obs=heads)

    fit = pyrozoo.fit(coin, "gibbs", args=(heads,), draws=1000, warmup=1, thin=1, progress=False)
    exact = torch.distributions.Beta(6.0, 3.0)
    bias = fit.draws["bias"]
    assert abs(float(bias.mean()) - float(exact.mean)) < 5 * float(exact.stddev) / bias.numel() ** 0.5
    assert abs(float(bias.var()) / float(exact.variance) - 1) < 0.15


def test_labels_that_depend_on_each_other_are_drawn_one_by_one():
    """A ring of four spins, each seen with noise, against all 16 fields."""
    seen = torch.tensor([1.0, -0.5, 0.3, 0.2])

    def ring(_=None):
        with pyro.plate("site", 4):
            spin = pyro.sample("spin", dist.Bernoulli(torch.full((4,), 0.5)))
        up = 2 * spin - 1
        pyro.factor("edges", 0.7 * (up * up.roll(-1, -1)).sum(-1))
        height = pyro.sample("height", dist.Normal(0.0, 1.0))
        with pyro.plate("site_", 4):
            pyro.sample("y", dist.Normal(up + height, 1.0), obs=seen)

    solver = gibbs.Solver(Posterior.of(Program(ring), Arguments(args=())))
    state = solver.init(200)
    total, count = torch.zeros(4), 0
    for sweep in range(60):
        state, _ = solver.step(state)
        if sweep >= 10:
            total, count = total + state.spin.mean(0), count + 1
    fields = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    up = 2 * fields - 1
    away = seen - up  # height is summed out: y - up ~ N(0, I + 1 1')
    covariance = torch.eye(4) + 1
    logs = torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(away)
    logs = logs + 0.7 * (up * up.roll(-1, -1)).sum(-1)
    assert torch.allclose(total / count, logs.softmax(0) @ fields, atol=0.03)


def test_elements_of_a_normal_that_hold_each_other_are_one_block():
    """Four numbers whose differences are seen: mode, factor of CAVI and draws of Gibbs are exact after one step."""
    seen = torch.tensor([1.0, -0.5, 2.0])

    def walk(_=None):
        with pyro.plate("place", 4):
            x = pyro.sample("x", dist.Normal(torch.zeros(()), 1.0))
        pyro.sample("y", dist.Normal(x[..., 1:] - x[..., :-1], 0.5).to_event(1), obs=seen)

    steps = torch.eye(4)[1:] - torch.eye(4)[:-1]
    precision = torch.eye(4) + 4 * steps.T @ steps
    mean = torch.linalg.solve(precision, 4 * steps.T @ seen)
    posterior = Posterior.of(Program(walk), Arguments(args=()))
    with seeded(0):
        torch.testing.assert_close(em.Solver(posterior).after(1).x[0], mean)
        solver = cavi.Solver(posterior)
        found, weighted = solver.factors(solver.after(1))["x"]
        torch.testing.assert_close(found[0], precision)
        torch.testing.assert_close(weighted[0], precision @ mean)
        sampler = gibbs.Solver(posterior, interweave=False)
        draws = sampler.step(sampler.state_class(x=sampler.init(1).x.expand(4000, 4)))[0].x
    torch.testing.assert_close(draws.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(draws.T.cov(), precision.inverse(), atol=0.1, rtol=0)


def product(_=None):
    """Two rates and a waiting time with their product as its rate, which was 1."""
    with pyro.plate("place", 2):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(3.0), 1.0))
    pyro.sample("wait", dist.Exponential(rate.prod(-1)), obs=torch.tensor(1.0))


def test_elements_that_hold_each_other_are_visited_in_turn():
    """The density is a^3 b^3 e^(-a - b - a b): its mode has a^2 + a = 3. Draws are held to sums over a grid."""
    posterior = Posterior.of(Program(product), Arguments(args=()))
    with seeded(0):
        mode = em.Solver(posterior).after(50).rate[0]
        sampler = gibbs.Solver(posterior, interweave=False)
        state, drawn = sampler.state_class(rate=sampler.init(1).rate.expand(4000, 2)), []
        for sweep in range(7):
            state, _ = sampler.step(state)
            drawn += [state.rate] if sweep >= 3 else []
    assert mode.tolist() == pytest.approx([(13**0.5 - 1) / 2] * 2)
    assert "rate depend on each other" in refused(NotApplicable, cavi.Solver, posterior)
    grid = torch.linspace(0.03, 15, 500)
    a, b = torch.meshgrid(grid, grid, indexing="ij")
    weight = (3 * (a * b).log() - a - b - a * b).exp()
    expected, draws = (weight * a).sum() / weight.sum(), torch.cat(drawn)
    assert draws.mean(0).tolist() == pytest.approx([float(expected)] * 2, abs=0.03)
    covariance = (weight * a * b).sum() / weight.sum() - expected**2
    assert float(draws.T.cov()[0, 1]) == pytest.approx(float(covariance), abs=0.05)


def test_newton_s_method_comes_to_a_mode_of_several_dimensions():
    """Coefficients of a Poisson regression: after some steps the slope of the log joint is 0, and it is the highest."""
    design = torch.tensor([[1.0, 0.3, -1.0], [1.0, -0.8, 0.4], [1.0, 1.5, 0.2], [1.0, 0.1, 2.0]])
    counts = torch.tensor([3.0, 0.0, 7.0, 2.0])

    def program(_=None):
        beta = pyro.sample("beta", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        pyro.sample("y", dist.Poisson((design @ beta.unsqueeze(-1)).squeeze(-1).exp()).to_event(1), obs=counts)

    def joint(beta):
        return -beta.square().sum() / 8 + (counts * (design @ beta) - (design @ beta).exp()).sum()

    posterior = Posterior.of(Program(program), Arguments(args=()))
    solver = em.Solver(posterior)
    with seeded(0):
        state = solver.init(2)
    for _ in range(12):
        state, info = solver.step(state)
    for beta in state.beta:
        assert torch.autograd.functional.jacobian(joint, beta).abs().max() < 1e-8
    constant = -3 * torch.tensor(2.0).log() - 1.5 * torch.tensor(2 * torch.pi).log() - torch.lgamma(counts + 1).sum()
    assert info.objective.tolist() == pytest.approx([float(joint(state.beta[0]) + constant)] * 2)


def test_counts_without_end_are_refused_by_name():
    def program(seen):
        n = pyro.sample("n", dist.Poisson(3.0))
        pyro.sample("y", dist.Normal(n, 1.0), obs=seen)
        pyro.sample("x", dist.Normal(0.0, 1.0))

    message = refused(NotApplicable, pyrozoo.fit, program, "gibbs", args=(torch.tensor(2.0),))
    assert "n is a discrete latent site with too many values" in message


def test_one_seed_gives_one_result():
    first, second = (
        pyrozoo.fit(Clusters(), "gibbs", rows=8, columns=2, draws=20, warmup=2, thin=1, chains=2, progress=False)
        for _ in range(2)
    )
    assert all(torch.equal(first.draws[site], second.draws[site]) for site in first.draws)
    assert all(bool(value.isfinite().all()) for value in first.draws.values())


def given(model, rows=8, columns=2, seed=2) -> Posterior:
    """Return the posterior of a model given simulated data with a hole."""
    data = simulate_data(model, seed=seed, missing=0.1, rows=rows, columns=columns)
    return Posterior.of(model, data)


@pytest.mark.parametrize("model", [Clusters(), Curved()], ids=str)
def test_em_climbs_the_programs_log_joint_to_a_stationary_point(model):
    solver = em.Solver(given(model))
    if isinstance(model, Clusters):
        objective_is_the_joint(solver, 4)
    never_falls(solver, 20, 3)
    state = solver.after(80)
    point = {site: value[0].clone().requires_grad_(True) for site, value in solver.layout.values(state).items()}
    value = solver.posterior.log_joint({site: each[None, None] for site, each in point.items()}).sum()
    slopes = dict(zip(point, torch.autograd.grad(value, list(point.values())), strict=True))
    if "weights" in slopes:  # along the simplex
        slopes["weights"] = slopes["weights"] - slopes["weights"].mean()
    if "spread" in slopes:  # its mode is on the edge, 0, which a slope along its logarithm comes to
        slopes["spread"] = slopes["spread"] * point["spread"]
    assert all(float(slope.detach().abs().max()) < 1e-3 for slope in slopes.values()), slopes


def test_em_refuses_a_conditional_without_a_mode():
    def program(seen):
        rate = pyro.sample("rate", dist.Gamma(0.1, 1.0))
        pyro.sample("y", dist.Poisson(rate), obs=seen)

    message = refused(NotApplicable, pyrozoo.fit, program, "em", args=(torch.tensor(0.0),))
    assert "the Gamma conditional of rate has no mode inside of its support" in message


def test_cavi_of_one_site_is_exact():
    def program(seen):
        rate = pyro.sample("rate", dist.Gamma(2.0, 3.0))
        with pyro.plate("row", len(seen)):
            pyro.sample("y", dist.Poisson(rate), obs=seen)

    seen = torch.tensor([2.0, 0.0, 4.0])
    fit = pyrozoo.fit(program, "cavi", args=(seen,), progress=False, draws=50)
    a, b = torch.tensor(2.0), torch.tensor(3.0)
    evidence = (
        a * b.log() - torch.lgamma(a) + torch.lgamma(a + 6) - (a + 6) * (b + 3).log() - torch.lgamma(seen + 1).sum()
    )
    assert fit.objective == pytest.approx(float(evidence), abs=1e-10)
    draws = fit.draws["rate"]
    expected = dist.Gamma(a + 6, b + 3).log_prob(draws)
    assert torch.allclose(fit.log_q, expected)


def test_cavi_of_a_mixture_is_the_textbooks():
    """Bishop (2006), section 10.2, its update written out for normal and Gamma factors of their own."""
    posterior = given(Clusters())
    solver = cavi.Solver(posterior)
    state, _ = solver.step(solver.init(2))
    never_falls(solver, 30, 2)
    q, x = solver.factors(state), posterior.data.filled
    seen = posterior.data.observed.double()
    r = q["cluster"][0].squeeze(-2)  # [C, N, K]
    alpha = q["weights"][0]
    (L, h), (a, b) = q["centre"], q["precision"]
    variance, precision = 1 / L[..., 0, 0], a / b
    mean = h[..., 0] * variance
    away = (x[:, None] - mean[:, None]) ** 2 + variance[:, None]  # [C, N, K, D]
    logs = -0.5 * (precision[:, None] * away - (a.digamma() - b.log())[:, None])
    expected = (seen[:, None] * logs).sum(-1) + (alpha.digamma() - alpha.sum(-1, keepdim=True).digamma())[:, None]
    found = solver.update("cluster", q)[0].squeeze(-2)
    assert torch.allclose(found, expected.softmax(-1), atol=1e-10)
    count, total = r.mT @ seen, r.mT @ (seen * x)
    found = solver.update("centre", q)
    assert torch.allclose(found[0][..., 0, 0], 1 + precision * count, rtol=1e-9)
    assert torch.allclose(found[1][..., 0], precision * total, rtol=1e-9, atol=1e-9)
    found = solver.update("precision", q)
    squares = (r.unsqueeze(-1) * seen[:, None] * away).sum(1)
    assert torch.allclose(found[0], 4 + 0.5 * count, rtol=1e-9)
    assert torch.allclose(found[1], 4 + 0.5 * squares, rtol=1e-9)
    assert torch.allclose(solver.update("weights", q)[0], 3 + r.sum(1), rtol=1e-9)


def test_cavi_refuses_by_the_name_of_the_site():
    message = refused(NotApplicable, cavi.Solver, given(Curved()))
    assert message.startswith("cavi: spread is not conjugate")


def test_cavi_refuses_an_expectation_that_is_not_exact():
    """Both sites have normal conditionals, but x acts on y's mean by its square root of the precision."""

    def program(_=None):
        x = pyro.sample("x", dist.Gamma(2.0, 1.0))
        y = pyro.sample("y", dist.Normal(0.0, 1.0))
        pyro.factor("f", x.log() * y - x * y.square())

    solver = cavi.Solver(Posterior.of(Program(program), Arguments(args=())))
    assert solver.structures["x"].kind == solver.structures["y"].kind == "conjugate"

    def curved(_=None):
        y = pyro.sample("y", dist.Normal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("f", -z.square() * y.cos().square())

    message = refused(NotApplicable, cavi.Solver, Posterior.of(Program(curved), Arguments(args=())))
    assert message.startswith("cavi: y is not conjugate")


EXAMPLES = PACKAGE.parent / "examples"
QUICK = {"warmup": 5, "draws": 60, "thin": 1, "chains": 1, "rows": 6, "columns": 2, "progress": False}


@pytest.mark.parametrize("method", ["gibbs", pytest.param("em", marks=pytest.mark.slow)])
def test_a_file_that_is_called_as_a_model_of_the_zoo_gets_what_is_derived(method):
    quick = QUICK if method == "gibbs" else {name: QUICK[name] for name in ("rows", "columns", "progress")}
    ranks = pyrozoo.calibrate(str(EXAMPLES / "gaussian_mixture.py"), method, simulations=2, **quick)
    assert "log_likelihood" in set(ranks.summary["quantity"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian_mixture", "bayesian_regression"])
def test_gibbs_is_calibrated(name):
    quick = {**QUICK, "warmup": 100, "draws": 60, "thin": 8, "rows": 12}
    ranks = pyrozoo.calibrate(str(EXAMPLES / f"{name}.py"), "gibbs", simulations=60, **quick)
    assert "fail" not in {line.level for line in ranks.sentences}, str(ranks)


def normal_target(covariance: torch.Tensor, chains: int):
    """A normal density of vectors, compiled too."""
    precision = torch.linalg.inv(covariance)

    class Target:
        compiled = CompiledDensity(lambda x: -0.5 * ((precision * x).sum(-1) * x).sum(), torch.ones(len(covariance)))
        rest = torch.zeros(chains, 0)

        def __call__(self, vectors):
            return -0.5 * ((vectors @ precision) * vectors).sum(-1), -vectors @ precision

    return Target()


@pytest.mark.parametrize("kernel", [True, False], ids=["C", "PyTorch"])
@pytest.mark.parametrize("first", [3, 2])
def test_trees_draw_from_a_correlated_normal(kernel, first):
    """Tuned or not, in C or in PyTorch, with correlations of all coordinates in the metric or of the first two."""
    torch.manual_seed(3)
    scale = torch.tensor([1.0, 10.0, 0.1])
    covariance = (0.8 + 0.2 * torch.eye(3)) * scale * scale[:, None]
    target, places = normal_target(covariance, 40), torch.randn(40, 3) * scale
    tuning, every = trees.Tuning.started(target(places)[1], first), []
    with switched(kernel):
        for sweep in range(180):
            places, slopes, acceptance = trees.transition(target, places, tuning)
            tuning = tuning.after(acceptance, places, slopes)
            tuning = tuning.settled() if sweep == 79 else tuning
            every += [places] if sweep >= 80 else []
    assert torch.allclose(slopes, target(places)[1], rtol=1e-9)
    assert 0.6 < float(acceptance.mean()) < 0.97
    found = torch.cat(every) / scale
    effective = min(float(ess(torch.stack(every, 1)[..., i], "mean")) for i in range(3))
    assert effective > 1000
    assert float(found.mean(0).abs().max()) < 4.5 / effective**0.5
    off = torch.cov(found.T) - (0.8 + 0.2 * torch.eye(3))
    assert float(off.abs().max()) < 4.5 * 2**0.5 / (effective / 2) ** 0.5
    assert torch.equal(tuning.after(acceptance, places, slopes).steps, tuning.steps)  # it is settled


def test_trees_of_both_kinds_leave_a_density_without_room_to_move():
    """A leaf that is not finite ends a tree, and the chain stays."""
    target = normal_target(torch.eye(2), 3)
    places = torch.full((3, 2), torch.nan)
    tuning = trees.Tuning.started(torch.ones(3, 2), 2)
    for kernel in (True, False):
        with switched(kernel):
            found, _, acceptance = trees.transition(target, places, tuning)
        assert bool(found.isnan().all())
        assert torch.equal(acceptance, torch.zeros(3))


def eight_schools(_=None):
    effect = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    mean = pyro.sample("mean", dist.Normal(torch.tensor(0.0), 5.0))
    spread = pyro.sample("spread", dist.HalfNormal(torch.tensor(5.0)))
    with pyro.plate("school", 8):
        own = pyro.sample("own", dist.Normal(mean, spread))
        pyro.sample("y", dist.Normal(own, error), obs=effect)


@pytest.mark.parametrize("scales", [1, 4])
def test_nuts_takes_turns_with_conjugate_draws_only_where_elements_share_a_scale(scales):
    def program():
        with pyro.plate("scale", scales):
            precision = pyro.sample("precision", dist.Gamma(torch.tensor(2.0), 1.0))
        with pyro.plate("element", 4):
            mean = pyro.sample("mean", dist.Normal(torch.tensor(0.0), precision.rsqrt()))
            pyro.sample("y", dist.Normal(mean, 1.0), obs=torch.arange(4.0))

    together = gibbs.Solver(Posterior.of(Program(lambda _=None: program()), Arguments(args=()))).together
    assert together is None if scales == 4 else together.sites == ("precision", "mean")


def test_what_moves_together_has_the_programs_density():
    """Of deviations: the program's own, at location + scale x deviation, times the scales."""
    solver = gibbs.Solver(Posterior.of(Program(eight_schools), Arguments(args=())))
    together = solver.together
    assert (together.sites, together.decentred) == (("mean", "spread", "own"), ("own",))
    values = {"mean": torch.randn(3), "spread": torch.rand(3) + 0.5, "own": torch.randn(3, 8)}
    vectors = together.vectors(values)
    back = together.values(vectors, {})
    assert all(torch.allclose(back[site], values[site]) for site in values)
    deviations = (values["own"] - values["mean"][:, None]) / values["spread"][:, None]
    assert torch.allclose(vectors, torch.cat([values["mean"][:, None], values["spread"].log()[:, None], deviations], 1))
    totals, slopes = together.given(values)(vectors)
    expected = solver.evaluation.totals(values) + 9 * values["spread"].log()  # eight of deviations, one of log(spread)
    assert torch.allclose(totals, expected)
    together.compile(vectors, values)
    value, slope = together.compiled(vectors[0])
    assert torch.allclose(slope, slopes[0])
    assert value == pytest.approx(float(totals[0]))


@pytest.mark.parametrize("options", [{}, {"other": "slice"}, {"interweave": False}], ids=str)
def test_gibbs_moves_what_has_no_family(options):
    """Posterior of the spread of eight schools against quadrature, effects summed out."""
    fit = pyrozoo.fit(
        eight_schools, "gibbs", args=(None,), solver=options, draws=200, warmup=60, thin=1, chains=8, progress=False
    )
    spread = torch.linspace(0.01, 25, 2000)
    effect = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    covariance = (error**2 + spread[:, None] ** 2).diag_embed() + 25.0  # the mean summed out, too
    logs = torch.distributions.MultivariateNormal(torch.zeros(8), covariance).log_prob(effect)
    weights = (logs + dist.HalfNormal(5.0).log_prob(spread)).softmax(0)
    mean, draws = float(weights @ spread), fit.draws["spread"]
    deviation = float(weights @ (spread - mean) ** 2) ** 0.5
    assert abs(float(draws.mean()) - mean) < 4.5 * deviation / float(ess(draws, "mean")) ** 0.5


def test_another_solver_goes_on_from_a_state_to_the_same_bits():
    """The state is the checkpoint: what is tuned is in it, and what is compiled follows from the program."""
    posterior = Posterior.of(Program(eight_schools), Arguments(args=()))
    first = gibbs.Solver(posterior)
    state = first.after(20)
    results = []
    for solver in (first, gibbs.Solver(posterior)):
        with seeded(4):
            new, info = solver.step(state)
        results.append([*vars(new).values(), info.objective])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
