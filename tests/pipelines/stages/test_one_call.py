"""A student that gives the mean of many restorations in one call: its names, its lessons, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_experiments import chain_settings, one_of
from training_parts import make_faces

from dfg.baselines import build_baseline
from dfg.baselines.one_call import OneCallObjective
from dfg.samplers import open_sampler
from pipelines.cost import models
from pipelines.cost.machines import machine_of
from pipelines.cost.parts import left_of, parts_of_plan
from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment, read_experiment, with_overrides
from pipelines.experiment.workspace import Workspace, teacher_of
from pipelines.pixels import to_uint8
from pipelines.stages import chain, train_dfg, train_one_call
from pipelines.training.restored import FacesToRestore

GIVEN = ["generator={name: one_call}", "cue.source=one_call"]


def student(**changes):
    return with_overrides(one_of("one_call"), {f"generator.{key}": value for key, value in changes.items()})


# The network


@torch.no_grad()
def test_one_network_takes_faces_of_any_side():
    model = build_baseline("one_call", "tiny", 64, channels=(8, 16))
    torch.nn.init.normal_(model.head[2].weight)
    model.eval()
    for side in (64, 96):
        faces = torch.rand(3, 3, side, side) * 2 - 1
        restored = model(faces)
        assert restored.shape == faces.shape
        assert not torch.allclose(restored, faces)
        torch.testing.assert_close(restored[1:2], model(faces[1:2]), atol=1e-4, rtol=1e-4)


def test_it_begins_as_the_identity():
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(build_baseline("one_call", "tiny", 32).reconstruct(faces, []), faces)


@pytest.mark.parametrize(
    ("side", "options", "words"),
    [
        (40, {}, "image_size=40 must be a multiple of 16: patches of 4, halved 2 times"),
        (64, {"channels": (8, 12)}, r"channels=\[8, 12\] must be multiples of 8"),
        (64, {"blocks": 0}, "blocks=0"),
        (64, {"patch": 0}, "patch=0"),
        (64, {"channels": ()}, r"channels=\[\]"),
    ],
)
def test_what_makes_no_network_is_refused(side, options, words):
    with pytest.raises(ValueError, match=words):
        build_baseline("one_call", "tiny", side, **options)


# The loss


def test_it_learns_what_the_teacher_makes_of_the_same_faces_and_keys():
    seen = []

    def teacher(image, keys):
        seen.append((image, keys, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return image / 2

    image, keys = torch.rand(2, 3, 32, 32), ["a", "b"]
    objective = OneCallObjective(build_baseline("one_call", "tiny", 32), teacher)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective({"image": image, "keys": keys})["loss"]
    assert seen[0][0] is image
    assert seen[0][1:] == (keys, False, False)
    torch.testing.assert_close(loss, (image / 2).square().mean())
    with pytest.raises(ValueError, match="give the objective a teacher"):
        OneCallObjective(objective.model)({"image": image, "keys": keys})


def test_the_best_student_is_the_mean_over_the_noise():
    """The error of the mean of the targets is the least, and is their variance."""
    model = build_baseline("one_call", "tiny", 32)
    image, noise = torch.zeros(200, 3, 32, 32), torch.randn(200, 1, 1, 1)
    noise = (noise - noise.mean()) / noise.std(correction=0)

    def loss(bias: float) -> float:
        torch.nn.init.constant_(model.head[2].bias, bias)
        objective = OneCallObjective(model, lambda faces, keys: faces + 0.3 + 0.1 * noise)
        return objective({"image": image, "keys": []})["loss"].item()

    assert loss(0.3) == pytest.approx(0.01, rel=1e-3)
    assert min(loss(0.25), loss(0.35)) > 0.012


# The training set


def test_every_face_and_step_has_its_own_noise_and_rows_are_those_of_the_whole():
    faces, rows = make_faces(), np.arange(20)
    for changed in (0.0, 1.0):
        batches = FacesToRestore(faces, rows, 6, 0, flip=True, changed=changed)
        whole, part = batches(2, slice(0, 6)), batches(2, slice(2, 5))
        assert whole["keys"] == [f"one_call/2/{place}" for place in range(6)]
        assert part["keys"] == whole["keys"][2:5]
        assert torch.equal(part["image"], whole["image"][2:5])
        assert not set(batches(3, slice(0, 6))["keys"]) & set(whole["keys"])


def test_the_share_of_changed_faces_is_the_given_one():
    faces, rows = make_faces(), np.arange(48)
    known = {face.tobytes() for face in faces.images} | {
        np.ascontiguousarray(face[:, ::-1]).tobytes() for face in faces.images
    }
    for changed, least, most in ((0.0, 0, 0), (0.5, 25, 60), (1.0, 60, 96)):
        batches = FacesToRestore(faces, rows, 48, 0, flip=True, changed=changed)
        pixels = np.concatenate([to_uint8(batches(step, slice(0, 48))["image"]) for step in range(2)])
        assert least <= sum(face.tobytes() not in known for face in pixels) <= most


def test_labels_of_further_domains_are_not_read():
    faces = make_faces()
    live, further = train_one_call.faces_to_learn_from(student(domains=["a"], unlabelled=["b"]).generator, faces)
    assert set(faces.domains[live]) == {"a"}
    assert set(faces.labels[live]) == {1}
    assert further.tolist() == np.flatnonzero(faces.domains == "b").tolist()
    live, further = train_one_call.faces_to_learn_from(student(domains=["a"], unlabelled=["a"]).generator, faces)
    assert sorted([*live, *further]) == np.flatnonzero(faces.domains == "a").tolist()
    halved = student(domains=["a"], unlabelled=["b"], share=0.5).generator
    assert [len(part) for part in train_one_call.faces_to_learn_from(halved, faces)] == [6, 12]
    assert len(train_one_call.faces_to_learn_from(student(domains=["a"]).generator, faces)[1]) == 0
    with pytest.raises(AgfasError, match=r"domain c, which generator\.unlabelled names\. The dataset has: a, b"):
        train_one_call.faces_to_learn_from(student(domains=["a"], unlabelled=["b", "c"]).generator, faces)


# Names


def test_a_student_is_named_by_its_teacher_and_by_what_it_learns(monkeypatch):
    monkeypatch.setattr(Workspace, "faces_id", lambda self: "faces")

    def name(experiment) -> str:
        return Workspace(experiment).generator().name

    base = student(loop={"steps": 9})
    same = [with_overrides(base, {"cue.timestep": 201}), with_overrides(base, {"generator.loop.checkpoint_every": 7})]
    assert {name(base)} == {name(one) for one in same}
    changes: list[dict[str, Any]] = [
        {"generator.teacher.loop.steps": 7},
        {"generator.restoration.timestep": 201},
        {"generator.restoration.samples": 2},
        {"generator.changed": 0.0},
        {"generator.unlabelled": ["b"]},
        {"identity": {"name": "none"}},
    ]
    assert len({name(base), *(name(with_overrides(base, change)) for change in changes)}) == 1 + len(changes)


def test_a_teacher_is_the_generator_of_an_experiment_that_names_it_itself(monkeypatch):
    monkeypatch.setattr(Workspace, "faces_id", lambda self: "faces")
    teacher = teacher_of(student(**{"teacher.loop.steps": 7, "restoration.timestep": 201}))
    alone = build_experiment({"generator": {"loop": {"steps": 7}}, "cue": {"timestep": 201}}, "the test")
    assert Workspace(teacher).generator() == Workspace(alone).generator()
    assert (teacher.cue.source, teacher.cue.timestep, teacher.cue.num_inference_steps) == ("dfg", 201, 5)


# Mistakes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["generator={name: one_call}"], "cue.source = dfg needs generator.name = dfg, not one_call"),
        (["cue.source=one_call"], r"needs generator.name = one_call, not dfg.*\{name: one_call\}"),
        ([*GIVEN, "generator.teacher={name: memae}"], "'dfg'"),
        ([*GIVEN, "generator.preset=paper"], "'compact'"),
        ([*GIVEN, "generator.changed=2"], "less than or equal to 1"),
        ([*GIVEN, "generator.restoration.timestp=2"], "did you mean 'timestep'"),
        ([*GIVEN, "generator.restoration.autoencoder=trained"], "which a student lacks: leave it at generator"),
        ([*GIVEN, "data.size=72"], "multiple of 16, by which generator.name = one_call"),
        (
            [*GIVEN, "data.size=80", "generator.teacher.autoencoder={patch_size: 3}"],
            "multiple of 3, by which generator.autoencoder.patch_size",
        ),
        ([*GIVEN, "cue.dtype=bfloat16"], "leave it out for one_call"),
    ],
)
def test_settings_that_cannot_be_are_answered_with_the_fix(overrides, words):
    with pytest.raises(AgfasError, match=words):
        read_experiment(None, overrides)


def test_a_restoration_that_the_teacher_cannot_make_is_refused_before_anything_is_made():
    with pytest.raises(AgfasError, match=r"^generator.restoration: timestep=400 is not on the grid of 5 steps"):
        train_dfg.check_options(student(**{"restoration.timestep": 400}))
    with pytest.raises(AgfasError, match=r"generator.unet makes no U-Net"):
        train_dfg.check_options(student(**{"teacher.unet": {"norm_num_groups": 7}}))
    assert open_sampler is train_one_call.open_sampler


def test_a_teachers_batch_needs_a_face_for_every_process_too(monkeypatch):
    monkeypatch.setattr(chain, "rank_and_world", lambda: (0, 4))
    with pytest.raises(AgfasError, match=r"^generator.teacher.loop.batch_size = 2 leaves some of 4 processes"):
        chain._check_shares_of_loops(student(**{"teacher.loop.batch_size": 2}))


# Its cost


def test_its_cost_has_the_teachers_training_and_restorations(tmp_path):
    settings = {**chain_settings(tmp_path), "cue": {"source": "one_call"}}
    small = {"name": "one_call", "teacher": settings["generator"], "options": {"channels": [8, 8]}}

    def step(samples: int) -> int:
        given = {**settings, "generator": {**small, "restoration": {"timestep": 201, "samples": samples}}}
        parts = [
            part for part in left_of(parts_of_plan(build_experiment(given, "the test"))) if part.kind != "detector"
        ]
        assert [(part.kind, part.name) for part in parts] == [
            ("identity", "trained"), ("generator", "dfg"), ("generator", "one_call"), ("restoration", "one_call")
        ]  # fmt: skip
        return models.training(parts[2], machine_of("a100-80", 1)).step.flops

    steps = [step(samples) for samples in (1, 2, 3)]
    assert steps[2] - steps[1] == steps[1] - steps[0] > 0
