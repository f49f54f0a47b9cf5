"""The command that gives a detector's score to a network a fraction of its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.opening import Fold, Label, ParsingWeights
from pipelines.commands.shared import FaceDetector, Weights


def distill(
    teacher: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_OR_RUN",
            help="A folder of `agfas save-model` or `agfas calibrate`, or the output folder of a run.",
        ),
    ],
    faces: Annotated[
        list[Path], typer.Option(help="A face dataset; what its labels say is not learnt. May be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the student to write, a model like every other.")],
    steps: Annotated[int | None, typer.Option(help="Steps of the training. Default: 3000.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crops that the student sees. Default: 96.")] = None,
    per_face: Annotated[
        int | None, typer.Option(help="Pairs simulated from every live face, 0 for none. Default: 1.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="By which the teacher's log-odds are divided. Default: 2.")
    ] = None,
    mixed_precision: Annotated[
        str | None, typer.Option(help="`bf16`: faster if the processor calculates in it. Default: no.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same student. Default: 0.")] = None,
    label: Label = None,
    fold: Fold = None,
    face_detector: FaceDetector = None,
    weights: Weights = None,
    parsing_weights: ParsingWeights = None,
) -> None:
    """Train a small network to give a detector's score.

    The teacher may have a generator, a cue and a calibrated head; the student sees the face alone. It learns from the
    scores of the faces and of attacks simulated from them, and its threshold is chosen by the teacher's verdicts on
    persons who are held out. The same command goes on after a kill.

    \b
    Examples:
      agfas distill model/ --faces faces/ --out student/
      agfas distill runs/loo --faces live/ --faces door/ --out student/ --steps 6000
    """
    from pipelines.stages import distill as stage

    given = {
        "steps": steps,
        "size": size,
        "per_face": per_face,
        "temperature": temperature,
        "mixed_precision": mixed_precision,
        "seed": seed,
    }
    settings = stage.read_settings(given)
    stage.check(faces, out)
    model = stage.open_teacher(teacher, label, fold, face_detector, weights, parsing_weights)
    typer.echo(stage.run(model, faces, out, settings))
