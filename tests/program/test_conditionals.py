"""Complete conditionals, found from the log joint alone: families, parameters, where they come from, refusals."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import seeded
from pyrozoo.data.simulate import simulate_data
from pyrozoo.program.conditionals.conditional import Conditionals
from pyrozoo.program.conditionals.families import FAMILIES
from pyrozoo.run import catalog
from tests.case import refused

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def zoo(name: str, **settings) -> Posterior:
    values = {key: value for key, value in catalog.settings("model", name).items() if key != "name"}
    model = catalog.model_class(name).of({**values, **settings})
    return Posterior.of(model, simulate_data(model, seed=5, rows=5, columns=4))


TABLE = {
    ("zip_mixture", "num_components"): {
        "weights": "Dirichlet", "on_prob": None, "rate": None, "assignment": "enumeration",
    },
    ("factor_analysis", "num_factors"): {"noise_variance": None, "mean": "Normal of 4", "loadings": None},
    ("factor_analysis", "num_factors", "sum_out_factors"): {
        "noise_variance": "InverseGamma", "mean": "Normal", "loadings": "Normal of 2", "factors": "Normal of 2",
    },
    ("gaussian_mf", "num_factors"): {
        "noise_variance": "InverseGamma", "row_factors": "Normal of 2", "column_factors": "Normal of 2",
        "mean": "Normal", "row_offsets": "Normal", "column_offsets": "Normal",
    },
    ("gaussian_mf", "num_factors", "hierarchical"): {
        "noise_variance": "InverseGamma", "row_precision": "Wishart", "row_mean": "Normal of 2",
        "row_factors": "Normal of 2", "column_precision": "Wishart", "column_mean": "Normal of 2",
        "column_factors": "Normal of 2", "mean": "Normal", "row_offsets": "Normal", "column_offsets": "Normal",
    },
    ("poisson_mf", "num_factors", "hierarchical"): {
        "row_rates": "Gamma", "row_factors": None, "column_rates": "Gamma", "column_factors": None,
    },
}  # fmt: skip
"""Model and what is set of it -> site -> what is right; None: no family."""

SET = {"num_components": 3, "num_factors": 2, "sum_out_factors": False, "hierarchical": True}


def said(structure) -> str | None:
    if structure.kind == "other":
        return None
    if structure.kind == "discrete":
        return "enumeration"
    size = structure.blocks.size if structure.family.name == "Normal" else 1
    return structure.family.name + (f" of {size}" if size > 1 else "")


@pytest.mark.parametrize("about", TABLE, ids=" ".join)
def test_the_sites_of_the_zoo(about):
    posterior = zoo(about[0], **{name: SET[name] for name in about[1:]})
    found = Conditionals(posterior.program, posterior.data).structures.found
    assert {site: said(each) for site, each in found.items()} == TABLE[about]
    assert all(each.reason for each in found.values() if each.kind == "other")


# What is nearly conjugate ---------------------------------------------------------------------------------------------

SEEN = torch.linspace(0.1, 2.0, 6)


def truncated():
    return dist.Normal(pyro.sample("x", dist.Normal(0.0, 1.0)).clamp(min=-2.0), 1.0)


def nearly_normal():
    return dist.Normal(pyro.sample("x", dist.StudentT(1e4, 0.0, 1.0)), 1.0)


def nearly_normal_data():
    return dist.StudentT(1e5, pyro.sample("x", dist.Normal(0.0, 1.0)), 1.0)


def bounded():
    return dist.Uniform(0.0, pyro.sample("x", dist.Gamma(2.0, 1.0)))


def half_normal():
    return dist.Normal(0.0, pyro.sample("x", dist.HalfNormal(1.0)))


def log_normal():
    return dist.Exponential(pyro.sample("x", dist.LogNormal(0.0, 1.0)))


def power():
    return dist.Exponential(pyro.sample("x", dist.Gamma(2.0, 1.0)) ** 1.0001)


def stepped():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    return dist.Normal(torch.where(x > 0, 1.0, 0.0), 1.0)


def noisy_channel():
    return dist.Geometric(0.9999 * pyro.sample("x", dist.Beta(2.0, 2.0)))


def softened():
    x = pyro.sample("x", dist.Dirichlet(torch.ones(3)))
    return dist.MixtureSameFamily(dist.Categorical(x), dist.Normal(torch.arange(3.0), 1.0))


def interval():
    return dist.Exponential(pyro.sample("x", dist.Uniform(0.0, 10.0)))


NEARLY = [truncated, nearly_normal, nearly_normal_data, bounded, half_normal, log_normal, power, stepped,
          noisy_channel, softened, interval]  # fmt: skip


@pytest.mark.parametrize("program", NEARLY, ids=lambda f: f.__name__)
def test_what_is_nearly_conjugate_is_refused(program):
    def whole(_):
        fn = program()
        seen = SEEN.round() if program is noisy_channel else SEEN
        with pyro.plate("seen", len(SEEN)):
            pyro.sample("y", fn, obs=seen)

    with seeded(1):
        found = Conditionals(whole)
    assert found.structures["x"].kind == "other"
    assert "no such function" in found.structures["x"].reason or "part of its support" in found.structures["x"].reason \
        or "no family" in found.structures["x"].reason  # fmt: skip
    assert "x is not conjugate" in refused(NotApplicable, found, "x", found.draw())


# Parameters against those derived by hand -----------------------------------------------------------------------------


def close(found, expected):
    assert torch.allclose(found, torch.as_tensor(expected, dtype=found.dtype), rtol=1e-12, atol=1e-11)


def test_a_regression():
    X, y = torch.randn(9, 3), torch.randn(9)

    def program(_):
        tau = pyro.sample("tau", dist.Gamma(2.0, 3.0))
        with pyro.plate("slope", 3):
            b = pyro.sample("b", dist.Normal(1.0, 2.0 / tau.sqrt()))
        with pyro.plate("row", 9):
            pyro.sample("y", dist.Normal(X @ b, 1 / tau.sqrt()), obs=y)

    found = Conditionals(program)
    values = found.draw()
    tau, b = found("tau", values), found("b", values)
    close(tau.parameters[0], 2 + 3 / 2 + 9 / 2)
    r, away = y - X @ values["b"], values["b"] - 1
    close(tau.parameters[1], 3 + away.square().sum() / 8 + r.square().sum() / 2)
    assert {site: float(each[0]) for site, each in tau.contributions.items()} == pytest.approx(
        {"tau": 1.0, "b": 1.5, "y": 4.5}
    )
    close(b.parameters[0], values["tau"] * (torch.eye(3) / 4 + X.T @ X))
    close(b.parameters[1], values["tau"] * (0.25 + X.T @ y))


def test_labels_that_no_plate_shares_with_their_observations():
    person = torch.randint(0, 5, (30,))
    seen = (torch.arange(30) % 2).double()

    def program(_):
        with pyro.plate("class", 2):
            p = pyro.sample("p", dist.Beta(1.0, 2.0))
        with pyro.plate("person", 5):
            z = pyro.sample("z", dist.Categorical(tensor([0.3, 0.7])))
        with pyro.plate("answer", 30):
            pyro.sample("y", dist.Bernoulli(p[z[..., person]]), obs=seen)

    found = Conditionals(program)
    values = found.draw()
    p = values["p"]
    each = seen[:, None] * p.log() + (1 - seen[:, None]) * (1 - p).log()
    expected = tensor([0.3, 0.7]).log() + torch.zeros(5, 2).index_add(0, person, each)
    close(found("z", values).parameters[0].log_softmax(-1), expected.log_softmax(-1))
    z = values["z"][person]
    ones = torch.stack([(seen * (z == k)).sum() for k in (0, 1)])
    close(found("p", values).parameters[0], 1 + ones)


def test_elements_that_depend_on_each_other_take_turns():
    """A chain x0 - x1 - ... - x4 of Gamma variables: odd ones given even ones, and the other way round."""
    seen = tensor([2.0, 0.0, 1.0, 3.0])

    def program(_):
        x = pyro.sample("x", dist.Gamma(2.0, 3.0).expand([5]).to_event(1))
        pyro.sample("y", dist.Poisson(x[:-1] * x[1:]).to_event(1), obs=seen)

    found = Conditionals(program)
    assert [colour.tolist() for colour in found.structures["x"].colours] == [
        [True, False, True, False, True], [False, True, False, True, False],
    ]  # fmt: skip
    values = found.draw()
    x, shape, rate = values["x"], *found("x", values).parameters
    close(shape, [4, 4, 3, 6, 5])
    close(rate[1:-1], 3 + x[:-2] + x[2:])


def test_a_wishart():
    X = torch.randn(6, 2)

    def program(_):
        precision = pyro.sample("precision", dist.Wishart(tensor(4.0), torch.eye(2) / 2))
        with pyro.plate("row", 6):
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), precision_matrix=precision), obs=X)

    found = Conditionals(program)
    conditional = found("precision", found.draw())
    close(conditional.parameters[0], 10.0)
    close(conditional.parameters[1], 2 * torch.eye(2) + X.T @ X)


def parameters_of(family):
    matrix = tensor([[2.0, 0.5], [0.5, 1.0]])
    found = {
        "Normal": (matrix, tensor([1.0, -2.0])), "Dirichlet": (tensor([1.0, 2.0, 4.0]),),
        "Wishart": (tensor(5.0), matrix), "InverseWishart": (tensor(9.0), matrix),
    }  # fmt: skip
    return found.get(family.name, (tensor(5.0), tensor(3.0)))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_draws_have_the_moments_of_the_distribution(family):
    given = parameters_of(family)
    drawn = family.draw([each.expand(20_000, *each.shape) for each in given])
    mean = given[1] / (given[0] - 3) if family.name == "InverseWishart" else family.distribution(given).mean
    room = 5 * drawn.std(0) / len(drawn) ** 0.5
    assert bool(((drawn.mean(0) - mean).abs() <= room).all())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_nodes_have_the_expected_statistics(family):
    """What is linear in the statistics has one expectation: over nodes and over draws; log densities are linear."""
    given = tuple(torch.stack([each, 1.5 * each]) for each in parameters_of(family))  # two elements
    linear = tuple(torch.randn(each.shape) for each in given)
    linear = tuple(each + each.mT if each.ndim == 3 else each for each in linear)  # matrices are symmetric
    points = family.nodes(given)
    close(family.log_prob(points, given).mean(0), -family.entropy(given))
    drawn = family.draw([each.expand(40_000, *each.shape) for each in given])
    each, _ = family.energy(drawn, linear)
    assert bool(((each.mean(0) - family.energy(points, linear)[0].mean(0)).abs() <= 5 * each.std(0) / 200).all())
    if family.name != "InverseWishart":  # torch has none
        entropy = -family.distribution(given).log_prob(drawn).mean(0)
        assert torch.allclose(family.entropy(given), entropy, atol=0.05)


@pytest.mark.parametrize("size", [1e-25, 1e-8, 1.0, 1e8, 1e25])
def test_tiny_and_huge_values_keep_their_digits(size):
    """A Gamma of a shape far below 1 draws numbers such as 1e-25: the conditional there is what it is elsewhere."""

    def program(_):
        rate = pyro.sample("rate", dist.Gamma(tensor(0.1), 7.0))
        variance = pyro.sample("variance", dist.InverseGamma(tensor(0.1), 7.0))
        pyro.sample("count", dist.Poisson(rate), obs=tensor(2.0))
        pyro.sample("y", dist.Normal(0.0, variance.sqrt()), obs=tensor(3.0))

    conditionals = Conditionals(program)
    at = {"rate": tensor(size), "variance": tensor(size)}
    for site, expected in (("rate", (2.1, 8.0)), ("variance", (0.6, 11.5))):
        for found, each in zip(conditionals(site, at).parameters, expected, strict=True):
            assert float(found) == pytest.approx(each, rel=1e-8)
