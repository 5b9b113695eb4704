"""The guide of a variational autoencoder: a network that reads a row's answers and says where its latent vector is."""

from __future__ import annotations

import math

import pyro
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa import guide

UNITS = 64
"""Units of the encoder's hidden layer."""


class Guide(guide.Guide):
    """q(z_u) = N(m(x_u), s(x_u)^2) with m, log s a network of one hidden layer: what is learned serves rows never seen.

    Its input is the answers, one number per category, zero for all categories of a missing one. The global sites have
    the independent normals of ``guide.py``. Kingma and Welling 2014, ICLR; the decoder is the model, linear or with
    hidden units.
    """

    streams = True

    def start_rows(self, mode: Float[Tensor, "N d"]) -> None:
        """Take starting weights of the network."""
        width, d = self.posterior.layout.num_categories, mode.shape[1]

        def weights(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, dtype=mode.dtype, device=mode.device) / math.sqrt(columns)

        self.network = {
            "encoder_in": weights(UNITS, width),
            "encoder_in_bias": mode.new_zeros(UNITS),
            "encoder_out": 0.1 * weights(2 * d, UNITS),
            "encoder_out_bias": mode.new_zeros(2 * d),
        }

    def rows(self, data: Survey) -> tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]]:
        """Return mean and scale of q(z_u) of the rows of a minibatch."""
        net = {name: pyro.param(name, value) for name, value in self.network.items()}
        layout = (self.posterior if data is self.posterior.data else self.posterior.on(data)).layout
        block = layout.block(slice(0, len(data.values)))
        # Shares where answers are counted together; for one answer per item it changes nothing.
        most = block.answers.amax().clamp(min=1)
        hidden = torch.tanh((block.counts.T / most) @ net["encoder_in"].T + net["encoder_in_bias"])
        mean, scale = (hidden @ net["encoder_out"].T + net["encoder_out_bias"]).chunk(2, -1)
        return mean, softplus(scale) + 1e-4
