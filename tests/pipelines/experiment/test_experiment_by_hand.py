"""What settings of an experiment mean together: refusals, labels, a machine's arithmetic, sides and weights."""

from __future__ import annotations

import ctypes
import json
import shutil

import pytest

from pipelines.errors import AgfasError
from pipelines.experiment import profile
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, read_mapping
from pipelines.experiment.plan import Planned, expand, read_plan
from pipelines.experiment.published import check_published, content_of_weights
from pipelines.experiment.sizes import _levels, check_side, refuse_side
from pipelines.files import write_json
from pipelines.fingerprint import content_sha256


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
    with pytest.raises(AgfasError, match=r"^No file at .*none\.yaml\. Check the name\.$"):
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
