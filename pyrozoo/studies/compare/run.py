"""``pyrozoo.compare``: several fits side by side, foreign ones among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.settings import check_types
from pyrozoo.diagnostics.compare import compare as compare_fits
from pyrozoo.diagnostics.verdict import Thresholds
from pyrozoo.run.fit import load
from pyrozoo.studies.compare.foreign import adopted
from pyrozoo.studies.compare.page import ComparisonResult

if TYPE_CHECKING:
    import arviz as az


def compare(
    fits: Sequence[Fit | az.InferenceData], *, reference: Fit | az.InferenceData | str | Path | None = None,
    **limits: float,
) -> ComparisonResult:  # fmt: skip
    """Compare fits of one model: a verdict card each, aligned parameters, invariants in reference-sd units.

    Args:
        fits: Results of ``fit`` or ``load``; or ArviZ InferenceData, from Stan, PyMC, NumPyro or anywhere else, whose
            posterior group has the sites of the model under their names. What it lacks is not needed: notes say so.
            Times come from ``seconds`` of each draw, or PyMC's ``perf_counter_start`` and ``perf_counter_diff``, among
            the sample_stats, else evenly from the attribute ``sampling_time``; warm-up from ``tuning_steps``, gradients
            from ``n_steps``.
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
    return ComparisonResult.of(compare_fits(ours, reference=held, limits=Thresholds(**limits)))
