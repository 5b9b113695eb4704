"""What a model is."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from pyrozoo.core.draws import Draws
from pyrozoo.core.prediction import Prediction

MOST_POINTWISE = 5_000_000
"""Draws times units of one block of pointwise log-likelihoods: 40 MB in float64."""


class Model(abc.ABC):
    """A model: a frozen dataclass whose fields are hyper-parameters, validated on construction.

    Calling it runs *the* Pyro program, the only place where priors are stated. Functions below take draws of the
    global sites with leading axes [chain, draw].

    Attributes:
        invariant_dims: Name of an invariant -> names of its event dimensions.
        observed_site: The name of the observed site.
        container: The class of its data: ``of`` (arrays), ``blank`` (a shape), ``restore`` (a run directory).
        unit: The dimension of the pointwise log-likelihood (``row``, ``entry``, ...).
    """

    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]]
    observed_site: ClassVar[str]
    container: ClassVar[Any]
    unit: ClassVar[str]

    @property
    @abc.abstractmethod
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return global latent site -> names of its event dimensions (ArviZ dims)."""

    @abc.abstractmethod
    def __call__(self, data: Any) -> None:
        """Run the Pyro program on the data (missing entries are masked out)."""

    @abc.abstractmethod
    def check(self, data: Any) -> None:
        """Raise DataError, naming column or cell, when this model cannot use the data."""

    @abc.abstractmethod
    def initial(self, data: Any, chains: int) -> Draws:
        """Return random, dispersed starting values, site -> [chains, *event], from torch's global generator."""

    @abc.abstractmethod
    def pointwise_log_likelihood(self, draws: Draws, data: Any) -> Tensor:
        """Return log p(unit | draw) with local latents summed out, [chain, draw, unit]."""

    def effort(self, data: Any) -> float:
        """Return how many multiplications ``pointwise_log_likelihood`` takes per draw; 0 when nobody would notice."""
        return 0.0

    def log_likelihood(self, draws: Draws, data: Any) -> Tensor:
        """Return the sum of the pointwise log-likelihood, [chain, draw], never holding all draws by all units."""
        chains, count = next(iter(draws.values())).shape[:2]
        step = max(1, MOST_POINTWISE // (chains * data.units))
        blocks = [{site: value[:, i : i + step] for site, value in draws.items()} for i in range(0, count, step)]
        return torch.cat([self.pointwise_log_likelihood(block, data).sum(-1) for block in blocks], 1)

    @abc.abstractmethod
    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Fix what the likelihood leaves free (labels, signs, rotation), toward ``reference`` draws when given."""

    def symmetry(self, values: Mapping[str, Tensor]) -> tuple[int, float]:
        """Return dimension and log volume of the points that say the same as ``values``, site -> [*event].

        The volume is that of the orbit of a continuous symmetry, such as rotations, in the coordinates of the sites
        that it moves. Along the orbit the density has no curvature, which Laplace's method must know.
        """
        return 0, 0.0

    @abc.abstractmethod
    def invariants(self, draws: Draws, data: Any, log_likelihood: Tensor | None = None) -> Draws:
        """Return named quantities that no relabelling or rotation changes, [chain, draw, ...].

        ``log_likelihood`` is one of them; where it is known already it need not be computed again.
        """

    def checks(self, values: Tensor, data: Any) -> Draws:
        """Return the statistics by which posterior predictive checks compare data with simulated data, name -> [...].

        They should be what a model of this kind gets wrong when it is wrong, such as zeros and dispersion of counts.

        Args:
            values: As ``data.values`` holds them: the data's own, or simulated ones.
            data: Says which cells are observed; others must not matter.
        """
        arrays = data.statistics(values, self.observed_site)
        return {name: torch.as_tensor(array) for name, (_, array) in arrays.items()}

    @abc.abstractmethod
    def predict(self, draws: Draws, data: Any) -> Prediction:
        """Predict the hidden entries of ``data`` given its observed ones."""

    def watched(self, draws: Draws, data: Any) -> dict[str, Tensor]:
        """Return what to follow a run by: a part of the data -> log densities of entries of it, [chain, draw, entry].

        Engines average them over draws and write minus their mean into the trace (``train_nll``, ``test_nll``); for
        most models there is nothing.
        """
        return {}
