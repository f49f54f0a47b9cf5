"""`import agfas`: light, complete, and what the documents show of it exists."""

from __future__ import annotations

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
    assert set(agfas.__all__) == {*agfas._PLACES, "__version__"}
    for place in agfas._PLACES.values():
        assert find_definition(*place.split(":")), place
    assert agfas.FaceAntiSpoofing is agfas.FaceAntiSpoofing
    assert agfas.FaceAntiSpoofing.__module__ == "pipelines.verdict.anti_spoofing"
    with pytest.raises(AttributeError, match="FaceAntiSpoofing"):
        agfas.FaceAntiSpoofin  # noqa: B018


def test_it_is_light():
    code = "import sys, agfas; agfas.__version__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_packages_are_typed():
    for name in ("agfas", "dfg", "oanet", "pipelines"):
        assert (ROOT / name / "py.typed").is_file()


def test_what_documents_take_from_it_is_there():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for name in re.findall(
            r"agfas\.(\w+)[(.]", "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
        ):
            assert name in agfas.__all__, page.name
