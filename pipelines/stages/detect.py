"""One face from a picture file: live or an attack, the score, the threshold's origin, a picture of why."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.config import Experiment
from pipelines.data.images import read_picture
from pipelines.errors import AgfasError, nearest
from pipelines.files import read_json, write_atomically
from pipelines.plan import Planned, read_plan
from pipelines.report.gather import is_control
from pipelines.workspace import Workspace

# A crop this far from square is squeezed so much that the detector sees another face.
_SQUARE_ENOUGH = 1.1


def run(
    picture: Path,
    root: Path,
    *,
    label: str | None = None,
    split: str | None = None,
    overlay: Path | None = None,
    as_json: bool = False,
) -> str:
    """Score one aligned face and write its overlay.

    Args:
        picture: JPEG, PNG, WebP or BMP of one aligned face crop.
        root: an output folder with a finished experiment.
        label: which experiment of a sweep; the first finished one with a generator's cue where not given.
        split: which split's detector; the first where not given.
        overlay: the PNG to write; ROOT/detections/NAME.png where not given.
        as_json: answer in JSON.

    Returns:
        What the command prints: the verdict in words, or one JSON object.

    Raises:
        AgfasError: a picture that cannot be read, an unknown label or split, or nothing that is finished.
    """
    image = read_picture(picture)
    planned = choose_experiment(read_plan(root), label)
    chosen, numbers = choose_split(planned, split)
    scored = score_picture(planned.experiment, image, _snapshot(planned, chosen, numbers["step"]))
    target = overlay or root / "detections" / f"{picture.stem}.png"
    answer = {
        "verdict": "live" if scored["score"] >= numbers["threshold"] else "attack",
        "score": scored["score"],
        "threshold": numbers["threshold"],
        "threshold_origin": numbers["threshold_origin"],
        "label": planned.title,
        "split": chosen,
        "picture": str(picture),
        "overlay": str(target),
        "notes": _notes(image, planned),
    }
    _write_overlay(target, scored["panels"], answer)
    return json.dumps(answer, indent=2) if as_json else _in_words(answer)


def choose_experiment(plan: list[Planned], label: str | None) -> Planned:
    """The first finished experiment of a label; without one, the first whose cue comes from the generator.

    Raises:
        AgfasError: an unknown label, none finished, or one whose cue a single picture does not have.
    """
    labels = list(dict.fromkeys(item.label for item in plan))
    if label is not None and label not in labels:
        raise AgfasError(f"No experiment is called '{label}': {nearest(label, labels)}")
    finished = [item for item in plan if (label is None or item.label == label) and _result_path(item).is_file()]
    if not finished:
        what = f"'{label}' is" if label else "No experiment in this folder is"
        raise AgfasError(f"{what} not finished, so there is no detector to ask. Run the same command again to go on.")
    if label is None:
        finished.sort(key=lambda item: _preference(item))
    chosen = finished[0]
    if Workspace(chosen.experiment).needs_cue() and chosen.experiment.cue.source == "shuffled":
        raise AgfasError(
            f"'{chosen.label}' is a control that gives every face another face's cue, which a single picture"
            " does not have. Choose another with --label."
        )
    return chosen


def choose_split(planned: Planned, split: str | None) -> tuple[str, dict[str, Any]]:
    """A split's name and its numbers under the experiment's own rules.

    Raises:
        AgfasError: an unknown split.
    """
    splits = read_json(_result_path(planned))["splits"]
    if split is not None and split not in splits:
        raise AgfasError(f"'{planned.title}' has no split '{split}': {nearest(split, splits)}")
    rules = planned.experiment.evaluate
    name = split or next(iter(splits))
    return name, splits[name]["rules"][f"{rules.selection}/{rules.threshold}"]


def score_picture(experiment: Experiment, image: Image.Image, snapshot: Path) -> dict[str, Any]:
    """Probability of a live face, and what the detector saw.

    The noise of the restoration is drawn from the stream of the pixels' hash, so the same picture gives the
    same score.

    Returns:
        {"score": float in [0, 1], "panels": {name: (H, W, 3) uint8}}.

    Raises:
        AgfasError: the generator or the detector is missing.
    """
    import torch

    from oanet.detectors import load_detector
    from pipelines.data.faces import to_square, to_tensor_range
    from pipelines.processes import device
    from pipelines.report.pictures import panels

    face = to_square(image, Workspace(experiment).size)
    key = hashlib.sha256(face.tobytes()).hexdigest()
    reader, restored = _cue_of(experiment, face, key)
    try:
        detector = load_detector(snapshot).to(device())
    except (OSError, ValueError) as error:
        raise AgfasError(f"The detector at {snapshot} cannot be loaded: {error}") from error
    cue = None if reader is None else reader.batch(np.array([0]))
    with torch.no_grad():
        inputs = torch.from_numpy(to_tensor_range(face[None])).to(device())
        output = detector(inputs, None if cue is None else cue.to(device()), need_weights=True)
    seen = panels(face, restored, None if cue is None else cue[0].numpy(), output.attention)
    return {"score": float(output.probability_bonafide.double().cpu()[0]), "panels": seen}


def _cue_of(experiment: Experiment, face: np.ndarray, key: str) -> tuple[Any, np.ndarray | None]:
    """What makes the face's cue exactly as in training, 8-bit steps included, and the restoration."""
    from oanet.names import CUE_FORMS_WITH_AUTOENCODED
    from pipelines.cues.reader import CueReader

    workspace = Workspace(experiment)
    if not workspace.needs_cue():
        return None, None
    cue = experiment.cue
    restored = autoencoded = None
    if workspace.needs_restoration():
        moment = 0 if cue.source == "autoencoder" else cue.timestep
        moments = {moment, 0} if cue.form in CUE_FORMS_WITH_AUTOENCODED else {moment}
        made = _restore(experiment, face, key, sorted(moments))
        restored, autoencoded = made[moment], made.get(0)
    reader = CueReader(
        cue.source, [key], [key], face[None],
        None if restored is None else restored[None],
        None if autoencoded is None else autoencoded[None],
        form=cue.form, normalize=cue.normalize, seed=cue.seed,
    )  # fmt: skip
    return reader, restored


def _restore(experiment: Experiment, face: np.ndarray, key: str, moments: list[int]) -> dict[int, np.ndarray]:
    """The face at each t as the cue store keeps it: (H, W, 3) uint8."""
    import torch

    from pipelines.cues.job import to_pixels
    from pipelines.data.faces import to_tensor_range
    from pipelines.processes import device
    from pipelines.stages.cues import open_sweep

    sweep = open_sweep(experiment, moments)
    image = torch.from_numpy(to_tensor_range(face[None])).to(device())
    made = sweep.restore(image, [key], moments)
    return {moment: to_pixels(made[moment], [key])[0] for moment in moments}


def _preference(item: Planned) -> int:
    if not Workspace(item.experiment).needs_cue():
        return 1
    return 2 if is_control(item) else 0


def _result_path(planned: Planned) -> Path:
    return Workspace(planned.experiment).detector() / "result.json"


def _snapshot(planned: Planned, split: str, step: int) -> Path:
    return Workspace(planned.experiment).detector() / split / "snapshots" / f"step_{step:06d}"


def _notes(image: Image.Image, planned: Planned) -> list[str]:
    notes = []
    if max(image.size) > _SQUARE_ENOUGH * min(image.size):
        notes.append(
            f"the picture is {image.width} x {image.height} and was squeezed to a square: give an aligned face crop"
        )
    if is_control(planned):
        notes.append("this experiment is a control, not a detector to rely on")
    return notes


def _in_words(answer: dict[str, Any]) -> str:
    sign = ">=" if answer["verdict"] == "live" else "<"
    lines = [
        f"{answer['verdict']}: score {answer['score']:.4f} {sign} threshold {answer['threshold']:.4f}",
        f"threshold: {answer['threshold_origin']}",
        f"detector: {answer['label']}, {answer['split']}",
        f"overlay: {answer['overlay']}",
        *(f"note: {note}" for note in answer["notes"]),
    ]
    return "\n".join(lines)


def _write_overlay(path: Path, panels: dict[str, np.ndarray], answer: dict[str, Any]) -> None:
    from pipelines.report.overlay import draw_overlay

    picture = draw_overlay(panels, answer)
    write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
