"""What settings of an experiment mean together: refusals, labels, names of artefacts, a machine's arithmetic."""

from __future__ import annotations

import ctypes
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.artefacts import models, runs
from pipelines.errors import AgfasError
from pipelines.experiment import profile, untrained
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, read_mapping, with_overrides
from pipelines.experiment.plan import Planned, expand, read_plan
from pipelines.experiment.published import check_published, content_of_weights
from pipelines.experiment.sizes import _levels, check_side, refuse_side
from pipelines.experiment.workspace import Workspace
from pipelines.files import write_json
from pipelines.fingerprint import content_sha256, file_sha256, fingerprint, folder_sha256
from pipelines.seals import write_sealed


def experiment(**content) -> Experiment:
    return build_experiment(content, "the test")


def maker(name: str, **cue) -> dict:
    return {"generator": {"name": name}, "cue": {"source": name, **cue}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"cue": {"source": "memae"}},
            "cue.source = memae needs generator.name = memae, not dfg: give both, for example generator: {name: memae};"
            " a sweep's variant replaces the whole block.",
        ),
        (
            {"cue": {"source": "dfg_no_identity"}},
            "cue.source = dfg_no_identity needs identity: {name: none}, not trained: the generator is trained under a",
        ),
        (
            {"generator": {"name": "memae"}, "cue": {"source": "autoencoder"}},
            "cue.source = autoencoder is the t = 0 of generator.name = dfg; memae has none",
        ),
        (
            maker("memae", form="two_part"),
            "cue.form = two_part needs an autoencoder's reconstruction, which memae does not have: use residual",
        ),
        (
            maker("memae", scheduler="unipc"),
            "cue.scheduler is an option of generator.name = dfg; leave it out for memae",
        ),
        (
            {"generator": {"name": "anoddpm", "train_timesteps": 200}, "cue": {"source": "anoddpm", "timestep": 201}},
            "cue.timestep = 201 exceeds generator.train_timesteps = 200: anoddpm was not trained on so much noise",
        ),
        (
            {"evaluate": {"threshold": "published"}},
            "evaluate.threshold = published is of published weights as they are: set train.steps: 0",
        ),
        ({"data": {"size": 66}}, "data.size = 66 must be a multiple of 4, by which generator.autoencoder.patch_size"),
        (
            {"generator": {"unet_weights": "x", "precondition": True}},
            "precondition builds a U-Net of its own: it cannot start from unet_weights",
        ),
        (
            {"generator": {"precondition": True, "prediction": "v_prediction"}},
            "precondition starts from a denoiser that predicts the noise: it needs prediction: epsilon",
        ),
        ({"generator": {"train": False}}, "train: false takes given weights as they are: name them with unet_weights"),
        (
            {"generator": {"train": False, "unet_weights": "x", "tokens": "projection"}},
            "tokens: projection is learned in training: it needs train: true",
        ),
        (
            {"generator": {"autoencoder": {"patch_size": 2, "latent_channels": 13}}},
            "latent_channels = 13 exceeds 12, the directions of a patch of 2x2",
        ),
    ],
)
def test_what_does_not_go_together_is_said_with_what_would(content, words):
    with pytest.raises(AgfasError) as refusal:
        experiment(**content)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        {"identity": {"name": "none"}, "cue": {"source": "dfg_no_identity"}},
        {"generator": {"name": "memae"}, "cue": {"source": "zero", "form": "two_part"}},
        {"generator": {"name": "memae"}, "cue": {"source": "noise"}},
        maker("memae", num_inference_steps=7),
        {"generator": {"name": "anoddpm", "train_timesteps": 201}, "cue": {"source": "anoddpm", "timestep": 201}},
        {"generator": {"name": "anoddpm", "train_timesteps": 200}, "cue": {"source": "noise", "timestep": 201}},
        {"data": {"size": 66}, "detector": {"name": "image_only"}},
        {"data": {"size": 66}, "cue": {"source": "zero"}},
        {"generator": {"train": False, "unet_weights": "x"}},
        {"generator": {"precondition": True}},
        {"generator": {"autoencoder": {"patch_size": 2, "latent_channels": 12}}},
    ],
)
def test_what_goes_together_is_accepted(content):
    experiment(**content)


@pytest.mark.parametrize(
    ("content", "label"),
    [
        (maker("anoddpm", timestep=401), "oanet anoddpm t=401 residual"),
        (maker("memae"), "oanet memae residual"),
        ({"cue": {"source": "autoencoder"}}, "oanet autoencoder residual"),
        ({"cue": {"source": "noise", "form": "two_part"}}, "oanet noise two_part"),
        ({"cue": {"source": "shuffled", "timestep": 401}}, "oanet shuffled t=401 residual"),
        ({"detector": {"name": "minifasnet", "weights": "w"}, "train": {"steps": 0}}, "minifasnet as published"),
    ],
)
def test_a_single_experiment_is_called_by_what_decides_it(content, label):
    ((planned),) = expand(experiment(**content))
    assert planned.title == label


def test_a_plan_that_is_none_is_said_to_be_none(tmp_path):
    assert Planned("a", {}, Experiment()).title == "a"
    for items in ([{"label": "a"}], [3], [{"label": "a", "axes": 3, "experiment": {}}]):
        write_json(tmp_path / "plan.json", {"experiments": items})
        with pytest.raises(AgfasError, match=r"plan\.json does not list experiments\. Remove it and run the command"):
            read_plan(tmp_path)
    write_json(tmp_path / "plan.json", {"experiments": [{"label": 3, "axes": {}, "experiment": {"seed": 2}}]})
    (planned,) = read_plan(tmp_path)
    assert (planned.label, planned.experiment.seed, planned.experiment.root) == ("3", 2, tmp_path)


def test_a_mapping_of_a_file(tmp_path):
    with pytest.raises(AgfasError, match=r"^No recipe at .*none\.yaml\. Look again\.$"):
        read_mapping(tmp_path / "none.yaml", "recipe", "Look again.")
    with pytest.raises(AgfasError, match=r"^No configuration at .*none\.yaml\. Check the name\.$"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("[1]")
    with pytest.raises(AgfasError, match=r"a\.yaml must hold a mapping of keys to values, not a list\."):
        read_mapping(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("")
    assert read_mapping(tmp_path / "a.yaml") == {}


# The arithmetic of a machine.


class Driver:
    """As much of NVIDIA's driver as is asked: the return codes of its calls, and the capability."""

    def __init__(self, init=0, get=0, attribute=0, major=9):
        self.codes, self.major, self.asked = (init, get, attribute), major, []

    def cuInit(self, flags):
        self.asked.append(flags)
        return self.codes[0]

    def cuDeviceGet(self, device, number):
        self.asked.append(number)
        device._obj.value = 5
        return self.codes[1]

    def cuDeviceGetAttribute(self, number, attribute, device):
        self.asked += [attribute, device.value]
        number._obj.value = self.major
        return self.codes[2]


@pytest.mark.parametrize(
    ("driver", "found"),
    [(Driver(), 9), (Driver(init=1), 0), (Driver(get=1), 0), (Driver(attribute=1), 0), (Driver(major=7), 7), (None, 0)],
)
def test_the_driver_says_which_gpu_there_is(monkeypatch, driver, found):
    def load(name):
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert profile.compute_capability() == found
    if found:
        assert driver.asked == [0, 0, 75, 5]  # the first GPU


@pytest.mark.parametrize(("there", "found"), [("cc", True), ("gcc", True), ("clang", True), ("tcc", False)])
def test_a_compiler_is_one_of_three(monkeypatch, there, found):
    monkeypatch.setattr(shutil, "which", lambda name: name if name == there else None)
    assert profile._has_compiler() is found


def test_the_choice_of_a_folder_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "_has_compiler", lambda: False)
    profile.remember_profile(Experiment(output=tmp_path, profile="auto"))
    assert not any(tmp_path.iterdir())
    profile.remember_profile(Experiment(output=tmp_path, profile="gpu"))
    profile.remember_profile(Experiment(output=tmp_path, profile="exact"))
    written = json.loads((tmp_path / "profile.json").read_text())
    assert (written["profile"], written["compile"]) == ("gpu", False)
    monkeypatch.setattr(profile, "_has_compiler", lambda: True)
    found = experiment(output=str(tmp_path))
    assert (found.profile, found.cue.compile) == ("gpu", False)
    monkeypatch.setattr(profile, "compute_capability", lambda: 8)
    assert experiment(output=str(tmp_path / "absent")).profile == "gpu"
    (tmp_path / "empty").mkdir()
    assert experiment(output=str(tmp_path / "empty")).profile == "gpu"


# Sides and weights.


@pytest.mark.parametrize(
    ("generator", "side", "words"),
    [
        ({"autoencoder": {"patch_size": 8}}, 12, "data.size = 12 must be a multiple of 8, .*: give 8 or 16$"),
        ({"autoencoder": {"patch_size": 64}}, 32, "give 64$"),
        (
            {"autoencoder": {"name": "taesd", "encoder": "a", "decoder": "b"}},
            20,
            "autoencoder.name = taesd .*: give 16 or 24$",
        ),
        ({"name": "anoddpm"}, 33, "a multiple of [0-9]+, by which generator.name = anoddpm divides it"),
    ],
)
def test_a_side_that_cannot_be_divided_is_refused_with_the_nearest(generator, side, words):
    name = generator.get("name", "dfg")
    settings = experiment(generator=generator, detector={"name": "image_only"}, cue={"source": name}).generator
    with pytest.raises(ValueError, match=words):
        check_side(side, settings)
    with pytest.raises(AgfasError, match=words.removesuffix("$") + r".*\.$"):
        refuse_side(side, settings)
    check_side(1024, settings)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ('{"block_out_channels": [1, 2, 3]}', 3),
        ('{"encoder_block_out_channels": [1, 2], "block_out_channels": [1]}', 2),
        ('{"encoder_block_out_channels": null, "block_out_channels": [1]}', 1),
        ("{}", 1),
        ("[]", 1),
        ('{"block_out_channels": 3}', 1),
        ("{", 1),
        ("[" * 100_000, 1),
        (None, 1),
    ],
)
def test_an_autoencoder_halves_the_side_once_less_than_it_has_levels(tmp_path, text, levels):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert _levels(tmp_path) == levels


def test_published_weights_are_used_as_they_are_or_trained_on():
    check_published("minifasnet", "w", None, 0)
    check_published("minifasnet", "w", "picture", 0)
    check_published("livenessnet", None, None, 1)
    check_published("liveness_vit", "w", "crop", 1)
    for given, words in (
        (
            ("livenessnet", None, None, 0),
            "train.steps = 0 uses a detector with published weights, but detector.weights",
        ),
        (
            ("liveness_vit", "w", "picture", 1),
            "detector.sees = picture is for published weights that are judged as they",
        ),
        (("minifasnet", "w", None, 1), "'minifasnet' cannot be trained here: "),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            check_published(*given)


def test_weights_enter_by_their_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_bytes(name.encode())
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
    a, b = (hash_ for hash_ in (content_sha256(tmp_path / "a.pt"), content_sha256(tmp_path / "b.pt")))
    one = {"name": "x", "weights": str(tmp_path / "a.pt")}
    assert content_of_weights(one) == {"name": "x", "weights": [a]}
    both = [str(tmp_path / "b.pt"), str(tmp_path / "a.pt")]
    assert content_of_weights({"weights": both}) == {"weights": sorted([a, b])}
    assert content_of_weights({"weights": None}) == {"weights": None}
    folder = content_sha256(tmp_path / "a")
    assert content_of_weights({"clip": str(tmp_path / "a")}) == {"clip": folder}
    assert content_of_weights({"clip": "ViT-B/16"}) == {"clip": "ViT-B/16"}
    local = f"local-dir:{tmp_path / 'a'}"
    found = content_of_weights({"backbone": local, "cue_backbone": local, "cue_channels": 3})
    assert found == {"backbone": folder, "cue_backbone": folder, "cue_channels": 3}
    assert content_of_weights({"backbone": "resnet18"}) == {"backbone": "resnet18"}
    with pytest.raises(AgfasError, match=r"No weights at .*c\.pt: there is no such file\. Check detector\.weights\."):
        content_of_weights({"weights": str(tmp_path / "c.pt")})


# Where things lie, and what names them.


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
    assert [one.makes_faces() for one in (made, drawn)] == [False, True]


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
    for name in ("MemAEObjective", "DeepSvddObjective", "AnoDdpmObjective"):
        monkeypatch.setattr(untrained, name, lambda *given, name=name: (name, *given))
    for name, objective in (
        ("memae", ("MemAEObjective", "model", 0.5)),
        ("deep_svdd", ("DeepSvddObjective", "model", 0.5)),
        ("anoddpm", ("AnoDdpmObjective", "model")),
    ):
        weight = {"memae": {"entropy_weight": 0.5}, "deep_svdd": {"compactness_weight": 0.5}}.get(name, {})
        settings = experiment(generator={"name": name, **weight}, cue={"source": name}).generator
        assert untrained.build_baseline_training(settings, 32) == objective
    assert seen == [((name, "tiny", 32), {}) for name in ("memae", "deep_svdd", "anoddpm")]


def test_overrides_replace_a_block_and_keep_what_was_not_set():
    base = experiment(cue={"timestep": 401}, seed=3)
    changed = with_overrides(base, {"cue": {"form": "two_part"}, "train.steps": 5})
    assert (changed.cue.timestep, changed.cue.form, changed.seed, changed.train.steps) == (801, "two_part", 3, 5)
