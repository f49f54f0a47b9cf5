"""`agfas config`: every key has a type, a default and a meaning, and the schema in docs/ is the program's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from oanet.described import described_options
from oanet.names import DETECTORS, OBJECTIVES
from oanet.registry import Registry
from pipelines.cli import app
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.keys import explained, json_schema, keys

SCHEMA = Path(__file__).parents[3] / "docs" / "experiment.schema.json"


def test_every_key_is_explained():
    assert [key.name for key in keys() if not key.meaning.strip() or not key.kind.strip()] == []
    assert len({key.name for key in keys()}) >= 204
    dumped = Experiment().model_dump(exclude_none=True)
    places = [(name, value) for name, value in dumped.items()]
    for name, value in places:
        assert any(key.name == name for key in keys()), name
        places += [(f"{name}.{inner}", each) for inner, each in value.items()] if isinstance(value, dict) else []


def test_defaults_are_those_of_the_experiment():
    experiment = Experiment()
    for name in ("cue.timestep", "generator.loop.learning_rate", "train.learning_rate", "identity.loop.steps", "seed"):
        value = experiment
        for part in name.split("."):
            value = getattr(value, part)
        assert any(f"default {value}" in line for line in explained(name)), name


def test_the_schema_in_the_documents_is_this_one():
    """Written by `agfas config --schema > docs/experiment.schema.json`."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json.loads(json.dumps(json_schema()))


def test_every_property_of_the_schema_is_described():
    schema = json_schema()
    blocks = {"": schema, **schema["$defs"]}
    undescribed = [
        f"{name}.{field}"
        for name, block in blocks.items()
        for field, content in block.get("properties", {}).items()
        if not content.get("description")
    ]
    assert undescribed == []


@pytest.mark.parametrize("registry", [DETECTORS, OBJECTIVES], ids=["detectors", "objectives"])
def test_every_option_of_a_network_is_explained(registry: Registry):
    found = {name: described_options(registry, name) for name in registry.builtin}
    assert [(name, each.name) for name, all_ in found.items() for each in all_ if each.meaning.startswith("See ")] == []
    for name, all_ in found.items():
        assert [each.name for each in all_] == list(registry.options(name))


def test_a_block_a_key_and_the_options_of_a_network_are_explained():
    assert explained("cue.timestep")[0] == "cue.timestep: integer at least 1 and at most 999; default 801"
    assert {line.partition(":")[0] for line in explained("evaluate") if line[0] != " "} == {
        "evaluate", *(f"evaluate.{name}" for name in type(Experiment().evaluate).model_fields)
    }  # fmt: skip
    rates = explained("generator.loop.learning_rate")[0]
    assert rates.endswith("default 0.0003 (dfg); default 0.0001 (memae, deep_svdd, anoddpm); default 0.001 (one_call)")
    assert explained("generator.entropy_weight")[0].endswith("default 0.0002, with generator.name = memae")
    assert explained("detector.name=ssdg_r")[0].startswith("detector.backbone: str; default")
    assert "ssdg_r" in explained("detector")[-1]


@pytest.mark.parametrize(
    ("asked", "words"), [("cue.timstep", "cue.timestep"), ("detector.name=oanett", "oanet"), ("", "No key ''")]
)
def test_an_unknown_key_is_answered_with_the_nearest(asked, words):
    with pytest.raises(AgfasError, match=words):
        explained(asked)


def test_the_command_is_one_of_all():
    assert "config" in typer.main.get_command(app).commands  # type: ignore[attr-defined]
