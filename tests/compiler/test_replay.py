"""Functions recorded as tensor operations: the same at other arguments, memory of their own, refusals."""

from __future__ import annotations

import pytest
import torch

from pyrozoo.compiler.replay import replayed
from pyrozoo.compiler.tape import Untraceable


def both(function, first, second):
    """Return what the function and its record say at the second arguments, the record being made at the first."""
    replay = replayed(function, first)
    replay(*first)  # whatever it writes into must be made anew
    return function(*second), replay(*second)


def test_it_is_the_function_at_other_arguments():
    held = torch.arange(3.0)

    def function(x, y):
        written = torch.zeros(3)
        written[1:] = x[:2] * y  # memory that was constant, by a view of it
        total = written.cumsum(0)
        total += held
        return total, torch.linalg.cholesky(torch.eye(3) + total[:, None] * total), x.mean()

    found = both(function, [torch.randn(3), torch.tensor(2.0)], [torch.randn(3), torch.tensor(-1.0)])
    for expected, replay in zip(*found, strict=True):
        assert torch.equal(expected, replay)
    assert torch.equal(held, torch.arange(3.0))


def test_slopes_inside_and_many_points_at_once():
    def function(x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = torch.func.vmap(lambda row: (row.sin() * row.roll(1, 0)).sum())(leaf).sum()
        return torch.autograd.grad(value, leaf)

    ((expected,), (found,)) = both(function, [torch.randn(4, 3)], [torch.randn(4, 3)])
    assert torch.equal(expected, found)


@pytest.mark.parametrize(
    "function", [lambda x: (x * (2.0 if x.sum() > 0 else 3.0),), lambda x: (torch.normal(x),)], ids=["values", "chance"]
)
def test_what_cannot_be_recorded_is_refused(function):
    with pytest.raises(Untraceable):
        replayed(function, [torch.ones(2)])
