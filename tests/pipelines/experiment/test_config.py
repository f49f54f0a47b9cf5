"""Reading experiments: what is accepted, and how a mistake is answered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment, SyntheticData
from pipelines.experiment.file import read_experiment, set_dotted, with_overrides


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_overrides_are_applied_in_order(tmp_path):
    path = write(tmp_path, "cue: {timestep: 801}\nseed: 3\n")
    experiment = read_experiment(path, ["cue.timestep=401", "cue.timestep=201", "detector.name=image_only"])
    assert experiment.cue.timestep == 201
    assert experiment.detector.name == "image_only"
    assert experiment.seed == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cue.timestep=[", r"'cue\.timestep=\[' is not valid YAML"),
        ("=5", "'' is not a key"),
        ("cue.=5", r"'cue\.' is not a key"),
        ("train.ema_decay=0.9", "ema_decay is for generators"),
    ],
)
def test_an_override_that_cannot_be_is_explained(override, words):
    with pytest.raises(AgfasError, match=words):
        read_experiment(None, [override])


@pytest.mark.parametrize("text", [*"#*&!%@`|>?-~:=", "run #3", "a: b", "[draft] run", "1e3", "007", "12:30:00", "yes"])
def test_text_of_an_override_is_taken_as_it_stands(text):
    experiment = read_experiment(None, [f"output=runs/{text}", f"generator.unet_weights={text}x", "cue.seed=0x10"])
    assert experiment.root == Path("runs", text)
    assert (experiment.generator.unet_weights, experiment.cue.seed) == (f"{text}x", 16)


@pytest.mark.parametrize(
    "override", ["output=a ", "output=a\udcff", "generator.domains=[a, b] # c", "detector.stem=[a #3]", "name='a' b"]
)
def test_an_override_that_would_lose_a_part_is_refused(override):
    with pytest.raises(AgfasError, match="The override"):
        read_experiment(None, [override])


@pytest.mark.parametrize(
    "override", ["cue.timestp=1", "que.timestep=1", "cue.timestep=-1", "detector.nme=1", "cue.source=memae"]
)
def test_a_mistake_is_of_the_override_that_made_it(tmp_path, override):
    path = write(tmp_path, "cue: {timestep: 801}\n")
    with pytest.raises(AgfasError, match=f"In the override '{override}'"):
        read_experiment(path, ["seed=1", override, "objective.name=ssdg"])


def test_a_mistake_of_the_file_is_its_own(tmp_path):
    path = write(tmp_path, "seed: -1\n")
    with pytest.raises(AgfasError, match=f"^In {path}: 'seed' = -1"):
        read_experiment(path, ["cue.seed=1"])


def test_a_block_without_its_name_is_the_default_one():
    experiment = read_experiment(None, ["data.subjects=7", "identity.margin=0.2", "generator.autoencoder.patch_size=8"])
    assert isinstance(experiment.data, SyntheticData)
    assert experiment.data.subjects == 7
    assert experiment.generator.autoencoder.patch_size == 8


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cue.timestepp=3", ["cue.timestepp", "did you mean 'timestep'"]),
        ("detector.name=oanett", ["oanett", "oanet"]),
        ("objective.name=sdg", ["sdg", "ssdg"]),
        ("cue.form=residuals", ["residuals", "residual"]),
        ("cue.timestep=1000", ["cue.timestep", "1000", "999"]),
        ("data.subjekts=3", ["subjekts", "did you mean 'subjects'"]),
        ("class=3", ["unknown key 'class'", "Allowed: cue, data"]),
        ("generator.autoencoder.patchsize=3", ["patchsize", "did you mean 'patch_size'"]),
        ("data.name=synthetik", ["synthetik", "synthetic"]),
        ("seed=-1", ["seed", "-1"]),
        ("name=..", ["name", "'..'"]),
        ("no-equals-sign", ["key=value"]),
        ("seed.deeper=1", ["seed"]),
        ("detector.embeding_dim=3", ["embeding_dim", "embedding_dim"]),
    ],
)
def test_a_wrong_key_or_value_is_answered_with_the_fix(override, words):
    with pytest.raises(AgfasError) as caught:
        read_experiment(None, ["seed=1", override])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(AgfasError, match=r"experiment\.yaml"):
        read_experiment(write(tmp_path, text))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(AgfasError, match="configs/"):
        read_experiment(tmp_path / "absent.yaml")


def test_set_dotted_makes_what_is_missing():
    content: dict = {}
    set_dotted(content, "a.b.c", 1)
    assert content == {"a": {"b": {"c": 1}}}


def test_with_overrides_leaves_the_original_alone():
    base = Experiment()
    changed = with_overrides(base, {"detector": {"name": "image_only"}, "cue.timestep": 401})
    assert (base.detector.name, changed.detector.name) == ("oanet", "image_only")
    assert changed.cue.timestep == 401


# All but the recipe of `agfas prepare`, which is no experiment.
EXPERIMENTS = [path for path in sorted(Path("configs").glob("*.yaml")) if path.name != "prepare.yaml"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_every_configuration_that_comes_with_the_project_is_valid(path):
    from pipelines.experiment.plan import expand

    assert expand(read_experiment(path))


def test_reading_a_configuration_imports_no_torch():
    code = (
        "import sys; from pipelines.experiment.file import read_experiment; read_experiment(None);"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_command_line_answers_without_heavy_imports():
    code = (
        "import sys; import pipelines.cli; "
        "print(sorted(name for name in ('torch', 'diffusers', 'numpy', 'datasets') if name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_dataset_is_one_folder_or_several():
    one = read_experiment(None, ["data={name: dataset, path: faces}"])
    both = with_overrides(one, {"data.path": None, "data.paths": ["a/faces", "b/photos"]})
    assert (one.data.title, both.data.title) == ("faces", "faces and photos")
    for wrong in ({"data.paths": ["a", "b"]}, {"data.path": None}):
        with pytest.raises(AgfasError, match=r"either path \(one folder\) or paths"):
            with_overrides(one, wrong)
    with pytest.raises(AgfasError, match=r"data\.paths.*at least 2"):
        with_overrides(both, {"data.paths": ["a"]})
