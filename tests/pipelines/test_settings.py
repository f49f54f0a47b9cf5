"""Which settings enter the name of an artefact: all but the marked ones, and files by what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from pipelines.errors import AgfasError
from pipelines.settings import Bystander, Content, Strict, decisive


class Inner(Strict):
    steps: int = 3
    log_every: Annotated[int, Bystander()] = 20


class Outer(Strict):
    loop: Inner = Inner()
    weights: Annotated[str | None, Content(subfolder="part")] = None
    part: str | None = None
    maps: Annotated[Path | None, Content(suffixes=(".png",))] = None


def test_every_field_enters_unless_it_is_marked():
    assert decisive(Outer(), "train") == {"loop": {"steps": 3}, "weights": None, "part": None, "maps": None}
    assert decisive(Outer(loop=Inner(log_every=1)), "train") == decisive(Outer(), "train")
    assert decisive(Outer(loop=Inner(steps=4)), "train") != decisive(Outer(), "train")


def test_files_enter_by_their_content_wherever_they_are(tmp_path):
    for place in ("here", "there"):
        folder = tmp_path / place / "unet"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "README.md").write_text(place)  # decides nothing
    here, there = (decisive(Outer(weights=str(tmp_path / place), part="unet"), "g") for place in ("here", "there"))
    assert here == there
    assert str(tmp_path) not in str(here)
    (tmp_path / "there" / "unet" / "model.safetensors").write_bytes(b"others")
    assert decisive(Outer(weights=str(tmp_path / "there"), part="unet"), "g") != here


def test_what_is_not_on_this_machine_is_an_id_of_the_hub():
    named = decisive(Outer(weights="someone/model", part="unet"), "generator")
    assert (named["weights"], named["part"]) == ("someone/model", "unet")


def test_a_path_that_does_not_exist_is_named_by_its_whole_key():
    with pytest.raises(AgfasError, match=r"train\.maps = nowhere does not exist"):
        decisive(Outer(maps=Path("nowhere")), "train")
