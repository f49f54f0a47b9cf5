"""Every source of cues through one sweep: trained, stored, judged, reported and saved, each a function of its face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from output_folder import make_experiment, write_faces

from dfg.baselines import BASELINES
from dfg.baselines.deep_svdd import DeepSvddObjective
from pipelines.artefacts.cues import cue_stores, open_sweep
from pipelines.artefacts.faces import face_columns, make_faces
from pipelines.cues.job import to_pixels
from pipelines.cues.settings import BUILTIN_SOURCES, CONTROLS, MAKERS, RESTORING, CueSettings
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import read_experiment, with_overrides
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.fingerprint import folder_sha256
from pipelines.pixels import to_unit_range
from pipelines.stages import cues, inspect_dfg, sweep, train_dfg
from pipelines.training.batches import LiveFaceBatches
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.card import model_card
from pipelines.verdict.folder import read_saved

SIZE = 16
LOOP = {"steps": 2, "batch_size": 4, "log_every": 1}
DOMAINS = ["kiosk", "phone"]
SMALL: dict[str, Any] = {
    "memae": {"channels": [4, 8], "slots": 9, "shrink": 0.1},
    "deep_svdd": {"channels": [4, 8], "bottleneck": 4},
    "anoddpm": {"channels": [4, 8], "norm_num_groups": 4},
    "one_call": {"channels": [8, 8], "patch": 2},
}
TEACHER: dict[str, Any] = {
    "domains": DOMAINS,
    "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 6},
    "unet": {"block_out_channels": [4, 4, 4], "norm_num_groups": 2, "attention_head_dim": 2},
    "loop": LOOP,
}
OWN: dict[str, dict[str, Any]] = {
    "one_call": {"teacher": TEACHER, "restoration": {"timestep": 201, "calls": 1}, "changed": 0.5}
}


def baseline(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "domains": DOMAINS, "options": SMALL[name], "loop": LOOP, **OWN.get(name, {}), **changes}


ROWS: dict[str, dict[str, Any]] = {
    "memae": {"cue.source": "memae", "generator": baseline("memae")},
    "deep_svdd": {"cue.source": "deep_svdd", "generator": baseline("deep_svdd")},
    "anoddpm": {
        "cue.source": "anoddpm",
        "generator": baseline("anoddpm"),
        "cue.timestep": 20,
        "cue.calls": 2,
        "cue.samples": 2,
    },
    "one_call": {"cue.source": "one_call", "generator": baseline("one_call")},
    "dfg_no_identity": {"cue.source": "dfg_no_identity", "identity": {"name": "none"}},
    "dfg": {},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def base(root: Path, **changes: Any) -> Experiment:
    return make_experiment(
        root,
        data={"name": "dataset", "path": str(root.parent / "faces"), "size": SIZE},
        identity={"name": "trained", "domains": DOMAINS, "loop": LOOP},
        generator=TEACHER,
        cue={"timestep": 41, "num_inference_steps": 50, "calls": 2, "batch_size": 8},
        detector={
            "name": "oanet", "preset": "tiny", "image_size": SIZE,
            "backbone_options": {"patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2},
            "cue_options": {"layers": [1, 1], "channels": [8, 8], "stem_type": "deep", "stem_width": 4},
        },
        train={"steps": 2, "warmup": 1, "per_cell": 2, "evaluations": 1, "log_every": 1},
        **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A finished sweep over every source."""
    folder = tmp_path_factory.mktemp("sources")
    write_faces(folder / "faces", domains=("kiosk", "phone"), size=SIZE)
    variants = [{"label": label, "set": changes} for label, changes in ROWS.items()]
    sweep.run(base(folder / "run", sweep={"variants": variants}))
    return folder / "run"


def row(root: Path, label: str) -> Planned:
    return next(item for item in read_plan(root) if item.label == label)


# Names


def test_every_source_is_known_everywhere():
    assert {CueSettings(source=name).source for name in BUILTIN_SOURCES} == {*RESTORING, *CONTROLS}
    assert set(ROWS) == set(RESTORING)
    assert set(MAKERS.values()) == {"dfg", *BASELINES}


# The sweep


def test_all_rows_end_in_the_report(root):
    page = (root / "report" / "index.html").read_text()
    for item in read_plan(root):
        assert (Workspace(item.experiment).detector() / "result.json").is_file()
        assert item.label in page
    assert "20, 2 ancestral steps, mean of 2" in page
    results = (root / "report" / "results.csv").read_text()
    assert all(label in results for label in ROWS)


def test_what_rows_share_is_made_once(root):
    made = {label: Workspace(row(root, label).experiment).generator() for label in ROWS}
    shuffled = Workspace(with_overrides(base(root), {"cue.source": "shuffled", "generator": baseline("memae")}))
    assert shuffled.generator() == made["memae"]
    assert shuffled.timestep() == 0
    assert len(set(made.values())) == len(ROWS) == len(list((root / "generator").iterdir()))
    assert len(list((root / "identity").iterdir())) == 1
    # Autoencoder and restoration for the two generators, one store for each baseline.
    named = [read_json(path)["identity"]["source"]["name"] for path in (root / "cues").glob("*/store.json")]
    # Both generators have the same autoencoder, hence one control.
    assert sorted(named) == ["anoddpm", "autoencoder", "deep_svdd", "dfg", "dfg", "memae", "one_call"]


def test_a_baseline_does_not_depend_on_the_identity_unless_its_teacher_does(root):
    for label in BASELINES:
        experiment = row(root, label).experiment
        other = with_overrides(experiment, {"identity": {"name": "none"}})
        assert (Workspace(other).generator() == Workspace(experiment).generator()) == (label != "one_call")


def test_no_identity_is_the_same_under_both_its_names(root):
    experiment = row(root, "dfg_no_identity").experiment
    plain = with_overrides(experiment, {"cue.source": "dfg"})
    assert Workspace(plain).detector() == Workspace(experiment).detector()
    assert Workspace(plain).detector() != Workspace(row(root, "dfg").experiment).detector()


def test_only_live_faces_are_trained_on(root):
    for label in ROWS:
        done = read_json(Workspace(row(root, label).experiment).generator() / "done.json")
        # Two domains, two training subjects in each, two live faces of each.
        assert done["live_faces"] == 8


# The contract of a source


@pytest.mark.parametrize("label", ROWS)
def test_a_source_is_a_function_of_its_face(root, label):
    experiment = row(root, label).experiment
    timestep = Workspace(experiment).timestep()
    source, again = (open_sweep(experiment, [timestep]) for _ in range(2))
    assert source.timesteps == (timestep,)
    named = source.fingerprint(timestep)
    assert json.loads(json.dumps(named)) == again.fingerprint(timestep)
    assert len(named["weights"]) == 64
    chosen = cues.chosen_faces(experiment, make_faces(experiment), all_faces=False)
    image, keys = to_unit_range(chosen.batch(np.arange(4))), chosen.keys[:4]
    restored = source.restore(image, keys, [timestep])[timestep]
    assert restored.shape == image.shape
    assert restored.abs().max() <= 1
    assert not torch.allclose(restored, image, atol=1e-3)
    assert torch.equal(restored, again.restore(image, keys, [timestep])[timestep])
    order = [3, 1, 0, 2]
    singles = [source.restore(image[i : i + 1], [keys[i]], [timestep])[timestep] for i in order]
    torch.testing.assert_close(restored[order], torch.cat(singles), atol=1e-4, rtol=0)
    # What the store holds is what a verdict makes of the same face.
    store = cue_stores(experiment, face_columns(experiment), [timestep])[timestep]
    rows = np.array([store.shards.keys.index(key) for key in keys])
    difference = store.reconstructions(rows).astype(int) - to_pixels(restored, keys).astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("label", ["memae", "anoddpm"])
def test_the_job_verifies_and_counts_its_stores(root, capsys, label):
    experiment = row(root, label).experiment
    timesteps = cues.parse_timesteps(None, experiment)
    cues.verify(experiment, timesteps)
    cues.print_status(experiment, timesteps)
    expected = "memae: " if label == "memae" else "t = 20: "
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(expected) for line in lines) == 2


def test_noise_has_its_seed_and_means_their_samples(root):
    experiment = row(root, "anoddpm").experiment
    names = {
        json.dumps(open_sweep(with_overrides(experiment, changes), [20]).fingerprint(20))
        for changes in ({}, {"cue.seed": 1}, {"cue.samples": 1}, {"cue.calls": 3}, {"cue.calls": None})
    }
    assert len(names) == 5
    chosen = cues.chosen_faces(experiment, make_faces(experiment), all_faces=False)
    image, keys = to_unit_range(chosen.batch(np.arange(2))), chosen.keys[:2]
    seeds = [
        open_sweep(with_overrides(experiment, {"cue.seed": seed, "cue.samples": 1}), [20]).restore(image, keys, [20])[
            20
        ]
        for seed in (0, 1)
    ]
    both = open_sweep(experiment, [20]).restore(image, keys, [20])[20]
    torch.testing.assert_close(both, (seeds[0] + seeds[1]) / 2)
    assert not torch.equal(*seeds)


# Saved models


@pytest.mark.parametrize("label", ROWS)
def test_a_saved_model_carries_its_maker(root, tmp_path, label):
    crops = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    model = FaceAntiSpoofing.from_run(root, label)
    model.save_pretrained(tmp_path / "saved")
    again = FaceAntiSpoofing.from_pretrained(tmp_path / "saved")
    assert [v.score for v in again(crops)] == [v.score for v in model(crops)]
    saved = read_saved(tmp_path / "saved")
    assert not saved.settings.is_control
    card = model_card(saved)
    assert "trained on 8 live faces" in card
    assert "control of an experiment" not in card
    maker = label if label in BASELINES else "U-Net of the preset tiny"
    assert any(part.what == "generator" and maker in part.source for part in saved.about.parts)
    assert any(part.what == "identity encoder" for part in saved.about.parts) == (label == "dfg")
    assert any(part.what == "identity encoder of its teacher" for part in saved.about.parts) == (label == "one_call")


def test_another_makers_weights_are_refused(root, tmp_path):
    from pipelines.verdict.folder import _load_maker

    model = FaceAntiSpoofing.from_run(root, "memae")
    model.save_pretrained(tmp_path / "saved")
    other = FaceAntiSpoofing.from_run(root, "deep_svdd").settings
    with pytest.raises(AgfasError, match="holds a memae, but the cue's source is deep_svdd"):
        _load_maker(tmp_path / "saved" / "generator", other)
    (tmp_path / "saved" / "generator" / "config.json").write_text('{"_class_name": "Stranger"}')
    with pytest.raises(AgfasError, match="Stranger"):
        _load_maker(tmp_path / "saved" / "generator", model.settings)


# Training


def test_a_share_is_part_of_the_whole(root, tmp_path):
    changes = {"output": str(tmp_path), "generator": baseline("memae", share=0.5)}
    experiment = with_overrides(row(root, "memae").experiment, changes)
    folder = train_dfg.run(experiment, make_faces(experiment))
    assert read_json(folder / "done.json")["live_faces"] == 4


@pytest.mark.parametrize("name", BASELINES)
def test_a_killed_training_ends_as_one_that_was_not(root, tmp_path, monkeypatch, name):
    # Killed a step after its newest checkpoint; for Deep SVDD after the centre was fixed, which the checkpoint lacks.
    loop = {**LOOP, "steps": 4, "checkpoint_every": 2, "ema_decay": 0.5}
    later = {"pretraining": 0.75} if name == "deep_svdd" else {}
    changes = {
        "generator": baseline(name, loop=loop, **later),
        "cue.source": name,
        "cue.timestep": 20,
        "cue.calls": None,
    }
    experiments = [with_overrides(base(root), {"output": str(tmp_path / place), **changes}) for place in ("a", "b")]
    faces = make_faces(experiments[0])
    whole = train_dfg.run(experiments[0], faces)
    make = LiveFaceBatches.__call__

    def dying(self, step, rows):
        if step == 3:
            raise KeyboardInterrupt
        return make(self, step, rows)

    with monkeypatch.context() as patched:
        patched.setattr(LiveFaceBatches, "__call__", dying)
        with pytest.raises(KeyboardInterrupt):
            train_dfg.run(experiments[1], faces)
    assert folder_sha256(train_dfg.run(experiments[1], faces) / "model") == folder_sha256(whole / "model")


def test_the_centre_is_fixed_when_the_pretraining_ends(root, tmp_path, monkeypatch):
    seen: list[tuple[float, bool]] = []
    forward = DeepSvddObjective.forward

    def spy(self, batch, progress=0.0):
        seen.append((progress, bool(self.model.center.any())))
        return forward(self, batch, progress)

    monkeypatch.setattr(DeepSvddObjective, "forward", spy)
    changed = baseline("deep_svdd", loop={**LOOP, "steps": 4}, pretraining=0.75)
    experiment = with_overrides(base(root), {"output": str(tmp_path), "cue.source": "deep_svdd", "generator": changed})
    folder = train_dfg.run(experiment, make_faces(experiment))
    assert seen == [(0.25, False), (0.5, False), (0.75, False), (1.0, True)]
    from dfg.baselines import load_baseline

    assert load_baseline(folder / "model").center.abs().min() >= 0.1 - 1e-6


# Mistakes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cue.source=memae"], ["cue.source = memae needs generator.name = memae, not dfg", "{name: memae}"]),
        (["generator={name: memae}"], ["cue.source = dfg needs generator.name = dfg, not memae"]),
        (["cue.source=memea"], ["cue.source", "'memae'"]),
        (["generator={name: memea}"], ["generator", "memae"]),
        (["cue.source=dfg_no_identity"], ["identity: {name: none}", "trained"]),
        (["generator={name: memae, options: {slot: 3}}", "cue.source=memae"], ["did you mean 'slots'"]),
        (["generator={name: memae, preset: large}", "cue.source=memae"], ["preset", "'paper'"]),
        (["generator={name: memae, unet: {}}", "cue.source=memae"], ["unet"]),
        (["generator={name: memae}", "cue.source=autoencoder"], ["autoencoder", "memae has none"]),
        (["generator={name: memae}", "cue.source=memae", "cue.form=two_part"], ["two_part", "residual"]),
        (["generator={name: anoddpm}", "cue.source=anoddpm", "cue.scheduler=unipc"], ["cue.scheduler", "anoddpm"]),
        (["generator={name: memae}", "cue.source=memae", "cue.guidance_scale=2"], ["cue.guidance_scale", "memae"]),
        (["generator={name: anoddpm, train_timesteps: 100}", "cue.source=anoddpm", "cue.timestep=200"], ["200", "100"]),
        (["generator={name: anoddpm}", "cue.source=anoddpm", "cue.timestep=20", "cue.calls=30"], ["30", "20"]),
    ],
)
def test_a_source_that_cannot_be_is_answered_with_the_fix(overrides, words):
    with pytest.raises(AgfasError) as caught:
        read_experiment(None, overrides)
    for word in words:
        assert word in str(caught.value)


def test_controls_need_no_maker_and_unused_settings_do_no_harm():
    for source in ("zero", "noise", "shuffled"):
        read_experiment(None, ["generator={name: memae}", f"cue.source={source}"])
    given = ["generator={name: memae}", "cue.source=memae"]
    unused = ["cue.timestep=41", "cue.samples=9", "cue.calls=3"]
    workspaces = [Workspace(read_experiment(None, [*given, *more])) for more in ([], unused)]
    for workspace in workspaces:
        workspace.faces_id = lambda: "faces"  # type: ignore[method-assign]
    assert workspaces[0].detector_key() == workspaces[1].detector_key()


def test_commands_that_do_not_fit_a_baseline_say_so(root, tmp_path):
    experiment = row(root, "memae").experiment
    with pytest.raises(AgfasError, match="memae has no t"):
        cues.parse_timesteps("201", experiment)
    with pytest.raises(AgfasError, match="not memae"):
        inspect_dfg.run(experiment, [21], 3)
    too_deep, misspelt = baseline("memae"), baseline("memae", domains=["corpsu"])
    too_deep["options"] = {"channels": [4] * 10}
    with pytest.raises(AgfasError, match="multiple of 1024"):
        with_overrides(experiment, {"generator": too_deep})
    changed = with_overrides(experiment, {"output": str(tmp_path), "generator": misspelt})
    with pytest.raises(AgfasError, match="corpsu"):
        train_dfg.run(changed, make_faces(changed))
