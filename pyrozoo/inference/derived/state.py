"""The state of derived methods: values of all latent sites of a program, discrete ones too, for many chains."""

from __future__ import annotations

import contextlib
import keyword
import re
from collections.abc import Iterable
from dataclasses import make_dataclass
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Values
from pyrozoo.program.conditionals.cells import Joint, drawn


class Layout:
    """Sites as fields of a dataclass.

    Args:
        sites: The sites.
        rest: Names of what a state has beside them, [chain, ...].

    Attributes:
        names: Site -> its field.
        state_class: The dataclass.
    """

    def __init__(self, sites: Iterable[str], rest: Iterable[str] = ()):
        plain = {site: re.sub(r"\W", "_", site) for site in sites}
        self.names = {site: f"{name}_" if keyword.iskeyword(name) else name for site, name in plain.items()}
        self.beside = {each: f"tuned_{each}" for each in rest}
        fields = [(name, Tensor) for name in (*self.names.values(), *self.beside.values())]
        self.state_class: Any = make_dataclass("State", fields, frozen=True)

    def state(self, values: Values, rest: Values | None = None) -> Any:
        """Return values, and what there is beside them, as a state."""
        beside = {name: (rest or {})[each] for each, name in self.beside.items()}
        return self.state_class(**{name: values[site] for site, name in self.names.items()}, **beside)

    def values(self, state: Any) -> dict[str, Tensor]:
        """Return a state as values."""
        return {site: getattr(state, name) for site, name in self.names.items()}

    def rest(self, state: Any) -> dict[str, Tensor]:
        """Return what a state has beside the sites."""
        return {each: getattr(state, name) for each, name in self.beside.items()}


def starting(posterior: Posterior, joint: Joint, chains: int) -> dict[str, Tensor]:
    """Return where chains begin: the posterior's own points, and draws of the other sites given them."""
    start: Values = {}
    with contextlib.suppress(ValueError, NotImplementedError):  # a program that cannot be enumerated can be drawn from
        start = posterior.start(chains)
    every = []
    with torch.no_grad(), pyro.validation_enabled(False):
        for chain in range(chains):
            held = poutine.condition(joint.program, data={site: value[chain] for site, value in start.items()})
            trace: Any = poutine.trace(InitMessenger(drawn)(held)).get_trace(joint.data)
            every.append({site: trace.nodes[site]["value"].detach() for site in joint.sites})
    return {site: torch.stack([one[site] for one in every]) for site in joint.sites}
