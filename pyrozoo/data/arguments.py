"""Arguments of a plain Pyro function: data of whatever kind the function takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError
from pyrozoo.data.container import Arrays, Data


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

        def move(value: Any) -> Any:
            return value.to(device) if isinstance(value, Tensor) else value

        return replace(
            self,
            args=tuple(move(each) for each in self.args),
            kwargs={name: move(value) for name, value in self.kwargs.items()},
            replaced={site: move(value) for site, value in self.replaced.items()},
        )

    def same(self, other: Any) -> bool:
        """Return whether other arguments are the same."""
        if (
            not isinstance(other, Arguments)
            or len(self.args) != len(other.args)
            or self.kwargs.keys() != other.kwargs.keys()
        ):
            return False
        pairs = [*zip(self.args, other.args, strict=True), *((v, other.kwargs[k]) for k, v in self.kwargs.items())]
        pairs += [(value, other.replaced.get(site)) for site, value in self.replaced.items()]
        return all(_equal(*pair) for pair in pairs)

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return nothing: what is observed is stored by site, and arguments may be anything."""
        return {}, {}

    @classmethod
    def restore(
        cls, observed: Mapping[str, np.ndarray], extra: Mapping[str, np.ndarray], coords: Mapping[str, Sequence[str]],
        site: str,
    ) -> Arguments:  # fmt: skip
        """Refuse: arguments may be anything, and are not stored."""
        raise DataError("a program's arguments are not stored: load(directory, model=..., args=...) gives them")

    @classmethod
    def of(cls, source: Any, name: str = "arguments") -> Arguments:
        """Make arguments of arguments, or of one."""
        return source if isinstance(source, Arguments) else cls(args=(source,), name=name)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor | np.ndarray):
        return isinstance(other, Tensor | np.ndarray) and one.shape == other.shape and bool(
            (torch.as_tensor(one) == torch.as_tensor(other)).all()
        )  # fmt: skip
    return one is other or bool(one == other)
