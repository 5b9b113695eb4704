"""What a model is: settings, and a Pyro program. Everything else has a default that follows from the program."""

from __future__ import annotations

import abc
import importlib
import inspect
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar, Self

from pyrozoo.contracts.symmetry import NONE, Symmetry
from pyrozoo.core.settings import Settings

DIGITS = 3
"""Significant digits of a setting that is derived from data: float32 and float64 agree on it, and it can be read."""


FAR = 2.0
"""Ratio of a stated setting to the data's own from which on it is named as being on another scale."""


def rounded(value: float) -> float:
    """Return a positive scale with ``DIGITS`` digits; 1 of what is no scale, such as the spread of equal values."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) and value > 0 else 1.0


@dataclass(frozen=True)
class Derived:
    """The value of a setting that was left to the data.

    Attributes:
        value: It.
        how: The formula in words, such as "rate_shape / mean of the counts above 0".
    """

    value: float
    how: str


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
        return {name: Derived(rounded(known[name].value), known[name].how) for name in null}

    def given(self, data: Any) -> Self:
        """Return the model with what null leaves to the data filled in."""
        found = {name: each.value for name, each in self.derived(data).items()}
        return replace(self, **found) if found else self

    def to_rescale(self, data: Any) -> str:
        """Say what to type where the prior is on another scale than data: the settings stated farthest from theirs."""
        null = [name for name in self.without_data if getattr(self, name) is not None]
        ours = replace(self, **dict.fromkeys(null)).derived(data) if null else {}
        stated = {name: float(getattr(self, name)) for name in ours}
        far = [n for n, each in ours.items() if not 1 / FAR < stated[n] / each.value < FAR]
        if far:
            return "set " + ", ".join(
                f"{self.prefix}{n}=null ({ours[n].value:g} in place of {stated[n]:g})" for n in far
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
