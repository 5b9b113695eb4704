"""Sequences: from tables and arrays, with holes and gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.sequences import Sequences
from pyrozoo.data.table import Table
from tests.case import refused

NAN = float("nan")
LONG = pd.DataFrame(
    {
        "sequence": ["b", "a", "a", "b", "a"],
        "time": [5, 1, 0, 8, 2],
        "x": [1.0, 2, 3, NAN, 5],
        "y": [0.1, 0.2, 0.3, 0.4, 1],
    }
)


def test_rows_of_a_long_table_stand_where_their_labels_say():
    data = Sequences.of(LONG)
    assert list(data.row_labels) == ["b t=5", "a t=1", "a t=0", "b t=8", "a t=2"]
    assert data.sequence_labels == ["b", "a"]
    assert data.steps.lengths.tolist() == [4, 3]
    assert data.place.tolist() == [0, 5, 4, 3, 6]
    assert data.row_at.tolist() == [0, -1, -1, 3, 2, 1, 4]
    assert data.before.tolist() == [-1, 2, -1, -1, 1]
    assert (data.units, data.shape) == (2, (5, 2))


def test_a_table_of_numbers_says_it_in_columns_too():
    numbers = Sequences.of(Table.of(LONG.assign(sequence=[2, 1, 1, 2, 1])))
    assert numbers.sequence_labels == ["2", "1"]
    assert numbers.place.tolist() == Sequences.of(LONG).place.tolist()
    assert list(numbers.column_labels) == ["x", "y"]


def test_without_times_rows_follow_each_other():
    data = Sequences.of(LONG.drop(columns="time"))
    assert data.time.tolist() == [0, 0, 1, 1, 2]
    assert Sequences.of(LONG[["x", "y"]]).units == 1


@pytest.mark.parametrize(
    "source",
    [[np.zeros((3, 2)), np.ones((1, 2))], {"one": np.zeros((3, 2)), "two": np.ones((1, 2))}, np.zeros((2, 2, 2)),
     torch.zeros(2, 2, 2), [np.zeros(3), np.ones(1)]],
)  # fmt: skip
def test_arrays_are_sequences(source):
    data = Sequences.of(source)
    assert data.units == 2
    assert data.steps.count == data.shape[0]


def test_some_sequences_are_data_of_their_own():
    data = Sequences.of(LONG)
    part = data.part(torch.tensor([1]))
    assert part.sequence_labels == ["a"]
    assert part.total_rows == 2
    assert data.first(1).place.tolist() == [0, 3]
    assert data.of_sequences(torch.tensor([1])).before.tolist() == [1, -1, 0]


def test_hidden_cells_are_found_among_the_columns_that_stay():
    table = Table.of(LONG.assign(sequence=[2, 1, 1, 2, 1]))
    hidden = Sequences.of(table.hide(torch.tensor([1, 2]), torch.tensor([2, 3]))).hidden
    assert hidden.columns.tolist() == [0, 1]
    assert hidden.values.tolist() == [2.0, 0.3]


def test_they_come_back_from_what_is_stored():
    data = Sequences.of(LONG).hold_out(0.2, 1)
    data = data.with_test(Sequences.of([np.zeros((2, 2))]))
    observed, extra = data.stored("values")
    plain = [{name: array for name, (_, array) in each.items()} for each in (observed, extra)]
    coords = {**{name: list(each) for name, each in data.coords.items()}, "test_row": list(data.test.row_labels)}
    again = Sequences.restore(*plain, coords, "values")
    assert again.same(data)
    assert again.place.tolist() == data.place.tolist()
    assert again.test.units == 1


def test_what_cannot_be_is_refused_in_a_line():
    assert "two rows at time 1" in refused(DataError, Sequences.of, LONG.assign(time=[5, 1, 1, 8, 2]))
    assert "is not a whole number" in refused(DataError, Sequences.of, LONG.assign(time=[5, 1, 0.5, 8, 2]))
    assert "has no sequence" in refused(DataError, Sequences.of, LONG.assign(sequence=["b", None, "a", "b", "a"]))
    far = pd.DataFrame({"time": [0, 10**9], "x": [0.0, 1]})
    assert "time must count steps" in refused(DataError, Sequences.of, far)
    assert "as many columns" in refused(DataError, Sequences.of, [np.zeros((3, 2)), np.zeros((3, 1))])
    assert "data.steps" in refused(SettingError, Sequences.blank, 2, 0)
