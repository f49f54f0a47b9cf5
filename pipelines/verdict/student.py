"""A student of a detector as a model like every other: its network, its threshold, and what its card states."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from oanet.detectors import Detector, build_detector
from pipelines.data.faces import Faces
from pipelines.data.records import BONAFIDE, NO_ATTACK, licence_of_faces, read_card
from pipelines.errors import AgfasError
from pipelines.evaluation.metrics import roc
from pipelines.evaluation.settings import DISTILLED_RULE
from pipelines.evaluation.thresholds import middle_below
from pipelines.fingerprint import fingerprint
from pipelines.processes import package_versions
from pipelines.training.settings import DistillSettings
from pipelines.verdict.anti_spoofing import FaceAntiSpoofing
from pipelines.verdict.card import OURS
from pipelines.verdict.crops import face_settings
from pipelines.verdict.published import PACKAGES
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import About, Count, ModelSettings, Part, ThresholdSettings
from pipelines.verdict.teacher import Teacher

NETWORK = "resnet18"
OPTIONS: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_options": {
        "layers": [2, 2, 2, 2], "channels": [24, 48, 96, 128], "stem_type": "deep", "stem_width": 16
    },
}  # fmt: skip
"""A ResNet of 0.97 million parameters; its stem of three small convolutions keeps more detail than one of 7x7."""

Split = Literal["train", "dev"]


@dataclass(frozen=True)
class Lesson:
    """A dataset with its teacher's scores.

    Attributes:
        faces: pixels of the student's size.
        scores: (N,) float64 of the teacher.
    """

    faces: Faces
    scores: np.ndarray

    def rows(self, split: Split) -> np.ndarray:
        """Indices of the faces of a split."""
        return np.flatnonzero(self.faces.splits == split)


@dataclass(frozen=True)
class Agreement:
    """A student beside its teacher, on faces of persons that it was not trained on.

    Attributes:
        threshold: of the student; it errs equally often either way from the teacher's verdicts.
        faces, persons: number of them.
        live: of the faces, those that the teacher calls live.
        same: share of the faces with the teacher's verdict.
        auc: of the student's scores against the teacher's verdicts.
    """

    threshold: float
    faces: int
    persons: int
    live: int
    same: float
    auc: float

    @property
    def origin(self) -> str:
        """Where the threshold comes from."""
        who = "one held-out person" if self.persons == 1 else f"{self.persons} held-out persons"
        return f"errs equally often either way from its teacher's verdicts on {self.faces:,} faces of {who}"


def build_student(size: int, seed: int) -> Detector:
    """An untrained student of crops of `size` pixels."""
    return build_detector(NETWORK, seed=seed, image_size=size, **OPTIONS)


def check_lessons(lessons: Sequence[Lesson], teacher: Teacher) -> None:
    """Refuse a teacher that says the same of all faces.

    Raises:
        AgfasError: one verdict for all faces to learn from, or for all of held-out persons.
    """
    uses: dict[Split, str] = {"train": "to learn from", "dev": "of persons who are held out"}
    for split, what in uses.items():
        scores = np.concatenate([lesson.scores[lesson.rows(split)] for lesson in lessons])
        live = int(teacher.verdicts(scores).sum())
        if live in (0, len(scores)):
            raise AgfasError(
                f"{teacher.model.settings.label} calls all {len(scores)} faces {what} {'live' if live else 'attacks'},"
                " so that there is nothing to learn. Choose its threshold for this camera first (`agfas calibrate`), or"
                " add faces and attacks (--per-face)."
            )


def compare(student: Detector, lessons: Sequence[Lesson], teacher: Teacher, batch_size: int = 64) -> Agreement:
    """The student beside its teacher on the held-out persons, and the threshold that follows."""
    scorer = Scorer(student.eval(), None)
    mine, verdicts, persons = [], [], set()
    for lesson in lessons:
        rows = lesson.rows("dev")
        for start in range(0, len(rows), batch_size):
            mine.append(scorer(np.array(lesson.faces.images[rows[start : start + batch_size]])).scores)
        verdicts.append(teacher.verdicts(lesson.scores[rows]))
        persons |= set(lesson.faces.subjects[rows].tolist())
    scores, live = np.concatenate(mine), np.concatenate(verdicts)
    curve = roc(live.astype(np.int64), scores)
    threshold = middle_below(curve, curve.eer_index())
    same = float(((scores >= threshold) == live).mean())
    return Agreement(threshold, len(scores), len(persons), int(live.sum()), same, curve.auc())


def as_model(
    student: Detector,
    teacher: Teacher,
    lessons: Sequence[Lesson],
    settings: DistillSettings,
    found: Agreement,
    given: int = 1,
) -> FaceAntiSpoofing:
    """The student with its threshold and its teacher's face detector.

    Of the lessons, the first `given` are not simulated from others.
    """
    first, model = lessons[0], teacher.model
    loaded = replace(model.loaded, parser=None, parser_weights=None)
    made = ModelSettings(
        label=f"student of {model.settings.label}",
        fold=model.settings.fold,
        detector=NETWORK,
        face=face_settings(read_card(first.faces.folder), settings.size),
        cue=None,
        threshold=ThresholdSettings(
            value=found.threshold, rule=DISTILLED_RULE, selection="last", step=settings.steps, origin=found.origin
        ),
        face_detector=model.settings.face_detector,
    )
    about = _about(student, teacher, lessons, settings, given)
    return FaceAntiSpoofing(made, Scorer(student.eval(), None), lambda: about, loaded)


def _about(
    student: Detector, teacher: Teacher, lessons: Sequence[Lesson], settings: DistillSettings, given: int
) -> About:
    cards = [read_card(lesson.faces.folder) for lesson in lessons]
    names = [lesson.faces.folder.name for lesson in lessons[:given]]
    prints = [str(card["fingerprint"]) for card in cards[:given]]
    model, known = teacher.model, teacher.model.about()
    learnt_from = [f"teacher's {part.what}" for part in known.parts]
    return About(
        dataset=", ".join(names) + (", with attacks simulated from live faces" if len(lessons) > given else ""),
        dataset_fingerprint=prints[0] if given == 1 else fingerprint(prints),
        drawn=all(card.get("kind") == "synthetic" for card in cards[:given]),
        train_domains=sorted({name for lesson in lessons for name in lesson.faces.domains[lesson.rows("train")]}),
        simulated=sorted({name for card in cards for name in card.get("simulated", [])}),
        counts=[count for lesson in lessons for count in _counts(lesson)],
        objective=f"the scores of {model.settings.label} at a temperature of {settings.temperature:g}; no labels",
        seed=settings.seed,
        steps=settings.steps,
        parameters=student.num_parameters(),
        generator=None,
        measured=None,
        parts=[
            Part(what="this program", source="AG-FAS", licence="Apache-2.0"),
            *(
                Part(what="training faces", source=name, licence=licence_of_faces(card))
                for name, card in zip(names, cards, strict=False)
            ),
            Part(what="detector", source=f"{NETWORK}, trained to the scores of a teacher", licence=OURS),
            *(
                part if part.what == "face detector" else part.model_copy(update={"what": what})
                for part, what in zip(known.parts, learnt_from, strict=True)
                if part.what not in ("this program", "face parser")
            ),
        ],
        versions={"python": platform.python_version(), **package_versions(PACKAGES)},
    )


def _counts(lesson: Lesson) -> list[Count]:
    """Faces by domain and kind; the labels are those of the dataset, and were not learnt."""
    faces = lesson.faces
    cells: dict[tuple[str, str, Split], list[int]] = defaultdict(list)
    splits: tuple[Split, ...] = ("train", "dev")
    for split in splits:
        for row in lesson.rows(split).tolist():
            kind = "live" if faces.labels[row] == BONAFIDE else str(faces.attack_types[row])
            cells[str(faces.domains[row]), "attack" if kind == NO_ATTACK else kind, split].append(row)
    return [
        Count(
            domain=domain,
            kind=kind,
            split=split,
            faces=len(rows),
            videos=len(set(faces.videos[rows].tolist())),
            subjects=len(set(faces.subjects[rows].tolist())),
        )
        for (domain, kind, split), rows in sorted(cells.items(), key=lambda item: (item[0][2] != "train", item[0]))
    ]
