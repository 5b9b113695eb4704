"""NUTS for any Pyro program, inside the zoo or a user's own: compiled where it can be, with results for ArviZ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.method import Loop
from pyrozoo.core.errors import SettingError
from pyrozoo.inference.chains import Plan
from pyrozoo.inference.nuts import JITTER, Nuts, eager, refuse_flat, sample_density
from pyrozoo.inference.starts import pathfinder
from pyrozoo.program.density import FlatDensity, ProgramDensity
from pyrozoo.store.inference_data import program_groups

if TYPE_CHECKING:
    import arviz as az

STARTS = ("uniform", "prior", "laplace")
ATTEMPTS = 100


def nuts(
    program: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    seed: int = 0,
    backend: str = "auto",
    start: str | Mapping[str, Any] = "uniform",
    log_density: Callable[..., Tensor] | None = None,
    target_accept_prob: float = 0.8,
    max_tree_depth: int = 10,
    keep_warmup: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = True,
) -> az.InferenceData:
    """Sample the posterior of a Pyro program by NUTS; discrete latent sites are summed out by enumeration.

    The log density and its gradient are recorded once, translated into C, compiled (a second or two, and kept for the
    next run of the same shapes), held to the program at random points, and sampled by nutpie on all cores at once. A
    program whose course depends on values of its sites, or which draws random numbers, is sampled by Pyro's own kernel
    instead, and a log line says why.

    Args:
        program: The program; what is observed it says itself (``obs=``) or is conditioned on.
        args: Its arguments.
        kwargs: Its keyword arguments.
        draws: Draws kept per chain.
        warmup: Adaptation steps per chain.
        chains: How many chains.
        seed: The same seed gives the same draws.
        backend: ``auto``, ``nutpie`` or ``pyro``.
        start: Where chains start: ``uniform`` in [-2, 2] in unconstrained space, ``prior``, ``laplace`` (a Gaussian on
            the path of an optimiser that starts there), or values by site, one for all chains or [chains, ...].
        log_density: A faster log density of what the program says, with local sites summed out by hand: (site -> value,
            *args, **kwargs) -> scalar. It is held to the program at random points.
        target_accept_prob: Target of the step size adaptation.
        max_tree_depth: At most 2^depth leapfrog steps a draw.
        keep_warmup: Keep draws and statistics of the warm-up, too (groups ``warmup_posterior``,
            ``warmup_sample_stats``).
        coords: Plate or dimension -> labels.
        progress: Show a progress bar on a terminal.

    Returns:
        Groups posterior (sites, constrained, and deterministic ones; dimensions named by plates), sample_stats (lp,
        diverging, step_size; compiled also energy, tree_depth, n_steps, acceptance_rate) and observed_data. Ctrl-C
        returns the draws so far; ``attrs`` say the status and what ran. Attributes and statistics are ArviZ's.

    Raises:
        SettingError: A setting out of range, or a start that does not fit the program.
        NotApplicable: There is no continuous latent site, or one that cannot be mapped to real numbers.
        NumericalError: The posterior is improper, no valid start is found, the gradient is NaN there, or
            ``log_density`` and the program disagree.
    """
    Nuts(
        name="nuts", backend=backend, chains=chains, warmup=warmup, draws=draws, target_accept_prob=target_accept_prob,
        max_tree_depth=max_tree_depth, max_unknowns=1,
    )  # fmt: skip
    if isinstance(start, str) and start not in STARTS:
        raise SettingError(f"start is {start!r}; it must be {', '.join(STARTS)}, or values by site")

    def prepare() -> tuple[FlatDensity, Tensor]:
        space = ProgramDensity(program, args, kwargs, log_density)
        return space, _starts(space, start, chains)

    plan = Plan(warmup, draws, target_accept_prob, max_tree_depth, seed)
    loop = Loop(seed=seed, progress=progress)
    with pyro.validation_enabled(False), pyro.get_param_store().scope():
        found = sample_density(prepare, backend, chains, plan, loop, f"nuts ({chains} chains)")
        refuse_flat(found.space, found.gradient, found.vectors)
        attributes = {
            "method": "nuts", "backend": found.backend, "note": found.note, "status": found.run.status, "seed": seed,
            "seconds": found.run.seconds, "warmup": warmup,
        }  # fmt: skip
        return program_groups(
            found.space,
            found.vectors,
            found.statistics,
            found.warmup if keep_warmup else None,
            coords or {},
            attributes,
        ).inference_data()


def _starts(space: ProgramDensity, start: str | Mapping[str, Any], chains: int) -> Tensor:
    """Return one valid start per chain, [chains, size].

    Raises:
        SettingError: Given values do not fit the program.
        NumericalError: None is found: the first invalid one is returned, which sampling refuses by name.
    """
    gradient = eager(space)
    if not isinstance(start, str):
        return _given(space, start, chains)
    found = []
    for _ in range(chains):
        for _ in range(ATTEMPTS):
            vector = space.start("prior" if start == "prior" else "uniform")
            value, slope = gradient(vector)
            if np.isfinite(value) and bool(torch.isfinite(slope).all()):
                break
        else:
            return vector.unsqueeze(0).expand(chains, -1)
        found.append(pathfinder(gradient, vector) if start == "laplace" else vector)
    return torch.stack(found)


def _given(space: ProgramDensity, start: Mapping[str, Any], chains: int) -> Tensor:
    if missing := sorted(set(space.sites) - set(start)):
        raise SettingError(f"start has no value of {', '.join(missing)}")
    if unknown := sorted(set(start) - set(space.sites)):
        raise SettingError(f"start has {', '.join(unknown)}, which the program does not")
    like = space.constrain(space.unflatten(torch.zeros(space.size, dtype=space.dtype)))
    vectors = []
    for chain in range(chains):
        values = {}
        for site in space.sites:
            value = torch.as_tensor(start[site], dtype=like[site].dtype, device=like[site].device)
            per_chain = value.shape == (chains, *like[site].shape)
            if not per_chain and value.shape != like[site].shape:
                raise SettingError(f"start[{site!r}] has shape {tuple(value.shape)}, not {tuple(like[site].shape)}")
            values[site] = value[chain] if per_chain else value
        vector = space.flatten(space.unconstrain(values)).cpu()
        if not bool(torch.isfinite(vector).all()):
            raise SettingError("start has a value outside of the support of its site")
        same = all(torch.as_tensor(start[site]).shape == like[site].shape for site in space.sites)
        vectors.append(vector + JITTER * torch.randn_like(vector) * same)
    return torch.stack(vectors)
