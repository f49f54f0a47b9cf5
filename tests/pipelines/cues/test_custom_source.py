"""A cue source of one's own, named in a configuration by `module:Class`: restored, judged and listed like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_experiments import chain_settings

from pipelines.artefacts.cues import store_folders
from pipelines.artefacts.faces import make_faces
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.workspace import Workspace
from pipelines.stages import chain, cues
from pipelines.verdict import FaceAntiSpoofing

SOURCE = '''
import torch
from torch.nn import functional

class Blur:
    """Each pixel becomes the mean of its surroundings."""

    def __init__(self, width: int = 3) -> None:
        self.width = width

    def fingerprint(self):
        return {"width": self.width}

    def __call__(self, image, keys):
        pad = self.width // 2
        return functional.avg_pool2d(functional.pad(image, (pad,) * 4, mode="reflect"), self.width, 1)

class Strange:
    """No source."""

    def __init__(self) -> None:
        self.width = 3
'''


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment:
    root = tmp_path_factory.mktemp("custom")
    (root / "blurs_of_mine.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        settings = chain_settings(root / "out")
        settings["cue"] = {"source": "blurs_of_mine:Blur", "options": {"width": 5}, "batch_size": 8, "shard_size": 16}
        yield build_experiment(settings, "the test")


@pytest.fixture(scope="module")
def judged(experiment) -> Path:
    chain.run(experiment, "evaluate")
    return Workspace(experiment).detector()


def test_a_source_of_ones_own_is_restored_and_judged(experiment, judged):
    assert (judged / "result.json").is_file()
    assert not (experiment.root / "generator").exists()  # it needs none
    columns = make_faces(experiment).columns()
    (folder,) = store_folders(experiment, columns, [0]).values()
    identity = ShardStore.open(folder).identity["source"]
    assert identity == {"name": "blurs_of_mine:Blur", "width": 5}


def test_its_options_name_its_cues(experiment, judged):
    other = with_overrides(experiment, {"cue.options": {"width": 3}})
    assert Workspace(other).detector() != judged
    columns = make_faces(experiment).columns()
    assert store_folders(other, columns, [0]) != store_folders(experiment, columns, [0])


def test_the_commands_know_it(experiment, judged, capsys):
    cues.print_status(experiment, cues.parse_timesteps(None, experiment))
    cues.verify(experiment, cues.parse_timesteps(None, experiment))
    said = capsys.readouterr().out
    assert said.count("blurs_of_mine:Blur: ") == 2
    assert "with equal bytes" in said
    with pytest.raises(AgfasError, match="has no t"):
        cues.parse_timesteps("201", experiment)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cue.source": "dgf"}, "did you mean 'dfg'"),
        ({"cue.options": {"widht": 3}}, "width"),
        ({"cue.source": "nowhere:Blur", "cue.options": {}}, "nowhere"),
        ({"cue.form": "two_part"}, "use residual"),
        ({"cue.source": "zero"}, "takes none"),
    ],
)
def test_mistakes_are_answered_with_the_fix(experiment, changes, words):
    with pytest.raises(AgfasError, match=words):
        with_overrides(experiment, changes)


def test_a_class_that_is_no_source_is_refused(experiment, judged):
    strange = with_overrides(experiment, {"cue.source": "blurs_of_mine:Strange", "cue.options": {}})
    with pytest.raises(AgfasError, match=r"fingerprint\(\) and __call__"):
        Workspace(strange).detector()


def test_a_saved_model_carries_the_sources_name(experiment, judged, tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = FaceAntiSpoofing.from_run(experiment.root)
    model.save_pretrained(tmp_path / "saved")
    again = FaceAntiSpoofing.from_pretrained(tmp_path / "saved")
    assert [verdict.score for verdict in again(crops)] == [verdict.score for verdict in model(crops)]
    card = (tmp_path / "saved" / "README.md").read_text()
    assert card.count("blurs_of_mine:Blur") >= 2  # what makes the cue, and among the parts
    assert not (tmp_path / "saved" / "generator").exists()


def test_a_source_that_is_no_class_is_not_called(experiment, judged):
    called = with_overrides(experiment, {"cue.source": "os:getcwd", "cue.options": {}})
    with pytest.raises(AgfasError, match="must be a class"):
        Workspace(called).detector()


def test_the_cue_is_what_the_source_makes(experiment, judged):
    from pipelines.artefacts.cues import cue_reader, open_sweep
    from pipelines.pixels import to_unit_range

    faces = make_faces(experiment)
    rows = [row for row, domain in enumerate(faces.domains) if domain == "phone"][:2]
    reader = cue_reader(experiment, faces)
    assert reader is not None
    restored = to_unit_range(reader.cues(rows)[1])
    image = to_unit_range(faces.images[rows])
    made = open_sweep(experiment, [0]).restore(image, ["a", "b"], [0])[0]
    torch.testing.assert_close(restored, made, atol=1 / 127, rtol=0)
