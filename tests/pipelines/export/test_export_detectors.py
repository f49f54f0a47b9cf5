"""Every detector: exported with the scores of torch, or refused with the reason; with the cue in the same graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported_models import SIZE, generator, some_faces, untrained

from dfg.baselines import build_baseline
from oanet.names import DETECTORS, takes_cue
from pipelines.cues.settings import CueSettings
from pipelines.errors import AgfasError
from pipelines.export.folder import export_folder
from pipelines.export.predict import Model
from pipelines.verdict import FaceAntiSpoofing

REFUSED = {
    "minifasnet": "cuts its own crops out of the whole picture around the face's box",
    "insightface_liveness": "cuts its own crop out of the whole picture by the face's points",
}
QUICK = ("attacknet_v1", "insightface_liveness")
ONE_CALL = CueSettings(timestep=401, calls=1, samples=2, seed=3, form="two_part")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS.builtin]
)
def test_detector_scores_as_in_torch_or_says_why_not(name: str, tmp_path: Path) -> None:
    with_cue = takes_cue(name, {})
    model = untrained(name, cue=ONE_CALL if with_cue else None, maker=generator() if with_cue else None)
    if name in REFUSED:
        with pytest.raises(AgfasError, match=REFUSED[name]):
            export_folder(model, tmp_path / "model", some_faces, aligned_only=True)
        return
    made = export_folder(model, tmp_path / "model", some_faces, aligned_only=True)
    assert made.parity is not None
    # A restoration may fall on another side of the middle of two grey levels.
    assert made.parity.largest < (1e-3 if with_cue else 1e-5)
    scores = model.scorer(some_faces(SIZE).crops).scores
    assert len(np.unique(scores)) == len(scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"posterior": "sample"},
        {"form": "residual", "samples": 1},
        {"form": "compensated", "normalize": "none"},
        {"guidance_scale": 2.0},
        {"scheduler": "unipc"},
        {"source": "autoencoder", "form": "residual"},
    ],
)
def test_the_cue_is_in_the_graph(change: dict[str, object], tmp_path: Path) -> None:
    cue = ONE_CALL.model_copy(update=change)
    model = untrained("oanet", cue=cue, maker=generator())
    made = export_folder(model, tmp_path / "model", some_faces, aligned_only=True)
    inputs = [] if cue.source == "autoencoder" else [f"noise_{3 + sample}" for sample in range(cue.samples)]
    assert [each.input for each in made.graph.noise if each.input.startswith("noise")] == inputs
    assert len(made.graph.noise) == len(inputs) * (1 + (cue.posterior == "sample"))
    opened, crops = Model(tmp_path / "model"), some_faces(SIZE).crops
    expected = model(crops, aligned=True)
    found = FaceAntiSpoofing.from_pretrained(tmp_path / "model")(crops, aligned=True)
    for crop, one, other in zip(crops, found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert opened(crop, aligned=True).score == pytest.approx(other.score, abs=1e-3)
    if made.graph.noise:  # the noise decides, so a graph that ignored it would be found out
        opened.settings["graph"]["noise"][0]["seed"] += 1
        assert abs(opened.scores(crops)[0] - [answer.score for answer in expected]).max() > 1e-5


@pytest.mark.parametrize("name", [pytest.param("memae", marks=pytest.mark.slow), "deep_svdd", "one_call"])
def test_the_other_sources_of_one_call(name: str, tmp_path: Path) -> None:
    maker = build_baseline(name, "tiny", image_size=SIZE).eval()
    model = untrained("oanet", cue=CueSettings(source=name), maker=maker)
    made = export_folder(model, tmp_path / "model", some_faces, aligned_only=True)
    assert made.graph.noise == []
    assert made.parity is not None
    assert made.parity.largest < 1e-3


def test_a_source_that_draws_noise_at_each_step_is_refused(tmp_path: Path) -> None:
    model = untrained("oanet", cue=ONE_CALL, maker=generator())
    model.settings = model.settings.model_copy(update={"cue": CueSettings(source="anoddpm", calls=1)})
    with pytest.raises(AgfasError, match="noise at each of its steps"):
        export_folder(model, tmp_path / "model", some_faces, aligned_only=True)
