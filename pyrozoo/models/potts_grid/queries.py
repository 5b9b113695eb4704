"""What users ask of a restored image: probabilities and labels of pixels, log Z, how far from exact, how accurate."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.models.potts_grid import elimination
from pyrozoo.models.potts_grid.elimination import Eliminated
from pyrozoo.models.potts_grid.likelihood import Potentials
from pyrozoo.models.potts_grid.model import PottsGrid

MOST_WORK = 1e8
"""Multiplications that exact answers may take beside a fit: a few seconds."""

MOST_LINES = 20_000
"""Pixels listed in a table; of a larger image the picture shows all."""

ON_LOG_EVIDENCE = ("log_evidence", "log_evidence_bethe", "elbo")
"""Objectives that are on the scale of the log evidence, or bounds of it."""

LADDER = ("log_z", "log_z_error", "max_marginal_error", "mean_marginal_error", "label_accuracy", "residual", "seconds")


def marginals(fit: Fit) -> Float[Tensor, "H W K"]:
    """Return P(y_ij = k): as the method knows it, else the share of draws (1 or 0 for a point)."""
    if "label_probability" in fit.expectations:
        return fit.expectations["label_probability"]
    assert isinstance(fit.model, PottsGrid)
    label = fit.draws["label"].flatten(0, 1)
    dtype = fit.data.values.dtype
    return torch.stack([(label == k).to(dtype).mean(0) for k in range(fit.model.labels(fit.data))], -1)


def labelling(fit: Fit) -> Int[Tensor, "H W"]:
    """Return the most probable label of every pixel (maximum posterior marginals); of a point, the point."""
    return marginals(fit).argmax(-1)


def exact_answers(fit: Fit) -> tuple[float, Float[Tensor, "H W K"]] | None:
    """Return log Z and the exact marginals where they can be had beside a fit, else None."""
    assert isinstance(fit.model, PottsGrid)
    labels = fit.model.labels(fit.data)
    if elimination.work(fit.data.shape, labels) > MOST_WORK or not elimination.fits(fit.data.shape, labels):
        return None
    potentials = Potentials.of(fit.model, fit.data.to(fit.data.values.device, torch.float64))
    eliminated = Eliminated(potentials.unary, potentials.coupling)
    return float(eliminated.log_z), eliminated.marginals().label


def metrics(fit: Fit) -> dict[str, float | int | str]:
    """Return log Z, accuracy against a known truth, and errors against exact answers where there are any."""
    result: dict[str, float | int | str] = {}
    assert isinstance(fit.model, PottsGrid)
    estimated = fit.objective_name in ON_LOG_EVIDENCE
    if estimated:
        result["log_z"] = fit.objective + Potentials.of(fit.model, fit.data).normaliser
    if "label" in fit.data.truth:
        right = labelling(fit) == fit.data.truth["label"].to(fit.data.values.device)
        result["label_accuracy"] = right.double().mean().item()
    if fit.data.hidden is not None and len(fit.data.hidden.values):
        seen = labelling(fit)[fit.data.hidden.rows, fit.data.hidden.columns]
        result["holdout_accuracy"] = (seen == fit.data.hidden.values).double().mean().item()
    if fit.kind != "exact" and (known := exact_answers(fit)) is not None:
        error = (marginals(fit).double() - known[1]).abs()
        result |= {"max_marginal_error": error.max().item(), "mean_marginal_error": error.mean().item()}
        if estimated:
            result["log_z_error"] = float(result["log_z"]) - known[0]
    return result


def tables(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return pixels with label and probabilities; exact fits also say how often neighbours have which labels."""
    prob, seen = marginals(fit).double().cpu(), fit.data.values.flatten().cpu()
    names = label_names(fit)
    rows, columns = fit.data.shape
    frame = pd.DataFrame(
        {
            "row": [name for name in fit.data.row_labels for _ in range(columns)],
            "column": list(fit.data.column_labels) * rows,
            "seen": [names[int(value)] if value == value else "" for value in seen.tolist()],
            "label": [names[k] for k in labelling(fit).flatten().tolist()],
            **{f"probability_{name}": prob[..., k].flatten() for k, name in enumerate(names)},
        }
    )
    result = {"pixels": frame.head(MOST_LINES)}
    if (pairs := fit.expectations.get("neighbours_probability")) is not None:
        values = {name: pairs[:, k].cpu() for k, name in enumerate(names)}
        result["neighbours"] = pd.DataFrame({"label": names, **values})
    return result


def label_names(fit: Fit) -> list[str]:
    """Return names of the model's labels, which may be more than the image shows."""
    assert isinstance(fit.model, PottsGrid)
    known = list(fit.data.level_names)
    return known + [f"label_{k}" for k in range(len(known), fit.model.labels(fit.data))]


def compared(fits: Sequence[Fit], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the ladder: by method, log Z, errors of the marginals, accuracy, residual and time."""
    rows: list[dict[str, object]] = []
    for name, fit in zip(names, fits, strict=True):
        known = {**fit.metrics, "seconds": fit.seconds}
        rows.append({"fit": name, "log Z is": STANDING.get(fit.objective_name, "")} | {k: known.get(k) for k in LADDER})
    return {"ladder": pd.DataFrame(rows).dropna(axis=1, how="all")}


STANDING = {"log_evidence": "exact", "elbo": "a lower bound", "log_evidence_bethe": "an estimate, no bound"}
"""What an objective says of log Z."""
