"""Arguments of a plain Pyro function: data of whatever kind the function takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError
from pyrozoo.data.container import Arrays, Data, Stored


@dataclass(frozen=True, eq=False)
class Arguments(Data):
    """What a Pyro function is called with. What is observed it says itself (``obs=``).

    Attributes:
        args: Its arguments.
        kwargs: Its keyword arguments.
        labels: Plate or dimension -> labels.
    """

    values: Tensor = field(default_factory=lambda: torch.empty(0))
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    name: str = "arguments"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """Return how many arguments there are."""
        count = len(self.args) + len(self.kwargs)
        return f"{count} argument{'' if count == 1 else 's'}"

    @property
    def numbers(self) -> int:
        """Return how many numbers the arguments are."""
        return sum(each.numel() for each in (*self.args, *self.kwargs.values()) if isinstance(each, Tensor))

    @property
    def coords(self) -> dict[str, Sequence[str]]:
        """Return ArviZ coordinates: dimension -> labels."""
        return dict(self.labels)

    @property
    def parts(self) -> int:
        """Return 1: a program's arguments are not cut into minibatches."""
        return 1

    def batch(self, index: Tensor) -> Arguments:
        """Return the arguments: there are no rows to choose."""
        return self

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Arguments:
        """Return the arguments on another device; a program states its own precision, which is left as it is."""

        def moved(given: Mapping[Any, Any]) -> dict[Any, Any]:
            return {k: value.to(device) if isinstance(value, Tensor) else value for k, value in given.items()}

        args = tuple(moved(dict(enumerate(self.args))).values())
        return replace(self, args=args, kwargs=moved(self.kwargs), replaced=moved(self.replaced))

    def same(self, other: Any) -> bool:
        """Return whether other arguments are the same."""
        if not isinstance(other, Arguments):
            return False
        mine, theirs = ({**dict(enumerate(each.args)), **each.kwargs} for each in (self, other))
        pairs = [(value, other.replaced.get(site)) for site, value in self.replaced.items()]
        pairs += [(value, theirs.get(name)) for name, value in mine.items()]
        return mine.keys() == theirs.keys() and all(_equal(*pair) for pair in pairs)

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return nothing: what is observed is stored by site, and arguments may be anything."""
        return {}, {}

    @classmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Arguments:
        """Refuse: arguments may be anything, and are not stored."""
        raise DataError("a program's arguments are not stored: load(directory, model=..., args=...) gives them")

    @classmethod
    def of(cls, source: Any, name: str = "arguments") -> Arguments:
        """Make arguments of arguments, or of one."""
        return source if isinstance(source, Arguments) else cls(args=(source,), name=name)


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor | np.ndarray):
        return one is other or bool(one == other)
    alike = isinstance(other, Tensor | np.ndarray) and one.shape == other.shape
    return alike and bool((torch.as_tensor(one) == torch.as_tensor(other)).all())
