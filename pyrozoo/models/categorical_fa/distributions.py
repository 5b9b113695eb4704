"""The distributions of the program: answers given the latent vector and without it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from pyrozoo.math.multinomial import cumulated
from pyrozoo.program.whole import Whole


class Answers(Whole):
    """Independent categorical answers to items of different numbers of categories, of which the observed ones count.

    Args:
        logits: Of every category of every item, items in the order of the data; or of one item that stands for all.
        observed: Which answers there are.
        sizes: Number of categories of every item.
    """

    support = constraints.real_vector

    def __init__(self, logits: Float[Tensor, "*batch P"], observed: Bool[Tensor, "N D"], sizes: tuple[int, ...]):
        self.observed, self.sizes = observed, sizes
        self.shared = logits.shape[-1] < sum(sizes)
        device, starts = logits.device, torch.tensor([0, *sizes]).cumsum(0)
        # Items of one size together: their places among the items, and logits [*batch, items, categories].
        self.logits: list[tuple[Tensor, Tensor]] = []
        for size in sorted(set(sizes)):
            items = torch.tensor([i for i, each in enumerate(sizes) if each == size])
            if self.shared:
                its = logits.unsqueeze(-2)
            else:
                its = logits[..., (starts[items].unsqueeze(-1) + torch.arange(size)).to(device)]
            self.logits.append((items.to(device), its))
        super().__init__(logits.shape[:-1], [len(sizes)])

    @cached_property
    def groups(self) -> list[tuple[Tensor, Tensor]]:
        """The same with log probabilities, which draws do not need."""
        return [(items, its.log_softmax(-1)) for items, its in self.logits]

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows, by inverting cumulative probabilities: 15 times as fast as torch's multinomial."""
        like = self.logits[0][1]
        drawn = like.new_empty(*sample_shape, *self.batch_shape, len(self.sizes))
        for items, its in self.logits:
            total = cumulated((its - its.amax(-1, keepdim=True)).exp())
            at = torch.rand(*sample_shape, *self.batch_shape, len(items), 1, dtype=like.dtype, device=like.device)
            drawn[..., items] = (at * total[..., -1:] > total[..., :-1]).sum(-1).to(like.dtype)
        return drawn

    def log_prob(self, value: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Return the log probability of the observed answers of every row."""
        code = torch.where(self.observed, value, 0.0).long()
        total = torch.zeros(self.batch_shape, dtype=self.groups[0][1].dtype, device=code.device)
        for items, logs in self.groups:
            its, seen = code[..., items], self.observed[..., items]
            if self.shared:  # how often a row chose each category says all
                counts = [((its == k) & seen).sum(-1) for k in range(logs.shape[-1])]
                total = total + (torch.stack(counts, -1) * logs.squeeze(-2)).sum(-1)
                continue
            its = its.expand(*self.batch_shape, -1).unsqueeze(-1)
            at = logs.expand(*its.shape[:-1], -1).gather(-1, its).squeeze(-1)
            total = total + torch.where(seen, at, 0.0).sum(-1)
        return total

    def log_table(self) -> list[Float[Tensor, "*batch K"]]:
        """Return log probabilities of the categories of every item."""
        found: dict[int, Tensor] = {}
        for items, logs in self.groups:
            for n, item in enumerate(items.tolist()):
                found[item] = logs[..., 0 if self.shared else n, :]
        return [found[item] for item in range(len(self.sizes))]


class Rows(Whole):
    """Rows of answers with the latent vector summed out.

    Args:
        draw: () -> whole rows, [N, D].
        log_density: Rows [N, D] -> their log probability.
        shape: N and D.
    """

    support = constraints.real_vector

    def __init__(self, draw: Callable[[], Tensor], log_density: Callable[[Tensor], Tensor], shape: tuple[int, int]):
        self.draw, self.log_density = draw, log_density
        super().__init__(shape[:1], shape[1:])

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows."""
        return self.draw()

    def log_prob(self, value: Float[Tensor, "N D"]) -> Float[Tensor, N]:
        """Return the log probability of every row's observed answers."""
        return self.log_density(value)
