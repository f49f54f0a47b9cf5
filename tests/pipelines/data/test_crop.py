"""The crop recipe: which face, which square, which pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from prepare_stubs import face_at

from pipelines.data.crop import (
    CropRecipe,
    central_square,
    check_holds_face,
    recipe_of,
    resized_mask,
    to_square,
)
from pipelines.data.enhance import Enhancement, enhance
from pipelines.errors import AgfasError


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_faces_are_chosen_by_their_score_and_the_largest_comes_first():
    small, middle, large = (face_at(0, 0, side, side) for side in (20, 50, 75))
    assert small.score < middle.score < large.score
    assert CropRecipe(32).choose([small, large, middle]) == [large, middle, small]
    assert CropRecipe(32, min_score=middle.score).choose([small, middle, large]) == [large, middle]
    assert CropRecipe(32).template == "agfas"


@pytest.mark.parametrize(
    ("height", "width", "square"),
    [
        *[(100, 100, (0, 0, 100)), (98, 100, (1, 0, 98)), (100, 98, (0, 1, 98)), (99, 100, (0, 0, 99))],
        *[(97, 100, None), (100, 97, None), (490, 500, (5, 0, 490)), (16, 16, (0, 0, 16)), (49, 50, (0, 0, 49))],
        *[(48, 50, None), (147, 150, (1, 0, 147))],
    ],
)
def test_a_given_crop_may_miss_a_fiftieth_of_a_square(height, width, square):
    picture = noise(height, width)
    if square is None:
        with pytest.raises(AgfasError, match=rf"has {width} x {height} pixels.* square \(within 2%\)"):
            central_square(picture)
        return
    assert central_square(picture) == square
    left, top, side = square
    crop, taken = CropRecipe(side).take(picture)
    assert taken == square
    assert np.array_equal(crop, picture[top : top + side, left : left + side])


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 15), (1, 900)])
def test_a_stain_is_no_face(height, width):
    with pytest.raises(AgfasError, match=f"has {width} x {height} pixels, too few .* at least 16 on each side"):
        check_holds_face(noise(height, width))
    check_holds_face(noise(16, 900))


def test_the_mask_is_of_the_crop_before_its_enhancement():
    crop, seen = noise(24, 24), []

    def parser(pictures: np.ndarray) -> np.ndarray:
        seen.append(pictures)
        return (pictures[..., 0] > 99).astype(np.uint8)

    chain = Enhancement(beta=40.0)
    finished, mask = CropRecipe(24, enhancement=chain).finish(crop, parser)
    assert np.array_equal(finished, enhance(crop, chain))
    assert np.array_equal(mask, crop[..., 0] > 99)
    assert [each.shape for each in seen] == [(1, 24, 24, 3)]
    plain, nothing = CropRecipe(24).finish(crop, None)
    assert plain is crop
    assert nothing is None


def test_a_card_without_a_recipe_has_an_empty_one():
    assert recipe_of({"recipe": {"size": 32}}) == {"size": 32}
    assert recipe_of({"recipe": "cut by hand"}) == recipe_of({}) == {}


def test_other_sizes_are_resampled_with_lanczos():
    picture = noise(20, 20)
    assert np.array_equal(to_square(picture, 20), picture)
    expected = np.asarray(Image.fromarray(picture).resize((12, 12), Image.Resampling.LANCZOS))
    assert np.array_equal(to_square(picture, 12), expected)
    assert np.array_equal(to_square(Image.fromarray(picture), 12), expected)
    grey = to_square(Image.fromarray(picture[..., 0]), 20)
    assert np.array_equal(grey, picture[..., :1].repeat(3, axis=2))
    assert to_square(picture[:10], 20).shape == (20, 20, 3)


def test_a_pixel_of_which_half_is_face_is_face():
    mask = np.zeros((8, 8), np.uint8)
    mask[:2, 0] = mask[4, 4:6] = mask[6, 6] = 1  # half, half and a quarter of a pixel of the small mask
    small = resized_mask(mask, 4)
    assert small.dtype == np.uint8
    assert np.argwhere(small).tolist() == [[0, 0], [2, 2]]
    assert np.array_equal(resized_mask(mask, 8), mask)
