"""Gibbs sampling of any program: conjugate and discrete sites from their complete conditionals, others by NUTS."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Info
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable, NumericalError
from pyrozoo.inference.derived import state
from pyrozoo.inference.derived.parent import Derived
from pyrozoo.inference.derived.slices import Slicer
from pyrozoo.inference.derived.together import Together, hierarchies, movable, shared
from pyrozoo.inference.derived.trees import Tuning, transition
from pyrozoo.program.conditionals.evaluation import Evaluation
from pyrozoo.program.conditionals.structure import Structure

MOST_INTERWOVEN = 1000
"""Numbers, at most, that NUTS moves where some of them have a family."""

MOST_IN_TURN = 512
"""Elements of a discrete site that are drawn one after another, where they depend on each other."""


class Solver(Derived, kind="samples", objective="log_joint_of_all_sites", of="result"):
    """A sweep draws every latent site given all others, the program's last one first: those beside the data.

    So the first values of a hierarchy's effects are near the data, whatever its precisions begin with. From above, a
    noise would first be fitted to effects that nobody has drawn yet, and chains would take thousands of sweeps to leave
    that.

    The conditionals are found from the log joint once (``program/conditionals``); a sweep evaluates it at a few points
    per site, all chains and all independent elements at once. The objective is log p of the data and of all latent
    sites, discrete ones too, after the sweep.

    Sites without a family are moved together by one transition of NUTS (``trees.py``), without the centres of
    hierarchies (``together.py``). Sites with a family that have to do with them, or with the effects of a hierarchy,
    move with them, and are drawn from their own conditionals, too. Step size and metric are tuned in the warm-up, and
    stay as they are after it.

    Args:
        posterior: What is fitted.
        other: How sites without a family are moved: ``nuts``, or each by itself by ``slice`` sampling.
        interweave: Whether NUTS moves sites with a family, too, where there are few enough numbers.

    Raises:
        NotApplicable: A discrete site has no end of values, or too many elements that depend on each other.
    """

    def __init__(self, posterior: Posterior, *, other: Literal["nuts", "slice"] = "nuts", interweave: bool = True):
        super().__init__(posterior)
        self.evaluation = Evaluation(self.joint)
        for site in self.joint.sites:
            self._refuse(self.structures[site])
        self.together = self._together(other == "nuts", interweave)
        moved = () if self.together is None else self.together.sites
        self.slicers = {
            site: Slicer(self.evaluation, structure)
            for site, structure in self.structures.found.items()
            if structure.kind == "other" and (other == "slice" or site not in moved)
        }  # fmt: skip
        tuned = () if self.together is None else ("steps", "metric", "dense")
        self.layout = state.Layout(self.joint.sites, tuned)
        self.state_class = self.layout.state_class

    def _together(self, nuts: bool, interweave: bool) -> Together | None:
        """Return the sites that NUTS moves, if any."""
        states = self.structures.states
        can = movable(self.joint, states)
        decentred = [site for site in hierarchies(self.joint, states) if site in can]
        other = [site for site in can if nuts and self.structures[site].kind == "other"]
        tied = [site for site in decentred if shared(self.joint, states, site)]
        near = {term for site in (*tied, *other) for term in self.structures[site].terms}
        all_near = [site for site in can if near & set(self.structures[site].terms)]
        if interweave and all_near:
            found = Together(self.joint, all_near, decentred)
            if found.size <= MOST_INTERWOVEN:
                return found
        return Together(self.joint, other, [site for site in decentred if site in other]) if other else None

    def _refuse(self, structure: Structure) -> None:
        site = structure.site
        if structure.kind == "other" and self.joint.discrete(site):
            raise NotApplicable(f"gibbs cannot draw {site}: {structure.reason}")
        if structure.kind == "discrete" and structure.colours and structure.blocks.count > MOST_IN_TURN:
            said = f"the {structure.blocks.count} elements of {site} depend on each other"
            raise NotApplicable(f"gibbs cannot draw {site}: {said}, and more than {MOST_IN_TURN} take too long")

    def init(self, chains: int) -> Any:
        """Return the posterior's starting points, and draws of the discrete sites given them.

        What NUTS moves begins with draws of a pathfinder that starts there.
        """
        values = state.starting(self.posterior, self.joint, chains)
        if self.together is None:
            return self.layout.state(values)
        vectors = self.together.started(values)
        values |= self.together.values(vectors, values)
        _, slopes = self.together.given(values)(vectors)
        return self.layout.state(values, vars(Tuning.started(slopes, self.together.first)))

    def step(self, state: Any) -> tuple[Any, Info]:
        """Do one sweep; return the log joint of the result."""
        values, tuned = self.layout.values(state), self.layout.rest(state)
        with torch.no_grad():
            if self.together is not None:
                values, tuned = self._moved(values, Tuning(**self.layout.rest(state)))
            for site in reversed(self.joint.sites):
                if site in self.slicers or self.structures[site].kind != "other":
                    values[site] = self.draw(site, values)
            return self.layout.state(values, tuned), Info(self.evaluation.totals(values))

    def _moved(self, values: Values, tuning: Tuning) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        assert self.together is not None
        vectors = self.together.vectors(values)
        self.together.compile(vectors, values)
        places, slopes, acceptance = transition(self.together.given(values), vectors, tuning)
        return {**values, **self.together.values(places, values)}, vars(tuning.after(acceptance, places, slopes))

    def settled(self, state: Any) -> Any:
        """Return a state whose step size and metric stay as they are."""
        if self.together is None:
            return state
        return self.layout.state(self.layout.values(state), vars(Tuning(**self.layout.rest(state)).settled()))

    def draw(self, site: str, values: Values) -> Tensor:
        """Return new values of a site given all others, [chain, *shape]: not of one that NUTS alone moves."""
        structure = self.structures[site]
        if structure.kind == "other":
            return self.slicers[site].draw(values)
        return self._discrete(structure, values) if structure.kind == "discrete" else self._conjugate(structure, values)

    def _conjugate(self, structure: Structure, values: Values) -> Tensor:
        def slopes(now: Values, points: Tensor) -> Tensor:
            return self.evaluation.slopes(structure.site, now, points, structure.terms)

        return self.visited(structure, values, slopes, lambda parameters: self._drawn(structure, parameters))

    def _drawn(self, structure: Structure, parameters: tuple[Tensor, ...]) -> Tensor:
        assert structure.family is not None
        try:
            found = structure.family.draw(parameters)
        except (RuntimeError, ValueError):
            found = None
        if found is None or (not structure.colours and not bool(found.isfinite().all())):
            raise NumericalError(f"gibbs: the {structure.family.name} conditional of {structure.site} is improper here")
        return found

    def _discrete(self, structure: Structure, values: Values) -> Tensor:
        now, site, known = dict(values), structure.site, structure.values
        assert known is not None
        for colour in structure.colours or (None,):
            value = now[site]
            points = known.reshape(-1, *[1] * value.ndim).expand(-1, *value.shape)
            if colour is not None:
                points = torch.where(colour, points, value)
            cells = self.evaluation.cells(site, now, points, structure.terms)
            lead = points.shape[:2]
            if structure.owners is not None and colour is None:
                parts = [each.add_up(cells[term]) for term, each in structure.owners.items()]
            else:
                parts = [each.reshape(*lead, -1).sum(-1, keepdim=True) for each in cells.values()]
            logits = sum(parts[1:], parts[0])  # [value, chain, element]
            noise = -torch.empty_like(logits).exponential_().log()
            drawn = known[(logits + noise).argmax(0)]
            now[site] = torch.where(colour, drawn.reshape(-1, *[1] * (value.ndim - 1)), value) if colour is not None \
                else drawn.reshape(value.shape)  # fmt: skip
        return now[site]
