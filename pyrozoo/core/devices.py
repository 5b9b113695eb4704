"""Devices: which one a run is on, in which precision, and what they are called."""

from __future__ import annotations

import os

import torch

from pyrozoo.core.errors import SettingError
from pyrozoo.core.launch import launched

LARGE = 2**20
"""Numbers of data from which ``device=auto`` takes a card: of fewer, a step is over before its launches are."""


def device_of(name: str, numbers: int | None = None) -> torch.device:
    """Return the device that a name asks for; of several processes on a host each gets the next card.

    Args:
        name: cpu, cuda or auto. auto is a card where there is one and the data are large, else the CPU.
        numbers: How many numbers the data have; None: many.

    Raises:
        SettingError: There is no CUDA device where one is asked for.
    """
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        raise SettingError("device=cuda, but there is no CUDA device here; use device=cpu or device=auto")
    if not there or (name == "auto" and numbers is not None and numbers < LARGE):
        return torch.device("cpu")
    if not launched():
        return torch.device("cuda")
    card = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(card)
    return card


def a_card_each() -> bool:
    """Return whether every process of this host has a card of its own."""
    return torch.cuda.is_available() and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()


def precision(dtype: str | None, device: torch.device, *, solver: bool) -> torch.dtype:
    """Return a precision: the one asked for, else float32 for closed-form solvers on a card, whose law holds in it.

    Args:
        dtype: float64, float32 or None.
        device: Where the run is.
        solver: Whether the method is a solver of the model's own.
    """
    single = device.type == "cuda" and solver if dtype is None else dtype == "float32"
    return torch.float32 if single else torch.float64


def called(device: torch.device) -> str:
    """Return what a device is called: cpu, or the card's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
