"""What trains and judges a detector, a baseline or an identity encoder, by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_experiments import one_of
from training_parts import make_faces

from oanet.detectors import build_detector
from pipelines.data.protocols import Fold
from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.stages import (
    chain,
    detector_batches,
    evaluate,
    train_baseline,
    train_detector,
    train_identity,
)
from pipelines.training.settings import EarlyStoppingSettings, PlateauSettings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"schedule": "plateau", "plateau": {"patience": 3}, "look_every": 7}, (7, PlateauSettings(patience=3), None)),
        ({"early_stopping": {"patience": 2}}, (50, None, EarlyStoppingSettings(patience=2))),
    ],
)
def test_a_training_is_watched_if_its_settings_ask_for_it(monkeypatch, changes, expected):
    seen = []
    monkeypatch.setattr(detector_batches, "dev_loss", lambda *given: seen.append(given) or 0.5)
    experiment = build_experiment({"train": changes, "evaluate": {"batch_size": 17}}, "the test")
    watch = detector_batches.make_watch(experiment, "faces", "reader", "rows")
    if expected is None:
        assert watch is None
        return
    assert (watch.every, watch.plateau, watch.early_stopping) == expected
    assert watch.measure(SimpleNamespace(detector="detector")) == 0.5
    assert seen == [("detector", "faces", "reader", "rows", 17)]


def test_the_watched_loss_is_the_mean_cross_entropy_of_the_faces(monkeypatch):
    faces, rows = make_faces(), np.array([3, 5, 8, 13, 21])
    logits = torch.randn(48, 2, generator=torch.Generator().manual_seed(0))
    asked = []

    def answers(detector, given, reader, part, size):
        asked.append((detector, reader, part.tolist(), size))
        yield part, SimpleNamespace(logits=logits[part])

    monkeypatch.setattr(detector_batches, "answers", answers)
    found = detector_batches.dev_loss("a detector", faces, "a reader", rows, 2)
    labels = faces.labels[rows]
    expected = -torch.log_softmax(logits[rows].double(), 1)[torch.arange(5), torch.from_numpy(labels)].mean().item()
    assert found == pytest.approx(expected, rel=1e-6)
    assert asked == [("a detector", "a reader", part, 2) for part in ([3, 5], [8, 13], [21])]


@pytest.mark.parametrize(
    ("per_cell", "processes", "refused"), [(2, 8, False), (2, 9, True), (1, 4, False), (1, 5, True)]
)
def test_a_batch_must_have_a_face_for_every_process(small, monkeypatch, per_cell, processes, refused):
    """Two labels and two domains."""
    monkeypatch.setattr(detector_batches, "rank_and_world", lambda: (0, processes))
    fold = Fold("to_c", ("a", "b"), ("a", "b"), ("c",))
    experiment = with_overrides(small, {"train.per_cell": per_cell})
    if refused:
        with pytest.raises(AgfasError, match=rf"2 labels x 2 domains x train.per_cell = {4 * per_cell} leaves some of"):
            detector_batches.check_shares(experiment, fold)
    else:
        detector_batches.check_shares(experiment, fold)
    published = experiment.model_copy(update={"train": experiment.train.model_copy(update={"steps": 0})})
    detector_batches.check_shares(published, fold)


@pytest.mark.parametrize(
    ("part", "label"), [("identity", "identity.loop.batch_size"), ("generator", "generator.loop.batch_size")]
)
def test_loops_of_other_models_need_a_face_for_every_process_too(small, monkeypatch, part, label):
    monkeypatch.setattr(chain, "rank_and_world", lambda: (0, 4))
    chain._check_shares_of_loops(small)
    small = with_overrides(small, {"identity.loop.batch_size": 16, "generator.loop.batch_size": 16})
    tight = with_overrides(small, {f"{part}.loop.batch_size": 4, f"{part}.loop.gradient_accumulation": 2})
    with pytest.raises(AgfasError, match=rf"^{label} = 4 in 2 micro-batches leaves some of 4 processes"):
        chain._check_shares_of_loops(tight)
    chain._check_shares_of_loops(with_overrides(tight, {"identity": {"name": "none"}}) if part == "identity" else small)


def test_extra_faces_of_a_folder_are_its_live_ones(small, monkeypatch):
    opened = []
    fold = Fold("to_c", ("x", "y"), ("x", "y"), ("z",))
    monkeypatch.setattr(detector_batches, "open_faces", lambda *given: opened.append(given) or make_faces())
    extra = {"train.extra_live": {"dataset": "some/faces", "ratio": 2.0}, "detector": {"name": "image_only"}}
    objective = SimpleNamespace(wanted_maps=(), needed_maps=())
    found = detector_batches._extra_live(with_overrides(small, extra), make_faces(), fold, objective)
    assert opened == [(Path("some/faces"), 8)]
    assert found.indices.tolist() == np.flatnonzero(make_faces().labels == 1).tolist()
    assert (found.ratio, found.number, found.maps) == (2.0, 2, {})
    assert detector_batches._extra_live(small, make_faces(), fold, objective) is None


def test_maps_are_read_from_the_folders_that_are_given(small, monkeypatch):
    seen = []
    monkeypatch.setattr(detector_batches, "target_maps", lambda *given: seen.append(given) or "maps")
    given = with_overrides(small, {"train.depth_maps": "d", "train.reflection_maps": "r"})
    objective = SimpleNamespace(wanted_maps=("depth", "reflection"), needed_maps=("depth",))
    assert detector_batches._maps(given, "faces", "rows", objective) == "maps"
    folders = {"depth": Path("d"), "reflection": Path("r")}
    assert seen == [(("depth", "reflection"), ("depth",), "faces", "rows", folders)]
    objective.wanted_maps = ("depth",)
    with pytest.raises(AgfasError, match=r"train\.reflection_maps is given, but the objective 'ssdg' as configured"):
        detector_batches._maps(given, "faces", "rows", objective)


def test_patches_are_those_of_a_square_grid():
    vit = build_detector(
        "image_only",
        preset="tiny",
        image_size=32,
        backbone_options={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    )
    assert detector_batches.patch_side(vit) == 4
    assert detector_batches.patch_side(build_detector("livenessnet", image_size=32, width=2, hidden=4)) is None


@pytest.mark.parametrize(
    ("steps", "count", "kept"), [(10, 4, [2, 5, 8, 10]), (2, 4, [1, 2]), (1, 1, [1]), (100, 3, [33, 67, 100])]
)
def test_checkpoints_are_kept_evenly_and_the_last_is_one(small, steps, count, kept):
    assert (
        train_detector.snapshot_steps(with_overrides(small, {"train.steps": steps, "train.evaluations": count})) == kept
    )
    published = small.model_copy(update={"train": small.train.model_copy(update={"steps": 0})})
    assert train_detector.snapshot_steps(published) == [0]


def test_scores_are_made_by_blocks_of_whole_batches(small, tmp_path, monkeypatch):
    """Four batches a block, whose boundaries depend on nothing else."""
    faces, rows = make_faces(), np.arange(1, 48, 2)
    asked = []

    def score(detector, given, reader, part, size):
        asked.append((detector, reader, len(part), size))
        return faces.labels[part] + part / 100

    monkeypatch.setattr("pipelines.evaluation.scoring.score_faces", score)
    experiment = with_overrides(small, {"evaluate.batch_size": 4})
    path, metadata = tmp_path / "s.parquet", {"role": "dev", "step": 3, "fold": "f", "run": "r"}
    job = evaluate._scoring(experiment, faces, "reader", rows, lambda: "detector", path, metadata)
    assert job.units == 24
    assert job.advance()
    assert asked == [("detector", "reader", 16, 4), ("detector", "reader", 8, 4)]
    table = evaluate.ScoreTable.load(path)
    assert table.score.tolist() == (faces.labels[rows] + rows / 100).tolist()
    for name in ("keys", "videos", "subjects", "domains", "attack_types", "labels"):
        column = {"keys": "key", "attack_types": "attack_type"}.get(name, name.removesuffix("s"))
        assert getattr(table, column).tolist() == getattr(faces, name)[rows].tolist()


class Embedding(torch.nn.Module):
    """Embeds a face by its first pixel, as a direction in the plane."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def embed(self, image):
        assert not self.training
        self.seen.append(len(image))
        angle = (image[:, 0, 0, 0] + 1) * 127.5 / 100
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_verification_is_the_auc_over_pairs_of_held_out_faces(monkeypatch):
    """Angles of people A, A, B, B: of six pairs the two of one person, .1 and .45 apart, against four others."""
    faces = make_faces(8)
    object.__setattr__(faces, "images", np.zeros((8, 8, 8, 3), np.uint8))
    faces.images[:4, 0, 0, 0] = [10, 20, 60, 105]
    object.__setattr__(faces, "subjects", np.array(["A", "A", "B", "B"] * 2, dtype=object))
    asked = []
    monkeypatch.setattr(
        type(faces), "live", lambda self, domains, splits: asked.append((domains, splits)) or np.arange(4)
    )
    monkeypatch.setattr(train_identity, "_BATCH", 3)
    encoder = Embedding()
    # Others are .5, .95, .4 and .85 apart: of eight comparisons, one is lost.
    assert train_identity.verification_auc(encoder, faces, ["a"]) == pytest.approx(7 / 8)
    assert encoder.seen == [3, 1]
    assert asked == [(["a"], ("dev",))]
    for subjects in (["A"] * 8, [str(number) for number in range(8)]):
        object.__setattr__(faces, "subjects", np.array(subjects, dtype=object))
        assert train_identity.verification_auc(encoder, faces, ["a"]) is None


@pytest.mark.parametrize(("pretraining", "steps", "at"), [(0.5, 10, 5), (0.25, 10, 2), (0.01, 10, 1)])
def test_the_centre_is_fixed_over_all_faces_after_the_pretraining(monkeypatch, pretraining, steps, at):
    settings = one_of(
        "deep_svdd", **{"generator": {"name": "deep_svdd", "pretraining": pretraining, "loop": {"steps": steps}}}
    ).generator
    faces, rows, seen = make_faces(), np.arange(5), []
    monkeypatch.setattr(train_baseline, "_BATCH", 2)
    model = SimpleNamespace(embedding_sum=lambda image: float(image.sum()), center_at=seen.append)
    after_step = train_baseline._fix_center(settings, faces, rows)
    for step in range(1, steps + 1):
        after_step(step, SimpleNamespace(model=model))
        assert len(seen) == int(step >= at)
    sums = [
        float((faces.images[part].astype(np.float32) / 127.5 - 1).sum())
        for part in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]
    assert [count for _, count in seen[0]] == [2, 2, 1]
    assert [total for total, _ in seen[0]] == pytest.approx(sums, abs=1e-3)
    assert train_baseline._fix_center(one_of("memae").generator, faces, rows) is None


def test_domains_without_live_faces_are_named_with_those_that_there_are():
    with pytest.raises(
        AgfasError, match=r"No live training faces in the domains c, d, which x\.y names\. The dataset has: a, b\."
    ):
        train_baseline.live_faces(make_faces(), ["c", "d"], "x.y")
    found = train_baseline.live_faces(make_faces(), ["a"])
    assert found.tolist() == [row for row in range(48) if row % 2 == 0 and row // 2 % 2 == 1]
