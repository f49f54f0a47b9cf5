#!/usr/bin/env python
"""What a calibration from live faces gives, measured, for docs/calibrate.md:

    AGFAS_REALDATA=FOLDER python -m scripts.calibration real --out docs/calibrate
    python -m scripts.calibration drawn runs/quickstart --out docs/calibrate
    AGFAS_REALDATA=FOLDER python -m scripts.calibration own runs/simulated runs/replays --out docs/calibrate

`real` takes data/nuaa and data/replay in FOLDER, each with bonafide/ and attack/ (of NUAA below them a folder for each
person), and the published files and yunet.onnx in FOLDER/weights; the options name them one by one. `drawn` takes a
finished run on the built-in benchmark, `own` runs whose detectors have seen nothing of NUAA.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipelines.files import csv_text, write_text
from pipelines.verdict import FaceAntiSpoofing
from scripts.calibrating.drawn import drawn_tables
from scripts.calibrating.own import own_tables
from scripts.calibrating.real import Table, real_tables
from scripts.calibrating.seen import see_pictures


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = parser.add_subparsers(dest="study", required=True)
    root = Path(os.environ.get("AGFAS_REALDATA", "."))
    real = studies.add_parser("real", help="published networks on real pictures")
    real.add_argument("--persons", type=Path, default=root / "data" / "nuaa", help="a set with persons")
    real.add_argument("--other", type=Path, default=root / "data" / "replay", help="another camera's")
    real.add_argument("--weights", type=Path, default=root / "weights", help="the published files and yunet.onnx")
    drawn = studies.add_parser("drawn", help="detectors of a run on the built-in benchmark")
    drawn.add_argument("run", type=Path, help="the output folder")
    own = studies.add_parser("own", help="detectors of runs on a real set with persons")
    own.add_argument("runs", type=Path, nargs="+", help="output folders")
    own.add_argument("--persons", type=Path, default=root / "data" / "nuaa", help="a set with persons")
    own.add_argument("--yunet", type=Path, default=root / "weights" / "yunet.onnx", help="the face detector's file")
    for study in (real, drawn, own):
        study.add_argument("--out", type=Path, required=True, help="folder of the tables")
    given = parser.parse_args(words)
    if given.study == "real":
        detector = FaceAntiSpoofing.from_published("minifasnet", given.weights, face_detector="yunet", batch_size=64)
        tables = real_tables(see_pictures(detector, given.persons), see_pictures(detector, given.other))
    elif given.study == "own":
        tables = own_tables(given.runs, given.persons, given.yunet)
    else:
        tables = drawn_tables(given.run)
    write(tables, given.out, given.study)


def write(tables: Sequence[Table], out: Path, study: str) -> None:
    """STUDY.md with every table, and a CSV file of each."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(
        out / f"{study}.md", "\n".join([f"# Calibration: {study} faces\n", *(each.markdown() for each in tables)])
    )
    for each in tables:
        name = each.title.lower().replace(",", "").replace("'", "").replace(" ", "_")
        write_text(out / f"{study}_{name}.csv", csv_text(each.rows))


if __name__ == "__main__":
    main()
