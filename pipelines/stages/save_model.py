"""`agfas save-model`: a run's detector as one folder that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from pipelines.verdict import FaceAntiSpoofing


def run(
    root: Path,
    out: Path,
    label: str | None = None,
    fold: str | None = None,
    face_detector: str | None = None,
    weights: Path | None = None,
    parsing_weights: Path | None = None,
) -> str:
    """Write the folder; arguments as of `FaceAntiSpoofing.from_run`.

    Returns:
        What to print.

    Raises:
        AgfasError: no such run or detector, or a folder that holds something else.
    """
    model = FaceAntiSpoofing.from_run(
        root, label, fold, face_detector=face_detector, weights=weights, face_parser=parsing_weights
    )
    model.save_pretrained(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return f"{model.settings.label}, {model.settings.fold}: {out} ({size / 1e6:.1f} MB)"
