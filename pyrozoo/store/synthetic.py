"""Synthetic rows of a fit: as a table, or streamed into a file of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import replacing
from pyrozoo.core.progress import bar
from pyrozoo.core.seeds import seeded
from pyrozoo.store.lines import write_lines
from pyrozoo.store.tables import neutral


def check_request(model: Any, count: int | None, given: Mapping[str, str] | None) -> None:
    """Refuse synthetic rows that a model, or not so many, cannot be asked for.

    Raises:
        SettingError: The model cannot draw rows, or fewer than one are asked for.
    """
    if count is None and not given:
        return
    if not view_of(model).synthesizes:
        raise SettingError(f"synthetic_rows: {model.name} draws no synthetic rows")
    if count is not None and count < 1:
        raise SettingError(f"synthetic_rows is {count}; it must be at least 1, or null")


def _draw(
    fit: Fit, count: int, given: Mapping[str, str] | None, seed: int, holes: bool, take: Callable[[Tensor], None]
) -> None:  # fmt: skip
    """Draw rows chunk by chunk under a seed of their own; holes are drawn apart, so that they change no answer."""
    check_request(fit.model, count, given)
    generator, asked = np.random.default_rng((seed, HOLES_STREAM)), [*fit.data.codes_of(given or {})]
    with seeded(seed):
        for codes in view_of(fit.model).synthesize(fit, count, given):
            if holes:
                gone = fit.data.holes(len(codes), generator)
                gone[:, asked] = False
                codes = codes.masked_fill(gone.to(codes.device), torch.nan)
            take(codes)


HOLES_STREAM = 3


def synthetic_frame(
    fit: Fit, count: int, given: Mapping[str, str] | None, seed: int, holes: bool = True
) -> pd.DataFrame:  # fmt: skip
    """Return synthetic rows with the data's own column names, labels and types.

    Args:
        fit: The fit.
        count: How many.
        given: Column -> level that all have.
        seed: Of the draw.
        holes: Whether answers are missing as often as in the data.
    """
    parts: list[Tensor] = []
    _draw(fit, count, given, seed, holes, lambda codes: parts.append(codes.cpu()))
    return fit.data.typed(torch.cat(parts))


def write_synthetic(
    fit: Fit, path: Path, count: int, given: Mapping[str, str] | None, seed: int, progress: bool, holes: bool = True
) -> Path:  # fmt: skip
    """Write synthetic rows to a CSV file, a chunk at a time, and move it into place when all are there.

    Memory does not grow with their number; ``progress`` shows a bar on a terminal, when it takes over two seconds.
    """
    with bar(count, path.name, shown=progress, unit="row") as shown, replacing(path) as temporary:

        def take(codes: Tensor) -> None:
            header = not temporary.exists()
            with temporary.open("ab") as file:
                write_lines(file, neutral(fit.data.typed(codes)), header=header)
            shown.update(len(codes))

        _draw(fit, count, given, seed, holes, take)
    return path
