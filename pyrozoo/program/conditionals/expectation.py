"""The expected log joint over discrete sites, given all others: what EM goes up, its slopes and its curvature.

With l the log densities of all sites, one number for every cell and every value of the discrete sites that it has to do
with, log p(data, theta) = log sum_z exp sum l. The derivative of that with respect to a number of l is the posterior
probability of its z. So Q(theta | theta') = sum p(z | theta') l(theta), whatever the discrete sites are to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.program.conditionals.blocks import Blocks, over_points
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.evaluation import Replays, moved, spread
from pyrozoo.program.trace import Summed, plate_depth


class Expectation:
    """The expected log joint of many chains, at values of the continuous sites, site -> [chain, *shape].

    Args:
        joint: The log joint.
    """

    def __init__(self, joint: Joint):
        self.joint, self.replays, self.depth = joint, Replays(), plate_depth(joint.program, joint.data)
        self.sites = [site for site in joint.sites if not joint.discrete(site)]

    def _summed(self, values: Values) -> Summed:
        return Summed(self.joint.program, values, self.joint.data, self.depth)

    def names(self, values: Values) -> tuple[str, ...]:
        """Return the sites that weights are of, in their order."""
        return self._summed({site: values[site][0] for site in self.sites}).names

    def weights(self, values: Values) -> tuple[Tensor, list[Tensor]]:
        """Return log p(data, values) of every chain, and the posterior probabilities of discrete values, by site."""
        first, rest = self.sites[0], {site: values[site] for site in self.sites[1:]}

        def function(*each: Tensor) -> tuple[Tensor, ...]:
            named = dict(zip(self.sites, each, strict=True))
            shapes = [log.shape for log in self._summed({s: v[0] for s, v in named.items()}).logs]
            like, count = each[0], len(each[0])
            with torch.enable_grad():
                more = [like.new_zeros(count, *shape).requires_grad_(True) for shape in shapes]
                keyed = {str(i): each for i, each in enumerate(more)}

                def total(given: dict[str, Any]) -> dict[str, Tensor]:
                    summed = self._summed({site: given[site] for site in self.sites})
                    return {"": summed.total([given[str(i)] for i in range(len(more))])}

                found = over_points(total, {**named, **keyed})[""]
                weights = torch.autograd.grad(found.sum(), more)
            return found.detach(), *weights

        arguments = spread(rest, values[first].unsqueeze(0))
        found, *weights = self.replays.run("weights", function, arguments, lambda: self._others(arguments))
        return found, weights

    def _others(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        return [moved(self.joint, site, each) for site, each in zip(self.sites, arguments, strict=True)]

    def values_at(self, site: str, values: Values, points: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return the expected log joint with one site at several values, [point, chain]."""

        def function(*arguments: Tensor) -> tuple[Tensor, ...]:
            return (self._expected(site, arguments),)

        (found,) = self._run(("values", site), function, site, values, points, weights)
        return found.unflatten(0, points.shape[:2])

    def slopes(self, site: str, values: Values, points: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return gradients of the expected log joint, [point, chain, *shape]."""

        def function(*arguments: Tensor) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                leaf = arguments[0].detach().requires_grad_(True)
                total = self._expected(site, (leaf, *arguments[1:])).sum()
            return torch.autograd.grad(total, leaf)

        (found,) = self._run(("slopes", site), function, site, values, points, weights)
        return found.unflatten(0, points.shape[:2])

    def curvature(
        self, site: str, values: Values, free: Tensor, transform: Any, blocks: Blocks, weights: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return gradient [chain, *batch, size] and Hessian [chain, *batch, size, size] in unconstrained space.

        Args:
            site: The site.
            values: Of all sites.
            free: Of the site, unconstrained, [chain, *shape].
            transform: From there to the site's support.
            blocks: Of unconstrained values: no two depend on each other.
            weights: Posterior probabilities of the discrete sites.
        """

        def function(*arguments: Tensor) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                leaf = arguments[0].detach().requires_grad_(True)
                total = self._expected(site, (transform(leaf), *arguments[1:])).sum()
                (slope,) = torch.autograd.grad(total, leaf, create_graph=True)
                apart = blocks.apart(slope)
                columns = [
                    torch.autograd.grad(apart[..., i].sum(), leaf, retain_graph=True, allow_unused=True)[0]
                    for i in range(blocks.size)
                ]
            zero = torch.zeros_like(leaf)
            hessian = torch.stack([blocks.apart(zero if each is None else each) for each in columns], -1)
            return apart.detach(), hessian.detach()

        return self._run(("curvature", site), function, site, values, free.unsqueeze(0), weights, transform)  # type: ignore[return-value]

    def _expected(self, site: str, arguments: Sequence[Tensor]) -> Tensor:
        """Return the expected log joint at points, [point]: arguments are the site, other sites, and weights."""
        names = [site, *(name for name in self.sites if name != site)]
        named = dict(zip(names, arguments, strict=False))
        keyed = {str(i): each for i, each in enumerate(arguments[len(names) :])}

        def total(given: dict[str, Any]) -> dict[str, Tensor]:
            logs = self._summed({name: given[name] for name in names}).logs
            parts = []
            for i, log in enumerate(logs):
                weight = given[str(i)]
                # What has probability 0 may have a log density of minus infinity.
                parts.append((weight * torch.where(weight > 0, log, 0.0)).sum())
            return {"": torch.stack(parts).sum()}

        return over_points(total, {**named, **keyed})[""]

    def _run(
        self, key: Any, function: Any, site: str, values: Values, points: Tensor, weights: Sequence[Tensor],
        transform: Any = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        rest = {name: values[name] for name in self.sites if name != site}
        given = {str(i): each for i, each in enumerate(weights)}
        arguments = spread({**rest, **given}, points)
        names = [site, *rest]

        def others() -> list[Tensor]:
            found = [arguments[0] + 0.3 * torch.randn_like(arguments[0])] if transform is not None else []
            found += [moved(self.joint, names[i], arguments[i]) for i in range(len(found), len(names))]
            return [*found, *(0.5 * each + 0.1 for each in arguments[len(names) :])]

        return self.replays.run(key, function, arguments, others)
