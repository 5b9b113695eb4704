"""What libraries leave open of linear algebra is settled."""

import torch

from pyrozoo.math.linear_algebra import root_by_products, signed, symmetric_root


def test_axes_have_the_sign_of_their_first_largest_element():
    half = 2**-0.5
    axes = torch.tensor([[-0.6, half, 0.0], [0.8, -half * (1 + 1e-12), -1.0]])
    expected = torch.tensor([[-0.6, half, 0.0], [0.8, -half, 1.0]])
    for flips in ([1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]):
        torch.testing.assert_close(signed(axes * torch.tensor(flips)), expected)
    torch.testing.assert_close(signed(torch.stack([axes, -axes])), expected.expand(2, -1, -1))


def test_roots_by_products_are_those_of_singular_values():
    generator = torch.Generator().manual_seed(0)
    near = 1.5 * torch.eye(20, dtype=torch.float64) + 0.02 * torch.randn(
        3, 20, 20, dtype=torch.float64, generator=generator
    )
    root, inverse, fine = root_by_products(near)
    assert fine
    for mine, theirs in zip((root, inverse), symmetric_root(near), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    assert not root_by_products(torch.diag(torch.logspace(0, 8, 20, dtype=torch.float64))[None])[2]
