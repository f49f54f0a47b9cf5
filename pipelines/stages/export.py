"""`agfas export`: a saved model as one graph, with what judges pictures by it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pipelines.errors import AgfasError, nearest


@dataclass(frozen=True)
class Choice:
    """What to write.

    Attributes:
        form: of the graph, one of `pipelines.verdict.exported.Format`.
        precision: one of `pipelines.verdict.exported.Precision`.
        faces: a prepared dataset on which scores are compared; None: drawn faces.
        aligned_only: leave the face detector out.
    """

    form: str = "onnx"
    precision: str = "float32"
    faces: Path | None = None
    aligned_only: bool = False


def run(folder: Path, out: Path, choice: Choice, face_detector: str | None = None, weights: Path | None = None) -> str:
    """Export a saved model; returns what to print.

    Args:
        folder: of `agfas save-model`, or its name on the hub.
        out: the exported folder.
        choice: of `agfas export`.
        face_detector: used instead of the saved one, by name.
        weights: its file.

    Raises:
        AgfasError: an unknown name, or a model that is not exported, see `pipelines.export.folder.export_folder`.
    """
    from pipelines.data.records import read_card
    from pipelines.verdict import FaceAntiSpoofing
    from pipelines.verdict.exported import Format, Precision, check_replaceable

    form, precision = _known("--format", choice.form, Format), _known("--precision", choice.precision, Precision)
    check_replaceable(out)
    if choice.faces is not None:
        read_card(choice.faces)
    model = FaceAntiSpoofing.from_pretrained(folder, face_detector=face_detector, weights=weights)

    from pipelines.export.folder import export_folder  # with it torch, which a wrong word or folder does not need
    from pipelines.export.parity import dataset_faces, drawn_faces

    faces = drawn_faces if choice.faces is None else partial(dataset_faces, choice.faces)
    exported = export_folder(model, out, faces, precision, form, choice.aligned_only)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert exported.parity is not None
    return "\n".join(
        [
            f"{exported.parity.words}",
            f"{model.settings.label}, {model.settings.fold}: {out} ({size / 1e6:.1f} MB, {precision})",
        ]
    )


def _known(option: str, given: str, allowed: Any) -> Any:
    if given not in get_args(allowed):
        raise AgfasError(f"{option} {given}: {nearest(given, get_args(allowed))}")
    return given
