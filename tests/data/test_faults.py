"""Files that were once misread without a word, and others of their kinds: read rightly, or refused with advice."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat
import pytest

import pyrozoo
from pyrozoo.command import files
from pyrozoo.command.arguments import Arguments, early_problem
from pyrozoo.core.errors import DataError, UserError
from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from tests.case import refused
from tests.command.test_command import run


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    """Write a file; / stands for line ends."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.replace("/", "\n").encode())
    return path


def entries(found: Any) -> list[tuple[str, str, float]]:
    """Return the listed cells, by label."""
    rows, columns = found.row_labels, found.column_labels
    return [(rows[int(i)], columns[int(j)], value) for i, j, value in found.values.tolist()]


def refusal(source: Any, container: Any = Table, **settings: Any) -> str:
    """Return why a source is refused."""
    with pytest.raises(UserError) as caught:
        read_data(source, container, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def typed(message: str) -> dict[str, Any]:
    """Return the settings that a refusal says to type, as a shell and the command read them."""
    words = shlex.split(message.rpartition(". Type: ")[2])
    return files.typed_settings(dict(word.split("=", 1) for word in words))


# Lists ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("ann,dune,5/ann,emma,3/bob,dune,4", [("ann", "dune", 5), ("ann", "emma", 3), ("bob", "dune", 4)]),
        ("ann,10,5/ann,20,3/bob,10,4", [("ann", "10", 5), ("ann", "20", 3), ("bob", "10", 4)]),
        ("1;dune;4,5/1;emma;3,0/2;dune;4,0", [("1", "dune", 4.5), ("1", "emma", 3), ("2", "dune", 4)]),
        ("ann::dune::5::978300760/bob::dune::4::978302109/bob::emma::1::978301968",
         [("ann", "dune", 5), ("bob", "dune", 4), ("bob", "emma", 1)]),
    ],
)  # fmt: skip
def test_the_first_record_of_a_list_without_a_header_is_kept(tmp_path, content, expected):
    assert entries(read_data(write(tmp_path, content), Ratings)) == expected


@pytest.mark.parametrize("container", [Ratings, Triplets])
@pytest.mark.parametrize(
    "content", ["1,10,5/1,20,3/2,10,4", "7 1 2/7 2 2/8 1 1", "1,10/1,20/2,10", "3;9;1;5/3;8;1;5/4;9;2;6"]
)
def test_a_short_list_of_numbers_is_asked_about(tmp_path, container, content):
    path = write(tmp_path, content)
    assert "data.layout=list or data.layout=table" in refusal(path, container)
    found = read_data(path, container, layout="list")
    assert len(entries(found)) == 3
    assert all(label.isdecimal() for label in (*found.row_labels, *found.column_labels))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"userId": [1, 1, 2], "movieId": [10, 20, 10], "rating": [5.0, 3, 4]}),
        pd.DataFrame({"userId": [1, 1, 2], "movieId": [10, 20, 10], "rating": [5.0, 3, 4], "timestamp": [7, 8, 9]}),
        pd.DataFrame({"stars": [5.0, 3, 4], "book": [10, 20, 10], "reader": [1, 1, 2]}),
    ],
    ids=["named", "with a time", "in another order"],
)  # fmt: skip
def test_a_frame_of_ratings_is_a_list(frame):
    assert entries(read_data(frame, Ratings)) == [("1", "10", 5), ("1", "20", 3), ("2", "10", 4)]
    assert "data.layout=list" in refusal(frame, Table)


def test_a_frame_under_odd_names_is_asked_about_and_python_says_how():
    frame = pd.DataFrame({"wer": [1, 1, 2], "was": [10, 20, 10], "wieviel": [5.0, 3, 4]})
    assert "layout" in refusal(frame, Ratings)
    assert len(entries(read_data(frame, Ratings, row="wer", column="was", value="wieviel"))) == 3


# Headers and labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [True, False])
def test_names_that_count_are_a_header(tmp_path, index):
    values = np.random.default_rng(0).poisson(3, (8, 6))
    path = tmp_path / "x.csv"
    pd.DataFrame(values).to_csv(path, index=index)
    table = read_data(path, Table)
    assert (table.values.tolist(), list(table.column_labels)) == (values.tolist(), [str(i) for i in range(6)])
    assert list(table.row_labels) == ([str(i) for i in range(8)] if index else [f"row_{i}" for i in range(8)])


@pytest.mark.parametrize("content", ["0,1,2/5,0,1/3,1,0", "0/3/1", "2018,2019/2018,2019/2017,2018", "kiosk,0/a,3/b,1"])
def test_a_first_line_that_may_be_a_record_is_asked_about(tmp_path, content):
    assert "data.header=true" in refusal(write(tmp_path, content))


@pytest.mark.parametrize(
    "name", ['""', "rownames", "id", "index", "shop_no", "Lfd. Nr.", "#", "X", "Unnamed: 0", "Zeile"]
)
def test_row_numbers_are_no_counts(tmp_path, name):
    table = read_data(write(tmp_path, f"{name},a,b/1,1,0/2,0,3/3,5,5"), Table)
    assert (list(table.row_labels), table.values.tolist()) == (["1", "2", "3"], [[1, 0], [0, 3], [5, 5]])


def test_a_column_x_is_data(tmp_path):
    assert list(read_data(write(tmp_path, "x,y/1,4/2,4/3,5"), Table).column_labels) == ["x", "y"]
    frame = pd.DataFrame({"date": pd.to_datetime(["2020-01-01", "2020-01-02"]), "X": [1, 2]})
    assert read_data(frame, Table).values.tolist() == [[1], [2]]


def test_row_numbers_under_other_names_or_none_are_told(tmp_path):
    named = read_data(write(tmp_path, "week,a/1,4/2,4/3,5/4,7/5,1"), Table)
    assert any("counts the rows" in note and "data.row_labels=week" in note for note in named.notes)
    path = write(tmp_path, "1,4,0/2,0,3/3,1,1/4,2,1/5,2,2")
    assert "counts the rows" in refusal(path)
    assert read_data(path, Table, row_labels=0).values.tolist() == [[4, 0], [0, 3], [1, 1], [2, 1], [2, 2]]
    assert read_data(path, Table, columns=[0, 1, 2]).shape == (5, 3)


def test_titles_comments_and_units_around_a_table(tmp_path):
    body = "shop,a,b/x,1,2/y,3,4"
    empty = "shop,a,b,,/x,1,2,,/y,3,4,,/,,,,"
    around = (f"Sales 2020//{body}", f"Sales 2020,,/,,/{body}", f"# Sales/{body}", f"# {body}", f"sep=,/{body}", empty)
    for content in around:
        table = read_data(write(tmp_path, content), Table)
        assert (list(table.column_labels), table.values.tolist()) == (["a", "b"], [[1, 2], [3, 4]]), content
    table = read_data(write(tmp_path, "shop,sales,area/,EUR,m2/x,1,2/y,3,4"), Table)
    assert list(table.column_labels) == ["sales [EUR]", "area [m2]"]
    chosen = read_data(write(tmp_path, "shop,sales (EUR),area [m2]/x,1,2/y,3,4"), Table, columns=["area", "sales"])
    assert chosen.values.tolist() == [[2, 1], [4, 3]]


# Delimiters, cells and letters ----------------------------------------------------------------------------------------


def test_delimiters_are_found_or_asked_for(tmp_path):
    survey = read_data(write(tmp_path, "a;b;c/1;2;1/2;2;1"), Survey)
    assert list(survey.column_labels) == ["a", "b", "c"]
    assert "data.delimiter" in refusal(write(tmp_path, "comments/hello; you/hi; there"), Survey)
    assert "data.delimiter=space" in refusal(write(tmp_path, "a b/yes no/no no"), Survey)
    assert "each line has ',' instead" in refusal(write(tmp_path, "a,b/1,2/3,4"), delimiter=";")
    assert "data.delimiter" in refusal(write(tmp_path, "price/1,5/2,25"))
    assert read_data(write(tmp_path, "price/1,5/2,25"), Table, delimiter=";").values.tolist() == [[1.5], [2.25]]


@pytest.mark.parametrize(
    "cell", ["-", "--", "n.a.", "k.A.", "Don't know", "...", "*", "keine Angabe", "\u2013", "$", 'say "x"', "a`b", "!"]
)
def test_what_a_refusal_says_to_type_makes_it_missing(tmp_path, cell):
    path = write(tmp_path, f'a;b\n1;2\n"{cell.replace(chr(34), chr(34) * 2)}";4\n3;5\n')
    settings = typed(refusal(path))
    assert settings == {"missing": [cell]}
    table = read_data(path, Table, **settings)
    assert math.isnan(table.values[1, 0])
    assert int(table.values.isnan().sum()) == 1


def test_codes_of_missing_cells_are_told(tmp_path):
    assert typed(refusal(write(tmp_path, "a,b/1,2/-99,3/-99,1/2,2"))) == {"missing": ["-99"]}
    for code in ("999", "99", "-9"):
        table = read_data(write(tmp_path, f"a,b/1,2/{code},3/{code},1/2,2"), Table)
        assert any(f"data.missing=[{code}]" in note for note in table.notes)
    assert typed(refusal(write(tmp_path, "q,p/yes,no/-99,yes/no,no"), Survey)) == {"missing": ["-99"]}
    survey = read_data(write(tmp_path, "q,p/yes,no/Don't know,yes/no,no"), Survey)
    assert any("takes it as no answer" in note for note in survey.notes)


def test_a_column_of_few_numbers_among_codes_is_not_left_out(tmp_path):
    message = refusal(write(tmp_path, "a,b/1,-/2,-/3,-/4,7"))
    assert read_data(write(tmp_path, "a,b/1,-/2,-/3,-/4,7"), Table, **typed(message)).shape == (4, 2)


@pytest.mark.parametrize(
    "cells", [("10%", "20%"), ("$10", "$1,200"), ("5 kg", "7 kg"), ("3 \u20ac", "4 \u20ac"), ("\u00a33", "\u00a34")]
)
def test_numbers_with_signs_or_units_are_refused(tmp_path, cells):
    assert "signs or units" in refusal(write(tmp_path, f"a;b\n{cells[0]};1\n{cells[1]};2\n"))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("shop,a,b/x,1,2/y,3,4/Total,4,6", "data.exclude_rows=[Total]"),
        ("shop,a,b/All shops,4,6/x,1,2/y,3,4", "data.exclude_rows=[All shops]"),
        ("shop,a,b/x,1,2/y,3,4/Summe,4.1,6", "data.exclude_rows=[Summe]"),
        ("shop,a,b,Sum/x,1,2,3/y,3,4,7/z,1,1,2", "data.exclude=[Sum]"),
    ],
)  # fmt: skip
def test_totals_are_noted_and_left_out_by_name(tmp_path, content, note):
    found = [each for each in read_data(write(tmp_path, content), Table).notes if note in each]
    assert len(found) == 1
    setting = next(word for word in shlex.split(found[0].partition(": ")[2]) if word.startswith("data."))
    name, value = setting.split("=", 1)
    left = read_data(write(tmp_path, content), Table, **files.typed_settings({name: value}))
    whole = read_data(write(tmp_path, content), Table)
    assert left.values.numel() < whole.values.numel()


ABROAD = {
    "cp1250": "miasto;a;b\n\u0141\u00f3d\u017a;1;2\nGda\u0144sk;5;6\n",
    "iso8859-2": "miasto;a;b\n\u0141\u00f3d\u017a;1;2\nGda\u0144sk;5;6\n",
    "shift_jis": "\u5e97,a,b\n\u6771\u4eac,1,2\n\u5927\u962a,3,4\n",
    "gb18030": "\u5e97,a,b\n\u5317\u4eac,1,2\n\u4e0a\u6d77,3,4\n",
    "cp1253": "\u03c0\u03cc\u03bb\u03b7,a,b\n\u0391\u03b8\u03ae\u03bd\u03b1,1,2\n\u03a0\u03ac\u03c4\u03c1\u03b1,3,4\n",
    "cp1254": "\u015fehir,a,b\n\u0130stanbul,1,2\n\u0130zmir,3,4\n",
    "mac_roman": "Stra\u00dfe;b\nM\u00f6we;2\nK\u00e4se;3\n",
    "cp850": "Stra\u00dfe;b\nM\u00f6we;2\nK\u00e4se;3\n",
}


@pytest.mark.parametrize("encoding", list(ABROAD))
def test_letters_that_do_not_tell_their_encoding_are_asked_about(tmp_path, encoding):
    path = write(tmp_path, ABROAD[encoding].encode(encoding))
    assert "data.encoding" in refusal(path)
    labels = [line.split(";" if ";" in line else ",")[0] for line in ABROAD[encoding].splitlines()[1:]]
    assert list(read_data(path, Table, encoding=encoding).row_labels) == labels


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "koi8-r", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_letters_that_tell_their_encoding_are_read(tmp_path, encoding):
    words = (
        ["M\u00f6we", "caf\u00e9"]
        if encoding == "cp1252"
        else ["\u041c\u043e\u0441\u043a\u0432\u0430", "\u0422\u0432\u0435\u0440\u044c"]
    )
    path = write(tmp_path, f"id,a\n{words[0]},1\n{words[1]},2\n".encode(encoding))
    assert list(read_data(path, Table).row_labels) == words


def test_text_that_is_utf8_but_for_a_byte_is_refused(tmp_path):
    assert "UTF-8 but for a few bytes" in refusal(
        write(tmp_path, "a,b\nM\u00f6we,2\nK\u00e4se,3\n".encode() + b"x\xff,4\n")
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"), (b"\n\n", "empty"), (b"a,b\n", "no rows"), (b"hello", "no rows"),
        (b'a,b\n"x,1\ny,2\n', "a quote is never closed"), (b"a,b\n1,\x002\n", "no format that is read"),
        (b"a,b\n" + b"1,2\n" * 9000 + b"1,2,3\n", "record 9002 has 3 cells"), (b"a,a\n1,2\n", "'a' appears twice"),
        (b"a,b\n1,inf\n2,3\n", "is infinite"),
    ],
    ids=["empty", "blank", "header", "a word", "quote", "nul", "ragged", "twice", "infinite"],
)  # fmt: skip
def test_what_is_no_table_is_refused_in_one_line(tmp_path, content, says):
    assert says in refusal(write(tmp_path, content))


def test_tables_of_one_cell_row_or_column(tmp_path):
    assert read_data(write(tmp_path, "5"), Table).values.tolist() == [[5]]
    assert read_data(write(tmp_path, "1,2,7"), Table).values.tolist() == [[1, 2, 7]]
    assert read_data(write(tmp_path, "a/1/2"), Table).values.tolist() == [[1], [2]]


def test_ten_thousand_columns(tmp_path):
    values = np.random.default_rng(0).integers(0, 9, (50, 10_000))
    path = tmp_path / "wide.csv"
    pd.DataFrame(values, columns=[f"gene {i}" for i in range(10_000)]).to_csv(path)
    table = read_data(path, Table, exclude=["gene 7"])
    assert table.shape == (50, 9_999)


# Settings -------------------------------------------------------------------------------------------------------------

YEARS = "shop,2018,2019,2020/x,1,2,3/y,4,5,6"
NAMES = b'"a,b","it\'s","say ""hi""","x\ny"," lead",\xf0\x9f\x98\x80\n1,2,3,4,5,6\n2,3,4,5,6,7\n'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2018", ["2018"]),
        ("[2018,2019]", ["2018", "2019"]),
        ("['2018', 3]", ["2018", "2020"]),
        ("[3,1]", ["2020", "2018"]),
    ],
)
def test_columns_by_number_and_by_name(tmp_path, value, expected):
    settings = files.typed_settings({"data.columns": value})
    assert list(read_data(write(tmp_path, YEARS), Table, **settings).column_labels) == expected


def test_names_with_commas_quotes_line_ends_and_signs(tmp_path):
    path = write(tmp_path, NAMES)
    names = ["a,b", "it's", 'say "hi"', "x\ny", "lead", "\U0001f600"]
    assert list(read_data(path, Table).column_labels) == names
    for name in names:
        assert list(read_data(path, Table, columns=[name]).column_labels) == [name]
        word = files.named([f"data={path}", f"data.columns=[{files.quoted(name)}]"], sweep=False)[-1]
        assert files.items(word.partition("=")[2]) == [name]


def test_wrong_names_are_answered_with_near_ones(tmp_path):
    message = refusal(write(tmp_path, "shop,sales,area/x,1,2/y,4,5"), columns=["sale", "aria"])
    assert "did you mean 'sales'" in message
    assert "did you mean 'area'" in message


@pytest.mark.parametrize(
    "value",
    ["""[Don't know,n.a.]""", """['Don''t know', "n.a."]""", """['Don\\'t know',n.a.]""", """["Don't know",'n.a.']"""],
)
def test_lists_of_words_are_read_as_people_type_them(value):
    assert files.items(value) == ["Don't know", "n.a."]


def test_rows_and_columns_are_left_out_turned_round_and_repeated(tmp_path):
    path = write(tmp_path, "name,x,y,z/a,1,2,3/b,4,5,6")
    assert read_data(path, Table, exclude_rows=["b"]).values.tolist() == [[1, 2, 3]]
    assert read_data(path, Table, exclude_rows=[0]).values.tolist() == [[4, 5, 6]]
    assert "no row 'q'" in refusal(path, exclude_rows=["q"])
    turned = read_data(path, Table, transpose=True)
    assert (list(turned.row_labels), turned.values.tolist()) == (["x", "y", "z"], [[1, 4], [2, 5], [3, 6]])
    counted = write(tmp_path, "a,b,n/1,2,3/4,5,1")
    assert read_data(counted, Table, frequency="n").values.tolist() == [[1, 2]] * 3 + [[4, 5]]
    assert "whole numbers" in refusal(write(tmp_path, "a,n/1,0.5/2,1"), frequency="n")
    answers = read_data(write(tmp_path, "q,p,n/x,u,2/y,v,1"), Survey, frequency="n")
    assert answers.values.tolist() == [[0, 0], [0, 0], [1, 1]]


def test_exposure(tmp_path):
    path = write(tmp_path, "a,b,h/1,2,3.5/4,5,1")
    table = read_data(path, Table, exposure="h")
    assert (table.exposure.tolist(), list(table.column_labels)) == ([3.5, 1], ["a", "b"])
    for wrong in ("0", "-1", "", "x"):
        assert "exposure" in refusal(write(tmp_path, f"a,b,h/1,2,{wrong}/4,5,1"), exposure="h") or wrong == "x"


def test_pairs_that_are_listed_twice(tmp_path):
    path = write(tmp_path, "user,item,rating,when/a,x,1,5/a,x,2,3/b,x,3,1")
    assert "data.repeated" in refusal(path, Ratings)
    for how, value in (("sum", 3), ("mean", 1.5), ("last", 2)):
        assert entries(read_data(path, Ratings, repeated=how))[0] == ("a", "x", value)
    assert entries(read_data(path, Ratings, repeated="last", time="when"))[0] == ("a", "x", 1)


def test_the_number_of_categories_is_a_setting(tmp_path):
    path = write(tmp_path, "q,p/" + "/".join(f"c{i % 40},{i % 2}" for i in range(80)))
    message = refusal(path, Survey)
    assert "data.most_levels=40" in message
    assert read_data(path, Survey, most_levels=40).shape == (80, 2)


@pytest.mark.parametrize(
    ("times", "after", "late"),
    [
        (("100", "200", "300"), 150, 2), (("1577836800", "1580515200", "1583020800"), "2020-01-15", 2),
        (("2020-01-01", "2020-02-01", "2020-03-01"), "2020-01-15", 2),
        (("2020-01-01T10:00:00Z", "2020-02-01T10:00:00Z", "2020-03-01T10:00:00Z"), "2020-02-15", 1),
        (("01.02.2020", "03.02.2020", "05.03.2020"), "2020-02-02", 2),  # days before months
        (("01.02.2020", "03.02.2020", "05.03.2020"), "04.03.2020", 1),
        (("02/13/2020", "02/14/2020", "03/01/2020"), "2020-02-13", 2), (("2018", "2019", "2020"), 2019, 1),
    ],
)  # fmt: skip
def test_times_of_several_kinds_hold_out_what_is_later(tmp_path, times, after, late):
    lines = "".join(f"u{i};i{i % 2};1;{time}\n" for i, time in enumerate(times))
    content = f"user;item;rating;when\n{lines}".encode()
    found = read_data(write(tmp_path, content), Ratings, time="when", holdout_after=after)
    assert len(found.hidden.values) == late


def test_dates_that_do_not_tell_the_day_are_refused(tmp_path):
    path = write(tmp_path, b"user;item;rating;when\nu;i;1;01/02/2020\nu;j;2;02/03/2020\n")
    assert "do not tell the day" in refusal(path, Ratings, time="when", holdout_after="2020-02-15")


def test_numbers_behind_labels_are_those_of_models_of_numbers(tmp_path):
    path = tmp_path / "x.sav"
    frame = pd.DataFrame({"q": [1.0, 2.0, 4.0], "n": [3.0, 4.0, 5.0]})
    pyreadstat.write_sav(frame, str(path), variable_value_labels={"q": {1.0: "low", 2.0: "mid", 4.0: "high"}})
    assert read_data(path, Table).values.tolist() == frame.to_numpy().tolist()
    assert read_data(path, Survey, most_levels=5).levels[0] == ("low", "mid", "high")


# The command ----------------------------------------------------------------------------------------------------------

FIT = ("model=zip_mixture", "model.num_components=2", "inference=em", "progress=false")


def problem(*words: str) -> str | None:
    return early_problem(Arguments.read(words))


def test_refusals_of_the_command_say_what_to_type_and_typing_it_works(here):
    for name in ("bad.csv", "a folder [1], x=y 'q' m\u00f6we.csv"):
        Path(name).write_text("shop;fish;bread\na;1;-\nb;2;3\nc;k.A.;4\n")
        message = problem(*FIT, f"data={name}")
        assert message is not None
        assert problem(*FIT, f"data={name}", *shlex.split(message.rpartition("Type: ")[2])) is None


def test_files_that_are_not_there_and_mistyped_settings(here):
    Path("a.csv").write_text("shop,fish,bread\nx,1,2\ny,3,4\nz,3,1\n")
    assert problem(*FIT, "data=b.csv") == "data.path: there is no file b.csv"
    assert "folder/x.csv" in str(problem(*FIT, "data=folder/x.csv"))
    assert "did you mean 'fish'" in str(problem(*FIT, "data=a.csv", "data.columns=[fisch]"))
    assert "leave data out" in str(problem("task=calibrate", *FIT, "data=a.csv"))
    assert problem(*FIT, "data=a.csv", "data.columns=[fish,2]") is None
    for word in ("data.delimiter=;", "data.delimiter=\\t", "data.delimiter=::"):
        assert problem(*FIT, "data=a.csv", word) is not None  # and no exception of the grammar of settings


def test_a_sweep_over_files_looks_at_each(here):
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("shop,fish,bread\nx,1,2\ny,3,4\nz,3,1\n")
    assert problem("-m", *FIT, "data=a.csv,b.csv") is None
    Path("b.csv").write_text("shop,fish,bread\nx,1,-\ny,3,4\nz,3,1\n")
    assert "b.csv: column 'bread'" in str(problem("-m", *FIT, "data=a.csv,b.csv"))


OWN = """
import pyro
from pyro.distributions import Normal
from pyrozoo import Model
from pyrozoo.data.{room} import {kind}


class Mine(Model):
    def __call__(self, data: {kind}) -> None:
        mean = pyro.sample("mean", Normal(0.0, 10.0))
        with pyro.plate("cell", len(data.values)):
            pyro.sample("x", Normal(mean, 1.0), obs=data.values[:, -1])
"""


@pytest.mark.parametrize(("room", "kind", "layout"), [("table", "Table", "table"), ("triplets", "Triplets", "list")])
def test_a_model_of_ones_own_says_by_its_annotation_how_a_file_is_read(here, room, kind, layout):
    own = f"./my_{room}.py"
    Path(own).write_text(OWN.format(room=room, kind=kind))
    Path("words.csv").write_text("doc,word,count\na,x,1\na,y,2\nb,x,3\n")
    Path("wide.csv").write_text("shop,p,q,r\nx,1,2,9\ny,3,4,5\n")
    assert pyrozoo.read("wide.csv", own).facts["layout"] == "table"
    found = problem(f"model={own}", "inference=nuts", "data=words.csv")
    if layout == "list":
        assert pyrozoo.read("words.csv", own).facts["layout"] == "list"
        assert found is None
    else:
        assert "data.layout=list" in str(found)


@pytest.mark.usefixtures("undrawn", "unchecked")
def test_guesses_stand_on_the_terminal_and_in_the_report(here, capsys):
    rows = np.random.default_rng(0).poisson(3, (20, 3))
    Path("x y.csv").write_text(
        "id;a;b;c\n" + "".join(f"s{i};" + ";".join(map(str, row)) + "\n" for i, row in enumerate(rows))
    )
    code, out, err = run(capsys, *FIT, "data=x y.csv")
    assert code == 0, err
    (report,) = here.rglob("report.html")
    for note in ("cells are separated by", "names the rows (data.row_labels)"):
        assert sum(note in line for line in out.splitlines()) == 1
        assert note in report.read_text()


def test_a_large_file_is_refused_before_anything_heavy_is_imported(tmp_path):
    lines = "".join(f"{i % 977},{i % 13},{i % 7},{'-' if i % 1000 == 7 else i % 5}\n" for i in range(900_000))
    path = write(tmp_path, "alpha,b,c,d\n" + lines)
    assert path.stat().st_size > 8_000_000
    code = (
        "import sys, time, json\nfrom pyrozoo.command.main import main\n"
        f"sys.argv = ['pyrozoo', *{[*FIT, f'data={path}']!r}]\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    heavy = [name for name in ('torch', 'pandas', 'pyro') if name in sys.modules]\n"
        "    print(json.dumps([end.code, heavy, time.process_time()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, imported, _seconds = json.loads(done.stdout.splitlines()[-1])
    assert (status, imported) == (2, [])
    assert "data.missing=[-]" in done.stderr


def test_what_would_be_used_is_shown_before_anything_is_fitted(tmp_path):
    shown = str(pyrozoo.read(write(tmp_path, "shop;a;b/x;1,5;2/y;3,0;-", "shops.csv"), "zip_mixture"))
    for part in ("delimiter ;", "decimal ,", "named by 'shop'", "problem", "type"):
        assert part in shown


def test_a_code_is_missing_however_it_is_spelled(here):
    Path("codes.csv").write_text("a,b\n-99,1\n2,-99.0\n3,-9.9e1\n4,5\n", encoding="utf-8")
    values = read_data("codes.csv", Table, missing=[-99]).values
    np.testing.assert_array_equal(values, [[np.nan, 1], [2, np.nan], [3, np.nan], [4, 5]])


def test_the_exposure_of_a_list_is_that_of_its_rows(here):
    lines = "site,species,count,hours\nb,x,3,2.5\na,x,1,4\na,y,2,4\nc,y,7,1\n"
    Path("hours.csv").write_text(lines, encoding="utf-8")
    data = read_data("hours.csv", Triplets, layout="list", exposure="hours")
    assert dict(zip(data.row_labels, data.exposure.tolist(), strict=True)) == {"a": 4, "b": 2.5, "c": 1}
    Path("hours.csv").write_text(lines.replace("y,2,4", "y,2,5"), encoding="utf-8")
    assert "row 'a' has several values of data.exposure" in refused(
        DataError, read_data, "hours.csv", Triplets, layout="list", exposure="hours"
    )
