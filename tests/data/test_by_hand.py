"""Containers by a few numbers: what is moved, counted, drawn and said, at either side of every limit."""

from __future__ import annotations

import dataclasses
import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data import palette, ratings, shards
from pyrozoo.data.arguments import Arguments, _equal
from pyrozoo.data.container import Hidden
from pyrozoo.data.documents import Documents, completion, some_of
from pyrozoo.data.grid import Grid, pattern
from pyrozoo.data.holdout import hold_out_chosen
from pyrozoo.data.images import circle_masks, image_table, line_masks, mask_images
from pyrozoo.data.kinds import kinds_of, types_of
from pyrozoo.data.known_rows import fitted_rows, joined, noted, rows_by_label, shared
from pyrozoo.data.labelled import Labelled, _typical, of_colours, of_values
from pyrozoo.data.ratings import Ratings, _suspicious
from pyrozoo.data.readers.layout import Layout
from pyrozoo.data.responses import Responses, _scales
from pyrozoo.data.sequences import Sequences
from pyrozoo.data.shards import chosen_rows, some_rows, together
from pyrozoo.data.simulate import simulate_data
from pyrozoo.data.streamed import Chunks, streamed
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.texts import read_documents
from pyrozoo.data.triplets import Triplets
from tests.case import case, refused
from tests.data.test_containers import MODELS, data_of

pytestmark = pytest.mark.usefixtures("unchecked")

SPLIT = [model for model in MODELS if model not in ("potts_grid", "hidden_markov", "logistic_regression")]
"""Models whose rows go in shards."""


# Laws of all containers -----------------------------------------------------------------------------------------------


def full(model: str) -> Any:
    """Return data of which entries are hidden, and of ratings some set aside."""
    data = data_of(model)
    data = data if model in ("logistic_regression", "topics") else data.hold_out(0.2, 0)
    return data.set_aside(0.1, 1) if isinstance(data, Ratings) else data


def alike(one: Hidden | None, other: Hidden | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("rows", "columns", "values"))


@pytest.mark.parametrize("model", SPLIT)
def test_rows_in_parts_are_the_whole_when_put_together(model):
    data = full(model)
    N = data.shape[0]
    for cuts in ([0, 1, N], [0, N // 2, N - 1, N]):
        parts = [some_rows(data, torch.arange(a, b)) for a, b in itertools.pairwise(cuts)]
        whole = together(parts)
        assert whole.same(data)
        assert [*whole.row_labels] == [*data.row_labels]
        for name in ("hidden", "validation"):
            assert alike(getattr(whole, name, None), getattr(data, name, None)), name
        assert sum(part.numbers for part in parts) == data.numbers
    turned = some_rows(data, torch.arange(N).flip(0))
    back = some_rows(turned, torch.arange(N).flip(0))
    assert back.same(data)
    assert alike(back.hidden, data.hidden), "in their order again"
    if data.hidden is not None:
        at = int(data.hidden.rows[0])
        one = some_rows(data, torch.tensor([at])).hidden
        mine = data.hidden.rows == at
        assert one.values.tolist() == data.hidden.values[mine].tolist()
        assert one.columns.tolist() == data.hidden.columns[mine].tolist()
        assert one.rows.tolist() == [0] * int(mine.sum())


@pytest.mark.parametrize("model", SPLIT)
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_that_stay_in_their_files_are_those_in_memory(model, shuffled):
    data = data_of(model)
    N = data.shape[0]
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0)) if shuffled else torch.arange(N)
    starts, asked = torch.tensor([0, 2, 5, N]), []

    def read(chunk: int) -> Any:
        asked.append(chunk)
        return data.only(order[starts[chunk] : starts[chunk + 1]])

    source = Chunks(starts, read, order if shuffled else None)
    nothing = {name: getattr(data, name) for name in ("row_labels", "column_labels", "name")}
    beside = {each.name: getattr(data, each.name) for each in dataclasses.fields(data) if each.name not in nothing}
    made = streamed(type(data))(
        **{**beside, **nothing, "values": data.values[:0], "source": source, "numbers": data.numbers}
    )
    assert made.chunks == 3
    assert [made.of_chunk(k).tolist() for k in range(3)] == [
        order[:2].tolist(),
        order[2:5].tolist(),
        order[5:].tolist(),
    ]
    for index in ([0], [4, 0, N - 1], [3, 2], [1, 5, 2]):
        rows = torch.tensor(index)
        found, wanted = made.batch(rows), data.batch(rows)
        assert type(found) is type(data)
        assert found.only(torch.arange(len(rows))).same(data.only(rows))
        assert [*found.row_labels] == [*wanted.row_labels]
        assert found.total_rows == N
        assert found.rows.tolist() == index
        alone = made.only(rows)
        assert alone.same(data.only(rows))
        assert (alone.total_rows, alone.rows.tolist()) == (None, list(range(len(rows))))
    asked.clear()
    assert together([*made.pieces()]).same(data.only(order))
    made.batch(order[:1])
    for chunk in (1, 2, 1, 2):
        made.batch(made.of_chunk(chunk)[:1])
    assert len(asked) <= 6, "two chunks are held"


@pytest.mark.parametrize("model", MODELS)
def test_simulated_data_lose_a_share_and_keep_the_truth(model):
    shape = case(model).larger
    whole, some = (simulate_data(case(model).model, seed=3, missing=share, **shape) for share in (0.0, 0.3))
    again = simulate_data(case(model).model, seed=3, missing=0.3, **shape)
    assert again.same(some)
    assert not simulate_data(case(model).model, seed=4, missing=0.3, **shape).same(some)
    assert whole.hidden is None
    assert some.hidden is None
    assert {*whole.truth} == {*some.truth}
    for site in whole.truth:
        assert torch.equal(torch.as_tensor(whole.truth[site]), torch.as_tensor(some.truth[site])), (
            "only entries are lost"
        )
    for wrong in (-0.1, 1.0, 2.0):
        said = refused(SettingError, simulate_data, case(model).model, seed=3, missing=wrong, **shape)
        assert said == f"data.missing is {wrong}; it must be in [0, 1)"


def test_streams_of_losses_are_not_those_of_the_simulation():
    """What is lost is chosen by the next seed."""
    model, shape = case("zip_mixture").model, {"rows": 30, "columns": 4}
    whole, some = (simulate_data(model, seed=3, missing=share, **shape) for share in (0.0, 0.25))
    assert torch.equal(whole.hold_out(0.25, 4).values.isnan(), some.values.isnan())


def test_rows_are_chosen_by_the_room_that_they_take():
    """Of 10 rows with 100 numbers each, 500 numbers are 5 rows; two at least; all where there is room."""
    assert chosen_rows(10, 1000, 500).tolist() == [0, 2, 4, 7, 9]
    assert chosen_rows(10, 1000, 10).tolist() == [0, 9]
    assert chosen_rows(10, 1000, 10_000).tolist() == list(range(10))
    assert chosen_rows(10, 0, 1).tolist() == list(range(10))
    assert (shards.MOST_SAMPLED, shards.MOST_REPORTED) == (2_000_000, 5_000_000)
    world: Any = SimpleNamespace(size=3, rank=1)
    assert [*shards.own_rows(12, 6, world)] == [range(4, 6), range(6, 8)]
    shards.check_rows(6, 3, world)
    for rows, count in ((6, 2), (5, 3)):
        with pytest.raises(SettingError, match="shards is"):
            shards.check_rows(rows, count, world)
    said = shards._noted([("a", "b"), ("b", "c", "d"), ("b",)])
    assert said == ("b", "shard 0: a", "shard 1: c", "shard 1: d")
    many = shards._noted([tuple(f"n{i}" for i in range(9)), ()])
    assert len(many) == shards.NAMED + 1
    assert many[-1] == f"{9 - shards.NAMED} more notes of shards are left out"


def test_lists_in_shards_have_unobserved_pairs_in_all_or_in_none():
    world: Any = SimpleNamespace(any=bool)
    one, other = (Triplets.of_columns([*"ab"], [*"xy"], [1, 2]) for _ in range(2))
    assert shards._alike([one, other], world) == [one, other]
    gone = hold_out_chosen(one, [("a", "x")])
    assert gone.unobserved.tolist() == [[0, 0]]
    both = shards._alike([gone, other], world)
    assert both[0] is gone
    assert both[1].unobserved.shape == (0, 2)
    elsewhere: Any = SimpleNamespace(any=lambda here: True)
    assert shards._alike([one], elsewhere)[0].unobserved.shape == (0, 2), "another process has some"
    table = Table.of(np.ones((2, 2)))
    assert shards._alike([table], elsewhere) == [table]


# Arguments, kinds -----------------------------------------------------------------------------------------------------


def test_arguments_are_the_same_by_name_and_by_what_replaces_them():
    def of(*args: Any, **kwargs: Any) -> Arguments:
        return Arguments(args=args, kwargs=kwargs)

    one = of(torch.ones(2), 3, k="a")
    assert one.same(of(torch.ones(2), 3, k="a"))
    others = [((torch.ones(2), 4), {"k": "a"}), ((torch.ones(2), 3), {"k": "b"}), ((torch.ones(2), 3), {}),
              ((3, torch.ones(2)), {"k": "a"}), ((torch.ones(2), 3), {"j": "a"}),
              ((torch.ones(2), 3, 4), {"k": "a"})]  # fmt: skip
    for other in (3, *(of(*args, **kwargs) for args, kwargs in others)):
        assert not one.same(other)
    replaced = dataclasses.replace(one, replaced={"y": torch.zeros(2)})
    assert replaced.same(dataclasses.replace(one, replaced={"y": torch.zeros(2)}))
    assert not replaced.same(one)
    assert not replaced.same(dataclasses.replace(one, replaced={"y": torch.ones(2)}))
    assert one.numbers == 2
    assert (one.size, of(1).size) == ("3 arguments", "1 argument")
    assert Arguments.of(one) is one
    assert Arguments.of("x", "n").args == ("x",)
    assert Arguments.of("x", "n").name == "n"
    weird = float("nan")
    assert _equal(weird, weird), "the very same thing"
    assert _equal(np.ones(2), torch.ones(2))
    assert not _equal(np.ones(2), np.ones(3))
    assert not _equal(np.ones((2, 1)), np.ones((1, 2))), "of one shape"
    assert not _equal(np.ones(2), [1.0, 1.0])
    moved = of(torch.ones(2), "s", k=torch.zeros(1)).to("cpu", torch.float32)
    assert moved.args[0].dtype == one.args[0].dtype, "a program states its own precision"
    assert moved.args[1] == "s"


@pytest.mark.parametrize(
    ("column", "spelled", "name"),
    [
        (pd.Series([True, False], dtype=object), False, "bool"),
        (pd.Series([True, None], dtype=object), False, "boolean"),
        (pd.Series([1, 2], dtype=object), False, "int64"), (pd.Series([1, None], dtype=object), False, "Int64"),
        (pd.Series([1.5, None], dtype=object), False, "float64"),
        (pd.Series(["True", "False"]), True, "bool"), (pd.Series(["True", None]), True, "boolean"),
        (pd.Series(["True", "True"]), True, "bool"), (pd.Series(["True", "False"], dtype=object), False, "object"),
        (pd.Series(["True", "x"], dtype=object), True, "object"),
        (pd.Series([None, None], dtype=object), True, "object"),
        (pd.Series([3, 4], dtype="int8"), False, "int8"), (pd.Series([3, 4], dtype="uint16"), False, "uint16"),
        (pd.Series(["2020-01-01"], dtype="datetime64[ns]"), False, "object"),
        (pd.Series(pd.Categorical(["a", " a"])), False, "object"),
        (pd.Series(pd.Categorical(["a", ""])), False, "object"),
        (pd.Series(pd.Categorical([1, 2])), False, "category"),
    ],
)  # fmt: skip
def test_types_of_columns_of_objects(column, spelled, name):
    levels = list(dict.fromkeys(str(each).strip() or "?" for each in column.dropna()))
    kind = kinds_of(types_of(column.to_frame()), [levels], spelled)[0]
    assert kind.name == name
    if name == "object":
        return
    if name == "category":
        assert (kind.categories, kind.of, kind.ordered) == (("1", "2"), "int64", False)
    codes = np.array([-1 if pd.isna(each) else levels.index(str(each)) for each in column])
    made = pd.Series(kind.column(codes, levels))
    assert str(made.dtype) == name
    assert made.isna().tolist() == column.isna().tolist()
    assert made.dropna().astype(str).tolist() == column.dropna().astype(str).tolist()
    holes = pd.Series(kind.column(np.array([*codes, -1]), levels))
    wanted = {"bool": "boolean", "int64": "Int64", "int8": "Int8", "uint16": "UInt16"}
    assert str(holes.dtype) == wanted.get(name, name)
    assert holes.isna().tolist() == [*column.isna().tolist(), True]
    first = pd.Series(kind.column(np.zeros(3, int), levels))
    assert not first.isna().any(), "the first level is no hole"


# Known rows -----------------------------------------------------------------------------------------------------------


def test_new_rows_get_what_the_fitted_rows_with_their_labels_have():
    """``b`` is known with x = 1 and y = 2, and w hidden: it says y = 9 itself; ``z`` is new."""
    old = Triplets.of_columns([*"aabbb"], [*"xyxyw"], [5, 6, 1, 2, 7])
    data = hold_out_chosen(old, [("b", "w")])
    new = Triplets.of_columns([*"bzz"], [*"yxw"], [9, 3, 4])
    assert [*data.column_labels] == [*new.column_labels] == [*"wxy"]
    made, note = joined(data, new)
    assert made.values.tolist() == [[0, 1, 1], [0, 2, 9], [1, 0, 4], [1, 1, 3]]
    assert made.unobserved.tolist() == [[0, 0]], "nobody knows it"
    assert note == "1 of 2 new rows have labels of fitted rows ('b'): what the fit has of these is theirs, too"
    told = dataclasses.replace(new, values=torch.tensor([[0.0, 0, 8], [1, 1, 3]]))
    made, _ = joined(data, told)
    assert made.values.tolist() == [[0, 0, 8], [0, 1, 1], [0, 2, 2], [1, 1, 3]]
    assert made.unobserved is None, "now it is known"
    other = dataclasses.replace(new, row_labels=["q", "z"])
    assert joined(data, other) == (other, None)
    one = Hidden(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))
    asked = dataclasses.replace(new, values=new.values[1:], hidden=one)
    made, _ = joined(data, asked)
    assert [0.0, 1.0, 1.0] not in made.values.tolist(), "what is asked of the fit is not told"
    twice = dataclasses.replace(data, row_labels=["b", "b"])
    assert rows_by_label(twice, new).tolist() == [-1, -1], "a label of two rows says nothing"
    assert shared(data, data.values, new, torch.tensor([1, -1])).tolist() == [0, 0]
    same = dataclasses.replace(new, values=torch.tensor([[0.0, 1, 1], [0, 2, 3], [1, 1, 5]]))
    assert shared(data, data.values, same, torch.tensor([1, 0])).tolist() == [1, 1]
    assert shared(data, data.values[:0], same, torch.tensor([1, 0])).tolist() == [0, 0]


def test_fitted_rows_have_their_exposure_too():
    old, new = (Triplets.of_columns([*"aab"], [*"xyx"], [1, 2, 3]) for _ in range(2))
    assert fitted_rows(old, new).tolist() == [0, 1]
    with_time = old.with_exposure(np.array([1.0, 2.0]))
    assert fitted_rows(with_time, new.with_exposure(np.array([1.0, 3.0]))).tolist() == [0, -1]


def test_new_rows_of_a_table_that_are_fitted_are_noted():
    old = Table.of(pd.DataFrame([[1.0, 2], [3, 4], [5, np.nan]], index=["a", "b", "c"]))

    def said(new: Any, of: Table = old) -> Any:
        return noted(of, Table.of(new))[len(of.notes) :]

    assert said(pd.DataFrame([[9.0, 9]], index=["q"])) == ()
    (note,) = said(pd.DataFrame([[9.0, 9], [0, 0]], index=["q", "b"]))
    assert note.startswith("1 of 2 new rows have labels of fitted rows ('b'); figures")
    (note,) = said(pd.DataFrame(np.zeros((3, 2)), index=["c", "b", "a"]))
    assert note.startswith("the new rows have labels of fitted rows ('c', 'b', 'a'); figures")
    numbers = Table.of(np.array([[1.0, 2], [3, 4], [5, np.nan], [7, 8]]))
    (note,) = said(np.array([[1.0, 2], [3, 4], [5, np.nan], [7, 8]]), numbers)
    assert note.startswith("the new rows have labels of fitted rows ('row_0', 'row_1', 'row_2', ...)")
    assert said(np.array([[1.0, 2], [3, 5]]), numbers) == (), "numbers name no row with other cells"


# Documents ------------------------------------------------------------------------------------------------------------


def test_halves_of_documents_are_hidden():
    """Of 4, 1, 2 and 5 tokens: three documents have two or more; a half, rounded, stays."""
    frame = pd.DataFrame([[3, 1], [0, 1], [2, 0], [4, 1]], index=list("abcd"), columns=["u", "v"])
    data = dataclasses.replace(Documents.of(frame), about={"year": [1, 2, 3, 4]})
    assert data.lengths.tolist() == [4, 1, 2, 5]
    assert data.word_totals.tolist() == [9, 3]
    assert data.log_arrangements.tolist() == pytest.approx([math.log(4), 0, 0, math.log(5)])
    whole = data.hold_out(0.999, 0)
    assert whole.lengths.tolist() == [2, 1, 1, 2]
    assert not whole.hidden.at_random
    left, gone = (torch.zeros(4, 2).index_put_(tuple(part.T.long()), counts) for part, counts in (
        (whole.values[:, :2], whole.values[:, 2].float()),
        (torch.stack([whole.hidden.rows, whole.hidden.columns], 1), whole.hidden.values.float())))  # fmt: skip
    assert (left + gone).tolist() == frame.to_numpy().tolist()
    assert len(data.hold_out(0.34, 0).hidden.rows.unique()) == 1, "a third of three"
    assert data.hold_out(0.1, 0) is data
    second = data.hide_halves(torch.tensor([2]), np.random.default_rng(0)).hide_halves(
        torch.tensor([3]), np.random.default_rng(0)
    )
    assert second.hidden.rows.unique().tolist() == [2, 3], "beside what is hidden already"
    some = data.batch(torch.tensor([3, 0]))
    assert list(some.about["year"]) == [4, 1]
    assert some_of([], torch.tensor([0])) == []
    mean, tokens, which = completion(
        Hidden(torch.tensor([3, 1, 3]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 2, 3])),
        torch.tensor([-1.0, -5, -2]),
    )
    assert which.tolist() == [1, 3]
    assert tokens.tolist() == [2, 4]
    assert mean.tolist() == [-5, -1.75], "(1 * -1 + 3 * -2) / 4"


def test_words_of_new_documents_are_matched():
    data = Documents.of(pd.DataFrame([[3, 1], [0, 1]], index=list("ab"), columns=["u", "v"]))
    new = Documents.of(pd.DataFrame([[5, 2, 1], [1, 0, 0]], index=list("cd"), columns=["w", "v", "u"]))
    test = data.with_test(new).test
    assert {(int(i), test.column_labels[int(j)]): float(n) for i, j, n in test.values} == {(0, "v"): 2, (0, "u"): 1}
    assert "66.7% of the tokens are of words" in data.with_test(new).notes[-1]
    known = Documents.of(pd.DataFrame([[2, 1]], index=["c"], columns=["v", "u"]))
    assert not [note for note in data.with_test(known).notes if "left out" in note]
    none = Documents.of(pd.DataFrame([[2]], columns=["w"]))
    assert "no word that" in refused(DataError, data.with_test, none)


def test_documents_in_compressed_rows():
    """Document 0 has word 1 twice and word 0 three times, document 1 nothing, document 2 word 1 once."""
    arrays = {
        "start": [0, 2, 2, 3],
        "word": [1, 0, 1],
        "count": [2, 3, 1],
        "vocabulary": ["u", "v"],
        "year": [7, 8, 9],
        "x": [1],
    }
    made = Documents.of_arrays({name: np.array(each) for name, each in arrays.items()}, "name")
    assert made.values.tolist() == [[0, 0, 3], [0, 1, 2], [2, 1, 1]]
    assert ([*made.row_labels], [*made.column_labels]) == (["document_0", "document_1", "document_2"], ["u", "v"])
    assert {name: list(each) for name, each in made.about.items()} == {"year": [7, 8, 9]}
    assert made.numbered
    for wrong in ({"start": [0, 2, 2, 4]}, {"start": [1, 2, 2, 3]}, {"start": [0, 2, 1, 3]}, {"start": []},
                  {"word": [1, 0, 2]}, {"word": [1, 0, -1]}, {"count": [1, 2]}):  # fmt: skip
        with pytest.raises(DataError):
            Documents.of_arrays({name: np.array(each) for name, each in {**arrays, **wrong}.items()})
    for name in ("start", "word", "count", "vocabulary"):
        some = {key: np.array(each) for key, each in arrays.items() if key != name}
        assert f"there is no array '{name}'" in refused(DataError, Documents.of_arrays, some)
    blank = Documents.blank(3, 4, 7)
    assert (blank.shape, blank.lengths.tolist()) == ((3, 4), [7.0, 7.0, 7.0])
    assert "data.tokens is 0" in refused(SettingError, Documents.blank, 3, 4, 0)
    Documents.blank(1, 1, 1)


def test_lines_of_lda_c(tmp_path):
    (tmp_path / "a.ldac").write_text("2 1:2 0:3\n0\n1 3:1\n")
    made = read_documents(tmp_path / "a.ldac", Layout())
    assert made is not None
    assert made.values.tolist() == [[0, 0, 3], [0, 1, 2], [2, 3, 1]]
    assert [*made.column_labels] == ["word_0", "word_1", "word_2", "word_3"]
    (tmp_path / "v.txt").write_text("a\nb\n\nc\nd\ne\n")
    named = read_documents(tmp_path / "a.ldac", Layout(vocabulary=str(tmp_path / "v.txt")))
    assert named is not None
    assert [*named.column_labels] == [*"abcde"]
    (tmp_path / "v.txt").write_text("a\nb\nc\n")
    said = refused(DataError, read_documents, tmp_path / "a.ldac", Layout(vocabulary=str(tmp_path / "v.txt")))
    assert said.endswith("lists 3 words; word 3 occurs")
    (tmp_path / "a.ldac").write_text("1 1:2\n2 1:2\n")
    assert "line 2 is not" in refused(DataError, read_documents, tmp_path / "a.ldac", Layout())


def test_words_of_texts_are_counted():
    frame = pd.DataFrame({"text": ["the cat the", None, "dog cat"], "year": [1, 2, 3], "id": ["x", "y", "z"]})
    layout = Layout(text="text", least_documents=1, most_share=1.0, stop_words="none")
    made = read_documents(frame, layout)
    assert made is not None
    assert [*made.column_labels] == ["cat", "dog", "the"]
    assert made.values.tolist() == [[0, 0, 1], [0, 2, 2], [2, 0, 1], [2, 1, 1]]
    assert [*made.row_labels] == ["document_0", "document_1", "document_2"]
    assert {name: [*each] for name, each in made.about.items()} == {"year": [1, 2, 3], "id": ["x", "y", "z"]}
    assert made.numbered
    assert made.notes[-1] == "1 documents of the data have none of these words"
    called = read_documents(frame, dataclasses.replace(layout, row_labels="id"))
    assert called is not None
    assert [*called.row_labels] == ["x", "y", "z"]
    assert {*called.about} == {"year"}
    assert not called.numbered
    indexed = read_documents(frame.set_index("id"), layout)
    assert indexed is not None
    assert ([*indexed.row_labels], indexed.numbered) == (["x", "y", "z"], False)
    new = read_documents(["cat bird", "dog"], Layout(), made)
    assert new is not None
    assert [*new.column_labels] == ["cat", "dog", "the"]
    assert new.notes == (
        "33.3% of the tokens of documents are of words that the data does not have: they are left out",
    )
    assert read_documents(frame, Layout()) is None
    assert "has no column 'words'" in refused(SettingError, read_documents, frame, Layout(text="words"))


# Grids and pictures ---------------------------------------------------------------------------------------------------


def test_patterns_by_a_formula_at_single_pixels():
    """Stripes are straight lines of slope -2; disks stand in cells of a quarter; spirals turn as they go out."""
    stripes = pattern("stripes", 41, 41, 3).values.numpy()
    for i, j in ((0, 0), (20, 20), (40, 3), (10, 33)):
        x, y = (j - 20) / 20.5, (i - 20) / 20.5
        assert stripes[i, j] == math.floor((x / 2 + y / 4 + 1) * 3 * 3 / 2) % 3
    disks = pattern("disks", 40, 40, 4).values.numpy()
    for a in range(4):
        for b in range(4):
            assert disks[10 * a + 5, 10 * b + 5] == 1 + (a + b) % 3, "in the middle of a cell"
            assert disks[10 * a, 10 * b] == 0, "in its corner"
    assert (disks == 0).mean() == pytest.approx(1 - math.pi * 0.38**2, abs=0.03)
    spiral = pattern("spiral", 81, 81, 5).values.numpy()
    for i, j in ((40, 60), (10, 40), (70, 70), (0, 0), (45, 12)):
        x, y = (j - 40) / 40.5, (i - 40) / 40.5
        assert spiral[i, j] == math.floor((math.atan2(y, x) / (2 * math.pi) + 2 * math.hypot(x, y)) % 1 * 5)
    wide = pattern("stripes", 5, 21, 2)
    assert wide.shape == (5, 21)
    assert [*wide.levels] == ["label_0", "label_1"]
    assert ([*wide.row_labels][:2], [*wide.column_labels][-1]) == (["row_0", "row_1"], "column_20")
    lost = pattern("disks", 20, 20, 3, missing=0.25, seed=1)
    assert int(lost.values.isnan().sum()) == 100
    assert lost.hidden is None
    assert torch.equal(lost.truth["label"].double()[lost.observed], lost.values[lost.observed])
    assert not torch.equal(lost.observed, pattern("disks", 20, 20, 3, missing=0.25, seed=2).observed)
    for size in ((0, 3), (3, 0)):
        with pytest.raises(SettingError):
            pattern("disks", *size, 2)
    for count in (1, 257):
        assert f"data.num_labels is {count}" in refused(SettingError, pattern, "disks", 3, 3, count)


def test_shares_of_labels_and_of_equal_neighbours():
    """0 0 1 / 1 - 1: of five pixels three are 1; across 1 of 2 pairs, down 1 of 2."""
    grid = Grid.of(np.array([[0.0, 0, 1], [1, np.nan, 1]]))
    found = {name: np.asarray(value).tolist() for name, (_, value) in grid.statistics(grid.values, "x").items()}
    assert found["label_share"] == pytest.approx([0.4, 0.6])
    assert found["equal_neighbours_across"] == 0.5
    assert found["equal_neighbours_down"] == 0.5
    turned = grid.statistics(grid.values.flip(0), "x")
    assert "equal_neighbours_down" not in Grid.of(np.array([[0.0, 1]])).statistics(torch.tensor([[0.0, 1]]), "x")
    assert set(turned) == set(found)
    assert (grid.units, grid.num_levels) == (6, 2)
    few = grid.first(2)
    assert few.values.isnan().sum() == 4
    assert few.values[0, :2].tolist() == [0, 0]
    assert grid.line(torch.tensor([5, 2])).values.tolist() == [[1, 1]]
    three = Grid.of(np.arange(3.0).repeat(400).reshape(30, 40))
    noisy = three.with_noise(0.5, 1)
    flipped = noisy.values != three.values
    assert float(flipped.double().mean()) == pytest.approx(0.5, abs=0.06)
    away = ((noisy.values - three.values) % 3)[flipped]
    assert float((away == 1).double().mean()) == pytest.approx(0.5, abs=0.1), "to either of the others"
    two = Grid.of(np.array([[0.0, 1]] * 50))
    assert {*two.with_noise(0.9, 0).values.flatten().tolist()} <= {0.0, 1.0}
    with pytest.raises(DataError, match="cannot be flipped"):
        Grid.of(np.zeros((3, 3))).with_noise(0.1, 0)


def test_masks_at_single_pixels():
    """A level line through the middle of 3 by 4 pixels hides its row, an upright one its two columns."""
    level, upright = line_masks((3, 4), np.array([0.0, math.pi / 2]), 1.0).reshape(2, 3, 4)
    assert level.tolist() == [[False] * 4, [True] * 4, [False] * 4]
    assert upright.tolist() == [[False, True, True, False]] * 3
    one, other = circle_masks((3, 4), np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([1.5, 1.0])).reshape(2, 3, 4)
    assert np.argwhere(one).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert np.argwhere(other).tolist() == [[1, 3]], "nearer than the radius"
    table = image_table(np.arange(24).reshape(2, 3, 4), "t")
    assert table.values.tolist() == np.arange(24.0).reshape(2, 12).tolist()
    assert [*table.column_labels][5] == "pixel_1_1"
    assert table.image_shape == (3, 4)
    assert "three axes" in refused(DataError, image_table, np.zeros((2, 3)), "t")
    asked: dict[str, Any] = {
        "seed": 0,
        "line_distance": 1.0,
        "circle_spread": 1.0,
        "circle_radius": [0, 2.0, 1.0],
        "speckle": 0.5,
    }
    for name, wrong in (("line_distance", 0.0), ("circle_spread", -0.1), ("circle_radius", [0, 1.0]), ("speckle", 1.0),
                        ("circle_radius", [-0.1, 1, 1]), ("circle_radius", [0, 0, 1]), ("circle_radius", [0, 1, 0]),
                        ("circle_radius", [0, 1, "a"]), ("circle_radius", [0, 1, math.inf]),
                        ("speckle", -0.1)):  # fmt: skip
        settings = {**asked, name: wrong}
        assert f"data.mask_{name} is" in refused(SettingError, mask_images, table, ["line"], **settings)
    many = image_table(np.random.default_rng(0).random((200, 9, 9)), "many")
    found = mask_images(many, ["circle"], **{**asked, "circle_spread": 0.0, "circle_radius": [3.0, 1.0, 1e9]})
    gone = found.values.isnan().reshape(200, 9, 9)
    assert gone[:, 4, 4].sum() == 199, "every column keeps a value"
    assert (gone.reshape(200, -1).sum(1) >= 24).all()
    assert not gone[:, 0, 0].any(), "middle, and a radius of 3 pixels"
    lines = mask_images(many, ["line"], **asked).values.isnan()
    assert lines.reshape(200, 9, 9)[:, 4, 4].sum() == 199
    assert not mask_images(many, ["circle"], **{**asked, "circle_spread": 0.0, "speckle": 0.0}).same(many)


def test_labels_are_called_by_what_is_most_of_them():
    assert _typical(np.array([[1.0], [1], [5], [9]])).tolist() == [1], "half of them"
    assert _typical(np.array([[1.0], [1], [5], [9], [9.5]])).tolist() == [5], "fewer: the median"
    found = of_values(np.array([[3.0, np.nan], [7, 3]]), "x")
    assert [*found.levels] == ["3", "7"]
    assert np.nan_to_num(found.values, nan=-1).tolist() == [[0, -1], [1, 0]]
    plain = of_values(np.array([[1.0, 0], [0, 2]]), "x")
    assert ([*plain.levels], plain.values.tolist()) == (["label_0", "label_1", "label_2"], [[1, 0], [0, 2]])
    gone = of_values(np.array([["a", "NA"], ["b", "a"], ["a", "a"]], object), "x", missing=["b"])
    assert [*gone.levels] == ["a"]
    assert np.isnan(gone.values).tolist() == [[False, True], [True, False], [False, False]]
    assert of_values(np.array([[1, 9], [1, 9]]), "x", missing=[9]).levels == ("1",)
    assert of_values(np.array([[True, False], [True, True]]), "x").levels == ("False", "True")
    grey = of_values(np.array([[0, 1, 2, 100, 101, 101.0]]), "x", colours=2)
    assert grey.values.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert [*grey.levels] == ["1", "101"]
    colours = of_colours(
        np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8), np.array([[True, True, True]]), "x", None
    )
    assert [*colours.levels] == ["#000000", "#ff0000", "#ffffff"], "dark ones first"
    assert colours.values.tolist() == [[2, 0, 1]]
    some = of_colours(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8), np.array([[True, False]]), "x", None)
    assert ([*some.levels], math.isnan(some.values[0, 1])) == (["#010203"], True)
    clear = Labelled.of(np.array([[[5, 5, 5, 255], [5, 5, 5, 0], [9, 5, 5, 1]]], np.uint8), "x")
    assert np.isnan(clear.values).tolist() == [[False, True, False]]
    assert any(note.startswith("1 pixels of x are partly transparent") for note in clear.notes)


def test_colours_of_a_noisy_picture_are_found(monkeypatch):
    """Three flat areas, 60, 30 and 10 of 100, with noise of sd 2: their means, the most common first, to 1."""
    generator = np.random.default_rng(0)
    areas = np.array([[200.0, 40, 40], [40, 200, 40], [40, 40, 200]])
    label = np.zeros((60, 60), int)
    label[36:], label[54:] = 1, 2
    pixels = areas[label] + generator.normal(0, 2, (60, 60, 3))
    seen = np.ones((60, 60), bool)
    found = palette.palette(pixels, seen, 3)
    assert np.abs(found - areas).max() < 1
    assert (palette.nearest(pixels, found) == label).all()
    assert palette._noise(pixels, seen) == pytest.approx(2, rel=0.1)
    assert palette._noise(pixels[..., :1], seen) == pytest.approx(2, rel=0.1)
    assert palette._noise(pixels[:1, :1], seen[:1, :1]) == 0
    assert np.abs(palette.palette(pixels.transpose(1, 0, 2), seen, 3) - areas).max() < 1, "however it is turned"
    assert np.abs(palette.palette(pixels[..., [2, 0, 1]], seen, 3) - areas[:, [2, 0, 1]]).max() < 1
    monkeypatch.setattr(palette, "BLOCK", 500)
    assert palette.palette(pixels, seen, 3).tolist() == found.tolist(), "whatever is held at a time"
    half = seen.copy()
    half[54:] = False
    assert np.abs(palette.palette(pixels, half, 2) - areas[:2]).max() < 1, "pixels that are missing do not count"


def test_pixels_between_two_colours_are_mixtures():
    """0, 5, 10 in a line: the middle lies between; not 0, 2, 10 near one end, nor what is off the line."""

    def row(*values: float, down: bool = False) -> list[bool]:
        pixels = np.array(values)[None, :, None].repeat(3, 0)
        pixels = pixels.transpose(1, 0, 2) if down else pixels
        found = palette._mixtures(pixels, 8.0)
        return (found[:, 1] if down else found[1]).tolist()

    for down in (False, True):
        assert row(0, 5, 10, down=down) == [False, True, False]
        assert row(0, 1.9, 10, down=down) == [False, False, False], "less than a quarter from the end"
        assert row(0, 2.1, 10, down=down) == [False, True, False]
        assert row(0, 3.5, 7, down=down) == [False, False, False], "too near each other"
        assert row(0, 0, 5, 10, 10, down=down)[2], "in the midst of a wider border"
    off = np.array([[0.0, 0], [5, 4.1], [10, 0]])[None]
    assert not palette._mixtures(off, 8.0)[0, 1]
    assert palette._mixtures(np.array([[0.0, 0], [5, 3.9], [10, 0]])[None], 8.0)[0, 1]
    flat = np.zeros((4, 5, 1))
    flat[0, 0] = 3
    assert palette._flat(flat, 3).sum() == 6, "all inside"
    assert palette._flat(flat, 2.9).tolist() == [
        [False] * 5,
        [False, False, True, True, False],
        [False, True, True, True, False],
        [False] * 5,
    ]
    assert palette._nearest(np.array([[0.0], [4], [2]]), np.array([[0.0], [4]]))[0].tolist() == [0, 1, 0], (
        "the first of equals"
    )
    places, held = palette._histogram(np.array([[0.0], [0.4], [5]]), 1.0)
    assert places.ravel().tolist() == pytest.approx([0.2, 5])
    assert held.tolist() == pytest.approx([2 / 3, 1 / 3])


# Surveys, ratings, responses, sequences -------------------------------------------------------------------------------


def test_scales_of_covariates():
    """Mean and sd of what is known; 0 and 1 stay as they are, a constant has the unit 1."""
    columns = np.array([[1.0, 0, 5, 2], [3, 1, 5, np.nan], [5, 0, 5, 4]])
    centre, unit = _scales(columns)
    assert centre.tolist() == [3, 0, 5, 3]
    assert unit.tolist() == pytest.approx([math.sqrt(8 / 3), 1, 1, 1])
    frame = pd.DataFrame({"x": [1.0, 3, 5], "kind": ["b", "a", "c"], "y": ["no", "yes", "no"]}, index=[*"pqr"])
    data = Responses.of(frame)
    assert data.covariate_labels == ["x", "kind=b", "kind=c"]
    assert data.covariates.tolist() == [[1, 1, 0], [3, 0, 0], [5, 0, 1]]
    assert data.values.flatten().tolist() == [0, 1, 0]
    assert data.standard()[:, 0].tolist() == pytest.approx([-math.sqrt(1.5), 0, math.sqrt(1.5)])
    assert data.standard()[:, 1:].tolist() == data.covariates[:, 1:].tolist()
    assert data.standard(torch.tensor([[3.0, 1, 1]])).tolist() == [[0, 1, 1]]
    pd.testing.assert_frame_equal(data.frame(), frame)
    assert "of 'y', 'yes' is 1 and 'no' is 0" in data.notes
    assert "the categories of 'kind' are compared with 'a'" in data.notes
    by_name = Responses.of(frame[["y", "x", "kind"]], response="y")
    assert torch.equal(by_name.covariates, data.covariates)
    assert Responses.of(frame, response=0).response == "x"
    for wrong in ("z", 3, -4):
        assert f"data.response={wrong}" in refused(DataError, Responses.of, frame, response=wrong)
    pair = Responses.of((np.array([[1.0, 2], [3, 4], [5, 7]]), np.array([0, 1, 1])))
    assert pair.covariates.tolist() == [[1, 2], [3, 4], [5, 7]]
    assert pair.values.flatten().tolist() == [0, 1, 1]
    gone = Responses.of(frame.assign(y=["no", None, "yes"]))
    assert gone.values.isnan().flatten().tolist() == [False, True, False]
    assert gone.frame()["y"].fillna("gone").tolist() == ["no", "gone", "yes"]
    new = data.like(frame.iloc[1:, :2])
    assert new.values.isnan().all()
    assert new.covariates.tolist() == data.covariates[1:].tolist()
    assert [*new.row_labels] == ["q", "r"]
    assert "a category never seen" in refused(DataError, data.like, frame.assign(kind="d"))
    assert "there is no column 'x'" in refused(DataError, data.like, frame.drop(columns="x"))
    assert "has 3 categories" in refused(DataError, Responses.of, frame, response="kind")


def test_a_code_for_no_rating_is_frequent_and_apart():
    """Ratings 1 to 5 and 99: apart by more than their range, and more than two of them, and 1% of all."""
    assert "the largest value, 99" in str(_suspicious(torch.tensor([1.0, 2, 3, 4, 5, 99, 99, 99])))
    assert _suspicious(torch.tensor([1.0, 2, 3, 4, 5, 99, 99])) is None, "twice is chance"
    many = torch.tensor([1.0, 2, 3, 4, 5] * 100)
    assert _suspicious(torch.cat([many, torch.full((5,), 99.0)])) is None
    assert _suspicious(torch.cat([many, torch.full((6,), 99.0)])) is not None, "more than one in a hundred"
    assert "the smallest value, -1" in str(_suspicious(torch.tensor([-1.0, -1, -1, 6, 7, 8])))
    assert _suspicious(torch.tensor([3.0, 3, 3])) is None
    assert _suspicious(torch.tensor([3.0, 3, 3, 99, 99, 99])) is None, "two values are a scale"
    ends = ratings._ends(99.0, torch.tensor([1.0, 5, 99]))
    assert ends == (1, 5)
    assert ratings._ends(3.0, torch.tensor([3.0, 3])) is None
    assert ratings._apart(99.0, ends)
    apart = 5 + ratings.APART * 4
    assert [ratings._apart(x, ends) for x in (apart, apart + 0.1, 1 - ratings.APART * 4, 0.9 - ratings.APART * 4)] == [
        False,
        True,
        False,
        True,
    ]
    assert ratings._apart(1.0, None)


def test_ratings_by_row_and_by_column():
    data = Ratings.of(pd.DataFrame({"row": [*"aabc"], "column": [*"xyxy"], "value": [1.0, 3, 5, 0]}))
    found = {name: np.asarray(value).tolist() for name, (_, value) in data.statistics(data.values, "x").items()}
    assert found == {"mean_by_row": [2, 5, 0], "mean_by_column": [3, 1.5], "rating_mean": 2.25,
                     "rating_sd": pytest.approx(math.sqrt(59 / 16))}  # fmt: skip
    few = data.statistics(data.values[:1], "x")
    assert few["mean_by_row"][1].tolist() == [1, 1, 1], "the mean of all where there is none"
    aside = data.set_aside(0.25, 0)
    assert (len(aside.values), len(aside.validation.values)) == (3, 1)
    whole = {tuple(each) for each in data.values.tolist()}
    kept = {tuple(each) for each in aside.values.tolist()}
    taken = (float(aside.validation.rows[0]), float(aside.validation.columns[0]), float(aside.validation.values[0]))
    assert kept | {taken} == whole
    assert data.set_aside(0.0, 0) is data
    assert not aside.same(data)
    assert not data.same(aside)
    assert aside.same(data.set_aside(0.25, 0))
    assert "leaves none of 4" in refused(SettingError, data.set_aside, 0.9, 0)
    moved = aside.to("cpu", torch.float32)
    assert moved.validation.values.dtype == torch.float32
    assert data.to("cpu", torch.float32).validation is None
    part = data.part(torch.tensor([3, 0]))
    assert part.values.tolist() == data.values[[0, 3]].tolist()
    assert (part.total_entries, part.part(torch.tensor([0])).total_entries) == (4, 4)


def test_steps_of_sequences():
    """Sequence u at 2, 3 and 5, v at 0: the gap at 4 has no row, and nothing stands before a first step."""
    frame = pd.DataFrame({"sequence": [*"uvuu"], "time": [3, 0, 2, 5], "x": [1.0, 2, 3, 4]})
    data = Sequences.of(frame)
    assert data.place.tolist() == [1, 4, 0, 3]
    assert data.row_at.tolist() == [2, 0, -1, 3, 1]
    assert data.before.tolist() == [2, -1, -1, -1]
    assert data.units == 2
    assert data.size.startswith("2 sequences, ")
    assert list(data.coords["sequence"]) == ["u", "v"]
    assert data.first(1).values.flatten().tolist() == [1, 3, 4]
    assert data.first(9).same(data)
    assert data.of_sequences(torch.tensor([1])).values.flatten().tolist() == [2]
    part = data.part(torch.tensor([0]))
    assert part.total_rows == 2
    timeless = Sequences.of(frame.drop(columns="time"))
    assert timeless.time.tolist() == [0, 0, 1, 2]
    alone = Sequences.of(frame.drop(columns="sequence"), "name")
    assert [*alone.sequence_labels] == ["name"]
    assert alone.time.tolist() == [3, 0, 2, 5]
    arrays = Sequences.of([np.array([1.0, 2]), np.array([3.0])])
    assert arrays.values.tolist() == [[1], [2], [3]]
    assert arrays.sequence.tolist() == [0, 0, 1]
    named = Sequences.of({"p": np.ones((2, 3)), "q": np.zeros((1, 3))})
    assert ([*named.sequence_labels], named.shape) == (["p", "q"], (3, 3))
    cube = Sequences.of(np.arange(12.0).reshape(2, 3, 2))
    assert (cube.units, cube.shape) == (2, (6, 2))
    blank = Sequences.blank(2, 3, 1)
    assert (blank.units, blank.shape, bool(blank.values.isnan().all())) == (2, (6, 1), True)
    for wrong in ((0, 3, 1), (2, 0, 1), (2, 3, 0)):
        with pytest.raises(SettingError, match="must be at least 1, not 0"):
            Sequences.blank(*wrong)
    assert "two rows at time 3" in refused(DataError, Sequences.of, frame.assign(time=[3, 0, 3, 5]))
    assert "row 2, column 'time': 0.5" in refused(DataError, Sequences.of, frame.assign(time=[3, 0.5, 2, 5]))
    assert "row 3 has no sequence" in refused(DataError, Sequences.of, frame.assign(sequence=["u", "v", None, "u"]))
    test = data.with_test(Table.of(frame.assign(sequence="w").drop(columns=["sequence"])))
    assert test.test.units == 1


def test_answers_as_their_shares():
    frame = pd.DataFrame({"a": ["x", "y", "x", None], "b": ["u", "u", "v", "v"]})
    data = Survey.of(frame)
    found = {name: np.asarray(value) for name, (_, value) in data.statistics(data.values, "x").items()}
    share = next(value for name, value in found.items() if "share" in name)
    assert share.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 2, 1 / 2])
    holes = data.holes(2000, np.random.default_rng(0))
    assert holes.double().mean(0).tolist() == pytest.approx([0.25, 0], abs=0.05)
    again = data.recoded([["y", "z", "x"], ["v", "u"]])
    assert torch.nan_to_num(again.values, nan=-1).tolist() == [[2, 1], [0, 1], [2, 0], [-1, 0]]
    assert [list(each) for each in again.levels] == [["y", "z", "x"], ["v", "u"]]
    hidden = hold_out_chosen(data, [(0, "a")])
    recoded = hidden.recoded([["y", "x"], ["u", "v"]])
    assert recoded.hidden.values.tolist() == [1]
    assert hidden.hidden.values.tolist() == [0], "it stays as it is"
    nothing = torch.full_like(hidden.hidden.values, math.nan)
    unknown = dataclasses.replace(hidden, hidden=dataclasses.replace(hidden.hidden, values=nothing))
    assert unknown.recoded([["y", "x"], ["u", "v"]]).hidden.values.isnan().all(), "what nobody knows has no code"
    typed = data.typed(data.values)
    pd.testing.assert_frame_equal(typed, frame)
    assert data.codes_of({"b": "v", "a": "x"}) == {1: 1, 0: 0}


def test_tables_of_images_and_noise():
    table = Table.of(np.arange(12.0).reshape(2, 6))
    assert table.with_image_shape([2, 3]).image_shape == (2, 3)
    for wrong in ([6], [2, 3, 1], [0, 6], [2.0, 3], [-2, -3]):
        assert "two positive whole numbers" in refused(SettingError, table.with_image_shape, wrong)
    assert "need 4 columns, not 6" in refused(DataError, table.with_image_shape, [2, 2])
    both = table.with_test(Table.of(np.ones((1, 6)))).with_image_shape([3, 2])
    assert both.test.image_shape == (3, 2)
    assert "have 5 columns where" in refused(DataError, table.with_test, Table.of(np.ones((1, 5))))
    assert "is infinite" in refused(DataError, Table.of, np.array([[1.0, math.inf]]))
    empty = Table.of(np.array([[1.0, math.nan], [2, math.nan]]))
    assert "column 'column_1' has no observed value" in refused(DataError, empty.refuse_empty_columns)
    table.refuse_empty_columns()
