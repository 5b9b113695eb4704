"""Ratings: absent pairs are unknown and 0 is a rating; hold-out, parts, storage, files, codes for no rating, Jester."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrozoo.contracts.model import Model
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data import ratings, triplets
from pyrozoo.data.container import Hidden
from pyrozoo.data.named import jester, read_named
from pyrozoo.data.ratings import Ratings, _suspicious
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.factor_analysis.model import FactorAnalysis
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.poisson_mf.model import PoissonMF
from pyrozoo.run import catalog
from pyrozoo.run.source import read
from tests.case import refused
from tests.files import read_ratings, read_triplets

NAN = float("nan")
MATRIX = np.array([[1, 0, NAN], [NAN, 3, NAN], [5, NAN, -2.5]])
ENTRIES = [[0, 0, 1], [0, 1, 0], [1, 1, 3], [2, 0, 5], [2, 2, -2.5]]
STARS = [1.0, 2.0, 3.0, 4.0, 5.0]

columns = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(-3, 3)), min_size=1, unique_by=lambda each: each[:2]
)


def model(kind: type[Model]) -> Model:
    own = catalog.settings("model", kind.__module__.split(".")[-2])
    return kind(**{name: value for name, value in own.items() if name != "name"})


def archive(folder: Path, *files: str | bytes) -> Path:
    path = folder / "fake.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for number, content in enumerate(files):
            packed.writestr(f"{number}.csv", content)
    return path


def reader(count: int | str, **rated: float | str) -> str:
    """Return a line of Jester's file: how many jokes were rated, and those that were by number (``j3=1.5``)."""
    cells = ["99"] * 100
    for joke, rating in rated.items():
        cells[int(joke[1:])] = str(rating)
    return ",".join([str(count), *cells]) + "\n"


def listed(hidden: Hidden | None) -> list[tuple[float, ...]]:
    """Return hidden entries as (row, column, value)."""
    if hidden is None:
        return []
    return list(zip(hidden.rows.tolist(), hidden.columns.tolist(), hidden.values.tolist(), strict=True))


def many(*values: float) -> Ratings:
    """Return these ratings of one column, each by a row of its own."""
    return Ratings.of_columns(range(len(values)), ["x"] * len(values), values)


# What a user has in Python


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, pd.DataFrame, Table.of])
def test_of_a_matrix_zeros_are_ratings_and_missing_cells_unknown(make):
    data = Ratings.of(make(MATRIX))
    assert type(data) is Ratings
    assert data.values.tolist() == ENTRIES
    assert (data.shape, data.parts, data.units) == ((3, 3), 5, 3)
    assert data.unobserved is data.missing is None, "nobody asked about absent pairs"
    assert Ratings.of(data).same(data)


def test_a_pair_listed_without_a_rating_is_to_be_predicted():
    data = Ratings.of_columns(["b", "a", "a"], ["x", "y", "x"], [NAN, 0, 2])
    for each in (data, Ratings.of(scipy.sparse.coo_array(([2.0, 0.0, NAN], ([0, 0, 1], [0, 1, 0])), shape=(2, 2)))):
        assert (each.values.tolist(), each.unobserved.tolist()) == ([[0, 0, 2], [0, 1, 0]], [[1, 0]])
    assert [each[:2] for each in listed(data.missing.hidden)] == [(1, 0)]
    assert torch.isnan(data.missing.hidden.values).all()
    assert data.hold_out(0.5, 0).missing.hidden.rows.tolist() == [1], "what is hidden is known"


def test_ratings_and_triplets_are_not_taken_for_each_other():
    data, zeros = Ratings.of(MATRIX, "stars"), Triplets.of(MATRIX, "plays")
    assert refused(DataError, Ratings.of, zeros) == (
        "plays: an absent pair is zero in triplets; this model needs ratings, where it is unknown: use data=ratings"
    )
    assert refused(DataError, Triplets.of, data) == (
        "stars: an absent pair is unknown in ratings; this model needs triplets, where it is zero: use data=triplets"
    )


def test_a_blank_matrix_has_every_pair_rated_0():
    data = Ratings.blank(2, 2)
    assert data.values.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]
    assert (list(data.row_labels), list(data.column_labels)) == (["row_0", "row_1"], ["column_0", "column_1"])
    assert "data.rows" in refused(SettingError, Ratings.blank, 2, 0)


@pytest.mark.parametrize(("repeated", "value", "done"), [("mean", 2.5, "averaged"), ("sum", 7.5, "summed")])
def test_repeated_pairs_are_averaged_or_summed_when_asked_and_refused_otherwise(tmp_path, repeated, value, done):
    three = ["a", "a", "b", "a"], ["x"] * 4, [4, 0.5, 0, 3]
    path = tmp_path / "n"
    pd.DataFrame(dict(zip("rcv", three, strict=True))).to_csv(path, index=False)
    notes = (f"2 entries repeat a pair of row and column: values were {done} (data.repeated)",)
    for data in (Ratings.of_columns(*three, repeated=repeated), read_ratings(path, repeated=repeated)):
        assert (data.values.tolist(), data.notes) == ([[0, 0, value], [1, 0, 0]], notes)
    zeros = Triplets.of_columns(*three, repeated=repeated)
    assert (zeros.values.tolist(), zeros.notes, zeros.shape) == ([[0, 0, value]], notes, (2, 1))
    unknown = Triplets.of_columns(*three[:2], [4, NAN, 1, 3], repeated=repeated)
    assert (unknown.values.tolist(), unknown.unobserved.tolist()) == ([[1, 0, 1]], [[0, 0]])
    message = (
        "n: row 'a', column 'x' is listed 3 times; data.repeated=sum adds them up, mean averages them, "
        "last takes the last"
    )
    assert refused(DataError, Ratings.of_columns, *three, name="n") == message
    assert refused(DataError, read_ratings, path) == message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.full((2, 2), NAN), "stars: there is no rating"),
        (np.zeros((0, 3)), "empty"),
        (np.array([[1, -np.inf]]), "stars: row 'row_0', column 'column_1': -inf is infinite"),
        (scipy.sparse.csr_array((2, 2)), "stars: there is no rating"),
        (pd.DataFrame({"row": ["a"], "column": ["x"], "value": ["good"]}), "'good' is not a number"),
        (pd.DataFrame({"row": [1, 1], "column": [2, 2], "value": [3, 3]}), "row '1', column '2' is listed 2 times"),
    ],
)
def test_what_cannot_be_used_is_refused(source, says):
    assert says in refused(DataError, Ratings.of, source, "stars")


# Codes for no rating


@pytest.mark.parametrize(("code", "which"), [(99, "largest"), (-99, "smallest"), (7.5, "largest"), (-1.5, "smallest")])
def test_a_frequent_value_apart_from_all_others_gets_a_note(code, which):
    data = many(*[code] * 5, *STARS * 20)
    note = (
        f"the {which} value, {code:g}, stands apart from all others and occurs 5 times: "
        f"if it means that there is no rating, say data.unknown={code:g}"
    )
    assert data.notes == data.checked().notes == (note,)


@pytest.mark.parametrize(
    ("code", "times", "others"),
    [(0, 5, STARS * 20), (7, 5, STARS * 20), (99, 2, STARS), (99, 4, STARS * 80), (99, 9, [1] * 9), (99, 9, [])],
)
def test_a_rare_value_and_one_near_the_others_get_none(code, times, others):
    assert many(*[code] * times, *others).notes == ()


# Hold-out and validation


@settings(max_examples=60)
@given(columns, st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 3), st.sampled_from(["all", "listed"]))
def test_each_rating_is_shown_hidden_or_set_aside(entries, fraction, aside, seed, of):
    data = Ratings.of_columns(*zip(*entries, strict=True))
    if round(fraction * len(entries)) == len(entries):
        assert "leaves none of" in refused(SettingError, data.hold_out, fraction, seed, of)
        return
    out = data.hold_out(fraction, seed, of)
    if round(aside * len(out.values)) == len(out.values):
        assert "leaves none of" in refused(SettingError, out.set_aside, aside, seed)
        return
    both = out.set_aside(aside, seed + 1)
    assert len(listed(out.hidden)) == round(fraction * len(entries))
    assert len(listed(both.validation)) == round(aside * len(out.values))
    assert listed(both.hidden) == listed(out.hidden)
    everything = [tuple(each) for each in both.values.tolist()] + listed(both.hidden) + listed(both.validation)
    assert sorted(everything) == [tuple(each) for each in data.values.tolist()]
    for part in (both.hidden, both.validation):
        assert listed(part) == sorted(listed(part))
    asked = [] if both.unobserved is None else [tuple(pair) for pair in both.unobserved.tolist()]
    assert asked == [each[:2] for each in listed(both.hidden)], "what is set aside is not asked about"
    again = data.hold_out(fraction, seed, of).set_aside(aside, seed + 1)
    assert again.same(both)
    assert listed(again.validation) == listed(both.validation)


def test_seeds_differ_and_what_is_hidden_or_set_aside_twice_adds_up():
    data = many(*range(200))
    assert listed(data.hold_out(0.5, 0).hidden) != listed(data.hold_out(0.5, 1).hidden)
    assert listed(data.set_aside(0.5, 0).validation) != listed(data.set_aside(0.5, 1).validation)
    twice = data.set_aside(0.5, 0).set_aside(0.5, 1)
    assert (len(twice.values), len(twice.validation.values)) == (50, 150)
    assert listed(twice.validation) == sorted(listed(twice.validation))
    twice = data.hold_out(0.5, 0).hold_out(0.5, 1)
    assert (len(twice.values), len(twice.hidden.values), len(twice.unobserved)) == (50, 150, 150)
    assert data.hold_out(0.001, 0) is data
    assert data.set_aside(0.001, 0) is data
    assert twice.hidden.at_random, "which are rated says nothing, so a choice among them is at random"


@pytest.mark.parametrize("fraction", [-0.1, 1.0, NAN])
def test_fractions_out_of_range_are_refused(fraction):
    data = Ratings.of(MATRIX)
    for setting, function in (("data.holdout", data.hold_out), ("data.validation", data.set_aside)):
        assert refused(SettingError, function, fraction, 0) == f"{setting} is {fraction}; it must be in [0, 1)"


def test_what_is_followed_has_at_most_so_many_ratings_of_each_part(monkeypatch):
    data = many(*range(20)).hold_out(0.2, 0).set_aside(0.25, 1)
    for part, entries in (("train", data.values), ("validation", data.validation), ("test", data.hidden)):
        pairs, values = data.watched[part]
        expected = entries.tolist() if part == "train" else [list(each) for each in listed(entries)]
        assert [[*pair, value] for pair, value in zip(pairs.tolist(), values.tolist(), strict=True)] == expected
    assert list(many(1, 2).watched) == ["train"]
    monkeypatch.setattr(ratings, "WATCHED", 3)
    assert many(*range(9)).watched["train"][1].tolist() == [0, 4, 8]
    assert many(*range(9)).watched["train"][0].tolist() == [[0, 0], [4, 0], [8, 0]]


# Parts, copies, comparisons


def test_a_part_is_some_ratings_of_all_rows():
    data = Ratings.of(MATRIX).hold_out(0.2, 0).set_aside(0.25, 0).with_test(Ratings.of(MATRIX[:1]))
    kept = data.values.tolist()
    part = data.part(torch.tensor([2, 0]))
    assert part.values.tolist() == [kept[0], kept[2]], "sorted"
    assert (part.shape, part.total_entries, part.parts) == ((3, 3), 3, 2)
    assert part.hidden is part.validation is part.test is None
    assert part.part(torch.tensor([1])).total_entries == 3


def test_on_another_device_or_in_another_precision_every_part_goes_along(monkeypatch):
    data = Ratings.of(MATRIX).hold_out(0.2, 0).set_aside(0.25, 0).with_test(Ratings.of(MATRIX[:1]))
    moved = data.to("cpu", torch.float32)
    for part in (moved, moved.hidden, moved.validation, moved.test):
        assert part.values.dtype == torch.float32
    assert moved.validation.rows.dtype == moved.unobserved.dtype == torch.int64
    assert listed(moved.validation) == listed(data.validation)
    assert moved.same(data)
    monkeypatch.setattr(triplets, "LARGEST_FLOAT32_INDEX", 2)
    assert "dtype=float64" in refused(DataError, data.to, "cpu", torch.float32)


def test_same_sees_zeros_pairs_asked_about_and_what_is_set_aside():
    data = Ratings.of(MATRIX)
    for i, j, value in ((0, 1, NAN), (0, 2, 0), (0, 0, 2), (0, 1, 1)):
        other = MATRIX.copy()
        other[i, j] = value
        assert not data.same(Ratings.of(other))
    assert not data.same(Table.of(MATRIX))
    assert not many(1, 2).same(Triplets.of_columns(range(2), ["x"] * 2, [1, 2]))
    assert not data.same(Ratings.of(np.c_[MATRIX, [NAN] * 3]))
    assert not data.same(data.hold_out(0.2, 0))
    aside = data.set_aside(0.2, 0)
    assert aside.same(data.set_aside(0.2, 0))
    assert not aside.same(data)
    assert not aside.same(replace(aside, validation=None))
    assert not aside.same(replace(aside, validation=replace(aside.validation, values=aside.validation.values + 1)))


def test_a_batch_is_some_rows():
    whole = Ratings.of_columns([0, 0, 1, 2, 2], [0, 1, 1, 0, 1], [1, 0, NAN, 4, 5])
    batch = whole.batch(torch.tensor([1, 2, 0]))
    assert batch.values.tolist() == [[1, 0, 4], [1, 1, 5], [2, 0, 1], [2, 1, 0]]
    assert (type(batch), batch.unobserved.tolist(), batch.row_labels) == (Ratings, [[0, 1]], ["1", "2", "0"])
    assert (batch.total_rows, batch.rows.tolist()) == (3, [1, 2, 0])
    assert whole.set_aside(0.25, 0).batch(torch.tensor([0])).validation is None


def test_statistics_of_rows_and_columns_are_means_of_their_ratings():
    found = Ratings.of(np.c_[MATRIX, [NAN] * 3]).statistics(torch.tensor(ENTRIES), "ratings")
    assert [dims for dims, _ in found.values()] == [("row",), ("column",), (), ()]
    for name, expected in (
        ("mean_by_row", [0.5, 3, 1.25]),
        ("mean_by_column", [3, 1.5, -2.5, 1.3]),
        ("rating_mean", 1.3),
    ):
        np.testing.assert_allclose(found[name][1], expected)
    np.testing.assert_allclose(found["rating_sd"][1], np.nanstd(MATRIX))


def test_columns_of_test_rows_are_matched_by_label_and_others_unknown():
    data = Ratings.of_columns(["u", "u", "u"], ["x", "y", "z"], [1, 2, 0])
    new = Ratings.of_columns(["v", "v", "w"], ["z", "x", "z"], [0, 4, NAN], name="new")
    test = data.with_test(new).test
    assert (type(test), test.values.tolist(), test.unobserved.tolist()) == (
        Ratings, [[0, 0, 4], [0, 2, 0]], [[1, 2]],
    )  # fmt: skip
    assert (list(test.row_labels), test.column_labels) == (["v", "w"], ["x", "y", "z"])
    assert refused(DataError, new.with_test, data) == ("ratings: the new rows list column 'y', which new does not have")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fraction", [0, 0.4])
def test_what_is_stored_comes_back(dtype, fraction):
    data = Ratings.of_columns([0, 0, 1, 1, 2], [0, 1, 0, 2, 1], [1, 0, NAN, 3.5, -2])
    for each in (data.hold_out(fraction, 0), data.set_aside(fraction, 1), data.hold_out(0.4, 0).set_aside(0.4, 1)):
        each = each.to("cpu", dtype)
        parts = each.stored("ratings")
        assert all(len(dims) == np.ndim(value) for part in parts for dims, value in part.values())
        arrays = [{name: value for name, (_, value) in part.items()} for part in parts]
        back = Ratings.restore(*arrays, each.coords, "ratings")
        assert (type(back), back.values.dtype, back.row_labels) == (Ratings, dtype, ["0", "1", "2"])
        assert back.same(each)
        assert (listed(back.hidden), listed(back.validation)) == (listed(each.hidden), listed(each.validation))
        for mine, theirs in ((each.hidden, back.hidden), (each.validation, back.validation)):
            assert (theirs is None) == (mine is None)
            assert theirs is None or theirs.values.dtype == dtype
        assert torch.equal(back.unobserved, each.unobserved)


# Files


def write(folder: Path, content: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_a_file_keeps_zeros_and_an_empty_cell_lists_a_pair_without_a_rating(tmp_path):
    path = write(tmp_path, "week;stars;item;user;nick;title\n1;0;7;3;Al;Song\n1;4.5;8;3;Al;Tune\n1;;7;4;Bo;Song\n")
    asked = {"row": "user", "column": "item", "value": "stars", "delimiter": ";"}
    data = read_ratings(path, **asked, row_label="nick", column_label="title")
    assert (data.values.tolist(), data.unobserved.tolist()) == ([[0, 0, 0], [0, 1, 4.5]], [[1, 0]])
    assert (data.row_labels, data.column_labels) == (["Al", "Bo"], ["Song", "Tune"])
    assert (data.name, data.notes) == ("list.csv", ("columns left out: week",))
    assert read_triplets(path, **asked).values.tolist() == [[0, 1, 4.5]], "where an absent pair is 0, it is not listed"


def test_a_number_that_stands_for_no_rating_is_none(tmp_path):
    lines = "".join(f"{i},x,{value:g}\n" for i, value in enumerate([99.0] * 5 + STARS * 20))
    path = write(tmp_path, "r,c,v\n" + lines)
    assert read_ratings(path).notes[0].endswith("if it means that there is no rating, say data.unknown=99")
    data = read_ratings(path, unknown=99)
    assert (data.counts.tolist(), data.notes) == (
        STARS * 20, ("5 lines have the value 99, which is none",)
    )  # fmt: skip
    assert (data.shape, data.unobserved) == ((100, 1), None)
    twice = read_ratings(write(tmp_path, "r,c,v\na,x,99\na,x,1\nb,x,2\n"), unknown=99)
    assert twice.counts.tolist() == [1, 2], "what stands for none repeats nothing"
    assert "list.csv: the list is empty" in refused(
        DataError, read_ratings, write(tmp_path, "r,c,v\na,x,99\n"), unknown=99
    )


# Settings


def test_settings_hide_ratings_and_set_others_aside(tmp_path):
    lines = "".join(f"{i},{j},{i * j % 5}\n" for i in range(5) for j in range(4))
    test = write(tmp_path, "r,c,v\nnew,2,0\n", "new.csv")
    asked = {"path": str(write(tmp_path, "r,c,v\n" + lines)), "test_path": str(test), "validation": 0.5}
    data = read(catalog.settings("data", "ratings") | asked, model(GaussianMF))
    assert [len(each.values) for each in (data, data.validation, data.hidden)] == [9, 9, 2]
    assert data.test.values.tolist() == [[0, 2, 0]]
    whole = Ratings.of(read_ratings(asked["path"]))
    assert listed(data.hidden) == listed(whole.hold_out(0.1, 0).hidden)
    assert listed(data.validation) == listed(whole.hold_out(0.1, 0).set_aside(0.5, 1).validation)


@pytest.mark.parametrize(("kind", "container"), [(FactorAnalysis, "table"), (PoissonMF, "triplets")])
def test_only_of_ratings_can_some_be_set_aside(kind, container):
    asked = catalog.settings("data", container) | {"validation": 0.1}
    message = refused(SettingError, read, asked, model(kind), given=np.arange(12.0).reshape(4, 3))
    assert message == f"data.validation has no meaning for {container}"


def test_settings_that_ratings_cannot_follow_are_named(tmp_path):
    asked = catalog.settings("data", "ratings")
    path = write(tmp_path, "r,c,v\na,x,1\n")
    gaussian = model(GaussianMF)
    for name, value in (("noise", 1.0), ("image_shape", [1, 1]), ("validation", 1.0), ("unknown", "many")):
        assert f"data.{name}" in refused(SettingError, read, asked | {"path": str(path), name: value}, gaussian)
    assert refused(SettingError, read, asked, gaussian) == "data=ratings needs data.path=FILE"
    assert "use data=ratings" in refused(DataError, read, asked, gaussian, given=Triplets.of(MATRIX))


# Jester


def test_jester_lists_what_was_rated(tmp_path):
    data = jester(archive(tmp_path, reader(2, j0=-9.5, j99=0) + reader(0) + reader(1, j3=10)))
    assert data.values.tolist() == [[0, 0, -9.5], [0, 99, 0], [2, 3, 10]]
    assert (data.shape, data.name, data.notes, data.unobserved) == ((3, 100), "jester", (), None)
    assert (data.row_labels[2], data.column_labels[99]) == ("reader_2", "joke_99")
    path = archive(tmp_path, reader(2, j0=-9.5, j99=0) + reader(0) + reader(1, j3=10))
    assert jester(path, 2).shape == (2, 100)
    assert "data.readers asks for 4" in refused(DataError, jester, path, 4)
    assert "data.readers is 0" in refused(SettingError, jester, path, 0)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "is not a zip archive of one CSV file"),
        ([reader(1, j0=1)] * 2, "is not a zip archive of one CSV file"),
        ([""], "is not a zip archive of one CSV file (No columns to parse from file)"),
        ([reader(1, j0="good")], "is not a zip archive of one CSV file"),
        ([reader(1, j0=1).encode("utf-16")], "is not a zip archive of one CSV file"),
        ([reader(1, j0=1) + reader("1,1", j0=1)], "is not a zip archive of one CSV file"),
        (["1,2,99\n"], "has 3 columns, not 101: a count and 100 ratings"),
        ([reader(1, j0=1) + reader(2, j0=1)], ": line 2 does not hold as many ratings as it says"),
        ([reader(1, j0=1) + reader(1, j0="")], ": line 2 is incomplete"),
        (["1,2\n".join([reader(1, j0=1), ""])], ": line 2 is incomplete"),
        ([reader(1, j0=12)], "holds ratings outside [-10, 10]"),
    ],
    ids=["none", "two", "empty", "text", "utf16", "long", "narrow", "count", "blank", "short", "high"],
)
def test_a_malformed_jester_is_named(tmp_path, files, says):
    message = refused(DataError, jester, archive(tmp_path, *files))
    assert message.startswith("fake.zip")
    assert says in message


def test_a_jester_that_is_no_archive_or_of_no_use_is_named(tmp_path):
    content = archive(tmp_path, reader(1, j0=1) * 300).read_bytes()
    for damaged in (b"", b"1,2,3\n", content[: len(content) // 2]):
        (tmp_path / "fake.zip").write_bytes(damaged)
        message = refused(DataError, jester, tmp_path / "fake.zip")
        assert message == "fake.zip is not a zip archive of one CSV file (File is not a zip file)"
    assert "outside [-10, 10]" in refused(DataError, jester, archive(tmp_path, reader(1, j0="inf")))
    assert refused(DataError, jester, archive(tmp_path, reader(0))) == "jester: there is no rating"


def test_the_real_jester(need):
    need("jester")
    data = read_named(catalog.settings("data", "jester"))
    assert type(data) is Ratings
    assert (data.shape, data.parts, data.notes) == ((24_983, 100), 1_810_455, ())
    assert float(data.counts.abs().max()) <= 10
    assert int(torch.bincount(data.values[:, 0].long(), minlength=24_983).min()) > 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("shift", [0.0, -20.0, 20.0])
def test_a_value_that_stands_apart_is_told_wherever_the_scale_lies(sign, shift):
    """1 to 5 in steps of one half, and 99 as often: also below 0, also turned round."""
    usual, odd = torch.arange(1.0, 5.5, 0.5).repeat(10), torch.full((20,), 12.0)
    told = _suspicious(sign * (torch.cat([usual, odd]) + shift))
    assert told is not None
    assert f"the {'largest' if sign > 0 else 'smallest'} value, {sign * (12 + shift):g}, stands apart" in told
    assert "occurs 20 times" in told
    assert _suspicious(sign * (torch.cat([usual, odd - 6.5]) + shift)) is None, "a step of one half more"
    assert _suspicious(sign * (usual + shift)) is None
