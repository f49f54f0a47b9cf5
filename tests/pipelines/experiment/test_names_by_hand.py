"""Where artefacts lie, what names them, and models as settings build them, by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.artefacts import models, runs
from pipelines.errors import AgfasError
from pipelines.experiment import untrained
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_json
from pipelines.fingerprint import file_sha256, fingerprint, folder_sha256
from pipelines.seals import write_sealed


def experiment(**content) -> Experiment:
    return build_experiment(content, "the test")


def maker(name: str, **cue) -> dict:
    return {"generator": {"name": name}, "cue": {"source": name, **cue}}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    for room in ("experiment.workspace", "data.join"):
        monkeypatch.setattr(f"pipelines.{room}.read_card", lambda folder: {"fingerprint": f"f of {folder.name}"})

    def of(**content) -> Workspace:
        data = {"name": "dataset", "path": str(tmp_path / "faces")}
        return Workspace(experiment(**{"output": str(tmp_path), "data": data, **content}))

    return of


def test_every_artefact_has_its_folder(workspace, tmp_path):
    made = workspace()
    assert made.faces_id() == "f of faces-64"
    names = {name: fingerprint(getattr(made, f"{name}_key")()) for name in ("identity", "generator", "detector")}
    assert made.identity() == tmp_path / "identity" / names["identity"]
    assert made.generator() == tmp_path / "generator" / names["generator"]
    assert made.detector() == tmp_path / "detectors" / names["detector"]
    assert (made.latents(), made.cues()) == (tmp_path / "latents", tmp_path / "cues")
    assert made.generator_state() == f"generator not trained: {made.generator()}"
    made.generator().mkdir(parents=True)
    (made.generator() / "done.json").touch()
    assert made.generator_state() == f"generator trained: {made.generator()}"
    drawn = workspace(data={"name": "synthetic"})
    assert drawn.faces == tmp_path / "faces" / fingerprint(drawn.experiment.data.settings().model_dump(mode="json"))
    joined = workspace(data={"name": "dataset", "paths": ["a", "b"]})
    assert joined.faces.parent == tmp_path / "faces"
    assert [one.makes_faces() for one in (made, drawn, joined)] == [False, True, True]


def test_keys_hold_what_decides_and_nothing_else(workspace):
    made = workspace(identity={"name": "none"})
    assert made.identity_key() == {"schema": 2, "identity": {"name": "none"}}
    assert set(workspace().identity_key()) == {"schema", "identity", "faces"}
    assert set(made.generator_key()) == {"schema", "generator", "faces", "identity"}
    assert made.generator_key()["identity"] == fingerprint(made.identity_key())
    assert made.generator_key()["schema"] == 2
    assert set(workspace(**maker("memae")).generator_key()) == {"schema", "generator", "faces"}
    assert made.latents_key() == {
        "schema": 2,
        "autoencoder": {"name": "patch", "patch_size": 4, "latent_channels": 24, "whitening": 1.0},
        "identity": fingerprint({"schema": 2, "identity": {"name": "none"}}),
        "faces": "f of faces-64",
        "domains": ["corpus"],
    }
    detector = workspace(seed=3, detector={"name": "image_only"}).detector_key()
    assert set(detector) == {"schema", "faces", "detector", "protocol", "cue", "objective", "train", "seed"}
    assert (detector["schema"], detector["seed"], detector["cue"]) == (2, 3, None)
    assert detector["objective"] == {"name": "ssdg"}
    assert detector["detector"] == {"name": "image_only"}
    extra = workspace(detector={"name": "image_only"}, train={"extra_live": {"dataset": "some/more"}}).detector_key()
    assert extra["train"]["extra_live"]["dataset"] == "f of more"
    corpus = workspace(detector={"name": "image_only"}, train={"extra_live": {}}).detector_key()
    assert corpus["train"]["extra_live"]["dataset"] == "corpus"


def test_a_published_detector_is_named_by_what_it_sees(workspace, tmp_path):
    (tmp_path / "w").write_bytes(b"x")
    given = {"name": "liveness_vit", "weights": str(tmp_path / "w")}
    as_published = workspace(detector=given, train={"steps": 0}).detector_key()
    assert set(as_published) == {"schema", "faces", "detector", "protocol", "train", "sees"}
    assert as_published["train"] == {"steps": 0}
    of_crops = workspace(detector={**given, "sees": "crop"}, train={"steps": 0}).detector_key()
    assert "sees" not in of_crops


@pytest.mark.parametrize(
    ("content", "cue", "restored", "control", "generator", "timestep"),
    [
        ({}, True, True, False, True, 801),
        (maker("memae"), True, True, False, True, 0),
        ({"cue": {"source": "autoencoder"}}, True, True, True, True, 0),
        ({"cue": {"source": "shuffled"}}, True, True, True, True, 801),
        ({"cue": {"source": "noise"}}, True, False, True, False, 0),
        ({"detector": {"name": "image_only"}}, False, False, False, False, 801),
    ],
)
def test_what_a_detector_needs(workspace, content, cue, restored, control, generator, timestep):
    made = workspace(**content)
    found = made.needs_cue(), made.needs_restoration(), made.is_control(), made.needs_generator(), made.timestep()
    assert found == (cue, restored, control, generator, timestep)


def test_restorations_are_shared_by_what_restores_and_not_by_their_t(workspace):
    first = workspace().restoration()
    assert first == workspace(cue={"timestep": 401}).restoration()
    others = [{"cue": {"batch_size": 3}}, {"cue": {"num_inference_steps": 10}}, {"generator": {"share": 0.5}}]
    assert len({first, *(workspace(**one).restoration() for one in others)}) == 4


# What is left and opened.


def test_a_model_that_cannot_be_loaded_is_said_in_one_line():
    for error, words in (
        (ValueError("a\n b"), "a b"),
        (OSError("gone"), "gone"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("y" * 500), "y" * 400),
    ):
        with pytest.raises(AgfasError) as refusal, models.explained(Path("f"), "detector"):
            raise error
        assert str(refusal.value) == f"The detector at f cannot be loaded: {words}"
        assert refusal.value.__cause__ is error


def test_checksums_of_saved_models_are_of_their_parts(tmp_path):
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "autoencoder" / "w.bin").write_bytes(b"x")
    assert models.snapshot_sha256(tmp_path) == file_sha256(tmp_path / "config.json")
    assert models.autoencoder_sha256(tmp_path) == folder_sha256(tmp_path / "autoencoder")


def test_a_detectors_run_says_what_is_wrong_with_it(tmp_path):
    run = runs.DetectorRun(tmp_path)
    assert not run.is_finished
    with pytest.raises(AgfasError, match=r"holds no finished detector\. Run `agfas train` with its configuration\."):
        run.steps  # noqa: B018
    write_json(tmp_path / "identity.json", {})
    for snapshots in (None, "2", [2, "3"], [True]):
        write_json(tmp_path / "done.json", {"snapshots": snapshots})
        with pytest.raises(
            AgfasError, match=r"done\.json was not written with the list of its snapshots: something was"
        ):
            run.steps  # noqa: B018
    write_json(tmp_path / "done.json", {"snapshots": [2, 3]})
    assert run.is_finished
    assert run.steps == [2, 3]
    assert run.score_path(2, "dev") == tmp_path / "scores" / "step_000002-dev.parquet"


@pytest.mark.parametrize("known", [None, "right", "wrong"])
def test_a_detector_of_another_run_is_noticed(tmp_path, monkeypatch, known):
    monkeypatch.setattr(runs, "load_detector", lambda folder: f"the detector in {folder.name}")
    folder = tmp_path / "snapshots" / "step_000002"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    write_json(tmp_path / "identity.json", {})
    sums = {"right": {"2": file_sha256(folder / "config.json")}, "wrong": {"2": "x"}}.get(known)
    write_json(tmp_path / "done.json", {"snapshots": [2], **({"snapshots_sha256": sums} if sums else {})})
    if known == "wrong":
        with pytest.raises(AgfasError, match=r"was not written with the detector in .*step_000002: something was exch"):
            runs.DetectorRun(tmp_path).load(2)
    else:
        assert runs.DetectorRun(tmp_path).load(2) == "the detector in step_000002"


def test_a_generator_of_another_run_is_noticed(workspace, monkeypatch):
    made = workspace()
    with pytest.raises(AgfasError, match=r"No finished generator at .* Run `agfas train-dfg` with the same config"):
        runs.generator_done(made.experiment)
    folder = made.generator()
    write_json(folder / "identity.json", made.generator_key())
    write_json(folder / "done.json", {})
    with pytest.raises(AgfasError, match="was not written with the checksum of weights"):
        runs.generator_done(made.experiment)

    def write(target):
        target.mkdir()
        (target / "w.bin").write_bytes(b"x")

    for name in ("pipeline", "model"):
        monkeypatch.setattr(
            runs, {"pipeline": "load_pipeline", "model": "load_baseline"}[name], lambda place: place.name
        )
    write_sealed(folder / "pipeline", write)
    write_json(folder / "done.json", {"weights_sha256": folder_sha256(folder / "pipeline")})
    assert runs.load_maker(made.experiment) == "pipeline"
    write_json(folder / "done.json", {"weights_sha256": "x"})
    with pytest.raises(AgfasError, match=r"was not written with the files of .*pipeline: something was exchanged"):
        runs.load_maker(made.experiment)
    baseline = workspace(**maker("memae"))
    write_sealed(baseline.generator() / "model", write)
    write_json(baseline.generator() / "identity.json", baseline.generator_key())
    done = {"weights_sha256": folder_sha256(baseline.generator() / "model")}
    write_json(baseline.generator() / "done.json", done)
    assert runs.load_maker(baseline.experiment) == "model"
    assert runs.result_path(made.experiment) == made.detector() / "result.json"
    assert runs.detector_run(made.experiment, "to_x").folder == made.detector() / "to_x"


# Models as settings build them.


LIVENESSNET = {"name": "livenessnet", "image_size": 32, "width": 2, "hidden": 4}


def build_memae() -> None:
    untrained.build_baseline_training(experiment(**maker("memae")).generator, 32)


@pytest.mark.parametrize(
    ("what", "place", "call"),
    [
        ("The detector", "build_by_name", lambda: untrained.build_detector(Experiment())),
        ("The objective", "build_objective", lambda: untrained.build_training(experiment(detector=LIVENESSNET), 2)),
        ("generator.name = memae", "build_baseline", build_memae),
    ],
)
def test_options_that_make_no_model_are_refused(monkeypatch, what, place, call):
    for error, words in ((ValueError("no"), f"{what} cannot be built: no"), (ZeroDivisionError("0\n0"), "0 0.")):

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr(untrained, place, fails)
        with pytest.raises(AgfasError) as refusal:
            call()
        assert str(refusal.value).startswith(f"{what} cannot be built")
        assert str(refusal.value).endswith(words)


def test_a_detector_is_built_for_its_cue_its_seed_and_its_sight(monkeypatch):
    seen = []
    built = SimpleNamespace(feature_dim=1)
    monkeypatch.setattr(untrained, "build_by_name", lambda name, **options: seen.append((name, options)) or built)
    untrained.build_detector(experiment(seed=3, cue={"form": "two_part"}))
    untrained.build_detector(experiment(detector={"name": "image_only"}))
    further = {"name": "liveness_vit", "weights": "w"}
    untrained.build_detector(experiment(detector=further))
    untrained.build_detector(experiment(detector=further, train={"steps": 0}))
    assert seen == [
        ("oanet", {"seed": 3, "cue_channels": 6}),
        ("image_only", {"seed": 0}),
        ("liveness_vit", {"seed": 0, "weights": "w", "sees": "crop"}),
        ("liveness_vit", {"seed": 0, "weights": "w"}),
    ]
    built.feature_dim = 0
    with pytest.raises(
        AgfasError, match="its options leave it no feature to decide by, so that every face would score"
    ):
        untrained.build_detector(Experiment())


def test_an_objective_is_built_with_the_seed_and_its_options(monkeypatch):
    seen = []
    monkeypatch.setattr(untrained, "build_detector", lambda experiment: "a detector")
    monkeypatch.setattr(untrained, "build_objective", lambda *given, **options: seen.append((given, options)))
    untrained.build_training(experiment(seed=3, objective={"name": "ssdg", "margin": 0.2}), 4)
    assert seen == [(("ssdg", "a detector", 4), {"seed": 3, "margin": 0.2})]


def test_a_baseline_is_trained_by_its_own_objective(monkeypatch):
    seen = []
    monkeypatch.setattr(untrained, "build_baseline", lambda *given, **options: seen.append((given, options)) or "model")
    for name in ("MemAEObjective", "DeepSvddObjective", "AnoDdpmObjective", "OneCallObjective"):
        monkeypatch.setattr(untrained, name, lambda *given, name=name: (name, *given))
    for name, objective in (
        ("memae", ("MemAEObjective", "model", 0.5)),
        ("deep_svdd", ("DeepSvddObjective", "model", 0.5)),
        ("anoddpm", ("AnoDdpmObjective", "model")),
        ("one_call", ("OneCallObjective", "model")),
    ):
        weight = {"memae": {"entropy_weight": 0.5}, "deep_svdd": {"compactness_weight": 0.5}}.get(name, {})
        settings = experiment(generator={"name": name, **weight}, cue={"source": name}).generator
        assert untrained.build_baseline_training(settings, 32) == objective
    assert seen == [((name, "tiny", 32), {}) for name in ("memae", "deep_svdd", "anoddpm", "one_call")]


def test_overrides_replace_a_block_and_keep_what_was_not_set():
    base = experiment(cue={"timestep": 401}, seed=3)
    changed = with_overrides(base, {"cue": {"form": "two_part"}, "train.steps": 5})
    assert (changed.cue.timestep, changed.cue.form, changed.seed, changed.train.steps) == (801, "two_part", 3, 5)
