"""Triplets: lists of (row, column, value) from Python and from files, hold-out, test rows, minibatches, storage."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data import triplets
from pyrozoo.data.container import Hidden
from pyrozoo.data.named import read_named
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.run import catalog
from pyrozoo.run.source import read
from tests.case import refused
from tests.files import read_triplets

NAN = float("nan")
MODEL = PoissonMF(2, 1.0, 1.0, 1.0, 1.0, False, 1.0)
ODD = [
    'say "x", y',
    "tab\there",
    "two\nlines",
    "CR\r\nLF",
    "菅野よう子",
    "Möwe 🦉",
    " padded ",
    "'",
    "NA",
    "None",
    "a\rb",
    "1e3",
]
MATRIX = np.array([[1, 0, 2, NAN], [0, 0, 0, 0], [NAN, 3, 0, 4], [5, 6, 7, 8]])

matrices = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.one_of(st.integers(0, 9).map(float), st.just(0.0), st.just(NAN)),
)


def dense(data: Triplets, values: torch.Tensor | None = None) -> np.ndarray:
    """Rebuild the matrix, NaN where unobserved."""
    values = data.values if values is None else values
    assert values.shape[1] == 3
    array = np.zeros(data.shape)
    for row, column, value in values.tolist():
        assert array[int(row), int(column)] == 0, "each pair once"
        assert value != 0, "zeros are not listed"
        array[int(row), int(column)] = value
    if data.unobserved is not None:
        assert (array[tuple(data.unobserved.T)] == 0).all(), "what is unobserved is not listed"
        array[tuple(data.unobserved.T)] = NAN
    return array


def assert_sorted(data: Triplets) -> None:
    """Check that listed, unobserved and hidden cells go row by row, each once."""
    hidden = data.hidden and torch.stack([data.hidden.rows, data.hidden.columns], 1)
    for pairs in (data.values[:, :2].long(), data.unobserved, hidden):
        if pairs is not None:
            assert torch.equal(pairs, pairs.unique(dim=0))


def write(folder: Path, content: str | bytes, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def lists(data: Triplets) -> tuple[list[str], list[str], list[list[float]]]:
    return list(data.row_labels), list(data.column_labels), data.values.tolist()


# Three columns


def test_entries_in_any_order_are_sorted_and_repeated_ones_summed_with_a_note():
    data = Triplets.of_columns(["b", "a", "b", "b"], ["y", "x", "x", "y"], [1, 2, 3, 4])
    assert lists(data) == (["a", "b"], ["x", "y"], [[0, 0, 2], [1, 0, 3], [1, 1, 5]])
    assert data.notes == ("1 entries repeat a pair of row and column: values were summed (data.repeated)",)
    assert Triplets.of_columns(["a"], ["x"], [2]).notes == ()


def test_repeated_entries_are_refused_when_asked():
    columns = ["b", "a\n", "a\n", "a\n"], ["y", "x", "x", "x"], [1, 2, 3, 4]
    message = refused(DataError, Triplets.of_columns, *columns, name="plays", repeated="refuse")
    assert (
        message == r"plays: row 'a\n', column 'x' is listed 3 times; data.repeated=sum adds them up, "
        "mean averages them, last takes the last"
    )
    assert Triplets.of_columns(["a", "a"], ["x", "y"], [1, 2], repeated="refuse").notes == ()


def test_zeros_and_sums_of_zero_are_not_listed_but_keep_their_labels():
    data = Triplets.of_columns(["a", "b", "c", "c"], ["x", "y", "z", "z"], [1, 0, 2, -2])
    assert lists(data) == (["a", "b", "c"], ["x", "y", "z"], [[0, 0, 1]])
    assert data.unobserved is None


@pytest.mark.parametrize(
    "missing", [[1, NAN, 0], [1, None, 0], [1, pd.NA, 0], pd.array([1, None, 0], dtype="Int64"), ["1", None, "0"]]
)
def test_a_missing_value_says_that_the_pair_is_unobserved(missing):
    data = Triplets.of_columns(["a", "b", "b"], ["x", "x", "y"], missing)
    np.testing.assert_array_equal(dense(data), [[1, 0], [NAN, 0]])


def test_a_missing_value_among_repeated_ones_makes_the_pair_unobserved():
    data = Triplets.of_columns(["a", "a", "b"], ["x", "x", "x"], [2, NAN, 1])
    assert (data.values.tolist(), data.unobserved.tolist()) == ([[1, 0, 1]], [[0, 0]])


@pytest.mark.parametrize(
    ("given_labels", "names"),
    [
        ([10, 9, 2], ["2", "9", "10"]),
        (["10", "9", "2"], ["2", "9", "10"]),
        (["10", "9", "b"], ["10", "9", "b"]),
        (["10", "9", "nan"], ["10", "9", "nan"]),
        ([1.5, -2.0, 1.25], ["-2.0", "1.25", "1.5"]),
        (["b", "B", "ä"], ["B", "b", "ä"]),
        (pd.Categorical(["y", "x", "z"]), ["x", "y", "z"]),
        (torch.tensor([3, 1, 2]), ["1", "2", "3"]),
    ],
)
def test_numbers_are_sorted_by_number_and_text_by_text(given_labels, names):
    for data in (
        Triplets.of_columns(given_labels, ["c"] * 3, [1, 2, 3]),
        Triplets.of_columns(["c"] * 3, given_labels, [1, 2, 3]),
    ):
        assert names in (data.row_labels, data.column_labels)
        by_label = dict(zip([str(each) for each in np.asarray(given_labels)], [1, 2, 3], strict=True))
        assert data.counts.tolist() == [by_label[name] for name in names]


def test_the_order_of_labels_does_not_depend_on_that_of_entries():
    forth = Triplets.of_columns(["1", "01", "1.0"], ["x"] * 3, [1, 2, 3])
    back = Triplets.of_columns(["1.0", "01", "1"], ["x"] * 3, [3, 2, 1])
    assert lists(forth) == lists(back)


def test_a_number_and_its_text_are_one_label():
    data = Triplets.of_columns([1, "1", 2], ["x"] * 3, [1, 2, 4])
    assert lists(data) == (["1", "2"], ["x"], [[0, 0, 3], [1, 0, 4]])


def test_labels_alike_are_told_apart():
    names = {"1": "a", "2": "a", "3": "b"}
    data = Triplets.of_columns([1, 2, 3], [1, 2, 3], [4, 5, 6], row_labels=names, column_labels={"1": "x"})
    assert (data.row_labels, data.column_labels) == (["a (1)", "a (2)", "b"], ["x", "2", "3"])
    clash = Triplets.of_columns([1, 2, 3], ["x"] * 3, [4, 5, 6], row_labels={"1": "a", "2": "a", "3": "a (1)"})
    assert len(set(clash.row_labels)) == 3
    assert all(str(i) in label for i, label in enumerate(clash.row_labels, start=1))


@pytest.mark.parametrize("empty", ["", None, NAN, pd.NA])
def test_empty_names_are_refused_with_their_entry(empty):
    assert (
        refused(DataError, Triplets.of_columns, ["a", empty], ["x", "y"], [1, 2], name="n") == "n: entry 2 has no row"
    )
    assert "entry 1 has no column" in refused(DataError, Triplets.of_columns, ["a", "b"], [empty, "y"], [1, 2])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1, "two\nlines"], r"entry 2: the value 'two\nlines' is not a number"),
        (pd.Series(["x", "2"]), "entry 1: the value 'x' is not a number"),
        ([1, {}], "entry 2"),
        (np.array([1, 2j]), "complex128"),
        (pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"])), "datetime64"),
        ([1, np.inf], "row 'b\\n', column 'y': inf is infinite"),
        ([1, -np.inf], "-inf is infinite"),
    ],
)
def test_values_that_are_not_finite_numbers_are_refused_with_their_entry(values, says):
    assert says in refused(DataError, Triplets.of_columns, ["a", "b\n"], ["x", "y"], values)


def test_infinities_that_cancel_are_refused_too():
    assert "infinite" in refused(DataError, Triplets.of_columns, ["a", "a"], ["x", "x"], [np.inf, -np.inf])


def test_an_empty_list_and_lists_of_unequal_length_are_refused():
    assert "the list is empty" in refused(DataError, Triplets.of_columns, [], [], [])
    for columns in ((["a", "b"], ["x"], [1, 2]), (["a"], ["x"], [1, 2]), ([("a", 1)], ["x"], [1])):
        assert "of one length" in refused(DataError, Triplets.of_columns, *columns)


def test_huge_counts_are_exact():
    data = Triplets.of_columns(["a", "b", "b"], ["x", "x", "x"], [10**9 + 1, 2**52, 1])
    assert data.counts.tolist() == [10**9 + 1, 2**52 + 1]
    assert data.to("cpu", torch.float64).counts.tolist() == [10**9 + 1, 2**52 + 1]


# What a user has in Python


@settings(max_examples=60)
@given(matrices)
def test_a_dense_matrix_comes_back(array):
    data = Triplets.of(array)
    np.testing.assert_array_equal(dense(data), array)
    assert_sorted(data)
    assert data.shape == array.shape
    row, column = np.indices(array.shape).reshape(2, -1)
    shuffled = np.random.default_rng(0).permutation(len(row))
    listed = Triplets.of_columns(row[shuffled], column[shuffled], array.ravel()[shuffled])
    assert listed.same(data)
    assert_sorted(listed)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, pd.DataFrame, Table.of, np.ma.masked_invalid])
def test_dense_sources_agree(make):
    data = Triplets.of(make(MATRIX))
    np.testing.assert_array_equal(dense(data), MATRIX)
    assert data.same(Triplets.of(MATRIX))
    assert Triplets.of(data) is data


def test_a_wide_frame_gives_labels():
    data = Triplets.of(pd.DataFrame([[1, 0], [NAN, 2]], index=["p\nq", "r"], columns=["x", 7]), "wide")
    assert (list(data.row_labels), list(data.column_labels), data.name) == (["p\nq", "r"], ["x", "7"], "wide")


def test_a_long_frame_is_a_list_in_any_order_of_columns():
    frame = pd.DataFrame({"value": [3, 1], "column": ["x", "y"], "row": ["b", "a"]})
    assert lists(Triplets.of(frame)) == (["a", "b"], ["x", "y"], [[0, 1, 1], [1, 0, 3]])
    assert Triplets.of(frame.assign(more=1)[["value", "more"]]).shape == (2, 2), "any other frame is the matrix"


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array])
def test_a_sparse_matrix_keeps_its_shape(make):
    array = np.nan_to_num(MATRIX)
    data = Triplets.of(make(array))
    assert data.same(Triplets.of(array))
    assert (data.row_labels[1], data.column_labels[3]) == ("row_1", "column_3")


def test_a_sparse_matrix_with_repeated_missing_and_zero_cells():
    cells = [1.0, 2.0, NAN, 0.0], ([0, 0, 1, 1], [1, 1, 0, 1])
    data = Triplets.of(scipy.sparse.coo_array(cells, shape=(3, 2)))
    np.testing.assert_array_equal(dense(data), [[0, 3], [NAN, 0], [0, 0]])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((0, 3)), "empty"),
        (scipy.sparse.csr_array((0, 3)), "empty"),
        (np.zeros(3), "two axes"),
        (scipy.sparse.coo_array(np.ones(3)), "two axes"),
        (np.array([[1, np.inf]]), "row 'row_0', column 'column_1': inf is infinite"),
        (scipy.sparse.csr_array([[1, np.inf]]), "row 'row_0', column 'column_1': inf is infinite"),
        (scipy.sparse.csr_array([[1j]]), "complex"),
        (torch.eye(2).to_sparse(), "dense"),
        (pd.DataFrame({"row": ["a"], "column": ["x"], "value": ["many"]}), "'many' is not a number"),
        ("a string", "two axes"),
        (None, "two axes"),
    ],
)
def test_what_cannot_be_used_is_refused(source, says):
    assert says in refused(DataError, Triplets.of, source)


def test_a_table_brings_its_hidden_entries_test_rows_and_truth():
    table = Table.of(MATRIX).hold_out(0.3, 0).with_test(Table.of(MATRIX[:2]))
    data = Triplets.of(table)
    np.testing.assert_array_equal(dense(data), table.values)
    np.testing.assert_array_equal(dense(data.test), MATRIX[:2])
    assert torch.equal(data.hidden.values, table.hidden.values)
    assert data.missing.hidden.rows.tolist() == [0, 2]


def test_zeros_everywhere_are_data():
    data = Triplets.of(np.zeros((2, 3)))
    assert data.values.shape == (0, 3)
    assert Triplets.blank(2, 3).same(data)
    assert data.batch(torch.tensor([1])).shape == (1, 3)
    assert data.statistics(data.values, "x")["share_of_zeros"][1] == 1
    assert data.hold_out(0.5, 0, "listed").hidden is None
    assert data.hold_out(0.5, 0).hidden.values.tolist() == [0, 0, 0]
    assert data.coords["cell"]
    assert "data.rows" in refused(SettingError, Triplets.blank, 0, 3)


# Hold-out


@settings(max_examples=60)
@given(matrices, st.floats(0, 0.99), st.sampled_from(["all", "listed"]), st.integers(0, 3))
def test_hold_out_hides_the_right_values(array, fraction, of, seed):
    data = Triplets.of(array)
    out = data.hold_out(fraction, seed, of)
    assert_sorted(out)
    listed = len(data.values)
    if out.hidden is None:
        assert round(fraction * (listed if of == "listed" else array.size)) == 0 or (
            of == "all" and np.isnan(array).any()
        )
        assert out.same(data)
        return
    cells = out.hidden.rows.numpy(), out.hidden.columns.numpy()
    np.testing.assert_array_equal(out.hidden.values, array[cells])
    expected = array.copy()
    expected[cells] = NAN
    np.testing.assert_array_equal(dense(out), expected)
    assert np.isfinite(array[cells]).all(), "only what is observed can be hidden"
    assert out.hidden.at_random == (of == "all")
    if of == "listed":
        assert len(out.hidden.values) == round(fraction * listed)
        assert (out.hidden.values != 0).all()
    elif np.isfinite(array).all():
        assert len(out.hidden.values) == round(fraction * array.size)
    again = data.hold_out(fraction, seed, of)
    assert again.same(out)
    assert torch.equal(again.hidden.values, out.hidden.values)


def test_hold_out_of_all_cells_hides_zeros_in_their_share_and_seeds_differ():
    array = np.random.default_rng(0).poisson(0.5, (60, 50)).astype(float)
    data = Triplets.of(array)
    out = data.hold_out(0.4, 1)
    assert len(out.hidden.values) == 1200
    assert (out.hidden.values == 0).double().mean() == pytest.approx((array == 0).mean(), abs=0.05)
    assert not data.hold_out(0.4, 2).same(out)
    assert data.same(Triplets.of(array)), "the data themselves stay as they were"


def test_a_fraction_is_of_what_is_observed():
    array = np.random.default_rng(0).poisson(1.0, (60, 50)).astype(float)
    array[:30] = NAN
    assert len(Triplets.of(array).hold_out(0.4, 0).hidden.values) == pytest.approx(600, abs=80)


@pytest.mark.parametrize("of", ["all", "listed"])
@pytest.mark.parametrize("fraction", [-0.1, 1.0, NAN])
def test_a_fraction_out_of_range_is_refused(of, fraction):
    assert "data.holdout" in refused(SettingError, Triplets.of(MATRIX).hold_out, fraction, 0, of)


def test_too_many_cells_to_hide_are_refused_with_a_fraction_that_is_not():
    data = Triplets.of(scipy.sparse.coo_array(([1.0], ([0], [0])), shape=(40_000, 3_000)))
    message = refused(SettingError, data.hold_out, 0.5, 0)
    assert "data.holdout" in message
    assert "data.holdout_of=listed" in message
    assert data.hold_out(0.5, 0, "listed").hidden is None, "half of one entry rounds to none"
    assert float(message.rsplit(" ", 1)[1]) * 40_000 * 3_000 <= triplets.MOST_HIDDEN


@pytest.mark.parametrize("cells", [7, 999, 1_001, 10_499, 123_456])
def test_the_fraction_proposed_can_be_used(monkeypatch, cells):
    monkeypatch.setattr(triplets, "MOST_HIDDEN", 6)
    data = Triplets.of(np.zeros((1, cells)))
    proposed = float(refused(SettingError, data.hold_out, 0.99999, 0).rsplit(" ", 1)[1])
    assert 0 < len(data.hold_out(proposed, 0).hidden.values) <= 6


def test_hiding_twice_adds_up():
    data = Triplets.of(MATRIX)
    once = data.hide(torch.tensor([[2, 1], [3, 0], [3, 3]]))
    twice = once.hide(torch.tensor([[0, 0], [1, 2], [3, 2]]), at_random=False)
    assert_sorted(twice)
    cells = list(zip(twice.hidden.rows.tolist(), twice.hidden.columns.tolist(), strict=True))
    assert cells == [(0, 0), (1, 2), (2, 1), (3, 0), (3, 2), (3, 3)]
    assert twice.hidden.values.tolist() == [1, 0, 3, 5, 7, 8]
    assert (once.hidden.at_random, twice.hidden.at_random) == (True, False)
    assert data.hide(torch.zeros(0, 2, dtype=torch.long)) is data
    seeds = data.hold_out(0.3, 0).hold_out(0.3, 1)
    assert_sorted(seeds)
    assert len(seeds.hidden.values) > len(data.hold_out(0.3, 0).hidden.values)


def test_what_nobody_knows_is_missing_and_what_is_hidden_is_not():
    data = Triplets.of(MATRIX).hold_out(0.3, 0)
    missing = data.missing
    assert torch.stack([missing.hidden.rows, missing.hidden.columns], 1).tolist() == [[0, 3], [2, 0]]
    assert torch.isnan(missing.hidden.values).all()
    assert torch.equal(missing.unobserved, data.unobserved)
    complete = Triplets.of(np.nan_to_num(MATRIX))
    assert complete.missing is None
    assert complete.hold_out(0.3, 0).missing is None


# Parts, copies, comparisons


@settings(max_examples=40)
@given(matrices, st.randoms(use_true_random=False), st.floats(0, 0.6))
def test_a_batch_is_rows_of_the_matrix(array, random, fraction):
    data = Triplets.of(array, "whole").hold_out(fraction, 0)
    index = torch.tensor(random.choices(range(len(array)), k=random.randint(1, 9)))
    part = data.batch(index)
    np.testing.assert_array_equal(dense(part), dense(data)[index.numpy()])
    assert (part.total_rows, part.rows.tolist(), part.name) == (len(array), index.tolist(), "whole")
    assert part.row_labels == [f"row_{i}" for i in index.tolist()]
    assert part.hidden is None
    again = part.batch(torch.tensor([len(index) - 1]))
    assert (again.total_rows, again.rows.tolist()) == (len(array), [index[-1].item()])
    np.testing.assert_array_equal(dense(again), dense(data)[index[-1:].numpy()])


def test_the_first_rows_are_all_rows_without_what_is_hidden():
    data = Triplets.of(MATRIX).hold_out(0.3, 0).with_test(Triplets.of(MATRIX[:1]))
    first = data.first(2)
    assert (first.hidden, first.test, first.shape) == (None, None, data.shape)
    assert first.same(data)


def test_in_single_precision_nothing_is_lost():
    data = Triplets.of(MATRIX).hold_out(0.3, 0).with_test(Triplets.of(MATRIX[:2]))
    single = data.to("cpu", torch.float32)
    assert single.values.dtype == single.hidden.values.dtype == single.test.values.dtype == torch.float32
    assert single.unobserved.dtype == single.hidden.rows.dtype == torch.int64
    assert single.same(data)
    assert single.test.same(data.test)
    np.testing.assert_array_equal(
        single.batch(torch.tensor([3, 0])).unobserved, data.batch(torch.tensor([3, 0])).unobserved
    )
    np.testing.assert_array_equal(dense(single.hold_out(0.3, 1)), dense(data.hold_out(0.3, 1)))


def test_more_labels_than_single_precision_can_number_are_refused(monkeypatch):
    monkeypatch.setattr(triplets, "LARGEST_FLOAT32_INDEX", 3)
    assert "dtype=float64" in refused(DataError, Triplets.of(MATRIX, "big").to, "cpu", torch.float32)
    assert Triplets.of(MATRIX[:3, :3]).to("cpu", torch.float32).same(Triplets.of(MATRIX[:3, :3]))


def test_same_sees_values_cells_shape_and_what_is_unobserved():
    data = Triplets.of(MATRIX)
    for i, j, value in ((0, 0, 9), (0, 1, 1), (0, 0, 0), (1, 1, NAN), (0, 3, 0)):
        other = MATRIX.copy()
        other[i, j] = value
        assert not data.same(Triplets.of(other))
    assert not data.same(Triplets.of(MATRIX[:, :3]))
    assert not data.same(Table.of(MATRIX))
    assert not data.same(data.hold_out(0.3, 0))


@settings(max_examples=40)
@given(matrices, st.floats(0, 0.6))
def test_statistics_are_those_of_the_observed_cells(array, fraction):
    data = Triplets.of(array).hold_out(fraction, 0)
    simulated = np.random.default_rng(0).poisson(2.0, array.shape).astype(float)
    observed = ~np.isnan(dense(data))
    for values, matrix in ((data.values, dense(data)), (Triplets.of(simulated).values, simulated)):
        shown = np.where(observed, matrix, 0)
        found = data.statistics(values, "counts")
        np.testing.assert_allclose(found["row_total"][1], shown.sum(1))
        np.testing.assert_allclose(found["column_total"][1], shown.sum(0))
        if observed.any():
            zeros = ((shown == 0) & observed).sum() / observed.sum()
            assert float(found["share_of_zeros"][1]) == pytest.approx(zeros)


def test_an_infinite_or_bad_value_is_named_by_its_cell_on_one_line():
    data = Triplets.of_columns(["a\nb"], ["x\ty"], [2.5], name="n")
    assert refused(DataError, data.refuse, data.counts > 2, "is bad") == r"n: row 'a\nb', column 'x\ty': 2.5 is bad"
    assert "image_shape" in refused(SettingError, data.with_image_shape, [1, 1])


def test_cells_to_compare_by_are_sorted_and_half_of_them_listed():
    array = np.random.default_rng(0).poisson(0.01, (200, 100)).astype(float)
    data = Triplets.of(array)
    cells = data.cells
    assert torch.equal(cells, cells.unique(dim=0))
    assert (array[tuple(cells.T)] > 0).sum() >= 100
    assert torch.equal(cells, Triplets.of(array).cells)
    assert data.coords["cell"][0] == f"row_{cells[0, 0]} | column_{cells[0, 1]}"


# Test rows


def test_columns_of_test_rows_are_matched_by_label_in_any_order():
    data = Triplets.of_columns(["u", "u", "u"], ["x", "y", "z"], [1, 2, 3])
    new = Triplets.of(pd.DataFrame([[5, NAN, 0], [6, 0, 7]], index=["v", "w"], columns=["z", "x", "y"]))
    test = data.with_test(new).test
    np.testing.assert_array_equal(dense(test), [[NAN, 0, 5], [0, 7, 6]])
    assert_sorted(test)
    assert (list(test.row_labels), test.column_labels) == (["v", "w"], ["x", "y", "z"])


def test_columns_that_test_rows_do_not_list_are_zeros():
    data = Triplets.of_columns(["u", "u", "u"], ["x", "y", "z"], [1, 2, 3])
    np.testing.assert_array_equal(dense(data.with_test(Triplets.of_columns(["v"], ["z"], [4])).test), [[0, 0, 4]])


@settings(max_examples=30)
@given(matrices, st.randoms(use_true_random=False))
def test_hidden_entries_of_test_rows_move_with_their_columns(array, random):
    names = [f"c{j}" for j in range(array.shape[1])]
    order = random.sample(names, len(names))
    given_rows = Triplets.of(pd.DataFrame(array, columns=names)[order]).hold_out(0.5, 0)
    test = Triplets.of(pd.DataFrame(array, columns=names)).with_test(given_rows).test
    assert_sorted(test)
    if test.hidden is not None:
        cells = test.hidden.rows, test.hidden.columns
        np.testing.assert_array_equal(test.hidden.values, array[cells])
        array[cells] = NAN
    np.testing.assert_array_equal(dense(test), array)


def test_unknown_columns_of_test_rows_are_refused_by_name():
    data = Triplets.of_columns(["u"], ["x"], [1], name="old")
    new = Triplets.of_columns(["v", "v", "v"], ["x", "n\n1", "n2"], [1, 2, 3], name="new")
    message = refused(DataError, data.with_test, new)
    assert message == r"new: the new rows list column 'n\n1', which old does not have (and 1 more)"
    assert "more" not in refused(DataError, data.with_test, Triplets.of_columns(["v"], ["q"], [1]))


def test_test_rows_without_labels_are_matched_by_position():
    data = Triplets.of(pd.DataFrame(MATRIX, columns=list("wxyz")))
    np.testing.assert_array_equal(dense(data.with_test(Triplets.of(MATRIX[2:])).test), MATRIX[2:])
    assert "'column_0'" in refused(DataError, data.with_test, Triplets.of(MATRIX[:, :3]))


# Storage


@pytest.mark.parametrize("array", [MATRIX, np.nan_to_num(MATRIX), np.zeros((2, 3)), np.full((2, 3), NAN)])
@pytest.mark.parametrize("fraction", [0, 0.4])
@pytest.mark.parametrize("of", ["all", "listed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_stored_comes_back(array, fraction, of, dtype):
    data = Triplets.of(array).hold_out(fraction, 0, of)
    for whole in (data, data.with_test(Triplets.of(array[::-1].copy()).hold_out(fraction, 1))):
        whole = whole.to("cpu", dtype)
        observed, extra = whole.stored("counts")
        coords = {
            "row": list(whole.row_labels),
            "column": list(whole.column_labels),
            "test_row": list(whole.row_labels),
        }
        arrays = [{name: value for name, (_, value) in each.items()} for each in (observed, extra)]
        for dims, value in [*observed.values(), *extra.values()]:
            assert len(dims) == np.ndim(value)
        back = Triplets.restore(*arrays, coords, "counts")
        for mine, theirs in ((whole, back), (whole.test, back.test)):
            assert (mine is None) == (theirs is None)
            if mine is None:
                continue
            assert theirs.same(mine)
            assert theirs.values.dtype == dtype
            assert (list(theirs.row_labels), list(theirs.column_labels)) == (mine.row_labels, mine.column_labels)
            assert (mine.hidden is None) == (theirs.hidden is None)
            if isinstance(mine.hidden, Hidden):
                for name in ("rows", "columns", "values"):
                    assert torch.equal(getattr(theirs.hidden, name), getattr(mine.hidden, name))
                assert theirs.hidden.at_random == mine.hidden.at_random
            assert_sorted(theirs)


# Files


def test_the_first_three_columns_by_default_and_others_by_name_or_position(tmp_path):
    path = write(tmp_path, "who,what,times,week,score\na,x,1,w,4\nb,y,2,v,0.1\n")
    assert lists(read_triplets(path)) == (["a", "b"], ["x", "y"], [[0, 0, 1], [1, 1, 2]])
    for value in ("score", "4"):
        data = read_triplets(path, row="week", column="who", value=value)
        assert lists(data) == (["v", "w"], ["a", "b"], [[0, 1, 0.1], [1, 0, 4]])
    assert data.name == "list.csv"


@pytest.mark.parametrize(
    ("content", "name", "named"),
    [
        ("who,what,times\na,x,1\n", "t.csv", {}),
        ("\ufeffwho,what,times\na,x,1\n", "t.csv", {"row": "who"}),
        ("who\twhat\ttimes\na\tx\t1\n", "t.tsv", {}),
        ("who;what;times\na;x;1\n", "t.txt", {"delimiter": ";"}),
        ("who , what,times\n\na,x, 1 \n\n", "t.csv", {"column": "what"}),
        ("who,what,times\r\na,x,1", "T.CSV", {}),
        ('"who","what","times"\r"a","x","1"\r', "t.csv", {}),
    ],
)
def test_layouts_of_text(tmp_path, content, name, named):
    assert lists(read_triplets(write(tmp_path, content, name), **named)) == (["a"], ["x"], [[0, 0, 1]])


@pytest.mark.parametrize("writer", ["pandas", "csv", "tsv", "parquet"])
def test_odd_labels_survive_files(tmp_path, writer):
    frame = pd.DataFrame({"row": ODD, "column": ODD[::-1], "value": np.arange(1, len(ODD) + 1)})
    path = tmp_path / {"parquet": "odd.parquet", "tsv": "odd.tsv"}.get(writer, "odd.csv")
    if writer == "parquet":
        frame.to_parquet(path)
    elif writer == "pandas":
        frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, delimiter="\t" if writer == "tsv" else ",", quoting=csv.QUOTE_ALL)
            lines.writerows([frame.columns, *frame.values.tolist()])
    data = read_triplets(path)
    expected = Triplets.of(frame)
    assert sorted(ODD) == data.row_labels == data.column_labels
    assert lists(data) == lists(expected)


def test_long_labels_are_read(tmp_path):
    label = "x" * 300_000
    limit = csv.field_size_limit()
    assert read_triplets(write(tmp_path, f"r,c,v\n{label},b,1\n")).row_labels == [label]
    assert csv.field_size_limit() == limit


def test_values_are_read_as_python_reads_them(tmp_path):
    values = np.random.default_rng(0).random(270) * 10.0 ** np.arange(-150, 120)
    frame = pd.DataFrame({"row": range(270), "column": 0, "value": values})
    frame.to_csv(tmp_path / "f.csv", index=False)
    assert read_triplets(tmp_path / "f.csv").counts.tolist() == values.tolist()


def test_a_list_too_long_to_be_read_as_text_is_read_as_numbers(tmp_path, monkeypatch):
    """Cells further down that are no such numbers are named as in a short one."""
    monkeypatch.setattr("pyrozoo.data.readers.text.SMALL", 3)
    monkeypatch.setattr("pyrozoo.data.readers.text.HEAD", 20)
    lines = [f"{i},x,{i + 1}" for i in range(10)]
    assert read_triplets(write(tmp_path, "\n".join(["r,c,v", *lines]))).counts.tolist() == list(range(1, 11))
    path = write(tmp_path, "\n".join(["r,c,v", *lines[:7], "a,b", *lines[7:]]))
    assert "record 9 has 2 cells where 3" in refused(DataError, read_triplets, path)
    path = write(tmp_path, "\n".join(["r,c,v", *lines[:7], "a,b,many", *lines[7:]]))
    assert "record 9, column 'v': 'many'" in refused(DataError, read_triplets, path)


@pytest.mark.parametrize("missing", ["", "NA", "nan", "null", "?"])
def test_missing_values_of_a_file_are_unobserved_pairs(tmp_path, missing):
    data = read_triplets(write(tmp_path, f"r,c,v\na,x,{missing}\na,y,2\nb,y,0\n"))
    np.testing.assert_array_equal(dense(data), [[NAN, 2], [0, 0]])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_most_used_spelling_is_the_label(tmp_path, ending):
    frame = pd.DataFrame(
        {
            "user": [10, 10, 9, 9, 9, 8],
            "nick": ["Ten", "ten", "Nine", "Nine", "nine", ""],
            "item": [1, 2, 1, 2, 3, 3],
            "title": ["Song", "Other", "song", "Other", "Other", None],
            "plays": [1.0, 5.0, 2.0, None, 3.0, 1.0],
        }
    )
    path = tmp_path / f"plays.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    data = read_triplets(path, column="item", value="plays", row_label="nick", column_label="title")
    assert data.row_labels == ["8", "nine", "ten"], "a blank spelling is none"
    assert data.column_labels == ["song", "Other (2)", "Other (3)"]
    np.testing.assert_array_equal(dense(data), [[0, 0, 1], [2, NAN, 3], [1, 5, 0]])


def test_repeated_pairs_of_a_file(tmp_path):
    path = write(tmp_path, "r,c,v\na,x,1\na,x,2\n")
    data = read_triplets(path)
    assert (data.values.tolist(), len(data.notes)) == ([[0, 0, 3]], 1)
    assert "row 'a', column 'x' is listed 2 times" in refused(DataError, read_triplets, path, repeated="refuse")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "list.csv is empty"),
        ("\n\n", "the table is empty"),
        ("r,c,v\n", "the list is empty"),
        ("r,c\na,x\n", "nobody can tell whether 'r', 'c' are names or a record: set data.header=true if"),
        ("row\na\n", "a list has a row and a column in each line; there are 1 columns"),
        ("row,column,note\na,x,good\n", "no column says which value: data.value names it, of row, column, note"),
        ("r,c,v\na,x,1\nb,y", "record 3 has 2 cells where 3 are expected (a truncated file, or a delimiter inside?)"),
        ("r,c,v\na,x,1\nb", "record 3 has 1 cells"),
        ("r,c,v\na,x,1,2\n", "record 2 has 4 cells"),
        ('r,c,v\na,x,1\nb,"y,2\n', "not a readable CSV"),
        ("row,row,value\na,x,1\n", "column name 'row' appears twice"),
        ("r,c,v\na,x,1\nb,y,many\n", "record 3, column 'v': 'many' is not a number"),
        ('r,c,"v\n2"\na,x,1\nb,x,"many\nmore"\n', r"record 3, column 'v\n2': 'many\nmore' is not a number"),
        ("r,c,v\na,x,1\nb,x,1_000\n", "record 3, column 'v': '1_000' is not a number"),
        ("r,c,v\na,x,inf\n", "record 2, column 'v' is infinite"),
        ("r,c,v\n,x,1\n", "record 2 has no row"),
        ("r,c,v\na,x,1\na,,1\n", "record 3 has no column"),
        (
            "r,c,v\na,x,1\nb,,many\n,y,2\n",
            "record 3, column 'v': 'many' is not a number; record 4 has no row; record 3 has no column",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, content, says):
    message = refused(DataError, read_triplets, write(tmp_path, content))
    assert says in message
    assert message.startswith("list.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "::"])
def test_how_a_list_is_written_is_found(tmp_path, encoding, delimiter):
    text = "r,c,v\nJosé,Möwe,1\nb,x,2\n".replace(",", delimiter)
    data = read_triplets(write(tmp_path, text.encode(encoding)))
    assert lists(data) == (["José", "b"], ["Möwe", "x"], [[0, 0, 1], [1, 1, 2]])
    found = {"latin-1": "cp1252", "cp1252": "cp1252", "utf-16-le": "utf-16-le"}.get(encoding)
    assert any(f"encoding {found}" in note for note in data.notes) == (found is not None)
    assert any("(data.delimiter)" in note for note in data.notes) == (delimiter != ",")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_lists_without_values_or_of_true_and_false_are_implicit_feedback(tmp_path, ending):
    frame = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "liked": [True, False, True]})
    path = tmp_path / f"list.{ending}"
    for each, values, note in (
        (frame, [[0, 0, 1], [1, 0, 1]], "column 'liked': true is 1 and false is 0"),
        (frame[["user", "item"]], [[0, 0, 1], [0, 1, 1], [1, 0, 1]], "no column holds values: each line counts as 1"),
    ):
        each.to_parquet(path) if ending == "parquet" else each.to_csv(path, index=False)
        data = read_triplets(path)
        assert lists(data) == (["a", "b"], ["x", "y"], values)
        assert note in data.notes


def test_missing_files_are_named(tmp_path):
    assert "data.path" in refused(DataError, read_triplets, tmp_path / "absent.csv")
    assert "is a folder without a .txt or Parquet file; it is empty" in refused(DataError, read_triplets, tmp_path)


@pytest.mark.parametrize("field", ["row", "column", "value", "row_label", "column_label"])
def test_unknown_columns_are_named(tmp_path, field):
    path = write(tmp_path, '"r\nr",c,v\na,x,1\n')
    for name in ("absent", "7", "²"):
        message = refused(DataError, read_triplets, path, **{field: name})
        assert f"data.{field}: there is no column {name!r}; choices: c, r r, v" in message


def test_settings_that_make_no_sense_are_named(tmp_path):
    path = write(tmp_path, "r,c,v\na,x,1\n")
    message = refused(DataError, read_triplets, path, row="c", column="c")
    assert "data.row, data.column and data.value must be three different columns" in message
    assert lists(read_triplets(path, row="c")) == (["x"], ["a"], [[0, 0, 1]])
    for delimiter in ("", '"', "\n"):
        assert "data.delimiter" in refused(SettingError, read_triplets, path, delimiter=delimiter)
    other = tmp_path / "t.parquet"
    pd.DataFrame({"r": ["a"], "c": ["x"], "v": [1]}).to_parquet(other)
    assert "data.delimiter" in refused(SettingError, read_triplets, other, delimiter=",")


def test_bad_parquet_files_are_named(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"r": ["a", "b"], "c": ["x", "y"], "v": [1, 2]})
    frame.to_parquet(path)
    content = path.read_bytes()
    assert lists(read_triplets(path)) == (["a", "b"], ["x", "y"], [[0, 0, 1], [1, 1, 2]])
    for damaged in (content[:8], content[: len(content) // 2], content[:8] + b"\0" * 60 + content[68:]):
        path.write_bytes(damaged)
        assert "t.parquet is not a readable Parquet" in refused(DataError, read_triplets, path)
    frame.assign(v=["1", "many"]).to_parquet(path)
    assert "row 2, column 'v': 'many'" in refused(DataError, read_triplets, path)
    frame.assign(c=["x", None]).to_parquet(path)
    assert "row 2 has no column" in refused(DataError, read_triplets, path)
    frame.set_index(["r", "c"]).to_parquet(path)
    assert "there are 1 columns" in refused(DataError, read_triplets, path)


def test_a_parquet_value_may_be_missing(tmp_path):
    frame = pd.DataFrame({"r": [7, 8], "c": [1, 1], "v": pd.array([None, 10**9 + 7], dtype="Int64")})
    frame.to_parquet(tmp_path / "t.parquet")
    data = read_triplets(tmp_path / "t.parquet")
    assert lists(data) == (["7", "8"], ["1"], [[1, 0, 10**9 + 7]])
    assert data.unobserved.tolist() == [[0, 0]]


def test_settings_lead_to_data_with_test_rows_and_listed_pairs_hidden(tmp_path):
    lines = [f"u{i},c{j},{i + j + 1}" for i in range(5) for j in range(4)]
    path = write(tmp_path, "\n".join(["user,item,plays", *lines]))
    new = write(tmp_path, "user,item,plays\nv,c3,9\nv,c1,8\n", "new.csv")
    asked = {"path": str(path), "value": "plays", "test_path": str(new), "holdout": 0.25, "seed": 3}
    data = read(catalog.settings("data", "triplets") | asked, MODEL)
    assert (data.shape, len(data.hidden.values), data.hidden.at_random) == ((5, 4), 5, False)
    assert torch.equal(data.hidden.values, (data.hidden.rows + data.hidden.columns + 1).double())
    np.testing.assert_array_equal(dense(data.test), [[0, 8, 0, 9]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"path": None}, "data.path"),
        ({"repeated": "median"}, "data.repeated"),
        ({"holdout_of": "some"}, "data.holdout_of"),
        ({"holdout": 1}, "data.holdout"),
        ({"noise": 1.0}, "data.noise"),
        ({"masks": ["lines"]}, "data.masks"),
        ({"image_shape": [1, 1]}, "data.image_shape"),
    ],
)
def test_wrong_settings_are_named(tmp_path, changes, says):
    path = write(tmp_path, "r,c,v\na,x,1\n")
    asked = catalog.settings("data", "triplets") | {"path": str(path)} | changes
    assert says in refused(SettingError, read, asked, MODEL)


# Last.fm


def lastfm(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> Triplets:
    path = write(folder, content, "plays.csv")
    monkeypatch.setenv("PYROZOO_DATA", str(folder))
    entry = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    data = read_named(catalog.settings("data", "lastfm") | entry)
    assert isinstance(data, Triplets)
    return data


def test_lastfm_labels_end_at_the_first_tab_or_line_break(tmp_path, monkeypatch):
    lines = [
        "UserID,ItemID,Artist,Count",
        '10,2,"stars\t7\nother\t8",3',
        '9,10,"cut\rhere",1',
        "9,2,Stars,2",
        '9,1,"a, b",4',
    ]
    data = lastfm(tmp_path, monkeypatch, "\n".join(lines) + "\n")
    assert lists(data) == (
        ["9", "10"], ["a, b", "stars", "cut"], [[0, 0, 4], [0, 1, 2], [0, 2, 1], [1, 1, 3]]
    )  # fmt: skip
    assert (data.name, data.notes, data.unobserved) == ("plays", (), None)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('User,"Item\nID",Artist,Count\n1,2,x,3\n', r"has the columns 'User', 'Item\nID', 'Artist', 'Count', not"),
        ("UserID,ItemID,Artist,Count\n1,2,x,many\n", "record 2, column 'Count': 'many' is not a number"),
        ("UserID,ItemID,Artist,Count\n1,2,x\n", "truncated"),
        ("UserID,ItemID,Artist,Count\n", "empty"),
        ("", "empty"),
    ],
)
def test_lastfm_in_another_schema_is_refused(tmp_path, monkeypatch, content, says):
    assert says in refused(DataError, lastfm, tmp_path, monkeypatch, content)


def test_lastfm_itself(need):
    need("lastfm")
    data = read_named(catalog.settings("data", "lastfm"))
    assert isinstance(data, Triplets)
    assert data.shape == (999, 2000)
    assert (len(data.counts), data.counts.sum().item(), data.counts.max().item()) == (40141, 5224917, 25071)
    assert (data.notes, data.unobserved) == ((), None), "no pair is repeated"
    assert_sorted(data)
    assert len(set(data.column_labels)) == 2000
    assert not any(set("\t\n\r") & set(label) for label in (*data.row_labels, *data.column_labels))
    assert max(map(len, data.column_labels)) < 200
    assert data.row_labels[:3] == ["0", "1", "2"]


@pytest.mark.parametrize("total", [20_000_000, 25_000_000, 2**24 - 1, 2**24, 2**24 + 1])
def test_cells_to_compare_by_are_within_as_many_entries_as_there_are(total):
    """Single precision cannot number so many: one past the end was chosen."""
    for count in (100, 500, 2000, 10_000):
        chosen = evenly(total, count)
        assert chosen[[0, -1]].tolist() == [0, total - 1]
        assert bool((chosen.diff() - (total - 1) / (count - 1)).abs().max() <= 1)
    listed = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64).expand(total, 3)  # of no size
    data = Triplets(listed, ["a", "b"], ["x", "y", "z"])
    assert [1, 2] in data.cells.tolist()


def test_evenly_chosen_numbers_by_hand():
    assert evenly(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly(3, 5).tolist() == [0, 1, 2]
    assert evenly(3, 5, again=True).tolist() == [0, 0, 1, 2, 2]
    assert evenly(0, 5).tolist() == evenly(5, 0).tolist() == []
    assert evenly(5, 1).tolist() == [0]
