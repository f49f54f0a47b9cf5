"""The steps of docs/own-pictures.md: from a folder of photos to a saved model, at a size of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from prepare_stubs import SquareDetector, people

from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.records import load_faces
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import read_experiment
from pipelines.stages import chain, detect, prepare, show
from pipelines.verdict import FaceAntiSpoofing

CONFIG = Path(__file__).parents[3] / "configs" / "photos.yaml"
SMALL = (
    "data.size=32",
    "generator.loop.steps=2",
    "generator.unet.block_out_channels=[8,8,8]",
    "generator.unet.norm_num_groups=4",
    "generator.unet.attention_head_dim=4",
    "generator.autoencoder.latent_channels=8",
    "cue.samples=1",
    "cue.batch_size=8",
    "detector.image_size=32",
    "train.steps=2",
    "train.warmup=1",
    "train.per_cell=2",
    "evaluate.replicates=100",
)


def prepared(root: Path, subjects: int) -> Path:
    photos = people(root / "photos", subjects=subjects, pictures=2)
    recipe = PrepareRecipe(size=32, workers=1)  # the folder is called photos, and so is the domain
    assert prepare.run(photos, root / "faces", recipe, SquareDetector) == 0
    return root / "faces"


def small(root: Path, faces: Path) -> Experiment:
    return read_experiment(CONFIG, [*SMALL, f"data.path={faces}", f"output={root / 'run'}"])


@pytest.mark.slow
def test_from_photos_to_a_saved_model(tmp_path):
    faces = prepared(tmp_path, subjects=4)
    assert any("Splits are clean" in line for line in show.run(faces))
    chain.run(small(tmp_path, faces), "evaluate")
    assert "model" in detect.save_model(FaceAntiSpoofing.from_run(tmp_path / "run"), tmp_path / "model")
    model = FaceAntiSpoofing.from_pretrained(tmp_path / "model")
    (verdict,) = model(load_faces(faces)[0]["image"], aligned=True)
    assert verdict.verdict in ("live", "attack")
    assert "held-out source videos (photos)" in model.settings.threshold.origin


def test_too_few_people_are_said_before_anything_is_trained(tmp_path):
    faces = prepared(tmp_path, subjects=2)
    with pytest.raises(AgfasError, match="`test` records, but it has none"):
        chain.run(small(tmp_path, faces), "evaluate")
    assert not (tmp_path / "run" / "generator").exists()
