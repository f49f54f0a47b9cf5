"""The contact sheet: which faces it shows, and where."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.data.sheet import contact_sheet


class Rows:
    """What the sheet asks of a dataset."""

    def __init__(self, columns: dict[str, list], pictures: list[Image.Image]) -> None:
        self.columns, self.pictures = columns, pictures

    def __getitem__(self, which):
        return self.columns[which] if isinstance(which, str) else {"image": self.pictures[which]}

    def select_columns(self, names: list[str]) -> Rows:
        assert names == ["image"]
        return self


def faces(own: int, live: int = 20) -> Rows:
    """Of domain `a`, `live` live videos of two frames, two of them called as in `b`, and a print; of `b`, a replay."""
    rows = [("a", "none", f"v{number}") for number in range(live) for _ in range(2)]
    rows += [("a", "print", "p"), ("b", "replay", "v0"), ("b", "replay", "v1")]
    names = ("domain", "attack_type", "video")
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return Rows(columns, [Image.new("RGB", (own, own), (5 + 5 * number, 90, 200)) for number in range(len(rows))])


@pytest.mark.parametrize(("own", "side"), [(50, 150), (100, 100), (128, 128), (129, 128)])
def test_blocks_of_domains_and_attacks_show_videos_from_beginning_to_end(tmp_path, own, side):
    path = contact_sheet(faces(own), tmp_path / "sheet.png")
    assert path == tmp_path / "sheet.png"
    sheet = np.asarray(Image.open(path))
    wide, tall = 4 * side + 3, 4 * side + 18
    assert sheet.shape == (8 + 2 * tall, 8 + 3 * wide, 3)

    def shown(down: int, across: int) -> list[int]:
        """The rows whose faces are seen in the 16 places of a block; -1 for none."""
        top, left = 8 + down * tall + 18, 8 + across * wide
        cells = sheet[top : top + 4 * side, left : left + 4 * side].reshape(4, side, 4, side, 3)
        for row in range(4):
            for column in range(4):
                cell = cells[row, :, column].reshape(-1, 3)
                assert (cell == cell[0]).all()  # a face fills its place and no other
        reds = cells[:, 0, :, 0].reshape(16, 3)
        return [-1 if red == 255 else (int(red) - 5) // 5 for red, *_ in reds]

    # Kinds: live first, then by name. Of 20 videos 16 are shown, evenly spaced, each by its first frame.
    assert shown(0, 0) == [2 * (place * 20 // 16) for place in range(16)]
    assert shown(0, 1) == [40] + [-1] * 15
    assert shown(1, 2) == [41, 42] + [-1] * 14
    assert shown(0, 2) == shown(1, 0) == shown(1, 1) == [-1] * 16
    assert sheet[:, :8].min() == 255  # the margin
    for down in range(2):
        for across in range(3):  # every block has its title above it
            top, left = 8 + down * tall, 8 + across * wide
            assert sheet[top + 2 : top + 18, left : left + 60].min() < 128
            assert sheet[top : top + 2, left : left + 60].min() == 255


def test_small_faces_are_enlarged_pixel_by_pixel_and_others_smoothly(tmp_path):
    ground = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    rows = Rows({"domain": ["a"], "attack_type": ["none"], "video": ["v"]}, [ground])
    sheet = np.asarray(Image.open(contact_sheet(rows, tmp_path / "sheet.png")))
    assert np.array_equal(sheet[26:154, 8:136], np.asarray(ground).repeat(2, 0).repeat(2, 1))
    rows.pictures = [ground.resize((150, 150))]
    sheet = np.asarray(Image.open(contact_sheet(rows, tmp_path / "sheet.png")))
    assert np.array_equal(
        sheet[26:154, 8:136], np.asarray(rows.pictures[0].resize((128, 128), Image.Resampling.LANCZOS))
    )
