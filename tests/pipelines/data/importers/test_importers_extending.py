"""The importer of docs/extending.md: it runs as printed, by its address."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.data.importers import load_importer

PAGE = Path(__file__).parents[4] / "docs" / "extending.md"


def test_the_importer_of_the_page_reads_its_layout(tmp_path, monkeypatch):
    (block,) = (
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "find(" in code
    )
    (tmp_path / "my_dataset.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("real/ANN_1.mp4", "screen/ANN_1.mp4", "screen/BOB_2.mp4"):
        (tmp_path / "recordings" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recordings" / name).write_bytes(b"")
    faces = load_importer("my_dataset:find")(tmp_path / "recordings", "lab")
    assert [(face.subject, face.video, face.attack_type) for face in faces] == [
        ("ANN", "real-ANN_1", "none"),
        ("ANN", "screen-ANN_1", "replay"),
        ("BOB", "screen-BOB_2", "replay"),
    ]
    assert {face.domain for face in faces} == {"lab"}
