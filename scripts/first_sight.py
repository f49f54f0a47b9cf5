#!/usr/bin/env python
"""Draw the README's picture from a finished run on the built-in benchmark:

    python scripts/first_sight.py runs/quickstart --fold to_tablet --out docs/images/first-sight.png

Rows: a live face, a print, a replay and a mask, each the one with the median score of its kind.
Columns: face, restoration, cue, attention.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from pipelines.report.contents import Study
from pipelines.report.gather import gather
from pipelines.report.pictures import PictureRow, picture_grid, shown_trial

SIDE, GAP, LEFT, TOP = 128, 10, 96, 40
PAPER, INK, SOFT = (251, 250, 248), (34, 38, 43), (93, 102, 111)
RIGHT, WRONG = (29, 107, 69), (155, 58, 43)
COLUMNS = {"face": "face", "restoration": "restoration", "cue": "anomalous cue", "attention": "attention"}
KINDS = ("live", "print", "replay", "mask")


@dataclass(frozen=True)
class Sight:
    """A face of every kind, and the threshold of the detector that scored them."""

    rows: dict[str, PictureRow]
    threshold: float


def main() -> None:
    """Read the run, draw the grid, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run on the built-in benchmark")
    parser.add_argument("--fold", help="protocol fold; default: the first that tests every kind of attack")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    chosen = parser.parse_args()
    picture = draw(find(gather(chosen.run).studies[0], chosen.fold))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    # Seven of eight bits look the same and compress better.
    ImageOps.posterize(picture, 7).save(chosen.out, optimize=True)
    print(chosen.out)


def find(study: Study, fold: str | None) -> Sight:
    """The typical face of every kind in `fold`, or in the first fold that tests all kinds."""
    for name in [fold] if fold else study.folds:
        rows = {row.name.split(",")[0]: row for row in picture_grid(study, name).rows if "typical" in row.name}
        numbers = shown_trial(study).numbers(name, study.honest)
        if numbers and set(KINDS) <= set(rows):
            return Sight({kind: rows[kind] for kind in KINDS}, numbers["threshold"])
    raise SystemExit(f"No fold of this run tests all of {', '.join(KINDS)}. Use a run on the built-in benchmark.")


def draw(sight: Sight) -> Image.Image:
    """The pictures in a grid, with kind, score and decision at the left and the columns' names above."""
    canvas = Image.new("RGB", (LEFT + len(COLUMNS) * (SIDE + GAP), TOP + len(KINDS) * (SIDE + GAP)), PAPER)
    pen, large, small = ImageDraw.Draw(canvas), ImageFont.load_default(18), ImageFont.load_default(14)
    for place, title in enumerate(COLUMNS.values()):
        pen.text((LEFT + place * (SIDE + GAP) + SIDE / 2, TOP / 2), title, INK, large, anchor="mm")
    for number, (kind, row) in enumerate(sight.rows.items()):
        top = TOP + number * (SIDE + GAP)
        accepted = row.score >= sight.threshold
        pen.text((GAP, top + SIDE / 2 - 22), kind, INK, large, anchor="lm")
        pen.text((GAP, top + SIDE / 2), f"score {row.score:.2f}", SOFT, small, anchor="lm")
        colour = RIGHT if accepted == (kind == "live") else WRONG
        pen.text((GAP, top + SIDE / 2 + 20), "accepted" if accepted else "rejected", colour, small, anchor="lm")
        for place, name in enumerate(COLUMNS):
            picture = Image.fromarray(row.pictures[name]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            canvas.paste(picture, (LEFT + place * (SIDE + GAP), top))
    return canvas


if __name__ == "__main__":
    main()
