"""What the laws need to know of a model: its test file states one ``CASE``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import UserError
from pyrozoo.run import catalog


@dataclass(frozen=True)
class Oracle:
    """The exact answer to a tiny instance, computed independently of every solver.

    Attributes:
        log_evidence: log p(data).
        draws: Independent exact posterior draws, [1, S, *event].
    """

    log_evidence: float
    draws: Draws


@dataclass(frozen=True)
class Case:
    """One model under the laws.

    Attributes:
        model: A small model.
        tiny: Data with missing values, small enough for the oracle.
        oracle: Computes the exact answer for ``model`` and ``tiny``.
        shape: Sizes to simulate for Geweke and calibration.
        joint: The model with the local sites of its samplers' states kept in the program; None: there are none.
        lose: Hides some entries of simulated data, always the same ones, for Geweke and calibration.
        fills: Methods that fill holes first, or are points where much is unknown: their intervals are not held to their
            coverage.
        larger: Sizes to simulate where a realistic fit is wanted.
        settings: Method -> settings that make a fit quick.
        elbo_gap: By how much a converged ELBO may fall short of the evidence on ``tiny`` (mean field is a bound).
        laplace_error: By how much Laplace's evidence may miss on ``tiny``.
        bad: Name -> (data as a user gives it, what the error must name).
        odd: Name -> data that is unusual but must give a finite fit.
        bugs: Name -> a sampler with a bug planted in it, made from a posterior.
        variants: Method -> the case of the model with the settings that the method is for, where it is not for these.
    """

    model: Model
    tiny: Any
    oracle: Callable[[], Oracle]
    shape: Mapping[str, int]
    larger: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Any]]
    elbo_gap: float
    laplace_error: float
    bad: Mapping[str, tuple[Any, str]]
    odd: Mapping[str, Any]
    bugs: Mapping[str, Callable[[Any], Solver]] = field(default_factory=dict)
    joint: Model | None = None
    lose: Callable[[Any], Any] | None = None
    fills: frozenset[str] = frozenset()
    variants: Mapping[str, Case] = field(default_factory=dict)


def case(model: str, method: str = "") -> Case:
    """Return the case of a model, or that of a method of it; a model without one fails here."""
    its = importlib.import_module(f"tests.models.test_{model}").CASE
    return its.variants.get(method, its)


PAIRS = [(model, method) for model in catalog.models() for method in catalog.methods(model)]


def pairs(**wanted: str) -> list[tuple[str, str]]:
    """Return pairs of model and method whose settings file says so, such as ``engine="sample"``."""
    return [
        (model, method)
        for model, method in PAIRS
        if all(catalog.settings("inference", method)[key] == value for key, value in wanted.items())
    ]


def solver_class(model: str, method: str) -> type[Solver]:
    """Import a solver."""
    return importlib.import_module(f"pyrozoo.models.{model}.{method}").Solver


def refused(error: type[UserError], function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Return the message, a single line, with which a call is refused."""
    with pytest.raises(error) as caught:
        function(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    assert "\r" not in message
    return message
