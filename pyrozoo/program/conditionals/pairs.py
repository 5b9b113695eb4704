"""A discrete site whose elements act on each other in pairs: potentials from the log joint alone, and messages.

Which elements a cell of the log joint has to do with is found by moving one after another. What it says at their values
is a potential, and further values hold the log joint to all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.program.conditionals.blocks import cells_at, elsewhere
from pyrozoo.program.conditionals.cells import Joint

MOST_ELEMENTS, MOST_STATES = 24, 2**16
"""Elements whose pairs are looked at; values of all of them together over which sums are taken."""

AGREE, TRIED, BASES = 1e-9, 16, 8


@dataclass(frozen=True)
class Pairs:
    """Log potentials of the elements of one site, E of K values each, given all other sites.

    Attributes:
        single: Term -> what it says of each element alone, [E, K].
        pair: What cells say of two elements together, 0 of those that have no cell in common, [E, E, K, K].
        joined: Which have one, [E, E].
        values: Of an element, [K].
    """

    single: dict[str, Tensor]
    pair: Tensor
    joined: Tensor
    values: Tensor

    @classmethod
    def of(cls, joint: Joint, site: str, values: Values) -> Pairs:
        """Find them.

        Raises:
            NotApplicable: There are too many elements, or a cell has to do with more than two.
        """
        now, known = values[site], joint.candidates[site]
        count, size = now.numel(), len(known)
        if count > MOST_ELEMENTS:
            raise NotApplicable(f"messages are traced on {MOST_ELEMENTS} elements at most, and {site} has {count}")

        def cells(every: Tensor) -> dict[str, Tensor]:
            found = cells_at(joint, site, values, every.reshape(-1, *now.shape))
            return {term: each.reshape(*every.shape[:-1], -1) for term, each in found.items()}

        here = torch.arange(count)
        two = known[0].expand(count, count, size, size, count).clone()
        two[here, :, :, :, here] = known[:, None].expand(size, size)
        for j in range(count):  # where both are one element, it has the first of the two values
            two[here != j, j, ..., j] = known.expand(size, size)
        single, pair = {}, torch.zeros(count, count, size, size)
        joined = torch.zeros(count, count, dtype=torch.bool)
        at, scopes = cells(two), _scopes(cells, joint, site, now)
        for term, scope in scopes.items():  # [E, cell]
            if bool((scope.sum(0) > 2).any()):
                raise NotApplicable(f"{term} has to do with more than two elements of {site}: no messages go round")
            of_one = torch.einsum(
                "ikc,ic->ik", at[term][here, here][:, :, 0], (scope & (scope.sum(0) == 1)).to(at[term])
            )
            both = (scope[:, None] & scope[None] & (scope.sum(0) == 2)).to(at[term])
            both[here, here] = 0.0
            pair = pair + torch.einsum("ijklc,ijc->ijkl", at[term], both)
            joined |= both.any(-1)
            if bool((of_one != of_one[:, :1]).any()) or term == site:
                single[term] = of_one
        result = cls(single, pair, joined, known)
        others = torch.stack([elsewhere(joint, site, now) for _ in range(TRIED)]).reshape(TRIED, -1)
        derived = result.log_joint((others[..., None] == known).long().argmax(-1))
        found = torch.stack([each.sum(-1) for each in cells(others).values()]).sum(0)
        if not torch.allclose((derived - found).diff(), torch.zeros(TRIED - 1).to(found), atol=AGREE * count):
            raise NotApplicable(f"elements of {site} act on each other in other ways than by pairs")
        return result

    @property
    def alone(self) -> Tensor:
        """What is said of each element alone, [E, K]."""
        return torch.stack(list(self.single.values())).sum(0)

    def log_joint(self, places: Tensor) -> Tensor:
        """Return log joints up to a constant; places of values are [*, E]."""
        count = places.shape[-1]
        here = torch.arange(count)
        single = self.alone[here, places].sum(-1)
        pairs = self.pair[here[:, None], here, places[..., :, None], places[..., None, :]]
        return single + 0.5 * pairs.sum((-2, -1))

    def sent(self, messages: Tensor) -> Tensor:
        """Return the messages that follow, [to, from, K]: logarithms, the largest 0; 0 from whom nothing comes.

        From i to j goes sum over k of exp(pair(k, l)) times all that i has heard, but for what j has said (Pearl 1988).
        """
        heard = self.alone + messages.sum(1)  # [E, K]
        cavity = heard.unsqueeze(0) - messages.transpose(0, 1)  # of the sender, without the receiver: [to, from, K]
        result = (cavity.unsqueeze(-1) + self.pair.transpose(0, 1)).logsumexp(-2)
        result = result - result.amax(-1, keepdim=True)
        return torch.where(self.joined.unsqueeze(-1), result, 0.0)

    def beliefs(self, messages: Tensor) -> Tensor:
        """Return log beliefs, up to a constant of each element, [E, K]."""
        return self.alone + messages.sum(1)

    def marginals(self) -> Tensor | None:
        """Return exact probabilities, [E, K], by a sum over all values; None: there are too many."""
        count, size = self.alone.shape
        if size**count > MOST_STATES:
            return None
        every = torch.cartesian_prod(*[torch.arange(size)] * count).reshape(-1, count)
        weights = self.log_joint(every).softmax(0)
        return torch.stack([((every == k) * weights.unsqueeze(-1)).sum(0) for k in range(size)], -1)


def _scopes(
    cells: Callable[[Tensor], dict[str, Tensor]], joint: Joint, site: str, now: Tensor
) -> dict[str, Tensor]:  # fmt: skip
    """Return which elements every cell has to do with, term -> [E, cell], by moving one after another."""
    found: dict[str, Tensor] = {}
    one = torch.eye(now.numel(), dtype=torch.bool)
    for _ in range(BASES):
        base, other = (elsewhere(joint, site, now).flatten() for _ in range(2))
        other = torch.where(other == base, elsewhere(joint, site, base), other)
        for term, each in cells(torch.cat([base[None], torch.where(one, other, base)])).items():
            changed = each[1:] != each[:1]
            found[term] = found.get(term, torch.zeros_like(changed)) | changed
    return found
