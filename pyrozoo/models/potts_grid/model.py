"""The hidden Potts field: its Pyro program and the functions of its draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.data.grid import MOST_LABELS, Grid
from pyrozoo.models.potts_grid.distributions import PottsField
from pyrozoo.models.potts_grid.likelihood import log_channel_normaliser

SAME, ADJACENT = 10.0, 2.0
"""The coupling unless another is given: of neighbours with equal labels, and with labels one apart."""

FORBIDDEN = -1e9
"""What solvers take for minus infinity: exp of it is 0 in every precision, and it times 0 is 0."""


@dataclass(frozen=True)
class PottsGrid(Model):
    r"""Hidden Potts field: the labels behind a noisy image, smooth because neighbours attract each other.

    Story, for an image of H x W pixels and K labels::

        label  y      p(y) prop. to exp( sum over edges J(y_i, y_j) )        [row, column]
        image  x_ij   = y_ij with probability e^c / (e^c + K - 1), else another label, each as likely

    An edge joins a pixel to its right and to its lower neighbour. A missing pixel is summed out, which leaves its label
    to its neighbours. Given the image,

        p(y | x) = exp( sum_ij c 1[y_ij = x_ij] + sum over edges J(y_i, y_j) ) / Z,

    the sum in the first term being over observed pixels. log Z less one log(e^c + K - 1) per observed pixel is the
    log evidence up to the normaliser of p(y), which nothing here needs. Geman and Geman 1984, IEEE PAMI 6; Wu 1982,
    Reviews of Modern Physics 54.

    Attributes:
        num_labels: K; None: as many as the image has.
        observation_strength: c, not negative: how much an observed pixel says of its own label.
        coupling: J, a symmetric K x K matrix; None: 10 for equal labels, 2 for labels one apart, else 0. Minus infinity
            forbids a pair of neighbours; only exact answers, message passing can do with that.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    num_labels: int | None
    observation_strength: float
    coupling: Sequence[Sequence[Any]] | None

    def __post_init__(self) -> None:
        if self.num_labels is not None and not 1 <= self.num_labels <= MOST_LABELS:
            raise SettingError(f"model.num_labels is {self.num_labels}; it must be from 1 to {MOST_LABELS}, or null")
        if not 0 <= self.observation_strength < math.inf:
            raise SettingError(
                f"model.observation_strength is {self.observation_strength}; it must be a number >= 0 (a large one, "
                "such as 1000, makes observed pixels certain)"
            )
        if self.coupling is not None:
            for i, row in enumerate(self.coupling):
                for j, value in enumerate(row):
                    if not isinstance(value, int | float):
                        raise SettingError(f"model.coupling[{i}][{j}] is {value!r}; it must be a number")
            rows = tuple(tuple(float(value) for value in row) for row in self.coupling)
            object.__setattr__(self, "coupling", rows)
            self._check_coupling(rows)

    def _check_coupling(self, rows: tuple[tuple[float, ...], ...]) -> None:
        size = len(rows)
        for i, row in enumerate(rows):
            if len(row) != size:
                raise SettingError(f"model.coupling is not square: row {i} has {len(row)} numbers of {size}")
            for j, value in enumerate(row):
                if math.isnan(value) or value == math.inf:
                    raise SettingError(f"model.coupling[{i}][{j}] is {value}; it must be finite, or -inf (forbidden)")
                if value != rows[j][i]:
                    raise SettingError(
                        f"model.coupling is not symmetric: [{i}][{j}] is {value} and [{j}][{i}] is {rows[j][i]}"
                    )
        if size == 0 or (self.num_labels is not None and size != self.num_labels):
            raise SettingError(f"model.coupling has {size} rows for model.num_labels={self.num_labels}")

    @property
    def hard(self) -> bool:
        """Return whether some pairs of neighbours are forbidden."""
        return self.coupling is not None and any(-math.inf in row for row in self.coupling)

    def refuse_hard(self, method: str, why: str) -> None:
        """Raise NotApplicable when pairs are forbidden and a method cannot do with that."""
        if self.hard:
            raise NotApplicable(f"{method}: model.coupling forbids pairs of labels (-inf), {why}")

    def labels(self, data: Grid) -> int:
        """Return K.

        Raises:
            SettingError: Neither the model nor the image says how many labels there are.
        """
        known = self.num_labels or (len(self.coupling) if self.coupling is not None else data.num_levels)
        if not known:
            raise SettingError(f"model.num_labels must be stated: {data.name} has no observed pixel")
        return known

    def coupling_matrix(self, data: Grid) -> Float[Tensor, "K K"]:
        """Return J in the precision of the data, minus infinity as a very negative number."""
        if self.coupling is not None:
            return data.values.new_tensor(self.coupling).clamp(min=FORBIDDEN)
        index = torch.arange(self.labels(data), device=data.values.device)
        apart = (index.unsqueeze(1) - index).abs()
        return SAME * (apart == 0).to(data.values.dtype) + ADJACENT * (apart == 1).to(data.values.dtype)

    def log_channel(self, data: Grid) -> Float[Tensor, "K K"]:
        """Return log p(x = l | y = k), [k, l]."""
        K = self.labels(data)
        eye = torch.eye(K, dtype=data.values.dtype, device=data.values.device)
        return self.observation_strength * eye - log_channel_normaliser(self.observation_strength, K)

    def __call__(self, data: Grid) -> None:
        """Run the program on a whole field."""
        label = pyro.sample("label", PottsField(self.coupling_matrix(data), data.shape))
        channel = dist.Categorical(logits=self.log_channel(data)[label])
        pyro.sample("image", channel.mask(data.observed).to_event(2), obs=data.filled)
