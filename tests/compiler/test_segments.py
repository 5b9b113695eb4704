"""Numbers that are looked up by an index that does not change: their derivative, summed by group in a fixed order."""

import pytest
import torch

from pyrozoo.compiler.host import Host
from pyrozoo.compiler.segments import CHUNK, Groups


@pytest.mark.parametrize("shape", [(), (3,)])
def test_sums_by_group_are_those_of_a_loop(shape):
    torch.manual_seed(0)
    index = torch.cat([torch.full((3 * CHUNK + 7,), 4), torch.randint(0, 3, (50,)), torch.tensor([6])])
    values = torch.randn(len(index), *shape, dtype=torch.float64)
    found = Groups(index, 8).sums(values)
    for group in range(8):  # some are empty
        torch.testing.assert_close(found[group], values[index == group].sum(0))


INDEX = torch.tensor([2, 0, 2, 1, 2])
SQUARE = torch.tensor([[0, 1], [1, 3]])
WAYS = {
    "rows": lambda x: x[INDEX],
    "a column of rows": lambda x: x[INDEX, 0],
    "columns": lambda x: x[:, SQUARE],
    "a square": lambda x: x[SQUARE],
    "index_select": lambda x: x.index_select(-1, INDEX),
    "deep": lambda x: x.unsqueeze(0).unsqueeze(-1)[:, :, INDEX, 0],
}


def derivatives(look_up, values, host=None):
    leaf = values.clone().requires_grad_(True)
    if host is None:
        found = look_up(leaf)
    else:
        with host:
            found = look_up(leaf)
    weights = torch.arange(found.numel(), dtype=found.dtype).reshape(found.shape)
    return found.detach(), torch.autograd.grad((weights * found**2).sum(), leaf)[0]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_looked_up_without_the_host_is_the_same(way):
    torch.manual_seed(0)
    values, host = torch.randn(4, 4, dtype=torch.float64), Host()
    expected = derivatives(WAYS[way], values)
    for mode in (host.first, host.again):
        for one, other in zip(derivatives(WAYS[way], values, mode()), expected, strict=True):
            torch.testing.assert_close(one, other)
    assert len(host._groups) == 1


@pytest.mark.parametrize(
    "look_up",
    [
        lambda x: x[torch.tensor([-1, 0])],  # counted from the end
        lambda x: x[torch.tensor([True, False, True, False])],
        lambda x: x[torch.tensor([0, 1]), torch.tensor([2, 2])],
        lambda x: x[1],
        lambda x: x[1:3],
        lambda x: x[0, torch.tensor([1, 1])],
        lambda x: x[..., torch.tensor([1, 1])],
        lambda x: x[None],
    ],
)
def test_other_ways_are_left_to_pytorch(look_up):
    values, host = torch.arange(16.0, dtype=torch.float64).reshape(4, 4), Host()
    for one, other in zip(derivatives(look_up, values, host.first()), derivatives(look_up, values), strict=True):
        torch.testing.assert_close(one, other)
    assert not host._groups


def test_an_index_that_is_made_anew_is_left_to_pytorch():
    def look_up(x):
        return x[torch.arange(3) + offset]

    values, host, offset = torch.arange(5.0, dtype=torch.float64), Host(), 1
    derivatives(look_up, values, host.first())
    offset = 2
    found, slope = derivatives(look_up, values, host.again())
    torch.testing.assert_close(found, values[2:])
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.0, 0.0, 6.0, 16.0], dtype=torch.float64))
