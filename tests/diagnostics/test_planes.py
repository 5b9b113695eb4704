"""q against p: the pair that is shown, and the regions that are drawn, against normals whose answers are known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
from matplotlib.path import Path as Polygon
from scipy import linalg, stats

import pyrozoo
from pyrozoo import Model, Table, positive
from pyrozoo.core.draws import evenly
from pyrozoo.diagnostics import planes as module
from pyrozoo.diagnostics.planes import MASSES, distances, exact_regions, planes_of, regions
from pyrozoo.studies.compare.page import ComparisonResult
from pyrozoo.studies.compare.planes import UNITS, plane_page, plane_picture


def normal(mean, covariance, count: int = 2000, seed: int = 0) -> np.ndarray:
    """Return draws whose mean and covariance are exactly these, [draw, quantity]."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(raw.T, ddof=0)), raw.T).T
    return np.asarray(mean) + white @ np.linalg.cholesky(np.asarray(covariance)).T


def test_distances_are_those_of_normals():
    """Against the matrix square root, in every plane; what is far off counts as far, and points have no spread."""
    one = normal([0, 1, 0], [[1, 0.8, 0], [0.8, 1, 0.3], [0, 0.3, 1]])
    other = normal([0.5, 1, 0], np.diag([0.5, 2.0, 1.0]), seed=1)
    found = distances([one, other], 0)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = (np.cov(each[:, [i, j]].T, ddof=0) for each in (one, other))
        shift = (one.mean(0) - other.mean(0))[[i, j]]
        wanted = shift @ shift + np.trace(a + b - 2 * linalg.sqrtm(linalg.sqrtm(a) @ b @ linalg.sqrtm(a)).real)
        assert found[i, j] == pytest.approx(np.sqrt(wanted), abs=1e-6)
    point = distances([one, one.mean(0)[None]], 0)
    assert point[0, 2] == pytest.approx(np.sqrt(2), abs=1e-6)
    assert distances([one, one + 100], 0)[0, 1] == module.FARTHEST
    assert distances([one, other, one.mean(0)[None] + 9], 0) == pytest.approx(found), "a point is not asked"


def inference_data(draws: np.ndarray) -> az.InferenceData:
    """Return draws [draw, quantity] as two chains of the quantities a, b, c ..."""
    return az.from_dict({"abcdefgh"[k]: column.reshape(2, -1) for k, column in enumerate(draws.T)})


def compared(*draws: np.ndarray) -> ComparisonResult:
    data = [inference_data(each) for each in draws]
    return pyrozoo.compare(data[1:], reference=data[0])


def test_the_pair_is_the_one_whose_correlation_is_lost():
    """All means and sds agree: no table of single quantities shows it."""
    right = np.array([[1, 0, 0, 0.9], [0, 1, 0.2, 0], [0, 0.2, 1, 0], [0.9, 0, 0, 1]])
    result = compared(normal([0, 5, 0, 0], right), normal([0, 5, 0, 0], np.eye(4), seed=1))
    found = planes_of(result)
    assert found.base == result.reference
    assert set(found.quantities[:2]) == {"a", "d"}
    root = linalg.sqrtm(right[np.ix_([0, 3], [0, 3])])
    assert found.distance == pytest.approx(np.sqrt(4 - 2 * np.trace(root)), rel=1e-3), "in the reference's sds"


def test_of_quantities_that_are_one_and_the_same_one_is_shown():
    draws = normal([0, 0, 0], np.eye(3))
    draws[:, 2] = 1 - draws[:, 0]
    found = planes_of(compared(draws, draws * 1.5))
    assert len(found.quantities) == 2
    assert "b" in found.quantities
    draws[:, 1:] = 3.0
    assert planes_of(compared(draws, draws)) is None, "one quantity that varies is no plane"


@pytest.mark.parametrize("correlation", [0.0, 0.98])
def test_regions_hold_the_mass_that_they_say(correlation):
    covariance = np.array([[1, correlation], [correlation, 1]])
    draws = normal([3, -2], covariance * np.outer([1, 10], [1, 10]))
    for lines, mass in zip(regions(draws), MASSES, strict=True):
        (line,) = sorted(lines, key=len)[-1:]
        assert Polygon(line).contains_points(draws).mean() == pytest.approx(mass, abs=0.02)
        away = (line - [3, -2]) / [1, 10]
        radius = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away))
        assert radius.mean() == pytest.approx(np.sqrt(stats.chi2(2).ppf(mass)), rel=0.05), "the ellipse of a normal"
        assert radius.std() < 0.12 * radius.mean()


@dataclass(frozen=True)
class Line(Model):
    """A line through points, of known noise: the posterior of its two coefficients is normal."""

    scale: float = positive(default=2.0)

    def __call__(self, data: Table) -> None:
        x, y = data.filled[:, 0], data.filled[:, 1]
        pyro.sample("x", dist.Normal(x.new_zeros(len(x)), 1.0).to_event(1), obs=x)
        slope = pyro.sample("slope", dist.Normal(x.new_zeros(()), self.scale))
        level = pyro.sample("level", dist.HalfNormal(x.new_tensor(self.scale)))
        with pyro.plate("row", len(x)):
            pyro.sample("y", dist.Normal(level + slope * x, 0.5), obs=y)


@pytest.mark.parametrize("height", [1.5, 0.1])
def test_the_exact_posterior_of_two_parameters(height):
    """The edge of a grid's region is the ellipse that algebra gives; a parameter is never where its prior is not."""
    x = np.linspace(0, 2, 6)
    y = height - 0.5 * x
    fit = pyrozoo.fit(Line(), "laplace", data=np.stack([x, y], 1), draws=100, restarts=1, progress=False)
    precision = np.array([[x @ x, x.sum()], [x.sum(), len(x)]]) / 0.25 + np.eye(2) / 4
    mean = np.linalg.solve(precision, np.array([x @ y, y.sum()]) / 0.25)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    window = np.stack([mean - 5 * sd, mean + 5 * sd], 1)
    for order in ([0, 1], [1, 0]):
        names = [("slope", "level")[k] for k in order]
        for lines, mass in zip(exact_regions(fit, names, window[order]), MASSES, strict=True):
            (line,) = lines
            if height < 1:  # the level, which is positive, is cut at 0, within a cell of the grid
                assert line[:, order.index(1)].min() > -10 * sd[1] / (module.CELLS - 1)
                continue
            away = line - mean[order]
            radius = np.sqrt(np.einsum("ni,ij,nj->n", away, precision[np.ix_(order, order)], away))
            assert radius == pytest.approx(np.sqrt(stats.chi2(2).ppf(mass)), rel=0.03)


def test_a_page_has_every_pair_in_whole_numbers():
    right = normal([0, 5, 0], np.eye(3) + 0.5)
    result = compared(right, normal([0, 5, 0], 0.2 * np.eye(3), seed=1))
    found = planes_of(result)
    page = plane_page(found, result)
    assert len(json.dumps(page)) < 40_000
    assert [len(each["lines"]) for each in page["fits"]] == [3, 3]
    for k in range(3):
        low, high = page["windows"][k]
        back = low + np.array(page["dots"][k]) / UNITS * (high - low)
        known = found.draws[found.base][evenly(2000, len(back)).numpy(), k]
        assert back == pytest.approx(known, abs=(high - low) / UNITS)
    (line, *_) = page["fits"][1]["lines"]["0-1"][0]
    assert all(isinstance(value, int) for value in line)
    assert "reference" not in plane_picture(found, result).caption
    assert plane_page(None, result) is plane_picture(None, result) is None


def test_two_quantities_from_elsewhere_have_no_grid():
    """Draws come without a program, whose density could be asked."""
    draws = normal([0, 0], np.eye(2))
    found = planes_of(compared(draws, draws * 2))
    assert found.exact == []
