"""What users ask of a fitted survey: loadings, scores, missing answers, and whether synthetic rows can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.seeds import seeded
from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.prediction import hidden_probabilities, scores
from pyrozoo.models.categorical_fa.synthesis import synthesize

JUDGED_ROWS = 20_000
"""Synthetic rows that fidelity is judged by: the error of a share is below 0.004."""

MOST_CELLS = 100_000
"""Missing answers written out."""

MOST_SCORED = 50_000
"""Rows whose scores are written out."""


_JUDGED = WeakIdKeyDictionary()


def judged(fit: Fit) -> Float[Tensor, "n D"]:
    """Return the synthetic rows by which a fit is judged, drawn once."""
    key = next(iter(fit.draws.values()))  # a fit's own, whoever holds it
    if key not in _JUDGED:
        with seeded(fit.seed + 1):
            _JUDGED[key] = torch.cat(list(synthesize(fit, JUDGED_ROWS)))
    return _JUDGED[key]


def shares(survey: Survey, values: Float[Tensor, "n D"]) -> list[Float[Tensor, K]]:
    """Return the share of every category among the answers to its item."""
    result = []
    for item, size in enumerate(survey.categories):
        column = values[:, item]
        count = torch.bincount(column[~column.isnan()].long(), minlength=size).double()
        result.append(count / count.sum().clamp(min=1))
    return result


def independent(survey: Survey, count: int, seed: int) -> Float[Tensor, "n D"]:
    """Return rows of independent columns with the shares of the data: what knows nothing of association."""
    generator = np.random.default_rng((seed, 2))
    columns = [generator.choice(len(p), count, p=p.numpy()) for p in (s.cpu() for s in shares(survey, survey.values))]
    return torch.as_tensor(np.stack(columns, 1), dtype=torch.float64)


def association_error(survey: Survey, values: Float[Tensor, "n D"]) -> float:
    """Return the mean absolute difference of Cramér's V from the data's, over all pairs of items."""
    D = survey.shape[1]
    i, j = torch.tril_indices(D, D, -1)
    gap = survey.cramers_v(values.to(survey.values)) - survey.cramers_v()
    return float(gap.abs()[i, j].mean())


def marginal_tv(survey: Survey, values: Float[Tensor, "n D"]) -> float:
    """Return the mean over items of the total variation distance between shares and those of the data."""
    pairs = zip(shares(survey, survey.values), shares(survey, values), strict=True)
    return float(np.mean([0.5 * float((one - other.to(one)).abs().sum()) for one, other in pairs]))


def coinciding(survey: Survey, values: Float[Tensor, "n D"]) -> float:
    """Return the share of rows that equal some complete row of the data."""
    complete = survey.values[survey.observed.all(1)].cpu().to(torch.int16).numpy()
    known = {row.tobytes() for row in np.ascontiguousarray(complete)}
    drawn = np.ascontiguousarray(values.cpu().to(torch.int16).numpy())
    return float(np.mean([row.tobytes() in known for row in drawn]))


def _smoothed_logs(survey: Survey) -> list[Tensor]:
    """Return log shares of the categories, half an answer more for each, so that none is impossible."""
    result = []
    for item, size in enumerate(survey.categories):
        column = survey.values[:, item]
        count = torch.bincount(column[~column.isnan()].long(), minlength=size).double() + 0.5
        result.append((count / count.sum()).log())
    return result


def metrics(fit: Fit) -> dict[str, float]:
    """Return the fidelity of synthetic rows, beside what independent columns would have."""
    survey = cast(Survey, fit.data)
    rows = judged(fit)
    floor = independent(survey, len(rows), fit.seed)
    result = {
        "mean_marginal_tv": marginal_tv(survey, rows),
        "synthetic_coincide_share": coinciding(survey, rows),
        "independent_coincide_share": coinciding(survey, floor),
    }
    if survey.shape[1] > 1:
        result["mean_association_error"] = association_error(survey, rows)
        result["independent_association_error"] = association_error(survey, floor)
    logs = _smoothed_logs(survey)
    if survey.hidden is not None and len(survey.hidden.values):
        hidden = survey.hidden
        at = zip(hidden.columns.tolist(), hidden.values.tolist(), strict=True)
        result["independent_holdout_elpd"] = float(np.mean([float(logs[item][int(code)]) for item, code in at]))
        best = hidden_probabilities(cast(CategoricalFA, fit.model), fit.draws, survey).argmax(-1)
        result["holdout_accuracy"] = float((best == hidden.values.long()).double().mean())
    if survey.test is not None:
        pointwise = fit.model.pointwise_log_likelihood(_some(fit), survey.test).flatten(0, 1)
        result["test_joint_elpd"] = float((pointwise.logsumexp(0) - math.log(len(pointwise))).mean())
        total = torch.zeros(len(survey.test.values), dtype=torch.float64)
        for item, log_share in enumerate(logs):
            column = survey.test.values[:, item].cpu()
            total += torch.where(column.isnan(), 0.0, log_share.cpu()[column.nan_to_num(nan=0.0).long()])
        result["independent_test_joint_elpd"] = float(total.mean())
    return result


MOST_TESTED = 200
"""Values behind the joint density of new rows."""


def _some(fit: Fit) -> dict[str, Tensor]:
    flat = {site: value.flatten(0, 1) for site, value in fit.draws.items()}
    total = len(next(iter(flat.values())))
    keep = torch.linspace(0, total - 1, min(total, MOST_TESTED)).round().long()
    return {site: value[keep][None] for site, value in flat.items()}


def tables(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return loadings, scores of rows, the most probable answer where one is missing or hidden, association, shares."""
    model, survey = cast(CategoricalFA, fit.model), cast(Survey, fit.data)
    draws = model.canonical(fit.draws)
    result = {"categories": _categories(fit, draws)}
    if model.loadings == "fixed":
        covariance = draws["latent_covariance"].mean((0, 1)).cpu().numpy()
        names = [f"factor[{s}]" for s in range(len(covariance))]
        result["latent_covariance"] = pd.DataFrame(covariance, columns=names).assign(factor=names)[["factor", *names]]
    if survey.shape[1] > 1:
        result["association"] = _association(fit)
    parts = [("", survey), *([("test_", survey.test)] if survey.test is not None else [])]
    for prefix, part in parts:
        if len(part.values) <= MOST_SCORED:
            result[f"{prefix}scores"] = _scores(model, draws, part)
        if part.hidden is not None and 0 < len(part.hidden.values) <= MOST_CELLS:
            result[f"{prefix}holdout"] = answers(fit, part)
        unknown = part.missing
        if unknown is not None and unknown.hidden is not None and len(unknown.hidden.values) <= MOST_CELLS:
            result[f"{prefix}missing"] = answers(fit, unknown).drop(columns=["true", "probability_of_true"])
    return result


def _categories(fit: Fit, draws: dict[str, Tensor]) -> pd.DataFrame:
    """Return every category with its share in the data and among synthetic rows, intercept and loadings."""
    model, survey = cast(CategoricalFA, fit.model), cast(Survey, fit.data)
    seen, drawn = (torch.cat(shares(survey, values)).cpu().numpy() for values in (survey.values, judged(fit)))
    frame = pd.DataFrame(
        {
            "column": [name for name, size in zip(survey.column_labels, survey.categories, strict=True)
                       for _ in range(size)],
            "category": [level for levels in survey.levels for level in levels],
            "share": seen,
            "synthetic_share": drawn,
        }
    )  # fmt: skip
    free = torch.tensor([k < size - 1 for size in survey.categories for k in range(size)])
    if model.intercepts:
        frame["intercept"] = 0.0
        frame.loc[free.numpy(), "intercept"] = draws["intercepts"].mean((0, 1)).cpu().numpy()
    if model.loadings == "free":
        loadings = draws["loadings"].mean((0, 1)).cpu().numpy()
        for s in range(loadings.shape[1]):
            name = f"factor[{s}]" if s < model.latent_dimension else f"hidden[{s - model.latent_dimension}]"
            frame[name] = 0.0
            frame.loc[free.numpy(), name] = loadings[:, s]
    return frame


def _association(fit: Fit) -> pd.DataFrame:
    survey = cast(Survey, fit.data)
    i, j = torch.tril_indices(survey.shape[1], survey.shape[1], -1)
    data, drawn = survey.cramers_v().cpu(), survey.cramers_v(judged(fit)).cpu()
    names = list(survey.column_labels)
    frame = pd.DataFrame(
        {
            "column": [names[k] for k in j.tolist()],
            "other_column": [names[k] for k in i.tolist()],
            "cramers_v": data[i, j],
            "synthetic_cramers_v": drawn[i, j],
        }
    )
    return frame.sort_values("cramers_v", ascending=False, ignore_index=True)


def _scores(model: CategoricalFA, draws: dict[str, Tensor], survey: Survey) -> pd.DataFrame:
    mean, sd = (value.cpu().numpy() for value in scores(model, draws, survey))
    names = range(mean.shape[1])
    parts = [pd.DataFrame({"row": list(survey.row_labels)}), pd.DataFrame(mean, columns=[f"mean[{s}]" for s in names])]
    return pd.concat([*parts, pd.DataFrame(sd, columns=[f"sd[{s}]" for s in names])], axis=1)


def answers(fit: Fit, survey: Survey) -> pd.DataFrame:
    """Return the hidden answers of a survey: most probable answer, its probability, and that of the true one."""
    hidden = survey.hidden
    assert hidden is not None
    by_item = hidden_probabilities(cast(CategoricalFA, fit.model), fit.draws, survey)
    best = by_item.argmax(-1)
    columns = hidden.columns.tolist()
    true = hidden.values.nan_to_num(nan=0.0).long()
    return pd.DataFrame(
        {
            "row": [survey.row_labels[u] for u in hidden.rows.tolist()],
            "column": [survey.column_labels[i] for i in columns],
            "true": [survey.levels[i][k] for i, k in zip(columns, true.tolist(), strict=True)],
            "answer": [survey.levels[i][k] for i, k in zip(columns, best.tolist(), strict=True)],
            "probability": by_item.gather(1, best.unsqueeze(-1)).squeeze(-1).cpu(),
            "probability_of_true": by_item.gather(1, true.unsqueeze(-1)).squeeze(-1).cpu(),
        }
    )


LADDER = ("objective_name", "objective", "holdout_elpd", "independent_holdout_elpd", "holdout_accuracy",
          "mean_marginal_tv", "mean_association_error", "independent_association_error", "seconds")  # fmt: skip


def compared(fits: Sequence[Fit], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the ladder: by method, the covariance of the latent vector where it is free, and fidelity."""
    rows: list[dict[str, object]] = []
    for name, fit in zip(names, fits, strict=True):
        row: dict[str, object] = {"fit": name}
        if "latent_covariance" in fit.draws:
            covariance = fit.draws["latent_covariance"].mean((0, 1))
            for s in range(len(covariance)):
                for t in range(s + 1):
                    row[f"latent_covariance[{s}, {t}]"] = float(covariance[s, t])
        rows.append(row | {key: {**fit.metrics, "seconds": fit.seconds}.get(key) for key in LADDER})
    return {"ladder": pd.DataFrame(rows).dropna(axis=1, how="all")}
