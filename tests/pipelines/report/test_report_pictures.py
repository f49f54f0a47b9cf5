"""The pictures of a report: what is shown is what the detector saw."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from output_folder import make_experiment, make_output, save_detector, write_faces

from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.report.gather import gather
from pipelines.report.pictures import attention_picture, cue_pictures, panels, picture_grid
from pipelines.stages import report


def test_cue_is_grey_at_zero_and_one_picture_for_each_three_channels():
    cue = np.zeros((6, 4, 5), np.float32)
    cue[3:, 0, 0] = 10.0
    pictures = cue_pictures(cue)
    assert list(pictures) == ["cue, part 1", "cue, part 2"]
    assert {picture.shape for picture in pictures.values()} == {(4, 5, 3)}
    assert np.unique(pictures["cue, part 1"]).tolist() == [128]
    assert pictures["cue, part 2"][0, 0].tolist() == [255, 255, 255]
    assert pictures["cue, part 2"][1, 1].tolist() == [128, 128, 128]
    assert list(cue_pictures(cue[:3])) == ["cue"]


def test_attention_is_brightest_where_the_tokens_look():
    face = np.full((32, 32, 3), 100, np.uint8)
    weights = torch.zeros(1, 2, 5, 16)
    weights[..., 3] = 1.0  # the upper right of 4 x 4
    seen = attention_picture((weights, weights), face)
    assert seen.shape == face.shape
    brightness = seen.astype(int).sum(axis=2)
    row, column = np.unravel_index(brightness.argmax(), brightness.shape)
    assert row < 8
    assert column >= 24
    assert brightness[:8, 24:].mean() > brightness[8:, :24].mean() + 100


@pytest.mark.parametrize("attention", [None, (), (torch.ones(1, 2, 5, 15),)])
def test_without_a_square_of_tokens_there_is_no_attention(attention):
    face = np.zeros((8, 8, 3), np.uint8)
    assert attention_picture(attention, face) is None
    assert list(panels(face, None, None, attention)) == ["face"]


def test_grid_shows_a_typical_and_the_hardest_face_of_each_kind(tmp_path):
    root = tmp_path / "out"
    write_faces(tmp_path / "faces", size=32)
    data = {"name": "dataset", "path": str(tmp_path / "faces"), "size": 32}
    detector = {"name": "oanet", "preset": "tiny"}
    (planned,) = make_output(root, make_experiment(root, data=data, detector=detector, cue={"source": "noise"}))
    with pytest.raises(AgfasError, match="cannot be loaded"):
        picture_grid(gather(root).studies[0])
    save_detector(planned, seed=0)
    study = gather(root).studies[0]
    grid = picture_grid(study)
    assert grid.columns == ("face", "cue", "attention")
    assert [row.name for row in grid.rows] == [
        f"{kind}, {which}" for kind in ("live", "mask", "print", "replay") for which in ("typical", "hardest")
    ]
    table = study.trials[0].test_scores("to_kiosk", study.honest)
    scores = {row.name: row.score for row in grid.rows}
    assert scores["live, hardest"] == table.score[table.attack_type == NO_ATTACK].min()
    assert scores["print, hardest"] == table.score[table.attack_type == "print"].max()

    page = report.run(root).read_text(encoding="utf-8")
    assert len(re.findall('src="data:image/png;base64,', page)) == len(grid.rows) * len(grid.columns)


def test_report_says_why_there_are_no_pictures(tmp_path):
    root = tmp_path / "out"
    write_faces(tmp_path / "faces")
    make_output(root, make_experiment(root))
    page = report.run(root).read_text(encoding="utf-8")
    assert "No pictures: No finished generator at" in page
