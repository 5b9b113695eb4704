"""Slice sampling of what no family has: along a random line through every block, all blocks and chains at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import biject_to

from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.program.conditionals.blocks import Blocks, Owners
from pyrozoo.program.conditionals.evaluation import Evaluation
from pyrozoo.program.conditionals.structure import Structure

OUTWARD = 8
"""Steps that an interval may grow by."""

INWARD = 60
"""Times that it may shrink: then the point is where it was."""

LINES = 4
"""Lines of a block of several elements in one sweep."""

WIDEST = 3.0
"""An interval begins with a width of e^-u, in unconstrained space, with u uniform up to this."""


class Slicer:
    """Draws a site given all others (Neal 2003, Annals of Statistics 31, sections 4 and 5).

    Args:
        evaluation: The log joint.
        structure: Of the site.

    Raises:
        NotApplicable: The site's support cannot be mapped to real numbers.
    """

    def __init__(self, evaluation: Evaluation, structure: Structure):
        self.evaluation, self.structure, self.site = evaluation, structure, structure.site
        support = evaluation.joint.nodes[self.site]["fn"].support
        try:
            self.transform = biject_to(support)
        except NotImplementedError:
            said = f"{self.site} is not conjugate ({structure.reason}), and {support} is no support for slices"
            raise NotApplicable(said) from None
        self.event = len(structure.blocks.shape) - getattr(evaluation.joint.nodes[self.site]["fn"], "event_dim", 0)

    def draw(self, values: Values) -> Tensor:
        """Return new values of the site, [chain, *shape]."""
        lines = 1 if self.structure.blocks.size == 1 else LINES
        now = dict(values)
        for _ in range(lines):
            now[self.site] = self._along_a_line(now)
        return now[self.site]

    def _along_a_line(self, values: Values) -> Tensor:
        blocks, chains = self.structure.blocks, len(values[self.site])
        free = self.transform.inv(values[self.site])
        apart = Blocks(tuple(free.shape[1:]), blocks.within)
        batch = (chains, *blocks.batch)
        direction = torch.randn_like(free)
        if apart.size > 1:
            length = apart.apart(direction).square().sum(-1).sqrt()
            direction = direction / apart.spread(length)

        def point(t: Tensor) -> Tensor:
            return self.transform(free + apart.spread(t) * direction)

        def density(*ts: Tensor) -> Tensor:
            places = torch.stack([free + apart.spread(t) * direction for t in ts])
            return self._density(values, places, ready)

        ready = self._ready(values)
        return point(_slice(density, batch, free))

    def _ready(self, values: Values) -> Mapping[str, Owners | Tensor] | None:
        """Return which block every cell has to do with: found anew where that depends on other sites."""
        structure = self.structure
        if structure.owners is None or structure.fixed:
            return structure.owners
        value, blocks = values[self.site], structure.blocks
        number = torch.arange(1, blocks.count + 1, device=value.device).reshape(blocks.batch)
        bits = blocks.count.bit_length()
        masks = torch.stack([blocks.spread((number >> bit) & 1 == 1) for bit in range(bits)]).unsqueeze(1)
        free = self.transform.inv(value)
        other = self.transform(free + 0.1 * torch.randn_like(free))
        points = torch.cat([value.unsqueeze(0), torch.where(masks, other, value)])
        cells = self.evaluation.cells(self.site, values, points, structure.terms)
        found: dict[str, Owners | Tensor] = {}
        for term, each in cells.items():
            changed = ~torch.isclose(each[1:], each[:1], rtol=1e-12, atol=0.0, equal_nan=True)
            code = sum((changed[bit].long() << bit for bit in range(1, bits)), changed[0].long())
            found[term] = torch.where(code > 0, code - 1, blocks.count).flatten(1)
        return found

    def _density(self, values: Values, free: Tensor, ready: Mapping[str, Owners | Tensor] | None) -> Tensor:
        """Return log densities in unconstrained space by block, [point, chain, *batch]."""
        structure, blocks = self.structure, self.structure.blocks
        points = self.transform(free)
        cells = self.evaluation.cells(self.site, values, points, structure.terms)
        lead = points.shape[:2]
        total = points.new_zeros(*lead, blocks.count)
        for term, each in cells.items():
            if ready is None:
                total = total + each.reshape(*lead, -1).sum(-1, keepdim=True)
            elif (owner := ready.get(term)) is None:
                continue
            elif isinstance(owner, Owners):
                total = total + owner.add_up(each)
            else:
                flat = each.reshape(*lead, -1)
                more = flat.new_zeros(*lead, blocks.count + 1)
                total = total + more.scatter_add(-1, owner.expand_as(flat), flat)[..., :-1]
        jacobian = self.transform.log_abs_det_jacobian(free, points)
        gone = points.ndim - jacobian.ndim  # dimensions of one event, whose Jacobian is one number
        rest = tuple(dim + gone for dim in blocks.within if dim < -gone)
        jacobian = (jacobian.sum(rest) if rest else jacobian).reshape(*lead, -1)
        return (total + jacobian).nan_to_num(nan=-torch.inf).reshape(*lead, *blocks.batch)


def _slice(density: Callable[..., Tensor], batch: tuple[int, ...], like: Tensor) -> Tensor:
    """Return how far along their lines the new points are: 0 is where the old ones are."""
    zero = like.new_zeros(batch)
    width = torch.exp(-WIDEST * torch.rand_like(zero))
    level = density(zero)[0] + torch.rand_like(zero).log()
    low = -width * torch.rand_like(zero)
    high = low + width
    # Of so many steps outward some are on one side, and the rest on the other.
    down = torch.randint(0, OUTWARD + 1, batch, device=like.device)
    up = OUTWARD - down
    for _ in range(OUTWARD):
        if not bool(((down > 0) | (up > 0)).any()):
            break
        below, above = density(low, high)
        grows_down, grows_up = (down > 0) & (below > level), (up > 0) & (above > level)
        low, high = torch.where(grows_down, low - width, low), torch.where(grows_up, high + width, high)
        down, up = torch.where(grows_down, down - 1, 0), torch.where(grows_up, up - 1, 0)
    found, left = zero.clone(), torch.ones(batch, dtype=torch.bool, device=like.device)
    for _ in range(INWARD):
        tried = low + (high - low) * torch.rand_like(zero)
        good = left & (density(tried)[0] > level)
        found = torch.where(good, tried, found)
        left = left & ~good
        if not bool(left.any()):
            break
        low, high = torch.where(left & (tried < 0), tried, low), torch.where(left & (tried >= 0), tried, high)
    return found
