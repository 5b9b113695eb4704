"""What is shown of a fitted survey: loadings, scores, missing answers, and whether synthetic rows can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.data.survey import Survey
from pyrozoo.drawing.panels import array
from pyrozoo.drawing.scenes import MOST_LINES, heatmap, some
from pyrozoo.math.association import starts
from pyrozoo.models.categorical_fa import figures, synthesis
from pyrozoo.models.categorical_fa.queries import scores
from pyrozoo.models.categorical_fa.synthesis import association_error, coinciding, independent, judged, marginal_tv

MOST_CELLS, MOST_SCORED, MOST_TESTED = 100_000, 50_000, 200
"""Missing answers written out; rows whose scores are written out; draws behind the joint density of new rows."""

LADDER = ("objective_name", "objective", "holdout_elpd", "independent_holdout_elpd", "holdout_accuracy",
          "mean_marginal_tv", "mean_association_error", "independent_association_error", "seconds")  # fmt: skip


class View(view.View):
    """Figures, tables and pictures of a survey."""

    main = ("categories", "association")
    synthesizes = True
    moves = ("loadings", "intercepts")

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene | None:
        """Return the loadings of some categories."""
        if fit.model.loadings != "free":
            return None
        survey = fit.data
        names = [f"{column}: {level}" for column, levels in zip(survey.column_labels, survey.levels, strict=True)
                 for level in levels[:-1]]  # fmt: skip
        at = some(len(names), MOST_LINES)

        def loadings(then: Fit) -> Tensor:
            return then.aligned["loadings"].mean((0, 1))[at.to(then.draws["loadings"].device)]

        size = float(loadings(fit).abs().max()) or 1.0
        said = "How factors turn answers: red toward a category, blue away from it, against the last one."
        return heatmap("loadings", said, "category", "factor", loadings, [names[int(i)] for i in at],
                      range(fit.model.width), (-size, size), shades="RdBu11")  # fmt: skip

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the fidelity of synthetic rows, beside what independent columns would have."""
        survey, rows = fit.data, judged(fit)
        floor = independent(survey, len(rows), fit.seed)
        result = {
            "mean_marginal_tv": marginal_tv(survey, rows),
            "synthetic_coincide_share": coinciding(survey, rows),
            "independent_coincide_share": coinciding(survey, floor),
        }
        if survey.shape[1] > 1:
            result["mean_association_error"] = association_error(survey, rows)
            result["independent_association_error"] = association_error(survey, floor)
        # Half an answer more for each category, so that none is impossible.
        logs = torch.cat([((c + 0.5) / (c + 0.5).sum()).log() for c in synthesis.counts(survey, survey.values)]).cpu()
        first, hidden = starts(survey.categories), survey.hidden
        if hidden is not None and len(hidden.values):
            at = logs[first[hidden.columns.cpu()] + hidden.values.cpu().long()]
            result["independent_holdout_elpd"] = float(at.mean())
            best = _probabilities(fit, survey).argmax(-1)
            result["holdout_accuracy"] = float((best == hidden.values.long()).double().mean())
        if survey.test is not None:
            pointwise = fit.posterior.on(survey.test).pointwise(fit.draws.some(MOST_TESTED)).flatten(0, 1)
            result["test_joint_elpd"] = float((pointwise.logsumexp(0) - math.log(len(pointwise))).mean())
            codes = survey.test.values.cpu()
            each = torch.where(codes.isnan(), 0.0, logs[first + codes.nan_to_num(nan=0.0).long()])
            result["independent_test_joint_elpd"] = float(each.sum(1).mean())
        return result

    def tables(self, fit: Fit) -> view.Tables:
        """Return loadings, scores of rows, the likeliest answer where one is missing or hidden, association, shares."""
        survey = fit.data
        result: dict[str, Callable[[], pd.DataFrame]] = {"categories": partial(_categories, fit)}
        if fit.model.loadings == "fixed":
            result["latent_covariance"] = partial(_covariance, fit)
        if survey.shape[1] > 1:
            result["association"] = partial(_association, fit)
        for prefix, part in zip(("", "test_"), survey.with_new_rows, strict=False):
            if len(part.values) <= MOST_SCORED:
                result[f"{prefix}scores"] = partial(_scores, fit, part)
            if part.hidden is not None and 0 < len(part.hidden.values) <= MOST_CELLS:
                result[f"{prefix}holdout"] = partial(_answers, fit, part)
            if (unknown := part.missing) is not None and len(unknown.hidden.values) <= MOST_CELLS:
                result[f"{prefix}missing"] = partial(_likeliest, fit, unknown)
        return view.Tables(result)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return the factors of each row and how unsure they are."""
        found = _scores(fit, part).drop(columns="row")
        return found.rename(columns=lambda name: name.replace("mean", "factor").replace("sd", "factor_sd"))

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return association, shares, how answers depend on the latent vector, and how sure that is."""
        rows = cache(partial(figures.some_rows, fit))

        def categories() -> Picture:
            return figures.categories(fit, rows()[1])

        def uncertainty() -> Picture:
            return figures.uncertainty(fit, rows()[0], rows()[2])

        each = [partial(figures.association, fit)] if fit.data.shape[1] > 1 else []
        return view.Pictures(*each, partial(figures.marginals, fit), categories, uncertainty)

    def compared_tables(self, fits: Sequence[Fit], names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Return the ladder: by method, the covariance of the latent vector where it is free, and fidelity."""

        def own(fit: Fit) -> dict[str, float]:
            covariance = fit.draws.means().get("latent_covariance", torch.empty(0, 0))
            pairs = np.argwhere(np.tri(len(covariance))).tolist()
            return {f"latent_covariance[{s}, {t}]": float(covariance[s, t]) for s, t in pairs}

        return {"ladder": view.ladder(fits, names, own, LADDER)}

    def compared_pictures(self, fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
        """Return the association that each fit reproduces, and latent covariances beside the truth where free."""
        found = figures.associations(fits, names), figures.covariances(fits, names)
        return [picture for picture in found if picture is not None]

    def synthesize(self, fit: Fit, count: int, given: Mapping[str, str] | None) -> Iterator[Tensor]:
        """Yield synthetic rows, chunk by chunk, from torch's global generator."""
        return synthesis.synthesize(fit, count, given)


def _covariance(fit: Fit) -> pd.DataFrame:
    columns = view.numbered("factor", fit.aligned.means()["latent_covariance"])
    return pd.DataFrame({"factor": list(columns), **columns})


def _likeliest(fit: Fit, part: Survey) -> pd.DataFrame:
    return _answers(fit, part).drop(columns=["true", "probability_of_true"])


def _categories(fit: Fit) -> pd.DataFrame:
    """Return every category with its share in the data and among synthetic rows, intercept and loadings."""
    survey, mean = fit.data, fit.aligned.means()
    seen, drawn = (array(torch.cat(synthesis.shares(survey, values))) for values in (survey.values, judged(fit)))
    rows = {"column": np.repeat(survey.column_labels, survey.categories), "category": np.concatenate(survey.levels)}
    frame = pd.DataFrame({**rows, "share": seen, "synthetic_share": drawn})
    free = np.array([k < size - 1 for size in survey.categories for k in range(size)])
    columns = {"intercept": mean["intercepts"]} if fit.model.intercepts else {}
    if fit.model.loadings == "free":
        d = fit.model.latent_dimension
        names = [f"factor[{s}]" if s < d else f"hidden[{s - d}]" for s in range(fit.model.width)]
        columns |= dict(zip(names, mean["loadings"].T, strict=True))
    for name, values in columns.items():
        frame[name] = 0.0
        frame.loc[free, name] = values.cpu().numpy()
    return frame


def _association(fit: Fit) -> pd.DataFrame:
    survey, names = fit.data, np.array(fit.data.column_labels)
    i, j = np.tril_indices(survey.shape[1], -1)
    data, drawn = (array(v)[i, j] for v in (survey.cramers_v(), survey.cramers_v(judged(fit))))
    pairs = {"column": names[j], "other_column": names[i], "cramers_v": data, "synthetic_cramers_v": drawn}
    falling = np.argsort(-data.round(9), kind="stable")  # equal ones in the order of columns, whatever rounding
    return pd.DataFrame(pairs).iloc[falling].reset_index(drop=True)


def _scores(fit: Fit, survey: Survey) -> pd.DataFrame:
    def found() -> tuple[Tensor, Tensor]:
        return scores(fit.model.layout(survey), fit.aligned)

    mean, sd = fit.once("scores", found) if survey is fit.data else found()
    return pd.DataFrame({"row": list(survey.row_labels), **view.numbered("mean", mean), **view.numbered("sd", sd)})


def _probabilities(fit: Fit, survey: Survey) -> Float[Tensor, "entry K"]:
    prediction: Any = fit.prediction(survey)
    return prediction.probabilities


def _answers(fit: Fit, survey: Survey) -> pd.DataFrame:
    """Return the hidden answers of a survey: most probable answer, its probability, and that of the true one."""
    hidden: Any = survey.hidden
    by_item = _probabilities(fit, survey)
    best, true = by_item.argmax(-1), hidden.values.nan_to_num(nan=0.0).long()
    columns = hidden.columns.tolist()

    def named(codes: Tensor) -> list[str]:
        return [survey.levels[i][k] for i, k in zip(columns, codes.tolist(), strict=True)]

    return pd.DataFrame(
        {
            "row": [survey.row_labels[u] for u in hidden.rows.tolist()],
            "column": [survey.column_labels[i] for i in columns],
            "true": named(true),
            "answer": named(best),
            "probability": by_item.gather(1, best.unsqueeze(-1)).squeeze(-1).cpu(),
            "probability_of_true": by_item.gather(1, true.unsqueeze(-1)).squeeze(-1).cpu(),
        }
    )
