"""Pixels and numbers of networks: x / 127.5 - 1, mirrored and shifted, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.pixels import allocating, empty, place_moved, to_uint8, to_unit_batch, to_unit_face, to_unit_range

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
UNIT = torch.from_numpy(PIXELS.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1


def test_every_way_to_numbers_is_the_same_mapping():
    assert torch.equal(to_unit_range(PIXELS), UNIT)
    assert to_unit_range(PIXELS).is_contiguous()
    assert torch.equal(to_unit_batch(PIXELS), UNIT)
    assert to_unit_batch(PIXELS).permute(0, 2, 3, 1).is_contiguous()
    assert torch.equal(to_unit_face(PIXELS[0]), UNIT[0])
    assert torch.equal(to_unit_face(PIXELS[0], mirrored=True), UNIT[0].flip(-1))
    assert to_unit_face(PIXELS[0]).permute(1, 2, 0).is_contiguous()
    assert {tensor.dtype for tensor in (to_unit_range(PIXELS), to_unit_face(PIXELS[0]))} == {torch.float32}


def test_numbers_become_the_nearest_level_again():
    assert np.array_equal(to_uint8(UNIT), PIXELS)
    values = torch.tensor([-2.0, -1.0, 1 / 127.5 * 0.4 - 1, 1 / 127.5 * 0.6 - 1, 0.0, 1.0, 1.5]).view(1, 1, 1, 7)
    found = to_uint8(values.expand(1, 3, 1, 7).to(torch.float64))
    assert found.shape == (1, 1, 7, 3)
    assert found[0, 0, :, 0].tolist() == [0, 0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("offset", [(0, 0), (2, -3), (-4, 5), (4, -5), (9, 9), (-9, -9), (1, 0), (0, -1)])
def test_faces_are_mirrored_and_then_shifted_with_the_edge_repeated(offset):
    mirrored = np.array([True, False, True, False])
    found = to_unit_batch(PIXELS, mirrored, np.tile(offset, (4, 1)))
    rows, columns = ((np.arange(n) + by).clip(0, n - 1) for n, by in zip((5, 6), offset, strict=True))
    for face, flip in enumerate(mirrored):
        turned = UNIT[face].flip(-1) if flip else UNIT[face]
        assert torch.equal(found[face], turned[:, rows][:, :, columns])
    target = np.empty_like(PIXELS[0])
    assert place_moved(target, PIXELS[0], np.array(offset)) is target
    assert np.array_equal(target, PIXELS[0][rows][:, columns])


def test_batches_lie_where_they_are_wanted_and_only_within_the_block():
    shapes = []

    def here(shape):
        shapes.append(tuple(shape))
        return torch.full(tuple(shape), 7.0)

    with allocating(here):
        assert torch.equal(empty((2,)), torch.tensor([7.0, 7.0]))
        with allocating(torch.empty):
            empty((3,))
        to_unit_batch(PIXELS)
    empty((4,))
    assert shapes == [(2,), PIXELS.shape]
    with pytest.raises(ZeroDivisionError), allocating(here):
        raise ZeroDivisionError
    empty((5,))
    assert len(shapes) == 2
