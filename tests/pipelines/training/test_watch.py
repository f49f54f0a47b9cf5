"""What the loop does beside the optimiser: objectives that change their weights, a source dev loss that decides."""

from __future__ import annotations

import pytest
import torch

from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.training.loop import fit
from pipelines.training.run import Run
from pipelines.training.settings import EarlyStoppingSettings, LoopSettings, PlateauSettings, TrainSettings
from pipelines.training.watch import DevWatch


def watch(measure=None, every=1, plateau=None, early_stopping=None) -> DevWatch:
    return DevWatch(measure or (lambda objective: 0.0), every, plateau, early_stopping)


def seen(losses: list[float], **options) -> list[float]:
    """The scale after each look."""
    watched = watch(plateau=PlateauSettings(**options))
    scales = []
    for loss in losses:
        watched.observe(loss, 1.0)
        scales.append(watched.scale)
    return scales


def test_the_rate_falls_after_so_many_looks_without_a_better_loss():
    losses = [1.0, 0.9, 0.95, 0.9, 0.92, 0.93, 0.8, 0.81, 0.82]
    assert seen(losses, patience=2) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    # A gain within min_delta is none.
    assert seen([1.0, 0.99, 0.98, 0.97], patience=3, min_delta=0.05) == [1, 1, 1, 0.5]
    assert seen([1.0] * 9, patience=1, min_learning_rate=0.3)[-1] == 0.3


def test_training_ends_after_so_many_looks_without_a_better_loss():
    watched = watch(early_stopping=EarlyStoppingSettings(patience=3))
    stops = []
    for loss in [1.0, 0.5, 0.6, 0.6, 0.4, 0.4, 0.5, float("nan")]:
        watched.observe(loss, 1.0)
        stops.append(watched.stopped)
    assert stops == [False] * 7 + [True]


class Drawn:
    size = 8

    def __call__(self, step: int, rows: slice) -> FaceBatch:
        generator = torch.Generator().manual_seed(step)
        label = torch.arange(8) % 2
        image = torch.rand(8, 3, 16, 16, generator=generator) * (0.5 + label.view(-1, 1, 1, 1))
        domain = torch.arange(8) // 2 % 2
        return FaceBatch(image[rows], None, label[rows], domain[rows], [str(index) for index in range(8)][rows])


faces = Drawn()


def small(name: str = "sa_fas", **options):
    detector = build_detector(
        "image_only", preset="tiny", image_size=16, embedding_dim=8,
        backbone_options={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    )  # fmt: skip
    return build_objective(name, detector, 2, **options)


class Killed(Exception):
    pass


def interrupted(tmp_path, settings: LoopSettings, make, make_watch, at: int):
    """The same training in one go, and killed at a step and started again."""
    whole = make()
    first = fit(whole, faces, settings, Run(tmp_path / "whole", {}), title="whole", watch=make_watch())

    def kill(step, model):
        if step == at:
            raise Killed

    run = Run(tmp_path / "killed", {})
    with pytest.raises(Killed):
        fit(make(), faces, settings, run, title="killed", after_step=kill, watch=make_watch())
    resumed = make()
    run = Run(tmp_path / "killed", {})
    second = fit(resumed, faces, settings, run, title="resumed", watch=make_watch())
    assert first == second
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    return first, run.metrics()


def test_aligned_heads_resume_bit_identical_and_count_in_the_average(tmp_path):
    settings = LoopSettings(steps=8, learning_rate=0.01, checkpoint_every=3, log_every=2, ema_decay=0.9)
    make = lambda: small(alignment=0.8, alignment_start=0.25)  # noqa: E731
    interrupted(tmp_path, settings, make, lambda: None, at=5)
    plain = small(alignment=1.0)
    fit(plain, faces, settings, Run(tmp_path / "plain", {}), title="plain")
    aligned = small(alignment=0.5, alignment_start=0.0)
    fit(aligned, faces, settings, Run(tmp_path / "aligned", {}), title="aligned")
    cosine = [torch.cosine_similarity(*o.heads.linear.weight, dim=0).item() for o in (plain, aligned)]
    assert cosine[1] > 0.9 > cosine[0]


def test_a_watched_training_resumes_bit_identical_and_ends_early(tmp_path):
    def make_watch():
        def measure(objective):
            objective.eval()  # as the real one leaves it; the loop must go on in train mode
            return 1.0

        return watch(measure, 2, PlateauSettings(patience=2), EarlyStoppingSettings(patience=4))

    settings = TrainSettings(
        steps=40, learning_rate=0.01, schedule="plateau", warmup=0, checkpoint_every=3, log_every=5, optimizer="adamw"
    )
    finished, lines = interrupted(tmp_path, settings, lambda: small("label_smoothing"), make_watch, at=8)
    assert finished == 10
    looked = [line for line in lines if "dev_loss" in line]
    assert [line["step"] for line in looked] == [2, 4, 6, 8, 10]
    # The first look sets the best; two without a better one halve the rate, from the next step on.
    assert [line["learning_rate"] for line in looked] == [0.01, 0.01, 0.01, 0.005, 0.005]


def test_settings_say_what_does_not_fit():
    with pytest.raises(AgfasError, match="set that schedule"):
        with_overrides(Experiment(), {"train.plateau.patience": 3})
    with pytest.raises(AgfasError, match="plateau"):
        with_overrides(Experiment(), {"train.schedule": "platau"})
    assert not Experiment().train.watches
    assert with_overrides(Experiment(), {"train.early_stopping": {"patience": 3}}).train.watches


def test_only_settings_that_change_the_result_enter_the_name(tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "faces_id", lambda self: "faces")
    names = TrainSettings.model_fields.keys()
    bystanders = {"checkpoint_every", "log_every", "trackers", "workers", "deterministic"}
    added = {"tf32", "decay", "decay_vectors", "augment"}  # each enters once it differs from its default
    assert set(Workspace(Experiment()).detector_key()["train"]) == names - bystanders - added
    changed = {
        "train.tf32": True,
        "train.schedule": "step",
        "train.decay.every": 7,
        "train.decay_vectors": False,
        "train.augment.pda.probability": 0.5,
    }
    assert set(Workspace(with_overrides(Experiment(), changed)).detector_key()["train"]) == names - bystanders
    (tmp_path / "a.png").write_bytes(b"one")
    given = with_overrides(Experiment(), {"train.depth_maps": str(tmp_path), "train.extra_live": {"ratio": 2.0}})
    before = Workspace(given).detector_key()["train"]
    assert before["extra_live"] == {"dataset": "corpus", "ratio": 2.0, "domain": "own"}
    assert str(tmp_path) not in str(before)
    (tmp_path / "a.png").write_bytes(b"two")
    assert Workspace(given).detector_key()["train"] != before
    with pytest.raises(AgfasError, match=r"train\.reflection_maps = nowhere does not exist"):
        Workspace(with_overrides(Experiment(), {"train.reflection_maps": "nowhere"})).detector_key()
