"""Special functions against SciPy's."""

import numpy as np
import pytest
import scipy.special
import torch

from pyrozoo.compiler.kernels import switched
from pyrozoo.math.special import KERNELS, MOST_LOOKED_UP, digamma, gamma_functions, log_factorial


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-14), (torch.float32, 4e-6)])
@pytest.mark.parametrize("on", [True, False])
def test_gamma_functions_are_scipys(dtype, tolerance, on):
    x = torch.cat([torch.logspace(-30, 8, 4000), torch.linspace(0.01, 30, 4000), torch.tensor([1e12])]).to(dtype)
    assert KERNELS.serve(x)
    with switched(on):
        assert KERNELS.serve(x) == on
        (psi, log_gamma), alone = gamma_functions(x), digamma(x)
    assert alone.equal(psi)
    at = x.double().numpy()
    for ours, exact in ((psi, scipy.special.digamma(at)), (log_gamma, scipy.special.gammaln(at))):
        assert (np.abs(ours.double().numpy() - exact) / (1 + np.abs(exact))).max() < tolerance


def test_gamma_functions_at_the_ends():
    x = torch.tensor([0.0, torch.inf, torch.nan, 1e300], dtype=torch.float64)
    psi, log_gamma = gamma_functions(x)
    assert psi[0] == -torch.inf
    assert log_gamma[0] == torch.inf
    assert psi[1] == log_gamma[1] == torch.inf
    assert psi[2].isnan()
    assert log_gamma[2].isnan()
    torch.testing.assert_close(torch.stack([psi[3], log_gamma[3]]), torch.stack([x[3].digamma(), x[3].lgamma()]))


def test_parts_of_tensors_and_gradients_are_right_too():
    whole = torch.rand(5, 4, dtype=torch.float64) + 0.1
    torch.testing.assert_close(digamma(whole.T[1:]), torch.digamma(whole.T[1:]), rtol=1e-13, atol=1e-13)
    leaf = whole.clone().requires_grad_(True)
    digamma(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, torch.polygamma(1, whole))


@pytest.mark.parametrize("most", [0, 40, MOST_LOOKED_UP - 1, MOST_LOOKED_UP])
def test_log_factorials_are_those_of_gamma(most):
    counts = torch.tensor([[0.0, most], [1.0, most // 2]], dtype=torch.float64)
    torch.testing.assert_close(log_factorial(counts), torch.lgamma(counts + 1), rtol=1e-14, atol=1e-14)
    assert log_factorial(counts[:0]).shape == (0, 2)
