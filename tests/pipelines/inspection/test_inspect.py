"""What inspect-dfg measures: known divergences, errors worked out by hand, a proposal that follows its rule."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from output_folder import make_experiment, write_faces
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_divergence

from dfg.identity import IdentityEncoder
from dfg.noise import noise_for_keys
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from pipelines.artefacts.faces import make_faces
from pipelines.artefacts.runs import load_maker
from pipelines.experiment.config import Experiment
from pipelines.inspection.figure import as_svg, inspection_figure
from pipelines.inspection.measure import Measured, Subjects, measure, open_subjects
from pipelines.inspection.theorems import (
    RULE,
    GaussianFit,
    Theorems,
    fit_cameras,
    kl_divergence,
    mean_floor,
    propose,
    theorem_curves,
)
from pipelines.stages import inspect_dfg, train_dfg, train_identity

MEANS, DEVIATIONS = torch.tensor([0.0, 1.0, -0.5]), torch.tensor([1.0, 0.5, 2.0])
OTHER_MEANS, OTHER_DEVIATIONS = torch.tensor([0.3, 1.0, 0.5]), torch.tensor([1.0, 0.8, 1.0])


def draw(means, deviations, seed, count=400):
    values = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return values * deviations.view(1, -1, 1, 1) + means.view(1, -1, 1, 1)


@pytest.mark.parametrize("abar", [1.0, 0.5, 0.04])
def test_the_divergence_of_known_gaussians(abar):
    """Estimated from samples that were really noised, and by the fit's own noising, against torch's formula."""
    first, second = draw(MEANS, DEVIATIONS, 0), draw(OTHER_MEANS, OTHER_DEVIATIONS, 1)
    known = reference_divergence(noised(MEANS, DEVIATIONS, abar), noised(OTHER_MEANS, OTHER_DEVIATIONS, abar)).mean()
    estimate = kl_divergence(GaussianFit.of(first).noised(abar), GaussianFit.of(second).noised(abar))
    assert estimate == pytest.approx(float(known), rel=0.04)
    eps = torch.randn(2, *first.shape, generator=torch.Generator().manual_seed(2))
    drawn = [abar**0.5 * z + (1 - abar) ** 0.5 * e for z, e in zip((first, second), eps, strict=True)]
    assert kl_divergence(*(GaussianFit.of(z) for z in drawn)) == pytest.approx(float(known), rel=0.05, abs=2e-3)


def noised(means, deviations, abar):
    return Normal(abar**0.5 * means, (abar * deviations**2 + 1 - abar).sqrt())


def test_the_divergence_has_a_direction_a_zero_and_falls_with_the_noise():
    first, second = GaussianFit.of(draw(MEANS, DEVIATIONS, 0)), GaussianFit.of(draw(OTHER_MEANS, OTHER_DEVIATIONS, 1))
    assert kl_divergence(first, first) == pytest.approx(0, abs=1e-12)
    assert kl_divergence(first, second) != pytest.approx(kl_divergence(second, first), rel=0.05)
    levels = sd_scheduler().alphas_cumprod[::100].tolist()
    values = [kl_divergence(first.noised(abar), second.noised(abar)) for abar in levels]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.05 * values[0]


def theorems(timestep, removed, lost):
    return Theorems(timestep, 0.1, lost, 0.2, 0.01, removed, 1.5)


def test_the_proposal_follows_its_rule():
    curves = [theorems(801, 0.99, 0.9), theorems(401, 0.8, 0.3), theorems(201, 0.4, 0.1), theorems(601, 0.9, 0.4)]
    assert propose(curves) == 401  # .5, as 601 has; the smaller t of equals
    assert propose([*curves, theorems(501, 0.9, 0.35)]) == 501
    assert propose([]) is None
    assert theorems(201, 0.4, 0.1).row()["gap"] == pytest.approx(0.3)


@pytest.fixture(scope="module")
def encoder() -> Iterator[IdentityEncoder]:
    made = IdentityEncoder.from_preset("tiny", widths=(4, 4, 4, 8), embedding_dim=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_identity, "run", lambda experiment, faces: made)
        yield made


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    return experiment_in(tmp_path_factory.mktemp("inspect"))


def experiment_in(folder: Path) -> Experiment:
    write_faces(folder / "faces", subjects=4)
    return make_experiment(
        folder / "run",
        identity={"name": "trained"},
        cue={"num_inference_steps": 5},
        generator={
            "domains": ["kiosk"],
            "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 48},
            "unet": {"block_out_channels": [8, 8, 8], "norm_num_groups": 4, "attention_head_dim": 4},
            "loop": {"steps": 1, "batch_size": 4},
        },
    )


@pytest.fixture(scope="module")
def opened(experiment, encoder):
    """A generator and some faces."""
    faces = make_faces(experiment)
    train_dfg.run(experiment, faces)
    pipeline = load_maker(experiment)
    return pipeline, faces, np.arange(6)


def test_errors_are_those_of_each_face(opened, experiment):
    """One face at a time, from the pipeline's own parts."""
    pipeline, faces, rows = opened
    subjects = open_subjects(pipeline, faces, rows, seed=3)
    found = measure(pipeline, subjects, [201], experiment.cue)
    assert set(found) == {(201, "identity"), (201, "wrong"), (201, "none")}
    abar = float(pipeline.scheduler.alphas_cumprod[201])
    for place, row in enumerate(rows):
        image = torch.from_numpy(faces.images[row].copy()).permute(2, 0, 1)[None] / 127.5 - 1
        output = pipeline(image, timestep=201, num_inference_steps=5, keys=[str(faces.keys[row])], seed=3)
        latents = pipeline.encode(image)
        noise = noise_for_keys([str(faces.keys[row])], tuple(latents.shape[1:]), 3)
        noisy = abar**0.5 * latents + (1 - abar) ** 0.5 * noise
        with torch.no_grad():
            guess = pipeline.unet(noisy, 201, encoder_hidden_states=pipeline.identity_tokens(image)).sample
        measured = found[201, "identity"]
        assert measured.restoration[place] == pytest.approx(
            float((image - output.image).abs().mean() * 127.5), rel=1e-3
        )
        assert measured.latent[place] == pytest.approx(float((latents - output.latents).square().mean()), rel=1e-3)
        assert measured.noise[place] == pytest.approx(float((noise - guess).square().mean()), rel=1e-3)
        before, after = (pipeline.identity_encoder(x).mean(1)[0] for x in (image, output.image))
        cosine = float(torch.nn.functional.cosine_similarity(before, after, dim=0))
        assert measured.similarity[place] == pytest.approx(cosine, abs=1e-4)


def test_one_who_knows_the_noise_makes_no_error(opened, experiment, monkeypatch):
    pipeline, faces, rows = opened
    subjects = open_subjects(pipeline, faces, rows, seed=0)
    monkeypatch.setattr(pipeline.unet, "forward", lambda *_, **__: type("Output", (), {"sample": subjects.noise})())
    measured = measure(pipeline, subjects, [401], experiment.cue)[401, "wrong"]
    assert measured.noise.max() < 1e-10
    # The schedule's last level keeps 3 % of the noise.
    assert measured.latent.max() < 0.002
    assert measured.similarity.min() > 0.98


def test_faces_are_measured_some_at_a_time(opened, experiment, monkeypatch):
    pipeline, faces, rows = opened
    whole = open_subjects(pipeline, faces, rows, seed=3)
    seen: list[int] = []
    found = measure(pipeline, whole, [201], experiment.cue, lambda: seen.append(1))
    assert len(seen) == len(found) == 3
    monkeypatch.setattr("pipelines.inspection.measure._BATCH", 4)
    parts = open_subjects(pipeline, faces, rows, seed=3)
    assert [len(parts.image), parts.cameras.tolist(), parts.persons.tolist()] == [
        6, faces.domains[rows].tolist(), faces.subjects[rows].tolist(),
    ]  # fmt: skip
    torch.testing.assert_close(parts.tokens["wrong"], whole.tokens["wrong"])
    again = measure(pipeline, parts, [201], experiment.cue)
    for place, one in again.items():
        for name in ("restoration", "latent", "noise", "similarity"):
            np.testing.assert_allclose(getattr(one, name), getattr(found[place], name), rtol=1e-3, atol=1e-5)


def test_wrong_tokens_are_another_faces(opened):
    pipeline, faces, rows = opened
    tokens = open_subjects(pipeline, faces, rows, seed=0).tokens
    assert torch.equal(tokens["wrong"][0], tokens["identity"][3])
    assert not torch.equal(tokens["wrong"], tokens["identity"])
    assert not tokens["none"].any()


def seen_by_two_cameras(latents: torch.Tensor, share: int) -> Subjects:
    """The first of every `share` faces by a camera that adds 5; two faces of a person."""
    faces = np.arange(len(latents))
    cameras = np.where(faces % share == 0, "bright", "plain")
    seen = latents + 5.0 * torch.from_numpy(cameras == "bright")[:, None, None, None]
    return Subjects(seen, seen, seen, {}, None, cameras, np.array([f"person {face // 4}" for face in faces]))


def test_both_theorems_from_made_up_measurements(opened):
    """Live latents of deviation 1 and attacks of deviation 2: the divergence and the share lost by pencil.

    Two cameras that differ in their mean, and show different numbers of either: no part of the divergence.
    """
    pipeline = opened[0]
    live, attack = draw(torch.zeros(3), torch.ones(3), 0), draw(torch.zeros(3), 2 * torch.ones(3), 1)
    subjects = {
        "live, other domains": seen_by_two_cameras(live, share=2),
        "print": seen_by_two_cameras(attack, share=4),
    }
    values = np.array([1.0, 3.0], np.float32)
    found = {
        name: {(401, "identity"): Measured(values + shift, values * 0 + 0.25, values, values)}
        for name, shift in (("live, other domains", 0.0), ("print", 2.0))
    }
    (one,) = theorem_curves(pipeline, subjects, found, [401])
    abar = float(pipeline.scheduler.alphas_cumprod[401])
    ratio = 1 / (abar * 4 + 1 - abar)
    assert one.kl == pytest.approx(0.5 * (ratio - 1 - math.log(ratio)), rel=0.05)
    assert one.removed == pytest.approx(1 - one.kl / (0.5 * (0.25 - 1 - math.log(0.25))), rel=0.05)
    assert one.kl_floor < 0.01 * one.kl
    assert one.live_error == pytest.approx(0.5)
    assert one.lost == pytest.approx(0.5 / 2**0.5, rel=0.02)  # two people differ by the square root of two
    assert one.separation == pytest.approx(2 / 2**0.5)


def test_no_t_is_proposed_where_no_camera_shows_both():
    live, attack = draw(torch.zeros(3), torch.ones(3), 0), draw(torch.zeros(3), torch.ones(3), 1)
    one, other = seen_by_two_cameras(live, 2), seen_by_two_cameras(attack, 2)
    away = replace(other, cameras=np.char.add(other.cameras, " elsewhere"))
    assert fit_cameras(one, [away]) == []
    (alone,) = fit_cameras(
        replace(one, persons=np.full(len(live), "ann"), cameras=np.full(len(live), "plain")), [other]
    )
    assert alone.halves is None
    assert math.isnan(mean_floor([alone], 1.0))


def test_halves_share_no_person():
    latents = torch.arange(8.0)[:, None, None, None].expand(8, 1, 2, 2)
    persons = np.array([*"aabbccdd"])
    subjects = Subjects(latents, latents, latents, {}, None, np.full(8, "webcam"), persons)
    (camera,) = fit_cameras(subjects, [subjects])
    first, second = camera.halves
    assert (float(first.mean), float(second.mean)) == (2.5, 4.5)  # a and c; b and d


def test_the_command_writes_tables_plot_and_proposal(experiment, encoder, capsys):
    rows = inspect_dfg.run(experiment, [201, 401, 801], count=4)
    (folder,) = (experiment.root / "generator").iterdir()
    summary = json.loads((folder / "inspect.json").read_text())
    assert summary["rule"] == RULE
    assert [one["timestep"] for one in summary["theorems"]] == [201, 401, 801]
    best = max(summary["theorems"], key=lambda one: one["removed"] - one["lost"])
    assert summary["proposed_timestep"] == best["timestep"]
    assert len(rows) == len(summary["errors"]) == 3 * 3 * len({row["group"] for row in rows})
    assert (folder / "inspect.csv").read_text().startswith("group,timestep,condition,mean_abs_error")
    assert (folder / "inspect_theorems.csv").read_text().startswith("timestep,live_error,lost,kl")
    drawn = (folder / "inspect.svg").read_text()
    assert f"widest gap at t = {best['timestep']}" in drawn
    assert f"Proposed t = {best['timestep']}" in capsys.readouterr().out


def test_the_plot_is_the_same_bytes_every_time():
    first, again = (as_svg(inspection_figure([], [theorems(401, 0.8, 0.3)], 401)) for _ in range(2))
    assert first == again


def test_without_attacks_nothing_is_proposed(opened, experiment, monkeypatch, capsys):
    groups = {"live, held out": np.arange(4)}
    monkeypatch.setattr("pipelines.inspection.measure.groups_of", lambda *_: groups)
    inspect_dfg.run(experiment, [201], count=4)
    (folder,) = (experiment.root / "generator").iterdir()
    assert json.loads((folder / "inspect.json").read_text())["proposed_timestep"] is None
    assert "No t is proposed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_generator_without_identity_is_measured_without(tmp_path, monkeypatch):
    monkeypatch.setattr(train_identity, "run", lambda experiment, faces: None)
    rows = inspect_dfg.run(experiment_in(tmp_path), [201], count=4)
    assert {row["condition"] for row in rows} == {"none"}
    assert {row["identity_similarity"] for row in rows} == {None}


def test_measuring_leaves_the_pipeline_as_it_was(opened, experiment):
    pipeline, faces, rows = opened
    assert isinstance(pipeline, DeFakePipeline)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    before = pipeline(image, timestep=201, keys=["a"]).image
    measure(pipeline, open_subjects(pipeline, faces, rows, 0), [201], experiment.cue)
    assert torch.equal(pipeline(image, timestep=201, keys=["a"]).image, before)
