"""`agfas distill`: a small network that gives a detector's score, without its generator and without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipelines.data.records import read_card, read_columns
from pipelines.errors import AgfasError
from pipelines.processes import rank_and_world
from pipelines.settings import decisive, explain
from pipelines.stages.detect import Place, open_detector
from pipelines.training.settings import DistillSettings

if TYPE_CHECKING:
    from oanet.detectors import Detector
    from pipelines.training.run import Run
    from pipelines.verdict import FaceAntiSpoofing
    from pipelines.verdict.student import Lesson
    from pipelines.verdict.teacher import Teacher

_DETECTOR = "student"


def read_settings(options: dict[str, Any]) -> DistillSettings:
    """Settings of options by name; those that are None keep their default.

    Raises:
        AgfasError: a value that is not allowed.
    """
    try:
        return DistillSettings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise AgfasError(explain(error, DistillSettings, "the options of distill")) from None


def check(faces: Sequence[Path], out: Path) -> None:
    """Refuse what can be seen before a teacher is opened.

    Raises:
        AgfasError: no face dataset, one given twice, no faces to learn from or none of held-out persons, several
            processes, or a folder that holds something else.
    """
    from pipelines.verdict.folder import check_replaceable

    if rank_and_world()[1] > 1:
        raise AgfasError("A student is small, and is trained by one process: start `agfas distill` without a launcher.")
    check_replaceable(out)
    known: dict[str, Path] = {}
    for folder in faces:
        identity = str(read_card(folder)["fingerprint"])
        if identity in known:
            raise AgfasError(f"{folder} holds the same faces as {known[identity]}: give each dataset once.")
        known[identity] = folder
    splits = {str(split) for folder in faces for split in read_columns(folder, ["split"])["split"]}
    if missing := {"train", "dev"} - splits:
        raise AgfasError(
            f"No face is in the split {' or '.join(sorted(missing))}. A student learns from `train`, and `dev` has the"
            " persons who are held out. Make a dataset again with `agfas prepare`, which deals persons to splits; it"
            " takes about five persons for each."
        )


def open_teacher(
    place: Path,
    label: str | None = None,
    fold: str | None = None,
    face_detector: str | None = None,
    weights: Path | None = None,
    parsing_weights: Path | None = None,
) -> FaceAntiSpoofing:
    """The detector of a run's output folder, or a saved model."""
    is_run = (place / "plan.json").is_file()
    where = Place(run=place, label=label, fold=fold) if is_run else Place(model=place, label=label, fold=fold)
    return open_detector(where, face_detector, weights, parsing_weights=parsing_weights)


def run(model: FaceAntiSpoofing, faces: Sequence[Path], out: Path, settings: DistillSettings) -> str:
    """Train a student and save it as a model; returns what to print.

    OUT.run, beside the model, keeps what an interrupted command goes on from: simulated attacks, the teacher's scores,
    checkpoints and metrics.

    Args:
        model: the teacher.
        faces: face datasets. Their labels say only of which faces attacks are simulated.
        out: folder of the student.
        settings: of the training.

    Raises:
        AgfasError: a model that is no teacher, faces that cannot be learnt from, or a folder that holds something else.
    """
    from pipelines.verdict.student import as_model, check_lessons, compare
    from pipelines.verdict.teacher import Teacher

    check(faces, out)
    teacher = Teacher.of(model)
    work = out.with_name(f"{out.name}.run")
    folders = [*faces, *_simulated(faces, work, settings)]
    training = _open_run(work / "training", teacher, folders, settings)
    lessons = [_lesson(teacher, folder, work, settings) for folder in folders]
    check_lessons(lessons, teacher)
    student = _trained(teacher, lessons, settings, training)
    found = compare(student, lessons, teacher)
    as_model(student, teacher, lessons, settings, found, given=len(faces)).save_pretrained(out)
    return "\n".join(
        [
            f"threshold {found.threshold:.4f}: {found.origin}",
            f"  {found.live:,} of them live by the teacher; the student gives the same verdict on"
            f" {100 * found.same:.1f} %, and ranks them with an AUC of {found.auc:.4f}",
            "  no label was read: that is how well it copies, not how well it detects",
            f"student of {model.settings.label}: {out} ({student.num_parameters():,} parameters);"
            f" {work} may be removed",
        ]
    )


def _simulated(faces: Sequence[Path], work: Path, settings: DistillSettings) -> list[Path]:
    """Attacks from the live faces of datasets that have any and are not made of such attacks already."""
    from pipelines.synthetic.settings import SimulationSettings
    from pipelines.synthetic.simulation import simulate

    if settings.per_face == 0:
        return []
    made_of = SimulationSettings(per_face=settings.per_face, seed=settings.seed)
    sources = [folder for folder in faces if read_card(folder).get("kind") != "simulated"]
    names = ["simulated", *(f"simulated-{number}" for number in range(2, len(sources) + 1))]
    return [simulate(folder, work / name, made_of) for folder, name in zip(sources, names, strict=False)]


def _open_run(folder: Path, teacher: Teacher, folders: list[Path], settings: DistillSettings) -> Run:
    from pipelines.training.run import Run

    identity = {
        "teacher": teacher.identity,
        "faces": [str(read_card(one)["fingerprint"]) for one in folders],
        "settings": decisive(settings, "distill"),
    }
    return Run(folder, identity, settings.model_dump(mode="json"))


def _lesson(teacher: Teacher, folder: Path, work: Path, settings: DistillSettings) -> Lesson:
    from pipelines.data.faces import open_faces
    from pipelines.verdict.student import Lesson

    return Lesson(open_faces(folder, settings.size), teacher.scores(folder, work))


def _trained(teacher: Teacher, lessons: list[Lesson], settings: DistillSettings, training: Run) -> Detector:
    """The student of a finished run, or trained to its end."""
    from oanet.objectives.distillation import Distillation
    from pipelines.artefacts.models import load_detector
    from pipelines.fingerprint import folder_sha256
    from pipelines.seals import write_sealed
    from pipelines.training.loop import fit
    from pipelines.training.unlabelled import Judged, UnlabelledBatches
    from pipelines.verdict.student import build_student
    from pipelines.verdict.teacher import log_odds

    place = training.folder / _DETECTOR
    if not training.was_done:
        parts = [
            Judged(lesson.faces, rows, log_odds(lesson.scores[rows]))
            for lesson in lessons
            if len(rows := lesson.rows("train"))
        ]
        batches = UnlabelledBatches(parts, settings.batch_size, settings.seed, settings.shift)
        objective = Distillation(build_student(settings.size, settings.seed), settings.temperature)
        fit(objective, batches, settings, training, title="student", seed=settings.seed)
        write_sealed(place, objective.detector.save_pretrained)
        training.finish({"faces": len(batches.rows), "weights_sha256": folder_sha256(place)})
    return load_detector(place)
