"""What a model is: settings, and a Pyro program. Everything else has a default that follows from the program."""

from __future__ import annotations

import abc
import importlib
import inspect
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from itertools import zip_longest
from types import ModuleType
from typing import Any, ClassVar, Self

from pyrozoo.contracts.symmetry import NONE, Symmetry
from pyrozoo.core.settings import Settings

DIGITS = 3
"""Significant digits of a setting that is derived from data: float32 and float64 agree on it, and it can be read."""


MOST_SPELLED = 8
"""Numbers up to which a note says each."""

FAR = 2.0
"""Ratio of a stated setting to the data's own from which on it is named as being on another scale."""


def rounded(value: float) -> float:
    """Return a positive scale with ``DIGITS`` digits; 1 of what is no scale, such as the spread of equal values."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) and value > 0 else 1.0


@dataclass(frozen=True)
class Derived:
    """The value of a setting that was left to the data.

    Attributes:
        value: It, a number or one for every column.
        how: The formula in words, such as "rate_shape / mean of the counts above 0".
        unit: Of a location the spread of the data around it, which says what is far from it; None: it is a scale.
    """

    value: float | tuple[float, ...]
    how: str
    unit: float | tuple[float, ...] | None = None

    @property
    def rounded(self) -> Derived:
        """The same with few digits: a scale with ``DIGITS``, a location with as many digits of its unit."""
        values = _numbers(self.value)
        if self.unit is None:
            digits = tuple(map(rounded, values))
        else:
            units = (10.0 ** (math.floor(math.log10(rounded(unit))) + 1 - DIGITS) for unit in _numbers(self.unit))
            digits = tuple(float(f"{round(v / u) * u:.12g}") for v, u in zip(values, units, strict=True))
        return replace(self, value=digits if isinstance(self.value, tuple) else digits[0])

    def far_from(self, stated: float | Sequence[float]) -> bool:
        """Return whether a stated value is on another scale than the data, in any column."""
        pairs = zip_longest(_numbers(self.value), _numbers(stated), fillvalue=_numbers(stated)[0])
        if self.unit is None:
            return any(not 1 / FAR < b / a < FAR for a, b in pairs)
        return any(abs(a - b) > FAR * unit for (a, b), unit in zip(pairs, _numbers(self.unit), strict=True))

    def __str__(self) -> str:
        return spelled(self.value)


def _numbers(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


def spelled(value: float | Sequence[float]) -> str:
    """Return a number, or numbers of columns, as a note says them: of many the least and the largest."""
    numbers = _numbers(value)
    if len(numbers) > MOST_SPELLED:
        return f"{min(numbers):g} to {max(numbers):g}"
    return f"{numbers[0]:g}" if not isinstance(value, Sequence) else f"[{','.join(f'{each:g}' for each in numbers)}]"


@dataclass(frozen=True)
class Model(Settings, abc.ABC):
    """A model: a frozen dataclass whose fields are hyper-parameters, checked on construction.

    Calling it runs *the* Pyro program, the only place where priors are stated. What a model can be asked is asked of
    its ``Posterior`` given data: defaults follow from the program, and a ``posterior.py`` beside the model's file may
    hold a subclass that knows better.

    Attributes:
        dims: Site -> names of the dimensions of one event, which no plate names, such as ``("component",)``.
        without_data: Settings that null leaves to the data -> what they are where there are no data to take them from:
            of a simulation.
        uses_exposure: Whether the program has the exposure of rows in it (``data.exposure``).
    """

    prefix: ClassVar[str] = "model."
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    without_data: ClassVar[Mapping[str, float]] = {}
    uses_exposure: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, data: Any) -> None:
        """Run the Pyro program on the data. The annotation of ``data``, if any, says which container it wants."""

    def from_data(self, data: Any) -> Mapping[str, Derived]:
        """Return what null means for the settings ``without_data``, from the observed cells of data: name -> value."""
        return {}

    def derived(self, data: Any) -> dict[str, Derived]:
        """Return the values of those settings that are null, from data that have a value, and how each was found."""
        null = [name for name in self.without_data if getattr(self, name) is None]
        if not null:
            return {}
        if data is None or data.empty:
            return {name: Derived(self.without_data[name], "there are no data") for name in null}
        known = self.from_data(data)
        return {name: known[name].rounded for name in null}

    def given(self, data: Any) -> Self:
        """Return the model with what null leaves to the data filled in."""
        found = {name: each.value for name, each in self.derived(data).items()}
        return replace(self, **found) if found else self

    def to_rescale(self, data: Any) -> str:
        """Say what to type where the prior is on another scale than data: the settings stated farthest from theirs."""
        null = [name for name in self.without_data if getattr(self, name) is not None]
        ours = replace(self, **dict.fromkeys(null)).derived(data) if null else {}
        far = [name for name, each in ours.items() if each.far_from(getattr(self, name))]
        if far:
            return "set " + ", ".join(
                f"{self.prefix}{name}=null ({ours[name]} in place of {spelled(getattr(self, name))})" for name in far
            )
        # The scale is the data's own: what is left are the priors' shapes.
        rest = [f.name for f in fields(self) if f.name not in self.without_data and "float" in str(f.type)]
        return f"widen {' or '.join(self.prefix + n for n in rest)}" if rest else "widen the program's priors"

    @property
    def symmetry(self) -> Symmetry:
        """What the likelihood leaves free: nothing, unless the model says so."""
        return NONE

    @property
    def name(self) -> str:
        """The name of the model: of the folder it stands in, or its class's, in small letters."""
        return name_of(type(self))

    @property
    def container(self) -> Any:
        """The class of its data, from the annotation of the program's argument; None: whatever it is given."""
        return container_of(type(self))


def name_of(model: type) -> str:
    """Return the name of a class of models."""
    *_, folder, file = ("", "", *model.__module__.split("."))
    if file == "model" and folder:
        return folder
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model.__name__).lower()


def container_of(model: Any) -> Any:
    """Return the class of data that a class of models wants, or None."""
    given = list(inspect.signature(model.__call__).parameters.values())[1].annotation
    if isinstance(given, str):
        given = vars(sys.modules[model.__module__]).get(given)
    return given if isinstance(given, type) and hasattr(given, "of") else None


def beside(model: type, name: str) -> ModuleType | None:
    """Return the module of that name beside a class of models, in its folder, or None."""
    folder, _, file = model.__module__.rpartition(".")
    if model.__module__ == __name__ or file != "model" or find_spec(f"{folder}.{name}") is None:
        return None
    return importlib.import_module(f"{folder}.{name}")


@dataclass(frozen=True)
class Program(Model):
    """A plain Pyro function as a model: it is called with arguments, and says itself what is observed.

    Attributes:
        function: The function.
        called: Its name.
    """

    function: Any
    called: str = "program"

    def __call__(self, data: Any) -> None:
        """Run the function with the arguments that ``data`` holds."""
        self.function(*data.args, **data.kwargs)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.called

    def values(self) -> dict[str, Any]:
        """Return no settings: the function has them inside."""
        return {}
