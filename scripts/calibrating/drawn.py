"""The study on the built-in benchmark: detectors of a run, calibrated on live faces of an unseen domain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artefacts.faces import face_columns
from pipelines.artefacts.runs import result_path
from pipelines.data.crop import to_square
from pipelines.data.protocols import protocol_folds
from pipelines.data.records import BONAFIDE
from pipelines.experiment.plan import Planned, read_plan
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.crops import Loaded
from pipelines.verdict.from_run import open_planned
from pipelines.verdict.settings import Sees
from scripts.calibrating.real import Table
from scripts.calibrating.seen import Seen, seen
from scripts.calibrating.trials import BOTH, DISTANCE, SCORE, Means, judge, mean_auc, percent

PERSONS = 35
PARTS = 5
"""Parts of the persons of a domain; each is judged by a head of the others."""
KINDS: tuple[Sees, ...] = ("both", "face", "cue")
_RULES = {
    "as it was": "score, as it was",
    "threshold alone": "score, by person",
    "head": "head, by person",
}


def drawn_tables(run: Path) -> list[Table]:
    """One table for all detectors of a run, the mean of its folds' unseen domains."""
    rows = []
    for planned in read_plan(run):
        if Workspace(planned.experiment).needs_cue() and planned.experiment.cue.source == "shuffled":
            continue
        rows += [{"detector": planned.label, "features": kind, **row} for kind, row in _rows(planned)]
    words = (
        "Of each fold the detector has seen no picture of its test domain. Head and threshold (for a BPCER of 5 %)"
        " come from live faces of four fifths of that domain's persons; the others are judged, in turn. Mean of the"
        " folds' persons, in %, with the 95 % interval of a bootstrap of persons. AUC: mean over folds and parts. As"
        " it was: at the run's own threshold, the EER of held-out videos of the domains that it was trained on."
    )
    return [Table("An unseen domain", words, rows)]


def _rows(planned: Planned) -> Iterator[tuple[Sees, dict[str, Any]]]:
    means: dict[Sees, Means] = {}
    faces = 0
    for fold in read_json(result_path(planned.experiment))["folds"]:
        detector = FaceAntiSpoofing(*open_planned(planned, fold, Loaded()), batch_size=64)
        own = detector.settings.threshold.value
        for kind, domain in _domain(detector, planned, fold).items():
            for calibration, test in _parts(domain):
                means.setdefault(kind, Means.empty()).add(test, judge(calibration.live_faces(), test, own))
                faces = len(calibration.odds)
    for kind, found in means.items():
        yield (
            kind,
            {
                "live faces": faces,
                **{f"AUC {name}": mean_auc(found.pooled[f"auc {name}"]) for name in (SCORE, DISTANCE, BOTH)},
                **{
                    f"{rate}: {title}": percent(found.mean(f"{rate.lower()} {rule}"))
                    for title, rule in _RULES.items()
                    for rate in ("BPCER", "APCER")
                },
            },
        )


def _domain(detector: FaceAntiSpoofing, planned: Planned, fold: str) -> dict[Sees, Seen]:
    """Faces of a fold's unseen domain, drawn anew of more persons than the run had: of an attack one frame a video."""
    experiment = planned.experiment
    assert isinstance(experiment.data, SyntheticSettings)
    folds = protocol_folds(experiment.protocol, face_columns(experiment))
    domains = next(each for each in folds if each.name == fold).test_domains
    more = {"subjects": PERSONS, "corpus_subjects": 0, "domains": tuple(domains)}
    settings = SyntheticSettings(**{**experiment.data.model_dump(include=set(SyntheticSettings.model_fields)), **more})
    pictures, records = render_faces(plan_videos(settings), settings.seed, settings.size)
    kept = [row for row, record in enumerate(records) if record["label"] == BONAFIDE or record["frame"] == 0]
    return seen(
        detector,
        [to_square(pictures[row], detector.settings.face.size) for row in kept],
        person=[f"{records[row]['domain']}/{records[row]['subject']}" for row in kept],
        session=[records[row]["video"] for row in kept],
        live=[records[row]["label"] == BONAFIDE for row in kept],
        sees=KINDS if detector.settings.cue is not None else KINDS[:1],
    )


def _parts(domain: Seen) -> Iterator[tuple[Seen, Seen]]:
    """Live faces of four fifths of the persons, and all faces of the others."""
    part = np.unique(domain.person, return_inverse=True)[1].reshape(-1) % PARTS
    for each in range(PARTS):
        yield domain.where((part != each) & domain.live), domain.where(part == each)
