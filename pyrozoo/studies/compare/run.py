"""``pyrozoo.compare``: several fits side by side, foreign ones among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import arviz as az
import pandas as pd

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.picture import Picture
from pyrozoo.core.settings import check_types
from pyrozoo.diagnostics.compare import Comparison
from pyrozoo.diagnostics.compare import compare as compare_fits
from pyrozoo.diagnostics.verdict import Thresholds
from pyrozoo.report import html
from pyrozoo.run.fit import load
from pyrozoo.studies.compare.foreign import adopted
from pyrozoo.studies.compare.page import (
    card_rows,
    levels,
    pictures_of,
    reference_sentence,
    tables_of,
    write_comparison,
)


class ComparisonResult:
    """Several fits side by side; printing it shows the table, a notebook the verdicts.

    Attributes:
        comparison: The ``Comparison``; its attributes (table, parameters, invariants, reference) are this one's too.
    """

    def __init__(self, comparison: Comparison):
        self.comparison = comparison

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comparison, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.comparison.__dataclass_fields__})

    def __repr__(self) -> str:
        return str(self.comparison)

    def _repr_html_(self) -> str:
        shown = self.verdicts.map(lambda word: html.level(word) if word in html.COLOURS else word)
        table = shown.rename(index=escape).to_html(escape=False, index_names=False)
        return f"<p>{escape(reference_sentence(self.comparison))}</p>{table}"

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Every card in a row: pass, warn or fail, overall and of each thing judged; empty where it does not arise."""
        return levels(self.comparison)

    @cached_property
    def reasons(self) -> pd.DataFrame:
        """Every line of every card with its sentence: fit, level, about, sentence."""
        return card_rows(self.comparison)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The model's own tables over several fits, name -> table; most models have none."""
        return tables_of(self.comparison)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """The pictures of the report, name -> picture; a notebook shows one that ends a cell."""
        return {picture.name: picture for picture in pictures_of(self.comparison)}

    def save(self, directory: str | Path) -> Path:
        """Write comparison.csv and report.html."""
        write_comparison(Path(directory), [self.comparison])
        return Path(directory)


def compare(
    fits: Sequence[Fit | az.InferenceData], *, reference: Fit | az.InferenceData | str | Path | None = None,
    **limits: float,
) -> ComparisonResult:  # fmt: skip
    """Compare fits of one model: a verdict card each, aligned parameters, invariants in reference-sd units.

    Args:
        fits: Results of ``fit`` or ``load``; or ArviZ InferenceData, from Stan, PyMC, NumPyro or anywhere else, whose
            posterior group has the sites of the model under their names. What it lacks is not needed: notes say so.
        reference: A fit, InferenceData, or a run directory, to hold them to; None: the best of them.
        **limits: Thresholds of the verdicts in place of conf's, such as ``mean_good=0.1`` (``Thresholds``).

    Returns:
        Tables and cards; ``save`` writes the report.

    Raises:
        SettingError: Nothing to compare, fits of different models or data, or no such threshold.
    """
    check_types(Thresholds.__init__, limits, "verdict")
    stored = load(reference) if isinstance(reference, str | Path) else reference
    ours, held = adopted(list(fits), stored)
    return ComparisonResult(compare_fits(ours, reference=held, limits=Thresholds(**limits)))
