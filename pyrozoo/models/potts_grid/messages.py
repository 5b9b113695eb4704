"""Messages between neighbours, as four arrays the size of the image: what belief propagation and max-product share.

A message is a function of the label of the pixel that receives it, kept as its logarithm with the largest value 0.
Arrays are [C, 4, K, H, W]: of every restart, direction, label and receiving pixel, the message that comes from its
left, its right, from above and from below. Labels stand before pixels, so that operations run over whole images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.compiler.cuda import CudaKernels
from pyrozoo.compiler.kernels import Kernels, threads
from pyrozoo.core.errors import SettingError
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import FORBIDDEN

MOST_RANGE = {torch.float64: 300.0, torch.float32: 40.0}
"""Range of the coupling up to which sums over labels can be taken as products of matrices of exponentials."""

KERNELS, CUDA = Kernels(__file__), CudaKernels(__file__)

PIXELS, MOST_LABELS = 128, 6
"""Of one program on CUDA, and the most labels that it holds in registers."""

STRIP = 16
"""Rows that the kernel goes through at a time."""

ALL, FIRST, LAST = slice(None), slice(None, -1), slice(1, None)
SHIFTS = (
    ((ALL, LAST), (ALL, FIRST)),
    ((ALL, FIRST), (ALL, LAST)),
    ((LAST, ALL), (FIRST, ALL)),
    ((FIRST, ALL), (LAST, ALL)),
)
"""By direction of travel (right, left, down, up): which pixels receive, and which send to them."""


@dataclass(frozen=True)
class State:
    """The messages."""

    messages: Float[Tensor, "C 4 K H W"]


class Passing:
    """Send all messages at once, again and again.

    Args:
        potentials: Of the field.
        damping: Share of the old message in the new one, in logarithms, in [0, 1).
        maximise: Over the sender's label, instead of summing.

    Raises:
        SettingError: Damping out of range.
    """

    def __init__(self, potentials: Potentials, damping: float, maximise: bool):
        if not 0 <= damping < 1:
            raise SettingError(f"solver.damping is {damping}; it must be in [0, 1)")
        self.damping, self.maximise, self.coupling = damping, maximise, potentials.coupling
        self.unary = potentials.unary.permute(2, 0, 1).contiguous()
        self.top = self.coupling.max()
        self.numbers = torch.stack([self.top, self.top.new_tensor(damping)])
        self.exponential = (self.coupling - self.top).exp()
        # Forbidden pairs have weight 0 whatever the range of the others.
        allowed = self.coupling[self.coupling > FORBIDDEN]
        self.narrow = bool(self.top - allowed.min() < MOST_RANGE[self.coupling.dtype])

    def start(self, chains: int) -> State:
        """Return messages that say nothing, for the first restart, and random ones."""
        shape = (chains, 4, *self.unary.shape)
        messages = -torch.rand(shape, dtype=self.unary.dtype, device=self.unary.device)
        messages[0] = 0.0
        # What comes from beyond the edge of the image says nothing.
        messages[:, 0, :, :, 0] = messages[:, 1, :, :, -1] = 0.0
        messages[:, 2, :, 0] = messages[:, 3, :, -1] = 0.0
        return State(messages)

    def beliefs(self, messages: Tensor) -> Float[Tensor, "C K H W"]:
        """Return log beliefs, up to a constant per pixel."""
        return messages.sum(1) + self.unary

    def probability(self, state: State) -> Float[Tensor, "C H W K"]:
        """Return beliefs; of chains that are views of one (their stride is 0) views of its."""
        messages = state.messages if state.messages.stride(0) else state.messages[:1]
        return self.beliefs(messages).softmax(1).permute(0, 2, 3, 1).expand(len(state.messages), -1, -1, -1)

    def _cavities(self, m: Tensor) -> Tensor:
        """Return what a pixel knows but for what the receiver told it, by direction of travel, [C, 4, K, H, W].

        A message that travels right goes on to the right, together with those from above and below.
        """
        result = torch.empty_like(m)
        torch.add(m[:, :2], (m[:, 2] + m[:, 3] + self.unary).unsqueeze(1), out=result[:, :2])
        torch.add(m[:, 2:], (m[:, 0] + m[:, 1] + self.unary).unsqueeze(1), out=result[:, 2:])
        return result

    def sweep(self, state: State) -> tuple[State, Float[Tensor, C], Float[Tensor, C]]:
        """Send all messages.

        Returns:
            The new ones; the largest change of a log message; and from the old ones Bethe's estimate of log Z, 0 when
            maximising.

        Yedidia, Freeman and Weiss 2005, IEEE Transactions on Information Theory 51, eqs. 14 and 37: log Z is the sum of
        log Z_ij over edges and of (1 - degree) log Z_i over pixels.
        """
        old, J = state.messages, self.coupling
        if self.maximise or self.narrow:
            if KERNELS.serve(old, self.unary, J):
                return self._swept(old)
            if len(J) <= MOST_LABELS and CUDA.serve(old, self.unary, J):
                return self._swept_on_cuda(old)
        cavity = self._cavities(old)
        largest = cavity.amax(2, keepdim=True)
        if self.maximise or not self.narrow:
            each = [cavity + J[:, k].view(-1, 1, 1) for k in range(len(J))]
            sent = torch.stack([values.amax(2) if self.maximise else values.logsumexp(2) for values in each], 2)
            scale = sent.amax(2, keepdim=True)
            sent -= scale
            estimate = sent.new_zeros(len(sent))
            if not self.maximise:
                estimate = self._bethe(old, (cavity - largest).exp(), largest, sent.exp(), scale)
        else:
            weights = cavity.sub_(largest).exp_()
            sums = torch.matmul(self.exponential, weights.flatten(3)).view_as(weights)
            estimate = self._bethe(old, weights, largest, sums, largest + self.top)
            sent = sums.log_()
            sent -= sent.amax(2, keepdim=True)
            del weights, cavity  # arrays of this size are what limits the size of images
        sent.clamp_(min=FORBIDDEN)
        new = torch.zeros_like(old)
        for direction, (to, source) in enumerate(SHIFTS):
            new[:, direction, :, to[0], to[1]] = sent[:, direction, :, source[0], source[1]]
        if self.damping:
            new.lerp_(old, self.damping)
        del sent
        return State(new), (new - old).abs_().amax((1, 2, 3, 4)), estimate

    def _swept(self, old: Tensor) -> tuple[State, Float[Tensor, C], Float[Tensor, C]]:
        """Do a sweep strip by strip, in C."""
        C, _, K, H, W = old.shape
        old, new = old.contiguous(), old.new_empty(old.shape)
        estimate, change = old.new_empty(2, C, -(-H // STRIP))
        KERNELS(
            "sweep", old.dtype, old, self.unary, self.coupling if self.maximise else self.exponential, new, estimate,
            change, C, K, H, W, STRIP, int(self.maximise), float(self.top), self.damping, FORBIDDEN, threads(),
        )  # fmt: skip
        return State(new), change.amax(1), estimate.sum(1)

    def _swept_on_cuda(self, old: Tensor) -> tuple[State, Float[Tensor, C], Float[Tensor, C]]:
        """Do a sweep in one launch."""
        C, _, K, H, W = old.shape
        old, new = old.contiguous(), old.new_empty(old.shape)
        programs = -(-H * W // PIXELS)
        estimate, change = old.new_empty(2, C, programs)
        coupling = self.coupling if self.maximise else self.exponential
        CUDA(
            "sweep", (programs, C), old, self.unary, coupling, self.numbers, new, estimate, change, H, W, K=K,
            MAXIMISE=self.maximise, FORBIDDEN=FORBIDDEN, B=PIXELS,
        )  # fmt: skip
        return State(new), change.amax(1), estimate.sum(1)

    def _bethe(self, messages: Tensor, weights: Tensor, log_weight: Tensor, sums: Tensor, log_sum: Tensor) -> Tensor:
        """Return the Bethe estimate at messages.

        Weights are exp(cavity - log_weight), and sums, where they are sent, exp(log sum over the sender's label of
        cavity and J - log_sum), [C, 4, K, H, W]; logs are [C, 4, 1, H, W].
        """
        beliefs = self.beliefs(messages).logsumexp(1)
        total = beliefs.sum((1, 2))
        for there, back in ((0, 1), (2, 3)):
            to, source = SHIFTS[there]
            sent, received = (each[:, there, :, source[0], source[1]] for each in (sums, log_sum))
            meets, scale = (each[:, back, :, to[0], to[1]] for each in (weights, log_weight))
            edges = (sent * meets).sum(1).log() + (received + scale).squeeze(1)
            # Every edge takes one log Z_i off each of its two pixels.
            ends = beliefs[:, to[0], to[1]] + beliefs[:, source[0], source[1]]
            total = total + (edges - ends).sum((1, 2))
        return total
