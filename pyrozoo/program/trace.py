"""A program, traced: its sites, plates and dimensions; simulated from; its densities by site, unit by unit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pyro
import pyro.poutine as poutine
import torch
from pyro.distributions import Delta, ExpandedDistribution, Independent, MaskedDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import config_enumerate
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import biject_to

from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import undisturbed

Program = Callable[[Any], Any]
"""A Pyro program of one argument, its data."""


def sample_nodes(trace: Any) -> dict[str, Any]:
    """Return the sample sites of a trace, subsampling left out."""
    return {n: node for n, node in trace.nodes.items() if node["type"] == "sample" and not site_is_subsample(node)}


def is_deterministic(node: Mapping[str, Any]) -> bool:
    """Return whether a site is a function of others: recorded, or another's in place of a reparameterised one."""
    return bool(node["infer"].get("_deterministic")) or (node["is_observed"] and type(_inner(node["fn"])) is Delta)


def _inner(fn: Any) -> Any:
    while isinstance(fn, MaskedDistribution | Independent | ExpandedDistribution):
        fn = fn.base_dist
    return fn


def _is_dense(node: Mapping[str, Any]) -> bool:
    """Return whether a site has a density: a function of others may have that of its change of variables."""
    return not is_deterministic(node) or getattr(node["fn"], "_mask", None) is not False


class _Unobserve(UnconditionMessenger):
    """Draws what is observed; functions of other sites stay what they are: drawn anew in a plate they would grow."""

    def _pyro_sample(self, msg: Any) -> None:
        if not is_deterministic(msg):
            super()._pyro_sample(msg)


def simulate(program: Program, blank: Any, given: Values | None = None) -> dict[str, Tensor]:
    """Draw every site of the program, the observed ones included, from torch's global generator.

    Args:
        program: The program.
        blank: Data that give the shape; what is observed of them is not looked at.
        given: Sites held at a value.

    Returns:
        Site name -> value.
    """
    trace = poutine.trace(poutine.condition(_Unobserve()(program), data=dict(given or {}))).get_trace(blank)
    return {name: cast(Tensor, node["value"]) for name, node in sample_nodes(trace).items()}


def without(program: Program, data: Any, hidden: str) -> dict[str, Tensor]:
    """Run a program, inside another one, as if it had not this site; return the values of its others."""
    trace = poutine.trace(poutine.block(program, hide=[hidden])).get_trace(data)
    return {name: cast(Tensor, node["value"]) for name, node in sample_nodes(trace).items()}


def prior_draw(program: Program, sites: Iterable[str], data: Any) -> dict[str, Tensor]:
    """Draw sites from the program's priors, from torch's global generator; the data only give shapes."""
    trace = poutine.trace(program).get_trace(data)
    return {site: cast(Tensor, trace.nodes[site]["value"]) for site in sites}


def log_prior(program: Program, sites: Iterable[str], draws: Values, data: Any, depth: int) -> Tensor:
    """Return log p(global sites) under the program's priors, [chain, draw]."""
    sites = list(sites)

    def at(draw: Values) -> Tensor:
        found = priors(program, sites, draw, data, depth)
        return torch.stack([found[site].log_prob(draw[site]).sum() for site in sites]).sum()

    with pyro.validation_enabled(False):
        return over_draws(at, draws)


PROBES = 4
"""Draws that are taken one by one, whatever the function."""

BLOCK = 2**21
"""Numbers that are held at a time."""


def priors(program: Program, sites: Iterable[str], values: Values, data: Any, depth: int) -> dict[str, Any]:
    """Return the distribution of every global site when the global sites have these values."""
    trace = enumerated_trace(program, values, data, depth)
    return {site: trace.nodes[site]["fn"] for site in sites}


def log_joint(program: Program, draws: Values, data: Any, depth: int) -> Tensor:
    """Return the program's own log p(data, global sites), discrete sites summed out by enumeration, [chain, draw].

    The truth that hand-built densities are held to; slower than they are.
    """
    values = []
    for draw in Draws(draws).each():
        trace = enumerated_trace(program, draw, data, depth)
        values.append(TraceEinsumEvaluator(trace, True, depth).log_prob(trace))
    return torch.stack(values).reshape(Draws(draws).shape)


def enumerated_trace(program: Program, values: Values, data: Any, depth: int) -> Any:
    """Trace the program at values of its sites, every discrete site left enumerated: no random number is drawn."""
    conditioned = poutine.condition(program, data=dict(values))
    with _Enumerate(first_available_dim=-1 - depth):
        return poutine.trace(config_enumerate(conditioned, default="parallel")).get_trace(data)


class _Enumerate(EnumMessenger):
    """Enumeration that works under vmap, where ``data`` of a tensor, which Pyro's own looks at, is out of bounds."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value, name = msg["value"], msg["name"]
        if not isinstance(msg["fn"], TorchDistributionMixin) or value is None:
            return
        batch = value.shape[: value.dim() - msg["fn"].event_dim]
        known = msg["infer"].setdefault("_dim_to_id", {})
        known.update(self._param_dims.get(name, {}))
        self._value_dims[name] = {d: i for d, i in known.items() if len(batch) >= -d and batch[d] > 1}


def plate_depth(program: Program, data: Any) -> int:
    """Return how many dimensions the program's plates take; enumeration goes to the left of them."""
    with undisturbed():  # a look at the program is no draw of the caller's
        trace = poutine.trace(program).get_trace(data)
    return depth_of(trace)


def depth_of(trace: Any) -> int:
    """Return how many dimensions the plates of a trace take."""
    frames = [f for node in trace.nodes.values() if node["type"] == "sample" for f in node["cond_indep_stack"]]
    return max((-frame.dim for frame in frames if frame.dim is not None), default=0)


def log_likelihood_by_unit(
    program: Program, sites: Iterable[str], values: Values, data: Any, depth: int
) -> tuple[Tensor, tuple[str, ...]]:
    """Return log p(unit | values), discrete sites summed out, and the plates that units are elements of.

    Observed and discrete sites that depend on each other stand together; their units are the elements of the plates
    that all of them share. Sites that stand apart give units of their own, one after another.

    Args:
        program: The program.
        sites: Sites that are held at ``values``; all other latent sites are discrete.
        values: Site -> value.
        data: The program's argument.
        depth: What its plates take (``plate_depth``).

    Returns:
        Log densities [unit], and names of plates; none where the units are of several kinds.
    """
    trace = enumerated_trace(program, values, data, depth)
    held = set(sites)
    nodes = {name: x for name, x in _dense(trace).items() if name not in held and not is_deterministic(x)}
    if not _enumerates(trace):  # every element of every site is a unit, in plates or not
        kinds = {tuple(dims_of(node)[: node["log_prob"].ndim]) for node in nodes.values()}
        parts = [node["log_prob"].reshape(-1) for node in nodes.values()]
        return torch.cat(parts), kinds.pop() if len(kinds) == 1 else ()
    summed, terms = _terms(trace, nodes)
    names = {symbol: name for name, symbol in trace.plate_to_symbol.items()}
    parts, kinds = [], set()
    for group in _apart(terms, summed):
        shared = frozenset.intersection(*(ordinal for ordinal, _ in group))
        found = _contracted(trace, group, summed, shared)
        order = sorted(shared, key=lambda symbol: trace.symbol_to_dim[symbol])  # the outermost plate first
        parts.append(found.permute([found._pyro_dims.index(symbol) for symbol in order]).reshape(-1))
        kinds.add(tuple(names[symbol] for symbol in order))
    return torch.cat(parts), kinds.pop() if len(kinds) == 1 else ()


def log_density_at(program: Program, values: Values, data: Any, depth: int) -> Tensor:
    """Return log p(data, values), discrete sites summed out, a scalar: what ``log_joint`` says, under vmap too."""
    trace = enumerated_trace(program, values, data, depth)
    nodes = _dense(trace)
    if not _enumerates(trace):
        return torch.stack([node["log_prob"].sum() for node in nodes.values()]).sum()
    summed, terms = _terms(trace, nodes)
    return _contracted(trace, terms, summed, frozenset())


class Summed:
    """The log densities of a program at values of its continuous sites, before discrete ones are summed out.

    Args:
        program: The program.
        values: Site -> value, of all sites that are not discrete.
        data: The program's argument.
        depth: What its plates take.

    Attributes:
        names: The sites.
        logs: Of every site, one number for each cell and each value of the discrete sites that it has to do with.
    """

    def __init__(self, program: Program, values: Values, data: Any, depth: int):
        self.trace = enumerated_trace(program, values, data, depth)
        nodes = _dense(self.trace)
        self.names, self.enumerates = tuple(nodes), _enumerates(self.trace)
        self.terms: list[Term] = []
        if self.enumerates:
            self.summed, self.terms = _terms(self.trace, nodes)
            self.logs = [log for _, log in self.terms]
        else:
            self.logs = [node["log_prob"] for node in nodes.values()]

    def total(self, more: Iterable[Tensor]) -> Tensor:
        """Return the log density, discrete sites summed out, with something added to every number of ``logs``."""
        if not self.enumerates:
            return torch.stack([(log + extra).sum() for log, extra in zip(self.logs, more, strict=True)]).sum()
        terms = []
        for (ordinal, log), extra in zip(self.terms, more, strict=True):
            each: Any = log + extra
            each._pyro_dims = log._pyro_dims
            terms.append((ordinal, each))
        return _contracted(self.trace, terms, self.summed, frozenset())


def _dense(trace: Any) -> dict[str, Any]:
    """Return the sites that have a density, with their log densities."""
    trace.compute_log_prob()
    return {name: node for name, node in sample_nodes(trace).items() if _is_dense(node)}


def _enumerates(trace: Any) -> bool:
    return any("_enumerate_dim" in node["infer"] for node in sample_nodes(trace).values())


def _terms(trace: Any, nodes: Mapping[str, Any]) -> tuple[set[str], list[Term]]:
    """Return what is to be summed out, and the log density of every site with its plates."""
    trace.pack_tensors()
    plates = trace.plate_to_symbol
    terms = [
        (frozenset(plates[f.name] for f in node["cond_indep_stack"] if f.vectorized), node["packed"]["log_prob"])
        for node in nodes.values()
    ]
    return set(trace.symbol_to_dim) - set(plates.values()), terms


def _contracted(trace: Any, terms: Iterable[Term], summed: set[str], shared: frozenset[str]) -> Any:
    frames = [f for node in sample_nodes(trace).values() for f in node["cond_indep_stack"] if f.vectorized]
    sizes = {trace.plate_to_symbol[frame.name]: frame.size for frame in frames}
    tree: OrderedDict[Any, list[Tensor]] = OrderedDict()
    for ordinal, term in terms:
        tree.setdefault(ordinal, []).append(term)
    return contract_to_tensor(tree, summed, target_ordinal=shared, ring=_Ring(dim_to_size=sizes))


class _Ring(LogRing):
    _backend = "pyrozoo.program.log_einsum"


Term = tuple[frozenset[str], Any]


def _apart(terms: Iterable[Term], summed: set[str]) -> list[list[Term]]:
    """Group log densities that share a dimension to be summed out."""
    groups: list[tuple[set[str], list[Term]]] = []
    for ordinal, term in terms:
        mine, members = set(term._pyro_dims) & summed, [(ordinal, term)]
        joined = [group for group in groups if group[0] & mine]
        groups = [group for group in groups if not group[0] & mine]
        for each, sites in reversed(joined):
            mine, members = mine | each, sites + members
        groups.append((mine, members))
    return [members for _, members in groups]


def over_draws(function: Callable[[dict[str, Tensor]], Tensor], draws: Values) -> Tensor:
    """Return a function of one point at all draws, [chain, draw, ...]: at once where it can, else one by one."""
    draws = Draws(draws)
    flat, (chains, count) = draws.flat(), draws.shape
    points = list(draws.each())
    first = function(points[0])
    if len(points) > PROBES:
        size = max(1, BLOCK // max(1, first.numel(), *(value[0].numel() for value in flat.values())))
        try:
            with undisturbed():
                found = torch.func.vmap(function, randomness="different", chunk_size=size)(flat)
            ends = torch.stack([first, function(points[-1])])
            if torch.allclose(found[[0, -1]], ends, rtol=1e-6, atol=1e-6, equal_nan=True):
                return found.unflatten(0, (chains, count))
        except (RuntimeError, ValueError, NotImplementedError):
            pass  # a program that takes one value at a time
    return torch.stack([first, *map(function, points[1:])]).unflatten(0, (chains, count))


class _Replace(Messenger):
    """Puts other values in the place of observed ones."""

    def __init__(self, values: Values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.values and msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


def replaced(program: Program, values: Values) -> Program:
    """Return the program with other observed values."""

    def run(data: Any) -> Any:
        with _Replace(values):
            return program(data)

    return run


def refuse_large(method: str, size: int, limit: int) -> None:
    """Refuse a problem with more unknowns than a method is good for, before any work.

    Args:
        method: Its name.
        size: Scalar unknowns.
        limit: The most of them.

    Raises:
        NotApplicable: The problem is larger.
    """
    if size > limit:
        raise NotApplicable(
            f"{method} is limited to {limit} unknowns (inference.max_unknowns) and the model has {size}"
        )


def dims_of(node: Mapping[str, Any]) -> list[str]:
    """Return the names of a site's dimensions: its plates and, for the dimensions of one event, ``site_dim_i``."""
    value, event = node["value"], node["fn"].event_dim
    frames = {frame.dim: frame.name for frame in node["cond_indep_stack"] if frame.dim is not None}
    if node["infer"].get("_deterministic"):  # Pyro counts all of its dimensions as one event
        sizes = {frame.dim: frame.size for frame in node["cond_indep_stack"] if frame.dim is not None}
        across = all(value.ndim >= -dim and value.shape[dim] == size for dim, size in sizes.items())
        event = 0 if across else event
    batch = value.ndim - event
    names = [frames.get(d - batch, f"{node['name']}_dim_{d}") for d in range(batch)]
    return names + [f"{node['name']}_dim_{d}" for d in range(batch, value.ndim)]


def anywhere(site: Mapping[str, Any]) -> Tensor:
    """Return a value of a site whose unconstrained coordinates are uniform in [-2, 2], as precise as its prior's draws.

    Raises:
        NotApplicable: It is discrete, with too many values to sum out.
    """
    if site["fn"].has_enumerate_support:
        return site["fn"].sample()
    if getattr(site["fn"].support, "is_discrete", False):
        raise NotApplicable(
            f"{site['name']} is a discrete latent site with too many values to sum out: NUTS cannot move it"
        )
    transform = biject_to(site["fn"].support)
    shape = torch.Size(transform.inverse_shape(site["fn"].shape()))
    try:
        like = site["fn"].sample()
    except NotImplementedError:  # an improper prior has no draws
        like = torch.empty(0)
    return transform(4 * torch.rand(shape, dtype=like.dtype, device=like.device) - 2)
