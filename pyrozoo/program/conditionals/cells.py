"""The log joint of a program cell by cell: every site's own log density at values of all latent sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import pyro
import pyro.poutine as poutine
import torch
from pyro.distributions import Independent, MaskedDistribution
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor
from torch.distributions import biject_to

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import undisturbed
from pyrozoo.program.trace import Program, anywhere, dims_of, is_deterministic, sample_nodes

FAR = 3.0
"""Beyond this a number of an unconstrained space is far out."""


class Joint:
    """A program at values of all of its latent sites, discrete ones too: nothing is summed out, nothing is drawn.

    Args:
        program: The program.
        data: Its argument.

    Attributes:
        nodes: Latent sites as one run has them, in the program's order.
        observed: Names of the observed sites and of factors.
        dims: Latent site -> names of its dimensions.
    """

    def __init__(self, program: Program, data: Any):
        self.program, self.data = program, data
        with undisturbed(), pyro.validation_enabled(False):
            trace: Any = poutine.trace(InitMessenger(drawn)(program)).get_trace(data)
        nodes = {name: node for name, node in sample_nodes(trace).items() if not is_deterministic(node)}
        self.nodes: dict[str, Any] = {name: node for name, node in nodes.items() if not node["is_observed"]}
        self.observed = tuple(name for name, node in nodes.items() if node["is_observed"])
        self.dims = {name: dims_of(node) for name, node in self.nodes.items()}
        self.data_nodes = {name: nodes[name] for name in self.observed}

    @property
    def sites(self) -> tuple[str, ...]:
        """The latent sites, in the program's order."""
        return tuple(self.nodes)

    @cached_property
    def candidates(self) -> dict[str, Tensor]:
        """Discrete site of finitely many values -> these values, [value]."""
        found = {}
        for name, node in self.nodes.items():
            if node["fn"].has_enumerate_support and not node["fn"].event_dim:
                support = node["fn"].enumerate_support(expand=False)
                found[name] = support.reshape(-1)
        return found

    @cached_property
    def batched(self) -> bool:
        """Whether the program can be run at several values at once."""
        values = {site: torch.stack([node["value"], node["value"]]).detach() for site, node in self.nodes.items()}
        with torch.no_grad(), pyro.validation_enabled(False):
            try:
                torch.func.vmap(self.cells, randomness="different")(values)
            except (RuntimeError, ValueError, NotImplementedError):
                return False
        return True

    def support(self, site: str) -> Any:
        """Return the support of a latent site, that of one element where they are independent."""
        support = self.nodes[site]["fn"].support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        return support

    def discrete(self, site: str) -> bool:
        """Return whether a latent site is discrete."""
        return bool(getattr(self.nodes[site]["fn"].support, "is_discrete", False))

    def cells(self, values: Values) -> dict[str, Tensor]:
        """Return the log densities at values of all latent sites, site -> one number per cell of it, of any shape.

        Independent dimensions of one event are cells of their own.
        """
        trace: Any = poutine.trace(poutine.condition(self.program, data=dict(values))).get_trace(self.data)
        return self.cells_of(trace)

    def cells_of(self, trace: Any) -> dict[str, Tensor]:
        """Return the cells of a trace of the program."""
        found = {}
        for name, node in sample_nodes(trace).items():
            if not is_deterministic(node):
                found[name] = _scaled(node, _of_cells(node["fn"], node["value"]))
        return found

    def total(self, values: Values) -> Tensor:
        """Return log p(data, all latent sites), a scalar."""
        return torch.stack([each.sum() for each in self.cells(values).values()]).sum()

    def draw(self, attempts: int = 100, one: Callable[[Mapping[str, Any]], Tensor] | None = None) -> dict[str, Tensor]:
        """Return values of all latent sites, at which the density is finite.

        Args:
            attempts: How often it is tried.
            one: Value of a site; None: from its prior.

        Raises:
            NotApplicable: There are none among many draws.
        """
        for _ in range(attempts):
            with pyro.validation_enabled(False):
                trace: Any = poutine.trace(InitMessenger(one or drawn)(self.program)).get_trace(self.data)
                values = {name: trace.nodes[name]["value"].detach() for name in self.nodes}
                if bool(self.total(values).isfinite()):
                    return values
        raise NotApplicable(f"the density of the program is finite at none of {attempts} draws from its prior")


def drawn(site: Mapping[str, Any]) -> Tensor:
    """Return a draw from the prior of a site, or any value where it cannot be drawn from."""
    try:
        return site["fn"].sample()
    except NotImplementedError:  # a prior that cannot be drawn from
        return anywhere(site)


def near(site: Mapping[str, Any]) -> Tensor:
    """Return a draw from the prior of a site, but for numbers that are far out: they are drawn near 0, unconstrained.

    A vague prior, such as Gamma(0.001, 0.001), gives values of 1e-300. There, data seem to have nothing to do with what
    has a precision of that size, and every sum of log densities is that of its largest.
    """
    value, support = drawn(site), site["fn"].support
    if getattr(support, "is_discrete", False):
        return value
    try:
        transform = biject_to(support)
        free = transform.inv(value)
    except NotImplementedError:
        return value
    return transform(torch.where(free.abs() <= FAR, free, torch.randn_like(free)))  # not a number: far out, too


def _of_cells(fn: Any, value: Tensor) -> Tensor:
    """Return log densities with the independent dimensions of one event kept apart."""
    if isinstance(fn, Independent):
        return _of_cells(fn.base_dist, value)
    if isinstance(fn, MaskedDistribution):
        if fn._mask is False:
            return value.new_zeros(())
        found = _of_cells(fn.base_dist, value)
        if not isinstance(fn._mask, Tensor):
            return found
        mask = fn._mask.reshape(fn._mask.shape + (1,) * (found.ndim - len(fn.batch_shape)))
        return torch.where(mask, found, 0.0)
    return fn.log_prob(value)


def _scaled(node: Mapping[str, Any], found: Tensor) -> Tensor:
    scale, mask = node["scale"], node["mask"]
    if mask is False:
        return found.new_zeros(())
    if isinstance(mask, Tensor):
        found = torch.where(mask, found, 0.0)
    return found if isinstance(scale, float | int) and scale == 1 else found * scale
