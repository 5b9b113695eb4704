"""Synthetic rows of a fit: as a table, or streamed into a file of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.view import view_of
from pyrozoo.core.errors import SettingError
from pyrozoo.core.paths import replacing
from pyrozoo.core.progress import bar
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import storable


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


def _draw(fit: Fit, count: int, given: Mapping[str, str] | None, seed: int, take: Callable[[Tensor], None]) -> None:
    """Draw rows chunk by chunk under a seed of their own."""
    check_request(fit.model, count, given)
    with seeded(seed):
        for codes in view_of(fit.model).synthesize(fit, count, given):
            take(codes)


def synthetic_frame(fit: Fit, count: int, given: Mapping[str, str] | None, seed: int) -> pd.DataFrame:
    """Return synthetic rows with the data's own column names and labels; ``given``: column -> level that all have."""
    frames: list[pd.DataFrame] = []
    _draw(fit, count, given, seed, lambda codes: frames.append(fit.data.frame(codes)))
    return pd.concat(frames, ignore_index=True)


def write_synthetic(
    fit: Fit, path: Path, count: int, given: Mapping[str, str] | None, seed: int, progress: bool
) -> Path:  # fmt: skip
    """Write synthetic rows to a CSV file, a chunk at a time, and move it into place when all are there.

    Memory does not grow with their number; ``progress`` shows a bar on a terminal, when it takes over two seconds.
    """
    with bar(count, path.name, shown=progress, unit="row") as shown, replacing(path) as temporary:

        def take(codes: Tensor) -> None:
            text = fit.data.frame(codes).to_csv(header=not temporary.exists(), index=False)
            with temporary.open("ab") as file:
                file.write(storable(text).encode("utf-8"))
            shown.update(len(codes))

        _draw(fit, count, given, seed, take)
    return path
