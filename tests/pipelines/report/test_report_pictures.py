"""The pictures of a report: what is shown is what the detector saw."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from output_folder import make_experiment, make_output, save_detector, write_faces

from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json
from pipelines.report import page as report_page
from pipelines.report.embedding import FeatureMap
from pipelines.report.gather import gather
from pipelines.report.pictures import picture_grid
from pipelines.stages import report
from pipelines.sums import Damaged


def test_grid_shows_a_typical_and_the_hardest_face_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "feature_map", lambda study: FeatureMap("", (), ()))
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

    # A finished report is kept, without torch; a new result makes it anew.
    code = f"import sys; from pathlib import Path; from pipelines.stages import report; report.run(Path({str(root)!r}))"
    before = (root / "report" / "index.html").stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True, timeout=120)
    assert (root / "report" / "index.html").stat().st_mtime_ns == before
    result = Workspace(planned.experiment).detector() / "result.json"
    write_json(result, {**read_json(result), "key": "of other scores"})
    report.run(root)
    assert (root / "report" / "index.html").stat().st_mtime_ns > before


def test_without_a_generator_there_are_no_pictures(tmp_path):
    root = tmp_path / "out"
    write_faces(tmp_path / "faces")
    protocol = {"name": "limited", "train": ["kiosk", "phone"], "test": ["webcam"]}
    make_output(root, make_experiment(root, protocol=protocol))
    with pytest.raises(AgfasError, match=r"^No finished generator at"):
        picture_grid(gather(root).studies[0])


def test_a_damaged_shard_is_no_line_on_a_page(tmp_path):
    def fails(error):
        raise error

    path = tmp_path / "00001.safetensors"
    found = report_page._or_reason(lambda study: fails(AgfasError("they are not drawn")), None, "No pictures")
    assert found == (None, "No pictures: they are not drawn")
    with pytest.raises(Damaged, match=r"00001\.safetensors is not what was written"):
        report_page._or_reason(lambda study: fails(Damaged(path, "Make it again.")), None, "No pictures")
