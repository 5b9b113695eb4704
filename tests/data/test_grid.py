"""Grid: labels of pixels from arrays and image files, missing pixels, noise, and the way to disk and back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import pyrozoo
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.grid import Grid, pattern
from pyrozoo.data.readers.picture import read_picture
from pyrozoo.data.table import Table
from tests.case import refused

NAN = float("nan")
LABELS = np.array([[0, 2, 1, 1], [2, NAN, 0, 1], [2, 2, 0, 0]])


def test_labels_and_planes_are_the_same_image():
    planes = np.eye(3)[np.nan_to_num(LABELS).astype(int)]
    planes[1, 1] = 0  # no label at all: missing
    one, other = Grid.of(LABELS), Grid.of(planes)
    assert one.same(other)
    assert other.num_levels == 3
    assert other.level_names == ["label_0", "label_1", "label_2"]
    assert one.units == 12
    assert not other.observed[1, 1]
    tensor = Grid.of(torch.as_tensor(LABELS))
    masked = Grid.of(np.ma.masked_invalid(LABELS))
    assert tensor.same(one)
    assert masked.same(one)
    assert Grid.of(Table.of(LABELS)).same(one)


def test_two_labels_in_one_pixel_take_the_first_and_say_so():
    planes = np.eye(3)[[[0, 1], [2, 2]]]
    planes[0, 1] = [0, 1, 1]
    grid = Grid.of(planes, "image")
    assert grid.values.tolist() == [[0, 1], [2, 2]]
    assert grid.notes == ("1 pixels of image have two labels: the first is taken",)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (np.zeros(3), "two axes"),
        (np.zeros((2, 2, 2, 2)), "two axes"),
        (np.empty((0, 2)), "empty"),
        (np.array([[0, -1]]), "column_1"),
        (np.array([[0, 0.5]]), "0.5 is not a whole number"),
        (np.array([[0, np.inf]]), "infinite"),
        (np.array([[0, 1000]]), "at most 256"),
        (np.array([["a"]]), "not numbers"),
    ],
)
def test_what_is_no_image_is_refused_by_name(source, named):
    assert named in refused(DataError, Grid.of, source)


def test_new_rows_and_minibatches_are_refused():
    grid = Grid.of(LABELS)
    assert "no new rows" in refused(DataError, grid.with_test, grid)
    assert "minibatches" in refused(SettingError, grid.batch, torch.arange(2))


def test_noise_flips_to_other_labels_and_keeps_the_clean_ones():
    clean = pattern("stripes", 80, 90, 3)
    noisy = clean.with_noise(0.2, seed=1)
    changed = noisy.values != clean.values
    share = float(changed.double().mean())
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / 7200) ** 0.5
    assert torch.equal(noisy.truth["label"].double(), clean.values)
    to = ((noisy.values - clean.values)[changed] % 3).long()
    assert abs(float((to == 1).double().mean()) - 0.5) < 0.06
    assert noisy.same(clean.with_noise(0.2, seed=1))
    assert not noisy.same(clean.with_noise(0.2, seed=2))
    assert "data.noise" in refused(SettingError, clean.with_noise, 1.0, 0)
    assert "cannot be flipped" in refused(DataError, Grid.of(np.zeros((2, 2))).with_noise, 0.1, 0)


@pytest.mark.parametrize("name", ["spiral", "stripes", "disks"])
def test_patterns_use_all_of_their_labels(name):
    for labels in (2, 3, 5):
        grid = pattern(name, 40, 60, labels)
        assert grid.values.unique().tolist() == list(range(labels))
        # Smooth: neighbours are nearly always equal.
        assert (grid.values[:, 1:] == grid.values[:, :-1]).double().mean() > 0.7
    lost = pattern(name, 40, 60, 3, missing=0.3)
    assert abs(float((~lost.observed).double().mean()) - 0.3) < 0.03
    assert pattern(name, 1, 1, 2).shape == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("spirl", 4, 4, 2), "spiral"),
        (("disks", 0, 4, 2), "data.rows"),
        (("disks", 4, 4, 1), "num_labels"),
        (("disks", 4, 4, 2, 1.0), "data.missing"),
    ],
)
def test_patterns_refuse_by_name(arguments, named):
    assert named in refused(SettingError, pattern, *arguments)


def test_pictures_give_a_label_to_every_colour(tmp_path):
    pixels = np.zeros((2, 3, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[0, 1, :3] = 255  # white
    pixels[1, 0, :3] = (0, 200, 0)
    pixels[1, 2] = (10, 20, 30, 0)  # transparent
    Image.fromarray(pixels).save(tmp_path / "one.png")
    grid = read_picture(tmp_path / "one.png")
    assert grid.level_names == ["#000000", "#00c800", "#ffffff"], "dark ones first"
    expected = np.array([[0, 2, 0], [1, 0, NAN]])
    np.testing.assert_array_equal(grid.values, expected)
    # The same through a palette.
    flat = Image.fromarray(pixels[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE)
    flat.save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png").num_levels == 4
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").level_names == ["#000000", "#0a0a0a", "#ffffff"]


def test_pictures_with_too_many_colours_can_be_reduced(tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert "data.colours=4" in refused(DataError, read_picture, tmp_path / "photo.png")
    assert read_picture(tmp_path / "photo.png", colours=4).num_levels == 4
    assert "data.colours" in refused(SettingError, read_picture, tmp_path / "photo.png", colours=0)
    (tmp_path / "text.png").write_text("no image")
    assert "text.png" in refused(DataError, read_picture, tmp_path / "text.png")
    cut = (tmp_path / "photo.png").read_bytes()[:300]
    (tmp_path / "cut.png").write_bytes(cut)
    assert "cut.png" in refused(DataError, read_picture, tmp_path / "cut.png")
    assert "no file" in refused(DataError, read_picture, tmp_path / "none.png")


def test_arrays_and_csv_files_hold_labels(tmp_path):
    np.save(tmp_path / "labels.npy", LABELS)
    np.savez(tmp_path / "two.npz", a=LABELS, b=np.eye(3)[[[0, 1]]])
    np.savetxt(tmp_path / "labels.csv", LABELS, delimiter=",")
    assert read_picture(tmp_path / "labels.npy").same(Grid.of(LABELS))
    assert read_picture(tmp_path / "labels.csv").same(Grid.of(LABELS))
    assert read_picture(tmp_path / "two.npz", key="b").values.tolist() == [[0, 1]]
    assert "data.colours" in refused(SettingError, read_picture, tmp_path / "labels.npy", colours=3)


def test_hidden_pixels_come_back_from_a_run_directory():
    grid = dataclasses.replace(Grid.of(LABELS), truth={"label": torch.zeros(3, 4, dtype=torch.long)})
    grid = grid.hold_out(0.4, seed=3)
    observed, extra = grid.stored("image")
    arrays = {name: array for name, (_, array) in observed.items()}
    others = {name: array for name, (_, array) in extra.items()} | {"true_label": np.zeros((3, 4), dtype=np.int64)}
    again = Grid.restore(arrays, others, grid.coords, "image")
    assert grid.same(again)
    assert torch.equal(again.hidden.values, grid.hidden.values)
    assert torch.equal(again.hidden.rows, grid.hidden.rows)
    assert torch.equal(again.truth["label"], grid.truth["label"])
    assert again.level_names == grid.level_names


def test_a_single_row_can_lose_pixels():
    hidden = Grid.of(np.array([[0, 1, 1, 0, 1, 0, 0, 1, 1, 1]])).hold_out(0.3, seed=0).hidden
    assert len(hidden.values) == 3


def test_fewer_pixels_keep_the_field():
    few = Grid.of(LABELS).first(2)
    assert few.shape == (3, 4)
    assert int(few.observed.sum()) == 2
    assert Grid.of(LABELS).part(torch.arange(1)).shape == (2, 2)


def test_statistics_leave_missing_pixels_out():
    found = Grid.of(LABELS).statistics(torch.as_tensor(LABELS), "image")
    np.testing.assert_allclose(found["label_share"][1], np.array([4, 3, 4]) / 11)
    assert found["equal_neighbours_across"][1] == pytest.approx(3 / 7)
    assert found["equal_neighbours_down"][1] == pytest.approx(3 / 6)


def test_labels_asked_for_in_python_are_those_of_the_image_too():
    fit = pyrozoo.fit("potts_grid", "icm", data="pattern", num_labels=2, rows=6, columns=7, progress=False)
    assert fit.model.num_labels == fit.data.num_levels == 2
