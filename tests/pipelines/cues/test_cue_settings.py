"""What a cue is made of, by its settings; and settings that make none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipelines.cues.identity import SEED_RULE, input_identity, restoration_identity, settings_read, store_identity
from pipelines.cues.settings import (
    BUILTIN_SOURCES,
    CONTROLS,
    MAKERS,
    RESTORING,
    WITH_TIMESTEP,
    WITHOUT_PICTURES,
    AncestralSettings,
    AutoencodedSettings,
    CueSettings,
    RestorationSettings,
)
from pipelines.settings import Strict

FORMS = {"residual": [], "compensated": [0], "two_part": [0]}


@pytest.mark.parametrize(
    ("source", "maker", "timestep"),
    [
        *(("dfg", "dfg", 801), ("dfg_no_identity", "dfg", 801), ("anoddpm", "anoddpm", 801), ("memae", "memae", 0)),
        *(("deep_svdd", "deep_svdd", 0), ("autoencoder", "dfg", 0), ("shuffled", "dfg", 801)),
        *(("shuffled", "memae", 0), ("json:JSONDecoder", "dfg", 0)),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_every_t_that_a_cue_is_made_of(source, maker, timestep, form):
    cue = CueSettings(source=source, form=form)
    assert cue.timestep_by(maker) == timestep
    assert cue.timesteps_by(maker) == sorted({timestep, *FORMS[form]})


@pytest.mark.parametrize("source", ["zero", "noise"])
def test_controls_without_pictures_are_made_of_nothing(source):
    cue = CueSettings(source=source, form="two_part")
    assert (cue.timesteps_by("dfg"), cue.is_restored, cue.needs_generator, cue.is_custom) == ([], False, False, False)


def test_names_of_sources():
    assert RESTORING == ("dfg", "dfg_no_identity", "memae", "deep_svdd", "anoddpm", "one_call")
    assert {"dfg": "dfg", "dfg_no_identity": "dfg", **{name: name for name in RESTORING[2:]}} == MAKERS
    assert CONTROLS == ("autoencoder", "shuffled", "zero", "noise")
    assert WITHOUT_PICTURES == ("zero", "noise")
    assert WITH_TIMESTEP == ("dfg", "anoddpm")
    assert (*RESTORING, *CONTROLS) == BUILTIN_SOURCES
    for name in BUILTIN_SOURCES:
        cue = CueSettings(source=name)
        assert (cue.is_custom, cue.needs_generator) == (False, name not in WITHOUT_PICTURES)
    custom = CueSettings(source="json:JSONDecoder")
    assert (custom.is_custom, custom.is_restored, custom.needs_generator) == (True, True, False)


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("timestep", (1, 999), (0, 1000)),
        ("calls", (None, 1, 801), (0, 802)),
        ("samples", (1, 64), (0,)),
        ("num_inference_steps", (1, 1000), (0, 1001)),
        ("guidance_scale", (0.0, 100.0), (-0.1, 100.1)),
        ("batch_size", (1,), (0,)),
        ("shard_size", (1,), (0,)),
        ("form", tuple(FORMS), ("residul",)),
        ("normalize", ("per_face", "none"), ("per_batch",)),
        ("mask", ("none", "face"), ("nose",)),
        ("scheduler", ("ddim", "unipc", "dpmsolver++", "pndm_cut"), ("pndm",)),
        ("posterior", ("mode", "sample"), ("mean",)),
        ("source", ("dfg",), ("dgf",)),
    ],
)
def test_what_may_be_given(field, allowed, refused):
    for value in allowed:
        assert getattr(CueSettings(**{field: value}), field) == value
    for value in refused:
        with pytest.raises(ValidationError):
            CueSettings(**{field: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "dgf"}, "unknown cue.source 'dgf': did you mean 'dfg'.*Or module:Class"),
        ({"form": "residul"}, "unknown form 'residul': did you mean 'residual'"),
        ({"options": {"a": 1}}, "options are for source: module:Class; 'dfg' takes none"),
        ({"scheduler": "pndm_cut", "calls": 3}, "pndm_cut makes the calls of its grid: leave calls out"),
        ({"timestep": 201, "calls": 202}, "calls = 202 must be at most timestep = 201"),
    ],
)
def test_what_does_not_go_together_is_answered_with_the_fix(given, message):
    with pytest.raises(ValidationError, match=message):
        CueSettings(**given)
    assert CueSettings(timestep=201, calls=201).calls == 201
    assert CueSettings(scheduler="pndm_cut").calls is None


def test_which_settings_decide_a_restoration():
    assert settings_read("dfg", 0) is AutoencodedSettings
    assert settings_read("dfg", 1) is RestorationSettings
    assert settings_read("anoddpm", 200) is AncestralSettings
    assert settings_read("memae", 0) is Strict
    cue = CueSettings(timestep=201, calls=9, samples=3, seed=4, num_inference_steps=25)
    noised = {"seed_rule": SEED_RULE, "calls": 9, "samples": 3, "seed": 4}
    assert restoration_identity(cue, "dfg", "w", 201, condition="none") == {
        "name": "dfg", "weights": "w", "timestep": 201, **noised, "num_inference_steps": 25, "scheduler": "ddim",
        "guidance_scale": 1.0, "dtype": "float32", "compile": False, "attention": "sdpa",
        "autoencoder_dtype": "float32", "channels_last": False, "condition": "none",
    }  # fmt: skip
    assert restoration_identity(cue, "dfg", "w", 0) == {
        "name": "autoencoder", "weights": "w", "autoencoder_dtype": "float32", "channels_last": False,
    }  # fmt: skip
    assert restoration_identity(cue, "anoddpm", "w", 200) == {
        "name": "anoddpm", "weights": "w", "timestep": 200, **noised,
    }  # fmt: skip
    assert restoration_identity(cue, "memae", "w", 0) == {"name": "memae", "weights": "w"}
    other = CueSettings(tf32=True, posterior="sample")
    assert {"tf32": True, "posterior": "sample"}.items() <= restoration_identity(other, "dfg", "w", 801).items()


def test_the_names_of_a_store_and_of_an_input():
    restoration = {"name": "memae", "weights": "w"}
    assert store_identity(restoration, "faces", (6.0, 8)) == {
        "kind": "cues", "schema": 2, "source": restoration, "dataset": "faces", "image_size": [6, 8],
    }  # fmt: skip
    cue = CueSettings(source="dfg_no_identity", form="two_part", mask="face", seed=3)
    assert input_identity(cue, "dfg", "g") == {
        "source": "dfg", "form": "two_part", "normalize": "per_face", "mask": "face", "seed": 3,
        "restorations": [restoration_identity(cue, "dfg", "g", t) for t in (0, 801)],
    }  # fmt: skip
    assert input_identity(CueSettings(source="zero"), "dfg", "g")["restorations"] == []
    assert input_identity(CueSettings(source="shuffled"), "memae", "g")["source"] == "shuffled"
