"""Ratings: a sparse matrix as (row, column, value) of which only the listed pairs are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.container import Arrays, Hidden, Stored, alike, check_fraction, check_size, labels, shuffled
from pyrozoo.data.triplets import Repeated, Triplets

WATCHED = 10_000
"""Ratings of each part (train, validation, test) whose predictive density is followed while a method runs."""

APART = 0.5
"""An extreme value is suspicious when it is further from the next one than this share of the others' range ..."""

STEPS = 2.0
"""... and than so many times the largest step between others ..."""

BLOCK = 2**20
"""Ratings that are gone through at a time."""

SOME = 2**16
"""Ratings that tell most extreme values apart from suspicious ones."""

OFTEN = 0.01
"""... and it makes up more than this share of all ratings."""


@dataclass(frozen=True, eq=False)
class Ratings(Triplets):
    """N rows by M columns, of which the pairs that somebody rated are listed: an absent pair is unknown, 0 is a rating.

    Which pairs are rated is taken to say nothing about the ratings. ``unobserved`` holds pairs that the data list
    without a rating, to be predicted, and hidden ones; they make no difference to a fit.

    Attributes:
        validation: Ratings set aside to follow a fit by, which it does not see either.
        total_entries: Ratings of the whole when this is a minibatch of it.
    """

    name: str = "ratings"
    validation: Hidden | None = None
    total_entries: int | None = None

    lists_zeros: ClassVar[bool] = True
    usually: ClassVar[Repeated] = "refuse"

    @property
    def parts(self) -> int:
        """Return how many ratings there are: minibatches are made of them."""
        return len(self.values)

    def part(self, index: Tensor) -> Self:
        """Return a minibatch of ratings; all rows and columns stay."""
        total = len(self.values) if self.total_entries is None else self.total_entries
        chosen = self.values[index.sort().values]
        return replace(self, values=chosen, hidden=None, test=None, validation=None, total_entries=total)

    @cached_property
    def watched(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return pairs [entry, 2] and ratings [entry] of each part to follow a fit by, at most ``WATCHED`` of each."""
        parts = {"train": (self.values[:, :2].long(), self.counts)}
        for name, part in (("validation", self.validation), ("test", self.hidden)):
            if part is not None:
                parts[name] = torch.stack([part.rows, part.columns], 1), part.values
        result = {}
        for name, (pairs, values) in parts.items():
            at = evenly(len(values), WATCHED).to(values.device)
            result[name] = pairs[at], values[at]
        return result

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Return the data on another device and in another precision (see ``Triplets.to``)."""
        moved = super().to(device, dtype)
        return moved if self.validation is None else replace(moved, validation=self.validation.to(device, dtype))

    def hold_out(self, fraction: float, seed: int, of: Literal["all", "listed"] = "all") -> Self:
        """Hide a random fraction of the ratings; ``of`` makes no difference, since all that is observed is listed."""
        return self._hide_listed(self._choice(fraction, seed))

    def set_aside(self, fraction: float, seed: int) -> Self:
        """Move a random fraction of the ratings to ``validation``."""
        at = self._choice(fraction, seed, "data.validation")
        if not len(at):
            return self
        keep = torch.ones(len(self.values), dtype=torch.bool, device=self.values.device)
        keep[at] = False
        rows, columns = self.values[at, :2].long().unbind(1)
        aside = Hidden(rows, columns, self.values[at, 2]).joined(self.validation, self.shape[1])
        return replace(self, values=self.values[keep], validation=aside)

    def _choice(self, fraction: float, seed: int, setting: str = "data.holdout") -> Tensor:
        """Choose ratings at random, or raise SettingError when the fraction is out of range."""
        check_fraction(fraction, setting)
        order = shuffled(len(self.values), seed)
        count = round(fraction * len(order))
        if count == len(order):
            raise SettingError(f"{setting} is {fraction}, which leaves none of {len(order)} ratings")
        return torch.as_tensor(np.sort(order[:count]), device=self.values.device)

    def checked(self) -> Self:
        """Return the data themselves, with a note when a value looks like a code for no rating, or raise DataError."""
        self.refuse_empty("the matrix")
        if not len(self.values):
            raise DataError(f"{self.name}: there is no rating")
        self.refuse_infinite()
        note = _suspicious(self.values[:, 2])
        return replace(self, notes=(*self.notes, note)) if note and note not in self.notes else self

    def same(self, other: Any) -> bool:
        """Return whether other ratings are the same, in the same pairs, with the same ones set aside."""
        if not isinstance(other, Ratings) or not super().same(other):
            return False
        mine, theirs = self.validation, other.validation
        if mine is None or theirs is None:
            return mine is theirs
        return alike(*(torch.as_tensor(each.stored("")[""][1]) for each in (mine, theirs)))

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return mean ratings of rows and of columns, and the mean and standard deviation of all.

        A row or a column without ratings has the mean of all.
        """
        ratings = values[:, 2].double()
        mean, sd = ratings.mean(), ratings.std(correction=0)
        result: Arrays = {}
        for axis, (name, size) in enumerate(zip(self.dims, self.shape, strict=True)):
            index = values[:, axis].long()
            count, total = torch.bincount(index, minlength=size), ratings.new_zeros(size).index_add(0, index, ratings)
            result[f"mean_by_{name}"] = (name,), torch.where(count > 0, total / count.clamp(min=1), mean).cpu().numpy()
        return result | {"rating_mean": ((), mean.cpu().numpy()), "rating_sd": ((), sd.cpu().numpy())}

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the ratings; pairs asked about, hidden ones, those set aside and test rows beside them."""
        observed, extra = super().stored(site)
        return observed, extra if self.validation is None else extra | self.validation.stored("validation")

    @classmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Self:
        """Rebuild the data from what ``stored`` returned."""
        data = super().restore(observed, extra, coords, site)
        return replace(data, validation=Hidden.restore(extra, "validation", data.values.dtype))

    @classmethod
    def blank(cls, rows: int, columns: int) -> Self:
        """Return a matrix of which every pair is rated 0, to simulate into."""
        check_size(rows, columns)
        pairs = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
        entries = torch.cat([pairs, torch.zeros(len(pairs), 1, dtype=torch.float64)], 1)
        return cls(entries, labels("row", rows), labels("column", columns), "simulated")


def _ends(extreme: float, ratings: Tensor) -> tuple[float, float] | None:
    """Return the smallest and the largest of the ratings that are not the extreme one, if there are any."""
    ends = [part.aminmax() for each in ratings.split(BLOCK) if len(part := each[each != extreme])]
    return (min(float(end.min) for end in ends), max(float(end.max) for end in ends)) if ends else None


def _apart(extreme: float, ends: tuple[float, float] | None) -> bool:
    """Return whether an extreme value stands apart from others; of fewer others it does whenever it does of all."""
    return ends is None or max(ends[0] - extreme, extreme - ends[1]) > APART * (ends[1] - ends[0])


def _suspicious(ratings: Tensor) -> str | None:
    """Return a note when the largest or the smallest value stands apart from all others and is frequent."""
    for largest, which in ((True, "largest"), (False, "smallest")):
        extreme = ratings.max() if largest else ratings.min()
        count = int((ratings == extreme).sum())
        if not max(2.0, OFTEN * len(ratings)) < count < len(ratings):
            continue
        # Few others tell most apart; only a value that is far off from all is worth the sorting of them.
        if not _apart(float(extreme), _ends(float(extreme), ratings[:SOME])):
            continue
        ends = _ends(float(extreme), ratings)
        if ends is None or ends[0] == ends[1] or not _apart(float(extreme), ends):
            continue
        gap = float(extreme) - ends[1] if largest else ends[0] - float(extreme)
        if gap <= STEPS * float(ratings[ratings != extreme].unique().diff().max()):
            continue
        value = f"{float(extreme):.{6 if ratings.dtype == torch.float32 else 10}g}"
        odd = f"the {which} value, {value}, stands apart from all others and occurs {count} times"
        return f"{odd}: if it means that there is no rating, say data.unknown={value}"
    return None
