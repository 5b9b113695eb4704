"""What every container keeps: rows that are chosen, cells that are hidden, and all of it in a file and back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.core.prediction import Prediction
from pyrozoo.data.arguments import _equal
from pyrozoo.data.container import Cells
from pyrozoo.data.documents import Documents
from pyrozoo.data.kinds import Kind, kinds_of, types_of
from pyrozoo.data.known_rows import fitted_rows
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.run import catalog
from tests.case import case

pytestmark = pytest.mark.usefixtures("unchecked")

MODELS = catalog.models()
HIDES = [model for model in MODELS if model not in ("logistic_regression", "topics")]
SITE = "x"


def data_of(model: str):
    """Return data with holes, and with labels that are not their places."""
    data = simulate_data(case(model).model, seed=3, missing=0.2, **case(model).larger)
    names = [f"r{7 * i % 101}" for i in range(data.shape[0])], [f"c{j}" for j in range(data.shape[1])]
    if model == "hidden_markov":  # whose rows are named by sequence and time
        return data
    return dataclasses.replace(data, row_labels=names[0], column_labels=names[1])


@pytest.mark.parametrize("model", MODELS)
def test_what_is_stored_is_restored(model):
    data = data_of(model)
    data = data.hold_out(0.1, 0) if model in HIDES else data
    observed, extra = data.stored(SITE)
    again = type(data).restore(
        {name: value for name, (_, value) in observed.items()}, {name: value for name, (_, value) in extra.items()},
        data.coords, SITE,
    )  # fmt: skip
    assert again.same(data)
    assert data.same(again)
    assert [*again.row_labels] == [*data.row_labels]
    assert [*again.column_labels] == [*data.column_labels]
    if data.hidden is not None:
        for name in ("rows", "columns", "values"):
            assert getattr(again.hidden, name).tolist() == getattr(data.hidden, name).tolist()
    other = data_of(model)
    changed = other.values.clone()
    at = (0, -1) if isinstance(data, Cells) else (0, 2)
    changed[at] = 0 if changed[at] != 0 else 1
    assert not dataclasses.replace(other, values=changed).same(other)
    for cells in observed.values():
        assert len(cells[0]) == cells[1].ndim, "a name for every dimension"


@pytest.mark.parametrize("model", [model for model in MODELS if model not in ("potts_grid", "hidden_markov")])
def test_rows_that_are_chosen_keep_their_values_and_their_names(model):
    data = data_of(model)
    index = torch.tensor([4, 1, 6])
    batch, alone = data.batch(index), data.only(index)
    assert batch.shape == alone.shape == (3, data.shape[1])
    assert [*batch.row_labels] == [*alone.row_labels] == [data.row_labels[i] for i in index.tolist()]
    assert batch.rows.tolist() == index.tolist()
    assert alone.rows.tolist() == [0, 1, 2]
    assert (batch.total_rows, alone.total_rows) == (data.shape[0], None)
    again = batch.batch(torch.tensor([2, 0]))
    assert again.rows.tolist() == [6, 4], "of the whole"
    assert again.total_rows == data.shape[0]
    if isinstance(data, Cells):
        torch.testing.assert_close(batch.values, data.values[index], equal_nan=True)
    else:
        for place, row in enumerate(index.tolist()):
            mine, theirs = (each.values[each.values[:, 0] == i, 1:] for each, i in ((batch, place), (data, row)))
            torch.testing.assert_close(mine, theirs)
    assert data.first(2).values.shape[1:] == data.values.shape[1:]


@pytest.mark.parametrize("model", HIDES)
def test_a_share_of_what_is_observed_is_hidden(model):
    data = data_of(model)
    known = (~torch.isnan(data.values)).sum().item() if isinstance(data, Cells) else None
    hidden = data.hold_out(0.25, 1)
    found = hidden.hidden
    assert found is not None
    assert found.at_random
    if known is not None:
        assert len(found.values) == round(0.25 * known)
        assert torch.equal(data.values[found.rows, found.columns], found.values)
        assert hidden.values[found.rows, found.columns].isnan().all()
        assert int(hidden.observed.sum()) == known - len(found.values)
        rest = hidden.observed | hidden.values.isnan() & data.values.isnan()
        rest[found.rows, found.columns] = True
        assert rest.all(), "and nothing else is gone"
    places = found.rows * data.shape[1] + found.columns
    assert (places.diff() > 0).all(), "each once, row by row"
    same, other = data.hold_out(0.25, 1).hidden, data.hold_out(0.25, 2).hidden
    assert torch.equal(same.rows, found.rows)
    assert torch.equal(same.columns, found.columns)
    assert not (torch.equal(other.rows, found.rows) and torch.equal(other.columns, found.columns))
    assert data.hold_out(0.0, 1) is data
    more = hidden.hold_out(0.1, 5)
    assert len(more.hidden.values) > len(found.values), "beside what is hidden already"
    assert set(places.tolist()) < set((more.hidden.rows * data.shape[1] + more.hidden.columns).tolist())
    numbers = torch.arange(len(found.values), dtype=torch.float64)
    table = hidden.predictions(Prediction(numbers, numbers - 1, numbers + 1, numbers, numbers))
    assert table["row"].tolist() == [data.row_labels[i] for i in found.rows.tolist()]
    assert table["column"].tolist() == [data.column_labels[j] for j in found.columns.tolist()]
    if not hasattr(data, "levels"):
        assert table["true"].tolist() == found.values.tolist()
        assert (table["upper_90"] - table["mean"]).tolist() == [1.0] * len(table)
        assert (table["mean"] - table["lower_90"]).tolist() == [1.0] * len(table)


KINDS = [
    (pd.Series([3, 1, 3]), ["1", "3"], "int64"), (pd.Series([0.5, 2.0, 0.5]), ["0.5", "2.0"], "float64"),
    (pd.Series([True, False, True]), ["False", "True"], "bool"), (pd.Series(["a", "b", "a"]), ["a", "b"], None),
    (pd.Series([3, None, 1], dtype="Int64"), ["1", "3"], "Int64"),
    (pd.Series(["b", None, "a"], dtype=pd.CategoricalDtype(["b", "a"], ordered=True)), ["a", "b"], "category"),
    (pd.Series([1, 2, 1]), ["low", "high"], None), (pd.Series(["a", None], dtype="string"), ["a"], "string"),
    (pd.to_datetime(pd.Series(["2020-01-01", "2020-01-02"])), ["2020-01-01", "2020-01-02"], None),
]  # fmt: skip


@pytest.mark.parametrize(("column", "levels", "name"), KINDS)
def test_columns_keep_their_type(column, levels, name):
    """As whole numbers, truth values, ordered categories; and as text where the names do not spell such values."""
    kind = kinds_of(types_of(column.to_frame()), [levels])[0]
    again = Kind.from_text(kind.text)
    assert again == kind
    if name is None:
        assert kind.name not in ("int64", "float64", "bool", "category")
        return
    assert kind.name == name
    codes = np.array([-1 if pd.isna(cell) else levels.index(str(cell)) for cell in column])
    made = pd.Series(again.column(codes, levels))
    assert made.tolist() == column.tolist() or made[column.notna()].tolist() == column[column.notna()].tolist()
    assert made.isna().tolist() == column.isna().tolist()
    assert str(made.dtype) == name
    if name == "category":
        assert made.cat.ordered
        assert made.cat.categories.tolist() == ["b", "a"]
    if name == "int64":
        assert str(pd.Series(again.column(np.array([1, -1]), levels)).dtype) == "Int64", "which knows holes"


def test_rows_that_were_fitted_are_those_with_the_same_label_and_cells():
    """``b`` is there again; ``a`` has another value, ``c`` a cell less, ``d`` another column, and ``z`` is new."""
    old = Triplets.of_columns([*"aabccd"], [*"xyxxyx"], [1, 2, 3, 4, 5, 6])
    new = Triplets.of_columns([*"zdcaab"], [*"xyxxyx"], [3, 6, 4, 1, 9, 3])
    found = dict(zip(new.row_labels, fitted_rows(old, new).tolist(), strict=True))
    assert found == {"z": -1, "d": -1, "c": -1, "a": -1, "b": list(old.row_labels).index("b")}


def test_arguments_are_the_same_when_their_numbers_are():
    one = torch.ones(2)
    assert _equal(one, torch.ones(2))
    assert _equal(one, np.ones(2))
    for other in (torch.ones(1), torch.ones(3), torch.tensor([1.0, 2.0]), 1.0, None):
        assert not _equal(one, other)
    assert _equal("a", "a")
    assert not _equal(1, 2)


def test_words_of_documents_are_counted():
    data = Documents.of(pd.DataFrame([[4, 0, 0], [4, 2, 2]], index=["d", "e"], columns=["u", "v", "w"]))
    found = {name: values.tolist() for name, (_, values) in data.statistics(data.values, SITE).items()}
    assert found == {"column_total": [8, 2, 2], "different_words": [1, 3], "share_of_zeros": pytest.approx(2 / 6)}


def test_noise_on_what_is_observed_has_its_size():
    data = Table.of(np.arange(2000.0).reshape(500, 4) % 7)
    assert data.with_noise(0.0, 1) is data or data.with_noise(0.0, 1).same(data)
    away = data.with_noise(0.5, 1).values - data.values
    assert float(away.std()) == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    assert data.with_noise(0.5, 1).same(data.with_noise(0.5, 1))
    with pytest.raises(Exception, match="noise"):
        data.with_noise(-0.1, 1)
