"""hidden_markov: its case for the laws, and what is true of this model only."""

from __future__ import annotations

import dataclasses
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import gammaln, logsumexp

import pyrozoo
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.data.sequences import Sequences
from pyrozoo.data.simulate import simulate_data
from pyrozoo.math.markov_chains import Steps, _filter, _one_of, log_evidence
from pyrozoo.math.mixing import ess
from pyrozoo.models.hidden_markov import cavi, em, gibbs
from pyrozoo.models.hidden_markov.model import HiddenMarkov
from pyrozoo.models.hidden_markov.queries import dwell, forecast, path, predict_cells
from pyrozoo.testing import laws
from pyrozoo.testing.samplers import geweke
from tests.case import Case, Oracle

NAN = float("nan")
MODEL = HiddenMarkov(2, "gaussian", 1.5, 1.2, 0.8, 0.3, 0.9, 0.5, 6.0, 2.0, 1.5, None)
TINY = Sequences.of(
    pd.DataFrame(
        {
            "sequence": list("aaabb"),
            "time": [0, 1, 2, 4, 6],
            "x": [0.1, NAN, 1.4, -0.9, 1.1],
            "y": [0.3, 0.2, NAN, 1.2, 1],
        }
    )
)


def model(emission: str, **changes) -> HiddenMarkov:
    usual = {"num_components": 3, "emission": emission, "num_levels": 3, "initial_concentration": 1.5}
    gentle = {"mean_precision": 4.0} if emission == "autoregressive" else {}  # slopes below 1, as a rule
    return dataclasses.replace(MODEL, **{**usual, **gentle, **changes})


OTHERS = ("full", "autoregressive", "poisson", "categorical")


@cache
def exact() -> Oracle:
    """Enumerate every path, those through the gap included; given one, everything is conjugate."""
    m, x = MODEL, TINY.values.numpy()
    K, lengths = m.num_components, TINY.steps.lengths.tolist()
    rows = {int(place): i for i, place in enumerate(TINY.place)}
    starts = np.cumsum([0, *lengths[:-1]])
    first0 = np.full(K, m.initial_concentration)
    pairs0 = np.full((K, K), m.transition_concentration) + m.stay_concentration * np.eye(K)
    log_p, parameters = [], []
    for z in itertools.product(range(K), repeat=sum(lengths)):
        first, pairs = first0.copy(), pairs0.copy()
        for start, length in zip(starts, lengths, strict=True):
            first[z[start]] += 1
            for t in range(start + 1, start + length):
                pairs[z[t - 1], z[t]] += 1
        total = dirichlet(first) - dirichlet(first0) + sum(map(dirichlet, pairs)) - sum(map(dirichlet, pairs0))
        found = np.zeros((4, K, x.shape[1]))
        for k, d in itertools.product(range(K), range(x.shape[1])):
            mine = np.array([x[i, d] for t, i in rows.items() if z[t] == k and not np.isnan(x[i, d])])
            kappa, a, b = m.mean_precision, m.degrees / 2, m.degrees * m.scale**2 / 2
            n, centre = len(mine), (m.mean_precision * m.location + mine.sum()) / (m.mean_precision + len(mine))
            a_n = a + n / 2
            b_n = b + 0.5 * ((mine**2).sum() + kappa * m.location**2 - (kappa + n) * centre**2)
            total += a * np.log(b) - a_n * np.log(b_n) + gammaln(a_n) - gammaln(a) - n / 2 * np.log(2 * np.pi)
            total += 0.5 * np.log(kappa / (kappa + n))
            found[:, k, d] = centre, kappa + n, a_n, b_n
        log_p.append(total)
        parameters.append((first, pairs, found))
    evidence, rng = logsumexp(log_p), np.random.default_rng(0)
    chosen = rng.choice(len(log_p), 100_000, p=np.exp(np.asarray(log_p) - evidence))
    first, pairs, found = (np.stack([each[j] for each in parameters])[chosen] for j in range(3))
    gammas = [rng.gamma(each) for each in (first, pairs)]
    centre, kappa, a_n, b_n = found.swapaxes(0, 1)
    variance = b_n / rng.gamma(a_n)
    draws = {
        "initial": gammas[0] / gammas[0].sum(-1, keepdims=True),
        "transition": gammas[1] / gammas[1].sum(-1, keepdims=True),
        "variance": variance,
        "mean": centre + rng.standard_normal(centre.shape) * np.sqrt(variance / kappa),
    }
    return Oracle(float(evidence), {site: torch.as_tensor(value)[None] for site, value in draws.items()})


def dirichlet(alpha):
    return gammaln(alpha).sum() - gammaln(alpha.sum())


class ForgetsToStay(gibbs.Solver):
    """Plant: the prior of transitions forgets that states stay."""

    def __init__(self, posterior):
        super().__init__(Posterior.of(dataclasses.replace(posterior.model, stay_concentration=0.0), posterior.data))


class FiltersOnly(gibbs.Solver):
    """Plant: states are drawn from what is known up to their step, not backward."""

    def step(self, state):
        emission, steps = self.posterior.emission, self.data.steps
        natural = emission.natural(vars(state))
        filtered, log_scale = _filter(steps, state.initial, state.transition, emission.log_density(natural))
        drawn = _one_of(filtered, torch.rand_like(log_scale))
        follow = torch.ones(steps.count, dtype=torch.bool)
        follow[steps.starts] = False
        later = follow.nonzero().flatten()
        pairs = torch.einsum("nci,ncj->cij", drawn[later - 1], drawn[later])
        new = self.draw(drawn[steps.starts].sum(0), pairs, emission.sums(drawn, natural))
        return self.state_class(**new), Info(log_scale.sum(0))


class HolesAreZero(gibbs.Solver):
    """Plant: missing values are read as zeros."""

    def __init__(self, posterior):
        super().__init__(posterior.on(dataclasses.replace(posterior.data, values=posterior.data.filled)))


class IgnoresData(gibbs.Solver):
    """Plant: draws from the prior, whatever the data."""

    def draw(self, first, pairs, sums):
        return super().draw(*(torch.zeros_like(each) for each in (first, pairs, sums)))


def lose(data: Sequences) -> Sequences:
    return dataclasses.replace(data.hide(torch.tensor([1, 4, 6]), torch.tensor([0, 0, 0])), hidden=None)


CASE = Case(
    model=MODEL,
    tiny=TINY,
    oracle=exact,
    shape={"sequences": 2, "steps": 4, "columns": 1},
    larger={"sequences": 15, "steps": 20, "columns": 2},
    lose=lose,
    settings={
        "em": {"restarts": 5},
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
    elbo_gap=3.0,
    laplace_error=2.0,
    bad={
        "infinite": (np.array([[1, np.inf], [0, 3]]), "column_1"),
        "empty": (np.empty((0, 3)), "empty"),
        "text": (np.array([["a", "b"], ["c", "d"]]), "not numbers"),
        "two rows at a time": (pd.DataFrame({"sequence": [1, 1], "time": [3, 3], "x": [0.1, 0.2]}), "time 3"),
        "half a step": (pd.DataFrame({"sequence": [1, 1], "time": [0.5, 1], "x": [0.1, 0.2]}), "whole number"),
        "too large": (np.array([[1e200], [1.0]]), "too large"),
    },
    odd={
        "one row": np.array([[0.5, 3.0, 1]]),
        "one column": np.array([[0.0], [3], [1], [0]]),
        "constant": np.full((6, 2), 3.0),
        "missing row": np.array([[NAN, NAN], [1, 2], [0, 3]]),
        "missing column": np.array([[NAN, 1.0], [NAN, 2.0]]),
        "large numbers": 1e8 + np.random.default_rng(0).standard_normal((20, 2)),
        "sequences of one step": pd.DataFrame({"sequence": range(5), "x": [0.0, 1, 2, 0.5, 1]}),
        "a long gap": pd.DataFrame({"time": [0, 500], "x": [0.0, 1]}),
        "an outlier": np.array([[0.1], [0.2], [1e5], [0.3], [0.2]]),
    },
    bugs={"holes": HolesAreZero, "filter": FiltersOnly, "stay": ForgetsToStay, "data": IgnoresData},
)


@pytest.mark.parametrize("emission", OTHERS)
def test_laws_hold_for_every_emission(emission):
    data = simulate_data(model(emission), seed=1, missing=0.2, sequences=6, steps=15, columns=2)
    posterior = Posterior.of(model(emission), data)
    posterior.check()
    laws.one_density(posterior)
    laws.symmetric(posterior)
    for solver in (em.Solver, gibbs.Solver):
        laws.objective_is_the_joint(solver(posterior))
    for solver in (em.Solver, cavi.Solver):
        laws.never_falls(solver(posterior))


@pytest.mark.parametrize("emission", OTHERS)
def test_gibbs_of_every_emission_passes_geweke(emission):
    its = model(emission, num_components=2, degrees=6.0)
    # Where the value before is lost, an autoregression takes it to be at its location: no marginal of the joint.
    found = None if emission == "autoregressive" else lose
    z = geweke(its, Sequences.blank(2, 4, 2), gibbs.Solver, sweeps=1000, seed=11, lose=found)
    assert z.abs().max() < 4.5, z[z.abs() > 3]


def direct(posterior, values):
    """Return log p(x_t | k) cell by cell, [T, K], of emissions whose cells are independent."""
    m, data, K = posterior.model, posterior.data, posterior.model.num_components
    found = np.zeros((data.steps.count, K))
    for i, place in enumerate(data.place.tolist()):
        for d in range(data.shape[1]):
            x = float(data.values[i, d])
            for k in range(K):
                if np.isnan(x):
                    continue
                own = {site: value[0, k, d] for site, value in values.items() if site not in ("initial", "transition")}
                if m.emission == "poisson":
                    found[place, k] += torch.distributions.Poisson(own["rate"]).log_prob(
                        torch.tensor(x, dtype=torch.float64)
                    )
                elif m.emission == "categorical":
                    found[place, k] += own["probability"][int(x)].log()
                else:
                    before = int(data.before[i])
                    last = float(data.values[before, d]) if before >= 0 else NAN
                    mean = own["mean"]
                    if "slope" in own and not np.isnan(last):
                        mean = mean + own["slope"] * (last - m.location)
                    found[place, k] += torch.distributions.Normal(mean, own["variance"].sqrt()).log_prob(
                        torch.tensor(x, dtype=torch.float64)
                    )
    return found


@pytest.mark.parametrize("emission", [each for each in ("gaussian", *OTHERS) if each != "full"])
def test_emissions_are_the_products_of_their_cells(emission):
    data = simulate_data(model(emission), seed=1, missing=0.2, sequences=2, steps=6, columns=2)
    keep = torch.tensor([i for i in range(12) if i not in (2, 3, 9)])  # gaps
    posterior = Posterior.of(model(emission), data.only(keep))
    with seeded(0):
        values = posterior._scattered(1)
    ours = posterior.emission.log_density(posterior.emission.natural(values))[:, 0].numpy()
    np.testing.assert_allclose(ours, direct(posterior, values), rtol=1e-9, atol=1e-9)


def test_full_covariances_sum_missing_cells_out_given_the_others():
    its = model("full")
    data = simulate_data(its, seed=1, missing=0.3, sequences=2, steps=6, columns=3)
    posterior = Posterior.of(its, data)
    with seeded(0):
        values = posterior._scattered(1)
        root = torch.randn(3, 3, 3).double()
        values = {**values, "covariance": (root @ root.mT + 0.3 * torch.eye(3).double())[None]}
    ours = posterior.emission.log_density(posterior.emission.natural(values))[:, 0]
    for i, k in itertools.product(range(12), range(3)):
        o = data.observed[i].nonzero().flatten()
        if not len(o):
            assert float(ours[i, k]) == 0
            continue
        normal = torch.distributions.MultivariateNormal(values["mean"][0, k, o], values["covariance"][0, k][o][:, o])
        assert float(ours[i, k]) == pytest.approx(float(normal.log_prob(data.values[i, o])), rel=1e-9)


def test_a_hidden_cell_is_predicted_as_a_direct_sum_says():
    its = model("full")
    data = simulate_data(its, seed=1, sequences=2, steps=6, columns=2).hide(torch.tensor([4]), torch.tensor([1]))
    posterior = Posterior.of(its, data)
    with seeded(0):
        values = posterior._scattered(3)
    q = posterior.emission.cells(values, data.hidden.rows, data.hidden.columns)
    cov, mean, x = values["covariance"], values["mean"], data.values[4, 0]
    expected = mean[..., 1] + cov[..., 1, 0] / cov[..., 0, 0] * (x - mean[..., 0])
    torch.testing.assert_close(q.mean[0], expected)
    torch.testing.assert_close(q.variance[0], cov[..., 1, 1] - cov[..., 1, 0].square() / cov[..., 0, 0])


def test_a_hidden_cell_behind_gaps_has_the_states_of_its_own_step():
    frame = pd.DataFrame({"sequence": list("aab"), "time": [0, 3, 0], "x": [1.0, 4, 2]})
    frame = pd.concat([frame, pd.DataFrame({"sequence": ["b"], "time": [2], "x": [7.0]})])
    data = Sequences.of(frame).hide(torch.tensor([3]), torch.tensor([0]))
    posterior = Posterior.of(model("poisson", num_components=2), data)
    initial, rate = torch.tensor([0.7, 0.3]).double(), torch.tensor([1.0, 6.0]).double()
    chain = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double()
    values = {"initial": initial, "transition": chain, "rate": rate[:, None]}
    draws = Draws({site: value[None, None] for site, value in values.items()})
    now = initial * torch.exp(dist.Poisson(rate).log_prob(torch.tensor(2.0)))
    expected = (now / now.sum()) @ chain @ chain @ rate  # b, two steps after its only count
    found = predict_cells(posterior, draws, data.hidden)
    torch.testing.assert_close(found.mean, expected[None])


def test_forecasts_follow_the_chain_and_cover():
    its = model("gaussian", mean_precision=0.05)
    whole = simulate_data(its, seed=3, sequences=300, steps=25, columns=1)
    truth = Draws({site: whole.truth[site][None, None] for site in ("initial", "transition", "variance", "mean")})
    known = whole.only((whole.time < 20).nonzero().flatten())
    share, mean, ends = forecast(Posterior.of(its, known), truth, 5)
    later = whole.values[:, 0].view(300, 25)[:, 20:]
    inside = (later >= ends[:, :, 0, 0]) & (later <= ends[:, :, 0, 1])
    assert abs(float(inside.double().mean()) - 0.9) < 0.04
    assert (later - mean[:, :, 0]).square().mean() < later.var()
    torch.testing.assert_close(share.sum(-1), torch.ones(300, 5).double())
    torch.testing.assert_close(share[:, 1], share[:, 0] @ truth["transition"][0, 0])
    assert torch.allclose(dwell(truth)[0, 0], 1 / (1 - truth["transition"][0, 0].diagonal()))


def lost(share=0.1):
    its = HiddenMarkov(2, "gaussian", 1.0, 1.0, 2.0, None, None, 0.05, 2.0, 1.5, 1.1, None)
    given = {
        "transition": torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double(),
        "mean": torch.tensor([[-1.0, 0.5], [1.0, 2.0]]).double(),
        "variance": torch.tensor([[0.5, 1.0], [1.0, 0.4]]).double(),
    }
    whole = simulate_data(its, seed=5, given=given, sequences=10, steps=200, columns=2)
    return its, whole, whole.hold_out(share, 6)


def test_a_tenth_of_the_cells_missing_changes_little():
    its, whole, holes = lost()
    complete, less = (
        pyrozoo.fit(its, "gibbs", data=data, chains=2, warmup=50, draws=100, thin=1, progress=False)
        for data in (whole, holes)
    )
    less_aligned = less.posterior.align(less.draws, complete.aligned)
    for site, value in complete.aligned.items():
        error = value.std((0, 1))
        assert ((less_aligned[site].mean((0, 1)) - value.mean((0, 1))).abs() < 2 * error + 1e-3).all(), site
    entries = len(holes.hidden.values)
    covered = float(less.metrics["holdout_coverage_90"])
    assert 0.87 - 3 * np.sqrt(0.09 / entries) < covered < 0.93 + 3 * np.sqrt(0.09 / entries)


def test_the_path_is_the_states_most_probable_together():
    _, whole, _ = lost()
    fit = pyrozoo.fit("hidden_markov", "em", data=whole, num_components=2, progress=False)
    states, log_joint = path(fit.posterior, {s: v[0, :1] for s, v in fit.draws.items()})
    assert states.shape == (2000, 1)
    assert (log_joint[:, 0] < fit.posterior.pointwise(fit.draws)[0, 0]).all()


def test_new_sequences_get_states_and_a_density():
    _, whole, _ = lost()
    new = Sequences.of(
        pd.DataFrame({"sequence": list("uuv"), "time": [1, 4, 0], "a": [-1.1, NAN, 1.2], "b": [0.4, 2, NAN]})
    )
    fit = pyrozoo.fit("hidden_markov", "em", data=whole, num_components=2, test=new, progress=False)
    tables = view_of(fit.model).tables(fit)
    paths, sequences = tables["test_paths"], tables["test_sequences"]
    assert list(paths["sequence"]) == list("uuv")
    assert list(paths["time"]) == [1, 4, 0]
    assert np.allclose(paths.filter(like="probability").sum(1), 1)
    assert list(sequences["rows"]) == [2, 1]
    assert np.isfinite(sequences["log_density"]).all()
    assert list(tables["forecast"]["time"][:2]) == [200, 201]
    known = fit.assign(new)
    assert list(known["state"]) == list(paths["state"])


@pytest.mark.parametrize("emission", ["poisson", "categorical"])
def test_values_that_an_emission_cannot_have_are_refused(emission):
    with pytest.raises(DataError, match="column_0"):
        pyrozoo.fit(model(emission), "em", data=np.array([[0.5], [1.0]]), progress=False)
    with pytest.raises(DataError, match="negative"):
        pyrozoo.fit(model(emission), "em", data=np.array([[-1.0], [1.0]]), progress=False)


def test_levels_beyond_those_stated_are_refused():
    with pytest.raises(DataError, match="there are 3"):
        pyrozoo.fit(model("categorical"), "em", data=np.array([[3.0], [1.0]]), progress=False)


@pytest.mark.parametrize("field", ["initial_concentration", "transition_concentration"])
def test_em_refuses_priors_without_a_mode(field):
    with pytest.raises(SettingError, match=field):
        em.Solver(Posterior.of(dataclasses.replace(MODEL, **{field: 0.5}), TINY))


@pytest.mark.parametrize("emission", ["gaussian", *OTHERS])
def test_pictures_and_tables_of_every_emission(emission):
    data = simulate_data(model(emission), seed=1, missing=0.1, sequences=3, steps=15, columns=2).hold_out(0.1, 1)
    fit = pyrozoo.fit(model(emission), "em", data=data, restarts=2, max_iterations=20, progress=False)
    view = view_of(fit.model)
    for name, table in view.tables(fit).items():
        assert len(table), name
    assert len(list(view.pictures(fit))) >= 2
    assert len(view.tables(fit)["states"]) == 3


@pytest.mark.slow
def test_svi_and_nuts_of_counts_agree_with_gibbs():
    data = simulate_data(model("poisson"), seed=4, missing=0.1, sequences=6, steps=20, columns=2)
    settings: dict[str, Any] = {
        "gibbs": {"warmup": 200, "draws": 500},
        "nuts": {"warmup": 300, "draws": 300},
        "svi": {},
    }
    fits = {m: pyrozoo.fit(model("poisson"), m, data=data, progress=False, **own) for m, own in settings.items()}
    one = fits["gibbs"].invariants
    for method in ("nuts", "svi"):
        for name, value in fits[method].invariants.items():
            known = one[name].double()
            away = (value.double().mean((0, 1)) - known.mean((0, 1))).abs() / known.std((0, 1))
            assert (away < (0.4 if method == "nuts" else 1.0)).all(), (method, name, away)


# Two posteriors of posteriordb, with priors that the model does not have: programs over the same forward algorithm ----

HALF = torch.full((1, 2), 0.5, dtype=torch.float64)  # Stan's programs leave the first state's probability out


def chain(theta1, theta2, log_e):
    steps = Steps(torch.tensor([len(log_e)]))
    pyro.factor("chain", log_evidence(steps, HALF, torch.stack([theta1, theta2])[None], log_e[:, None]).sum())


def ordered(name, like):
    """Two numbers above 0, the second larger."""
    above = dist.ImproperUniform(dist.constraints.positive, (), ())
    low, more = (pyro.sample(f"{name}_{each}", above).to(like) for each in ("low", "more"))
    return torch.stack([low, low + more])


def hmm_example(y):
    theta = [pyro.sample(f"theta{k}", dist.Dirichlet(y.new_ones(2))) for k in (1, 2)]
    mu = ordered("mu", y)
    pyro.factor("prior", dist.Normal(y.new_tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
    chain(*theta, dist.Normal(mu, 1.0).log_prob(y[:, None]))


def hmm_drive_0(u, v, alpha):
    theta = [pyro.sample(f"theta{k + 1}", dist.Dirichlet(alpha[k])) for k in (0, 1)]
    phi, rate = ordered("phi", u), ordered("lambda", u)
    centre = dist.Normal(u.new_tensor([0.0, 3.0]), 1.0)
    pyro.factor("prior", centre.log_prob(phi).sum() + centre.log_prob(rate).sum())
    chain(*theta, dist.Exponential(phi).log_prob(u[:, None]) + dist.Exponential(rate).log_prob(v[:, None]))


@pytest.mark.slow
@pytest.mark.parametrize(("program", "names"), [(hmm_example, ["y"]), (hmm_drive_0, ["u", "v", "alpha"])])
def test_posteriordb(program, names):
    known = json.loads(Path(__file__).with_name("posteriordb_hmm.json").read_text(encoding="utf-8"))[program.__name__]
    args = tuple(torch.tensor(known["data"][name], dtype=torch.float64) for name in names)
    found = pyrozoo.nuts(
        program, args=args, chains=4, warmup=500, draws=1000, seed=2, progress=False
    ).posterior  # with others a chain may stay in a lesser mode
    draws = {name: torch.as_tensor(np.asarray(found[name].values)) for name in found.data_vars}
    for name, (mean, sd) in known["reference"].items():
        site, k = name[:-3], int(name[-2])
        low = draws[site][..., k - 1] if site in draws else draws[f"{site}_low"]
        ours = low + draws[f"{site}_more"] if site not in draws and k == 2 else low
        error = np.hypot(float(ours.std()) / float(ess(ours, "mean")) ** 0.5, sd / np.sqrt(known["draws"]))
        assert abs(float(ours.mean()) - mean) < 5 * error, name
        assert float(ours.std()) == pytest.approx(sd, rel=0.1), name


def test_a_readers_table_says_where_its_rows_stand(tmp_path):
    """In files, in frames, and of new rows: whose they are may be text, and they may come in any order."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"sequence": ["ann"] * 12 + ["ben"] * 9, "time": [*range(12), *range(0, 18, 2)]})
    frame["pain"] = rng.normal(np.where(frame["time"] % 8 < 4, 0.0, 5.0), 1.0)
    frame = frame.sample(frac=1, random_state=1)
    frame.to_csv(tmp_path / "visits.csv", index=False)
    settings: dict[str, Any] = {"num_components": 2, "restarts": 2, "progress": False}
    one, other = (
        pyrozoo.fit("hidden_markov", "em", data=source, **settings) for source in (frame, tmp_path / "visits.csv")
    )
    assert one.objective == pytest.approx(other.objective, rel=1e-12)
    assert one.data.units == 2
    assert not any("left out" in note for note in one.notes)
    new = pd.DataFrame({"sequence": ["cleo"] * 3 + ["dan"], "time": [2, 1, 0, 7], "pain": [5.1, NAN, 0.1, 0.0]})
    known, whole = one.assign(new), one.posterior.on(Sequences.of(new))
    assert list(known["sequence"]) == list(new["sequence"])
    share = whole.smoothed(one.aligned)
    np.testing.assert_allclose(known[["probability[0]", "probability[1]"]], share, atol=1e-9)
    assert np.isfinite(one.fill(new)["pain"]).all()
    assert list(other.results["sequence"]) == list(frame["sequence"])


def test_a_movie_shows_the_whole_first_sequence():
    table = pd.DataFrame({"sequence": [0] * 7 + [1] * 4, "time": [*range(7), *range(4)], "x": np.arange(11.0) % 3})
    fit = pyrozoo.fit("hidden_markov", "em", data=table, num_components=2, restarts=1, progress=False)
    assert "first 7 rows" in view_of(fit.model).scene(fit, [fit]).caption


def test_twice_as_many_states_are_more_than_twice_the_effort():
    """Transitions are between all pairs of states."""
    few, many = (Posterior.of(dataclasses.replace(MODEL, num_components=K), TINY).effort for K in (3, 6))
    assert few < many / 2
