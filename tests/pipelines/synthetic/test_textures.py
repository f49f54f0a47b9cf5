"""Drawn textures and colours against slow computations and published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.synthetic.colour import PRESSES, RGB_SPACES, between_spaces, printed
from pipelines.synthetic.textures import SCENES, SCREENS, blue_noise, scene, screen, screen_tile

LIGHT = {"R": (1, 0, 0), "G": (0, 1, 0), "B": (0, 0, 1), "W": (1, 1, 1), "Y": (1, 1, 0), "K": (0, 0, 0)}


def test_blue_noise_is_even_in_levels_and_has_no_slow_waves():
    tile = blue_noise()
    assert np.bincount(tile.ravel(), minlength=256).tolist() == [256] * 256
    assert tile.std() == pytest.approx(73.9, abs=0.01)  # that of the public tiles
    energy = np.abs(np.fft.fft2(tile - tile.mean())) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    assert energy[radius < 0.1].mean() < 0.01 * energy.mean()
    assert energy[radius > 0.3].mean() > energy.mean()


def test_there_are_the_layouts_and_the_scenes_of_the_publication():
    assert (len(SCREENS), SCENES) == (19, 90)
    stripes = screen_tile("rgb").reshape(-1, 3)
    np.testing.assert_allclose([stripes.mean(), stripes.std()], [85, 120.2], atol=0.1)
    assert len({screen_tile(name).tobytes() for name in SCREENS}) == 19
    for name, (rows, (height, width)) in SCREENS.items():
        assert 12 * height % len(rows) == 0, name
        assert 12 * width % len(rows[0]) == 0, name


@pytest.mark.parametrize("layout", ["rgb", "vertical_pentile", "delta", "rgb_mask"])
def test_a_screen_is_one_point_for_every_pixel(layout):
    rows, (height, width) = SCREENS[layout]
    side, pitch, angle, phase = 40, 1.3, 0.2, (0.3, 0.7)
    shown, equal = screen(layout, side, pitch, angle, phase), 0
    for row in range(side):
        for column in range(side):
            across = (math.cos(angle) * column - math.sin(angle) * row) / pitch + phase[0]
            down = (math.sin(angle) * column + math.cos(angle) * row) / pitch + phase[1]
            letter = rows[int(down % height / height * len(rows))][int(across % width / width * len(rows[0]))]
            equal += shown[row, column].tolist() == [255 * value for value in LIGHT[letter]]
    assert equal > 0.97 * side**2  # OpenCV rounds the places


def test_scenes_differ_and_are_drawn_alike_again():
    few = [scene.__wrapped__(number) for number in range(6)]
    assert len({one.tobytes() for one in few}) == 6
    assert all(one.shape == (288, 384, 3) and one.std() > 10 for one in few)
    np.testing.assert_array_equal(few[3], scene(3))


def test_matrices_are_the_published_ones():
    """Lindbloom's tables for D50."""
    srgb = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    adobe = [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
    np.testing.assert_allclose(RGB_SPACES["srgb"].to_xyz(), srgb, atol=2e-4)
    np.testing.assert_allclose(RGB_SPACES["adobe_1998"].to_xyz(), adobe, atol=2e-4)
    assert (len(RGB_SPACES), len(PRESSES)) == (11, 7)
    for name, space in RGB_SPACES.items():
        np.testing.assert_allclose(space.to_xyz().sum(axis=1), [0.96422, 1, 0.82521], atol=1e-6, err_msg=name)


@pytest.fixture
def picture() -> np.ndarray:
    few = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    few[0, :3] = [[0, 0, 0], [255, 255, 255], [128, 128, 128]]
    return few


@pytest.mark.parametrize(("source", "target"), [("srgb", "prophoto"), ("cie", "srgb"), ("apple", "adobe_1998")])
def test_spaces_are_converted_through_light(source, target, picture):
    found = between_spaces(picture, source, target)
    to_target = np.linalg.inv(RGB_SPACES[target].to_xyz()) @ RGB_SPACES[source].to_xyz()
    for pixel, one in zip(picture.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        light = (to_target @ [tone(source, value / 255) for value in pixel]).clip(0, 1)
        np.testing.assert_allclose(one, [255 * back(target, value) for value in light], atol=0.75)
    np.testing.assert_array_equal(between_spaces(picture, target, target), picture)


def tone(space: str, value: float) -> float:
    if space == "srgb":
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
    return value ** {"apple": 1.8, "prophoto": 1.8}.get(space, 2.2)


def back(space: str, light: float) -> float:
    if space == "srgb":
        return light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return light ** (1 / {"apple": 1.8, "prophoto": 1.8}.get(space, 2.2))


@pytest.mark.parametrize("press", ["sheet_coated", "newspaper"])
def test_a_print_mixes_the_overprints_by_the_areas_of_their_dots(press, picture):
    inks, gain = PRESSES[press]
    found = printed(picture, press, "srgb")
    to_srgb = np.linalg.inv(RGB_SPACES["srgb"].to_xyz())
    by_ink = {
        (0, 0, 0): inks.paper, (1, 0, 0): inks.cyan, (0, 1, 0): inks.magenta, (0, 0, 1): inks.yellow,
        (1, 1, 0): inks.blue, (1, 0, 1): inks.green, (0, 1, 1): inks.red, (1, 1, 1): inks.black,
    }  # fmt: skip
    white = xyz_of(inks.paper)
    for pixel, one in zip(picture.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        areas = [1 - value / 255 for value in pixel.tolist()]
        areas = [area + 4 * gain * area * (1 - area) for area in areas]
        mixed = np.zeros(3)
        for inked, colour in by_ink.items():
            share = math.prod(area if on else 1 - area for area, on in zip(areas, inked, strict=True))
            mixed += share * np.array(xyz_of(colour)) / white * [0.96422, 1, 0.82521]
        np.testing.assert_allclose(
            one, [255 * back("srgb", value) for value in (to_srgb @ mixed).clip(0, 1)], atol=0.75
        )
    assert found[0, 1].tolist() == [255] * 3
    assert found[0, 0].min() > 40  # three inks without black are no black


def xyz_of(lab: tuple[float, float, float]) -> list[float]:
    lightness = (lab[0] + 16) / 116
    roots = (lightness + lab[1] / 500, lightness, lightness - lab[2] / 200)
    cubes = [root**3 if root > 6 / 29 else 3 * (6 / 29) ** 2 * (root - 4 / 29) for root in roots]
    return [cube * white for cube, white in zip(cubes, (0.96422, 1, 0.82521), strict=True)]
