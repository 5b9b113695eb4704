"""Grid: labels of pixels from arrays and image files, missing pixels, noise, and the way to disk and back."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import pyrozoo
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.grid import Grid, pattern
from pyrozoo.data.readers.layout import Wanted, layout_of
from pyrozoo.data.readers.picture import read_picture
from pyrozoo.data.readers.source import read_source
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
        (np.arange(1000).reshape(20, 50), "1000 distinct values, more than 256"),
        (np.arange(200 * 300).reshape(200, 300) % 256, "256 distinct values, which is too many for 60000 pixels"),
        (np.array([[1, 2.5], [0, 7]]), "2.5 is not a whole number"),
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
    grid = Grid.of(read_picture(tmp_path / "one.png"))
    assert grid.level_names == ["#000000", "#00c800", "#ffffff"], "dark ones first"
    expected = np.array([[0, 2, 0], [1, 0, NAN]])
    np.testing.assert_array_equal(grid.values, expected)
    # The same through a palette.
    flat = Image.fromarray(pixels[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE)
    flat.save(tmp_path / "palette.png")
    assert Grid.of(read_picture(tmp_path / "palette.png")).num_levels == 4
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert Grid.of(read_picture(tmp_path / "grey.png")).level_names == ["#000000", "#0a0a0a", "#ffffff"]


def test_pictures_with_too_many_colours_can_be_reduced(tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    assert "data.colours=4" in refused(DataError, read_picture, tmp_path / "photo.png")
    assert Grid.of(read_picture(tmp_path / "photo.png", colours=4)).num_levels == 4
    assert "data.colours" in refused(SettingError, read_picture, tmp_path / "photo.png", colours=0)
    (tmp_path / "text.png").write_text("no image")
    assert "text.png" in refused(DataError, read_picture, tmp_path / "text.png")
    cut = (tmp_path / "photo.png").read_bytes()[:300]
    (tmp_path / "cut.png").write_bytes(cut)
    assert "cut.png" in refused(DataError, read_picture, tmp_path / "cut.png")
    assert "no file" in refused(DataError, read_picture, tmp_path / "none.png")


def read_image(path, **settings):
    return read_source(path, layout_of(settings), Wanted("labels")).checked().image


def test_arrays_and_csv_files_hold_labels(tmp_path):
    np.save(tmp_path / "labels.npy", LABELS)
    np.savez(tmp_path / "two.npz", a=LABELS, b=np.eye(3)[[[0, 1]]])
    np.savetxt(tmp_path / "labels.csv", LABELS, delimiter=",")
    assert Grid.of(read_image(tmp_path / "labels.npy")).same(Grid.of(LABELS))
    assert Grid.of(read_image(tmp_path / "labels.csv")).same(Grid.of(LABELS))
    assert read_image(tmp_path / "two.npz", key="b").values.tolist() == [[0, 1]]
    # What pandas and R write beside the cells is none of them.
    frame = pd.DataFrame(np.tile([[0, 1, 1, 0]], (5, 1)))
    for index in (True, False):
        frame.to_csv(tmp_path / "frame.csv", index=index)
        assert read_image(tmp_path / "frame.csv").values.tolist() == frame.to_numpy().tolist()
    (tmp_path / "words.csv").write_text("sea,land,sea\nland,NA,sea\n")
    words = read_image(tmp_path / "words.csv")
    assert words.levels == ("land", "sea")
    np.testing.assert_array_equal(words.values, [[1, 0, 1], [0, NAN, 1]])
    (tmp_path / "coded.csv").write_text("0,-1,255\n0,255,255\n")
    assert "data.missing=[-1]" in refused(DataError, read_image, tmp_path / "coded.csv")
    coded = read_image(tmp_path / "coded.csv", missing=[-1])
    np.testing.assert_array_equal(coded.values, [[0, NAN, 1], [0, 1, 1]])
    grey = np.random.default_rng(0).normal(np.repeat([[20.0], [120.0], [240.0]], 5, 0), 5, (15, 80))
    np.savetxt(tmp_path / "grey.csv", grey, delimiter=",")
    few = read_image(tmp_path / "grey.csv", colours=3)
    np.testing.assert_array_equal(few.values, np.repeat([0, 1, 2], 5)[:, None].repeat(80, 1))
    np.testing.assert_allclose([float(each) for each in few.levels], [20, 120, 240], atol=2)


ONE = np.array([[0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("source", "values", "levels"),
    [
        (ONE.astype(np.uint8) * 255, ONE, ["0", "255"]),
        (ONE + 1, ONE, ["1", "2"]),
        (2 * ONE - 1, ONE, ["-1", "1"]),
        (ONE / 2, ONE, ["0", "0.5"]),
        (ONE > 0, ONE, ["False", "True"]),
        (np.array([[0, 300, 1000], [1000, 0, 0]], dtype=np.uint16), [[0, 1, 2], [2, 0, 0]], ["0", "300", "1000"]),
        (np.array([[0, 4e9, 4e9 + 1], [4e9, 0, 4e9 + 1]]), [[0, 1, 2], [1, 0, 2]], ["0", "4000000000", "4000000001"]),
        (np.array([["b", "a", None], ["a", "", "b"]], dtype=object), [[1, 0, NAN], [0, NAN, 1]], ["a", "b"]),
        (np.array([["10", "9", "9"], ["10", "nan", "9"]]), [[1, 0, 0], [1, NAN, 0]], ["9", "10"]),
        (np.ma.masked_equal(ONE * 7 + 1, 1), np.where(ONE == 0, NAN, 0), ["8"]),
        (np.where(ONE == 0, NAN, 3.0), np.where(ONE == 0, NAN, 0), ["3"]),
        (ONE[..., None].astype(np.uint8) * 9, ONE, ["0", "9"]),
        (torch.tensor(ONE) * 5, ONE, ["0", "5"]),
        (np.array([[0, 2, 1], [1, 0, 0]], dtype=np.uint8), [[0, 2, 1], [1, 0, 0]], ["label_0", "label_1", "label_2"]),
    ],
)
def test_distinct_values_are_labels(source, values, levels):
    grid = Grid.of(source, "image")
    np.testing.assert_array_equal(grid.values, np.asarray(values, dtype=float))
    assert grid.level_names == grid.coords["level"] == levels
    assert grid.num_levels == len(levels)
    numbered = levels[0] in ("label_0", "a", "False")
    assert numbered or grid.notes == (f"the {len(levels)} values of image are its labels: {', '.join(levels)}",)


def test_many_values_are_refused_before_anything_of_their_size_is_made():
    """16 million pixels, a thousand values: labels times pixels would be 128 GB."""
    image = np.arange(4000 * 4000, dtype=np.uint16).reshape(4000, 4000) % 1000
    message = refused(DataError, Grid.of, image, "photo")
    assert message.startswith("photo has 1000 distinct values, more than 256")
    assert "data.colours=4" in message
    assert "data.colours" in refused(SettingError, Grid.of, ONE, colours=0)


def test_colours_and_planes_are_told_apart():
    rgb = np.array([[[200, 0, 0], [0, 200, 90]], [[0, 200, 90], [200, 0, 0]]], dtype=np.uint8)
    grid = Grid.of(rgb, "image")
    assert grid.level_names == ["#c80000", "#00c85a"]
    assert grid.values.tolist() == [[0, 1], [1, 0]]
    assert grid.notes == ("image is taken for a colour picture, 2 x 2 x 3 bytes",)
    alpha = np.dstack([rgb, np.array([[255, 0], [7, 255]], dtype=np.uint8)])
    clear = Grid.of(alpha, "image")
    np.testing.assert_array_equal(clear.values, [[0, NAN], [1, 0]])
    assert "1 pixels of image are partly transparent: their colour is taken as it is" in clear.notes
    assert Grid.of(Image.fromarray(rgb)).level_names == grid.level_names
    # One-hot, whatever its type, and probabilities are planes.
    planes = np.eye(3)[[[0, 1], [2, 2]]]
    for each in (planes, planes.astype(np.uint8), planes > 0, 0.8 * planes + 0.2 / 3, np.log(0.9 * planes + 0.1 / 3)):
        found = Grid.of(each)
        assert found.values.tolist() == [[0, 1], [2, 2]]
        assert found.level_names == ["label_0", "label_1", "label_2"]
    assert Grid.of(np.eye(5)[[[0, 1], [2, 2]]]).num_levels == 3, "the last two planes are empty"
    # What may be either is refused.
    for either in (rgb.astype(int), rgb / 255.0):
        assert "one plane per label" in refused(DataError, Grid.of, either)
    masks = (255 * planes).astype(np.uint8)
    assert Grid.of(masks).level_names == ["#0000ff", "#ff0000", "#00ff00"]
    masks[0, 0] = 0
    message = refused(DataError, Grid.of, masks)
    assert "black" in message
    assert "argmax(2)" in message


def test_pictures_of_every_kind(tmp_path):
    def read(image, name="one.png", **settings):
        image.save(tmp_path / name, **settings)
        return read_picture(tmp_path / name)

    deep = read(Image.fromarray(np.array([[0, 300], [1000, 300]], dtype=np.uint16)))
    assert deep.levels == ("0", "300", "1000")
    assert deep.values.tolist() == [[0, 1], [2, 1]]
    black = read(Image.fromarray(ONE > 0))
    assert black.levels == ("#000000", "#ffffff")
    floats = read(Image.fromarray(ONE.astype(np.float32) / 2), "one.tiff")
    assert floats.levels == ("0", "0.5")
    inks = np.zeros((2, 3, 4), dtype=np.uint8)
    inks[0, :, 1] = 255
    four = read(Image.fromarray(inks, "CMYK"), "ink.tiff")
    assert four.levels == ("#ff00ff", "#ffffff")
    assert "CMYK" in four.notes[0]
    frames = [Image.fromarray((k == ONE).astype(np.uint8) * 255) for k in (0, 1)]
    moving = read(frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert moving.values.tolist() == (1 - ONE).tolist()
    assert "2 pictures" in moving.notes[0]
    half = read(Image.fromarray(np.dstack([ONE * 90, ONE * 100]).astype(np.uint8), "LA"))
    np.testing.assert_array_equal(half.values, np.where(ONE == 0, NAN, 0))
    assert half.levels == ("#5a5a5a",)
    assert "partly transparent" in half.notes[0]
    fixed = Image.fromarray(ONE.astype(np.uint8), "P")
    fixed.putpalette([9, 9, 9, 0, 0, 200])
    clear = read(fixed, transparency=0)
    np.testing.assert_array_equal(clear.values, half.values)
    assert clear.levels == ("#0000c8",)


def test_reading_a_picture_needs_no_torch(tmp_path):
    Image.fromarray(ONE.astype(np.uint8) * 255).save(tmp_path / "one.png")
    code = "import sys; from pyrozoo.data.readers.picture import read_picture as read; print(read(sys.argv[1]).levels, "
    code += "'torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "one.png"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "('#000000', '#ffffff') False"


FOUR = np.array([[200, 60, 60], [60, 160, 60], [60, 80, 200], [230, 220, 120]])


def coloured_map(rare: float, noise: float, quality: int | None, blob: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of three areas and of a rare fourth, and a noisy picture of them."""
    rng, (height, width) = np.random.default_rng(0), (150, 200)
    border = (np.arange(width) + 6 * np.sin(np.arange(height) / 15)[:, None]) / width
    label = np.searchsorted([0.5, 0.8], border.ravel()).reshape(height, width)
    if blob:
        side = round((rare * label.size) ** 0.5)
        label[40 : 40 + side, 50 : 50 + side] = 3
    else:
        label.ravel()[rng.choice(label.size, round(rare * label.size), replace=False)] = 3
    pixels = np.clip(np.round(FOUR[label] + rng.normal(0, noise, (height, width, 3))), 0, 255).astype(np.uint8)
    if quality is not None:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        pixels = np.asarray(Image.open(file))
    return label, pixels


@pytest.mark.parametrize(
    ("rare", "noise", "quality", "blob"),
    [
        (0.1, 25, None, True), (0.005, 5, None, False), (0.005, 25, None, True), (0.005, 25, 60, True),
        (0.002, 0, 90, True), (0.002, 15, None, False), (0.002, 15, 75, True), (0.002, 25, 60, True),
        (0.001, 15, None, True),
    ],
)  # fmt: skip
def test_rare_colours_live(rare, noise, quality, blob):
    """Median cut, which this took the place of, gives the rare colour a label of another."""
    label, pixels = coloured_map(rare, noise, quality, blob)
    grid = Grid.of(pixels, colours=4)
    found = grid.values.numpy()
    of = [np.bincount(found[label == k].astype(int), minlength=4).argmax() for k in range(4)]
    assert sorted(of) == [0, 1, 2, 3]
    assert min((found[label == k] == of[k]).mean() for k in range(4)) > 0.98
    chosen = np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in grid.level_names])
    off = np.linalg.norm(chosen[of] - FOUR, axis=1)
    assert off[:3].max() < 10
    cut = np.asarray(Image.fromarray(pixels).quantize(4, dither=Image.Dither.NONE).convert("RGB"))
    _, cut = np.unique(cut.reshape(-1, 3), axis=0, return_inverse=True)
    mixed = {int(np.bincount(cut[(label == k).ravel()]).argmax()) for k in range(4)}
    assert len(mixed) < 4 or rare > 0.05 or noise == 0, "median cut would do"


def test_few_colours_stay_as_they_are():
    rgb = FOUR[coloured_map(0.001, 0, None, True)[0]].astype(np.uint8)
    grid = Grid.of(rgb, colours=4)
    assert grid.level_names == Grid.of(rgb).level_names
    grey = np.random.default_rng(0).normal([[50.0], [150.0]], 10, (2, 900)).round().clip(0, 255).astype(np.uint8)
    two = Grid.of(grey, "scan", colours=2)
    assert (two.values == torch.tensor([[0.0], [1.0]])).double().mean() > 0.999
    assert two.notes == (f"the values of scan were reduced to 2: {', '.join(two.level_names)}",)
    assert Grid.of(grey % 3, colours=4).level_names == ["label_0", "label_1", "label_2"]


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
