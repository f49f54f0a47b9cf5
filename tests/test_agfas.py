"""`import agfas`: light, complete, and what the documents show of it exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import agfas
from oanet.registry import find_definition

ROOT = Path(__file__).parents[1]


def test_it_offers_what_it_says():
    assert set(agfas.__all__) <= {*dir(agfas)}
    assert set(agfas.__all__) == {*agfas._PLACES}
    for place in set(agfas._PLACES.values()) - {"pipelines:__version__"}:
        assert find_definition(*place.split(":")), place
    assert agfas.FaceAntiSpoofing is agfas.FaceAntiSpoofing
    assert agfas.FaceAntiSpoofing.__module__ == "pipelines.verdict.anti_spoofing"
    with pytest.raises(AttributeError, match="FaceAntiSpoofing"):
        agfas.FaceAntiSpoofin  # noqa: B018


def test_it_is_light():
    code = "import sys, agfas; agfas.__version__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_another_package_of_a_common_name_is_named(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").touch()
    code = "import agfas; agfas.__version__"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert f"finds another one first, in {tmp_path}" in done.stderr


def test_packages_are_typed():
    for name in ("agfas", "dfg", "oanet", "pipelines"):
        assert (ROOT / name / "py.typed").is_file()


def test_what_documents_take_from_it_is_there():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for name in re.findall(
            r"agfas\.(\w+)[(.]", "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
        ):
            assert name in agfas.__all__, page.name
