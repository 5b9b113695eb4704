"""What draws are worth, beside ArviZ."""

from __future__ import annotations

import logging

import arviz as az
import numpy as np
import pytest
import torch

from pyrozoo.math.mixing import ess, missing_information, monte_carlo_errors, rhat, shortest_interval


def chains(shape, slow):
    """Return draws that each depend on the one before."""
    values = np.random.default_rng(0).normal(size=shape)
    for t in range(1, shape[1]):
        values[:, t] += slow * values[:, t - 1]
    return values


def strange():
    """Return a constant, chains stuck at values of their own, two values, a NaN, an infinite one."""
    values = chains((4, 60, 5), 0.5)
    values[..., 0], values[..., 2] = 1.5, values[..., 2] > 0
    values[0, 3, 3], values[1, 2, 4] = np.nan, np.inf
    values[..., 1] = np.arange(4)[:, None]
    return values


DRAWS = {
    "independent": chains((4, 200, 5), 0.0),
    "slow": chains((4, 201, 5), 0.97),
    "alternating": chains((3, 100, 5), -0.7),
    "four": chains((2, 4, 5), 0.3),
    "five": chains((2, 5, 5), 0.3),
    "counts": np.random.default_rng(1).poisson(0.2, (4, 100, 4)).astype(float),
    "strange": strange(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_figures_are_those_of_arviz(name, caplog):
    caplog.set_level(logging.ERROR)
    draws = DRAWS[name]
    ours, columns = torch.from_numpy(draws), [draws[..., i] for i in range(draws.shape[2])]
    mean, sd = monte_carlo_errors(ours)
    low, high = shortest_interval(ours, 0.9)
    with np.errstate(all="ignore"):
        pairs = {
            "rhat": (rhat(ours).clamp(max=1e9), [min(float(az.rhat(each)), 1e9) for each in columns]),
            **{of: (ess(ours, of), [az.ess(each, method=of) for each in columns]) for of in ("bulk", "tail", "mean")},
            "mean": (mean, [az.mcse(each, method="mean") for each in columns]),
            "sd": (sd, [az.mcse(each, method="sd") for each in columns]),
            "interval": (torch.stack([low, high], 1), az.hdi(draws, 0.9)),
        }
    for what, (found, expected) in pairs.items():
        np.testing.assert_allclose(found.numpy(), np.asarray(expected), rtol=1e-9, err_msg=what)


def test_one_chain_and_three_draws_have_no_rhat_and_shapes_are_kept():
    assert rhat(torch.rand(1, 50, 2, 3)).isnan().all()
    assert ess(torch.rand(2, 3, 2, 3), "tail").isnan().all()
    assert ess(torch.rand(2, 8, 2, 3)).shape == (2, 3)
    assert ess(torch.rand(2, 8)).shape == ()
    energy = torch.from_numpy(chains((3, 40, 1), 0.4)[..., 0])
    np.testing.assert_allclose(missing_information(energy), az.bfmi(energy.numpy()), rtol=1e-12)
