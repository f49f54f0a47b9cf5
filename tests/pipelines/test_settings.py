"""Which settings enter the name of an artefact: all but the marked ones, and files by what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from pipelines.errors import AgfasError
from pipelines.settings import (
    Added,
    Bystander,
    Content,
    Recorded,
    Strict,
    blamed,
    decisive,
    explain,
    kinds_at,
    named,
    shortened,
    with_absolute_paths,
)


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


class Narrow(Strict):
    name: Literal["narrow"]
    width: int = Field(1, ge=1)


class Wide(Strict):
    name: Literal["wide"]
    place: Annotated[Path | None, Content()] = None
    places: list[Path] | None = None
    ratio: float | None = None
    note: str = ""


class Root(Strict):
    shape: Annotated[Narrow | Wide, Field(discriminator="name"), named("narrow")] = Narrow(name="narrow")
    loop: Inner = Inner()
    flag: bool = False
    seed: int = 0
    needed: int
    later: Annotated[int, Added()] = 3


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "In F: 'needed' is missing."),
        ({"needed": 1, "lop": 2}, "In F: unknown key 'lop'; did you mean 'loop'?"),
        ({"needed": 1, "loop": {"stps": 2}}, "In F: unknown key 'loop.stps'; did you mean 'steps'?"),
        ({"needed": 1, "shape": {"wdth": 2}}, "In F: unknown key 'shape.wdth'; did you mean 'width'?"),
        (
            {"needed": 1, "shape": {"width": 0}},
            "In F: 'shape.width' = 0: Input should be greater than or equal to 1.",
        ),
        ({"needed": True}, "In F: needed is a number, not true."),
        ({"needed": 1, "shape": {"name": "wide", "ratio": False}}, "In F: 'shape' = {'name': 'wide', 'ratio': False}:"),
        ({"needed": 2**31}, "In F: 'needed' = 2147483648: give a number between -2147483647 and 2147483647."),
        ({"needed": -(2**31)}, "In F: 'needed' = -2147483648: give a number between"),
        ({"needed": 1, "lop": 2, "loop": {"steps": "x"}}, "In F: 'loop.steps' = 'x': Input should be a valid integer"),
    ],
)  # fmt: skip
def test_a_fault_is_told_by_its_key_its_value_and_what_is_allowed(content, text):
    with pytest.raises(ValidationError) as refusal:
        Root.model_validate(content)
    assert explain(refusal.value, Root, "F").startswith(text)


def test_numbers_up_to_the_largest_and_seeds_of_any_size_are_allowed():
    found = Root.model_validate({"needed": 2**31 - 1, "flag": True, "seed": 2**40})
    assert (found.needed, found.flag, found.seed) == (2**31 - 1, True, 2**40)
    assert Root.model_validate({"needed": -(2**31 - 1)}).needed == -(2**31 - 1)


@pytest.mark.parametrize(
    ("place", "overrides", "fault", "text"),
    [
        ("loop.steps", {"loop.steps": "loop.steps=x"}, "", "the override 'loop.steps=x'"),
        ("loop.steps", {"loop": "loop={steps: x}"}, "", "the override 'loop={steps: x}'"),
        ("loop.steps", {"loop": "loop=1", "loop.steps": "loop.steps=x"}, "", "the override 'loop.steps=x'"),
        ("loop.steps", {"loop.step": "loop.step=x", "seed": "seed=1"}, "", "F"),
        ("loop", {"loop.steps": "loop.steps=x", "seed": "seed=1"}, "", "the override 'loop.steps=x' to F"),
        ("", {"seed": "seed=1", "flag": "flag=2"}, "", "the overrides 'seed=1' 'flag=2' to F"),
        ("", {"seed": "seed=1", "flag": "flag=2"}, "flag is wrong", "the override 'flag=2' to F"),
        ("seed", {}, "", "F"),
        ("seed", {"seed": "seed=" + "1" * 300}, "", f"the override 'seed={'1' * 195}...'"),
    ],
)
def test_a_fault_is_of_the_override_that_made_it(place, overrides, fault, text):
    assert blamed(place, "F", overrides, fault) == text


def test_faults_of_one_source_are_told_together():
    with pytest.raises(ValidationError) as refusal:
        Root.model_validate({"needed": "x", "seed": "y", "flag": "z"})
    text = explain(refusal.value, Root, "F", {"seed": "seed=y"})
    assert text.startswith("In F: 'flag' = 'z': ")
    assert text.count("In F: ") == 1
    assert "In the override 'seed=y': 'seed' = 'y': " in text


def test_long_values_are_cut():
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 201) == "x" * 200 + "..."


def test_the_types_that_a_key_takes():
    assert kinds_at("needed", Root) == {int}
    assert kinds_at("shape.place", Root) == {Path, type(None)}
    assert kinds_at("shape.ratio", Root) == {float, type(None)}
    assert kinds_at("shape.name", Root) == {str}
    assert kinds_at("shape.width", Root) == {int}
    assert kinds_at("loop.steps.deeper", Root) == kinds_at("lop", Root) == set()


def test_places_on_this_machine_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    content = {"name": "wide", "place": "a", "places": ["b", "/c"], "note": "there"}
    found = with_absolute_paths(Root.model_validate({"needed": 1, "shape": content}))
    assert found.shape == Wide(name="wide", place=tmp_path / "a", places=[tmp_path / "b", Path("/c")], note="there")
    given = with_absolute_paths(Outer(weights="there", part="x"))
    assert given == Outer(weights=str(tmp_path / "there"), part="x")
    assert with_absolute_paths(Outer(weights="of/the-hub")).weights == "of/the-hub"


def test_what_was_added_later_enters_where_it_is_not_the_default():
    assert "later" not in decisive(Root(needed=1), "r")
    assert decisive(Root(needed=1, later=4), "r")["later"] == 4
    assert decisive(Root(needed=1), "r")["shape"] == {"name": "narrow", "width": 1}


class Measured(Recorded):
    loss: float


def test_measured_numbers_may_be_infinite_and_others_not():
    assert Measured(loss=float("inf")).loss == float("inf")
    with pytest.raises(ValidationError, match="finite number"):
        Wide(name="wide", ratio=float("inf"))
    with pytest.raises(ValidationError, match="frozen"):
        Wide(name="wide").ratio = 3.0
    assert Content() == Content("", (".safetensors", ".bin", ".pth", ".pt", ".onnx", ".data", ".json", ".txt"))
