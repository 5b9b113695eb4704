"""The hidden Potts field: its hyper-parameters and its Pyro program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro.distributions import constraints
from torch import Tensor

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.settings import not_negative, positive, stated, whole
from pyrozoo.data.grid import Grid
from pyrozoo.data.labelled import MOST_LABELS
from pyrozoo.math.elimination import Eliminated, at_most, work
from pyrozoo.models.potts_grid.scale import critical, rate_of, strengths
from pyrozoo.program.whole import Whole

FORBIDDEN = -1e9
"""What solvers take for minus infinity: exp of it is 0 in every precision, and it times 0 is 0."""

MOST_FIELDS, MOST_WORK = 2**20, 2e6
"""Labellings that enumeration lists; multiplications that one draw from the prior may take: simulations draw
hundreds."""


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
        observation_strength: c, not negative: how much an observed pixel says of its own label; a large one, such as
            1000, makes it certain. None: where the image is most probable, its labels summed out.
        coupling: J, a symmetric K x K matrix; None: ``coupling_strength`` for equal labels, else 0. Minus infinity
            forbids a pair of neighbours; only exact answers, message passing can do with that.
        coupling_strength: J of equal labels, where the matrix is not stated. None: found likewise, together with c; at
            most twice log(1 + sqrt(K)).

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    without_data: ClassVar[Mapping[str, float]] = {"observation_strength": 2.0, "coupling_strength": 0.8}

    num_labels: int | None = whole(1, MOST_LABELS, optional=True)
    observation_strength: float | None = not_negative(optional=True)
    coupling: Sequence[Sequence[Any]] | None = stated()
    coupling_strength: float | None = positive(optional=True, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coupling is None:
            return
        if self.coupling_strength is not None:
            self.refuse("coupling_strength", "model.coupling states the whole matrix: one of the two must be null")
        rows, size = self.coupling, len(self.coupling)
        # Messages name the entry: the whole matrix may be large.
        for i, row in enumerate(rows):
            if len(row) != size:
                raise SettingError(f"model.coupling is not square: row {i} has {len(row)} numbers of {size}")
        for i, j in itertools.product(range(size), repeat=2):
            value, other = rows[i][j], rows[j][i]
            if not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
                raise SettingError(
                    f"model.coupling[{i}][{j}] is {value!r}; it must be a finite number, or -inf (forbidden)"
                )
            if value != other:
                raise SettingError(f"model.coupling is not symmetric: [{i}][{j}] is {value} and [{j}][{i}] is {other}")
        if size == 0 or (self.num_labels is not None and size != self.num_labels):
            raise SettingError(f"model.coupling has {size} rows for model.num_labels={self.num_labels}")
        object.__setattr__(self, "coupling", tuple(tuple(float(each) for each in row) for row in rows))

    def derived(self, data: Grid) -> dict[str, Derived]:
        """Return what is left to the data; nothing of the coupling where its matrix is stated."""
        found = super().derived(data)
        return found if self.coupling is None else {n: x for n, x in found.items() if n != "coupling_strength"}

    def from_data(self, data: Grid) -> Mapping[str, Derived]:
        """Return the strengths at which the image is most probable (see ``scale.py``)."""
        K = max(2, self.labels(data))
        matrix = None
        if self.coupling is not None and len(self.coupling) > 1:  # of one label nothing can be flipped
            matrix = tuple(tuple(max(float(each), FORBIDDEN) for each in row) for row in self.coupling)
        found = strengths(data, K, self.observation_strength, self.coupling_strength, matrix)
        flips = f"flips of {rate_of(found.observation, K):.2g} of the pixels"
        return {
            "observation_strength": Derived(found.observation, f"{found.said}: {flips}"),
            "coupling_strength": Derived(found.coupling, f"{found.said}; at most {2 * critical(K):.3g}"),
        }

    def to_rescale(self, data: Grid) -> str:
        """Say what to type where the prior never draws images like this one: a stated matrix is the first to doubt."""
        said = super().to_rescale(data)
        if self.coupling is None:
            return said
        found = replace(self, coupling=None).derived(data)["coupling_strength"].value
        more = f", {said.removeprefix('set ')}" if said.startswith("set ") else ""
        return f"set {self.prefix}coupling=null (a reward of {found:g} for equal neighbours){more}"

    @property
    def strength(self) -> float:
        """c, which must be known by now.

        Raises:
            SettingError: It is still left to the data: the model was not given any (``Model.given``).
        """
        if self.observation_strength is None:
            self.refuse("observation_strength", "it is left to the data, and there are none")
        return self.observation_strength

    @property
    def hard(self) -> bool:
        """Whether some pairs of neighbours are forbidden."""
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
        if self.coupling_strength is None:
            self.refuse("coupling_strength", "it is left to the data, and there are none")
        return self.coupling_strength * data.values.new_ones(self.labels(data)).diag()

    def log_channel_normaliser(self, data: Grid) -> float:
        """Return log(e^c + K - 1), by which the channel divides."""
        return self.strength + math.log1p((self.labels(data) - 1) * math.exp(-self.strength))

    def __call__(self, data: Grid) -> None:
        """Run the program on a whole field."""
        label = pyro.sample("label", PottsField(self.coupling_matrix(data), data.shape))
        # log p(x = l | y = k), [k, l]
        logits = self.strength * data.values.new_ones(self.labels(data)).diag()
        channel = dist.Categorical(logits=(logits - self.log_channel_normaliser(data))[label])
        pyro.sample("image", channel.mask(data.observed).to_event(2), obs=data.filled)


class PottsField(Whole):
    """log p(y) = sum over edges J(y_i, y_j), each edge once, *up to the normaliser*, which no method here needs.

    Draws are exact, by elimination, and therefore of small fields only.

    Args:
        coupling: J.
        shape: Height and width.
    """

    support = constraints.independent(constraints.nonnegative_integer, 2)
    has_enumerate_support = True

    def __init__(self, coupling: Float[Tensor, "K K"], shape: tuple[int, int]):
        self.coupling = coupling
        super().__init__((), shape)

    def log_prob(self, value: Int[Tensor, "*batch H W"]) -> Float[Tensor, "*batch"]:
        """Return the unnormalised log density."""
        return pairs(value, self.coupling)

    def sample(self, sample_shape: Sequence[int] = ()) -> Int[Tensor, "*sample H W"]:
        """Draw exactly, many as fast as one.

        Raises:
            NotApplicable: The field is too large for that.
        """
        height, width = shape = (self.event_shape[0], self.event_shape[1])
        labels = len(self.coupling)
        if work(shape, labels) > MOST_WORK:
            most = at_most(shape, labels, lambda smaller: work(smaller, labels) <= MOST_WORK)
            raise NotApplicable(f"a field of {height} x {width} pixels cannot be drawn from the prior: {most}")
        J = self.coupling
        field = _field(tuple(J.flatten().tolist()), (height, width), J.dtype, J.device)
        return field.draw(math.prod(sample_shape)).reshape(*sample_shape, height, width)

    def enumerate_support(self, expand: bool = True) -> Int[Tensor, "S H W"]:
        """Return every labelling.

        Raises:
            NotImplementedError: There are more than ``MOST_FIELDS``.
        """
        labels, size, device = len(self.coupling), self.event_shape.numel(), self.coupling.device
        if labels**size > MOST_FIELDS:
            raise NotImplementedError(f"{labels}^{size} labellings are too many to list")
        code = torch.arange(labels**size, device=device).unsqueeze(1)
        powers = labels ** torch.arange(size - 1, -1, -1, device=device)
        return (code // powers % labels).reshape(-1, *self.event_shape)


@lru_cache(maxsize=1)
def _field(
    coupling: tuple[float, ...], shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Eliminated:  # fmt: skip
    """Return a field without data, eliminated: one draw after another needs that once."""
    J = torch.tensor(coupling, dtype=dtype, device=device).unflatten(0, (-1, math.isqrt(len(coupling))))
    return Eliminated(J.new_zeros(*shape, len(J)), J)


def pairs(label: Int[Tensor, "*batch H W"], coupling: Float[Tensor, "K K"]) -> Float[Tensor, "*batch"]:
    """Return the sum of J over the edges of fields, each edge once."""
    across = coupling[label[..., :, :-1], label[..., :, 1:]].sum((-2, -1))
    return across + coupling[label[..., :-1, :], label[..., 1:, :]].sum((-2, -1))
