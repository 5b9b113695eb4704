"""What libraries leave open of linear algebra is settled."""

import torch

from pyrozoo.math.linear_algebra import signed


def test_axes_have_the_sign_of_their_first_largest_element():
    half = 2**-0.5
    axes = torch.tensor([[-0.6, half, 0.0], [0.8, -half * (1 + 1e-12), -1.0]])
    expected = torch.tensor([[-0.6, half, 0.0], [0.8, -half, 1.0]])
    for flips in ([1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]):
        torch.testing.assert_close(signed(axes * torch.tensor(flips)), expected)
    torch.testing.assert_close(signed(torch.stack([axes, -axes])), expected.expand(2, -1, -1))
