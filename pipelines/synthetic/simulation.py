"""Attacks simulated from the live faces of a dataset, written as a face dataset.

Both pictures of a pair start from one crop and end before one camera. Each is a function of its face, of the seed and
of the settings: the camera, the medium and how it is held are drawn for the video, noise and alignment for the frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipelines.data.crop import recipe_of, to_square
from pipelines.data.images import decode_picture
from pipelines.data.intact import CheckedTable, write_sums
from pipelines.data.records import (
    ATTACK,
    BONAFIDE,
    CARD_NAME,
    COLUMNS,
    NO_ATTACK,
    checked_table,
    face_features,
    face_key,
    licence_of_faces,
    read_card,
    write_state,
)
from pipelines.errors import AgfasError
from pipelines.files import csv_text
from pipelines.fingerprint import fingerprint
from pipelines.streams import stream
from pipelines.synthetic.blends import blended_light, on_face
from pipelines.synthetic.camera import SimulatedCamera, capture
from pipelines.synthetic.drawing import Drawing, Record, counted, draw, encoded
from pipelines.synthetic.lighting import lit
from pipelines.synthetic.pairs import Pair, SourceFace, kinds_of, live_faces, plan_pairs
from pipelines.synthetic.recapture import (
    View,
    draw_camera,
    draw_lean,
    held,
    in_fractions,
    printed_light,
    replayed_light,
)
from pipelines.synthetic.settings import SimulationSettings
from pipelines.synthetic.videos import OVERSAMPLING
from pipelines.synthetic.worn import cutout_light, paper_mask_light, resin_mask_light

# Raise it with every change of a picture's bytes, so that fingerprints of artefacts made from them change too.
SIMULATOR_VERSION = 3
# Pairs drawn and written at once, which is what a kill can cost each process.
_PAIRS_A_BLOCK = 24
_DATA = "data-00000-of-00001.arrow"
_UPRIGHT = np.eye(2)
_FLAT = ("print", "replay", "cutout")


def simulate(folder: Path, out: Path, settings: SimulationSettings, workers: int | None = None) -> Path:
    """Write live faces and attacks simulated from them; a complete dataset is kept, an unfinished one resumed.

    Args:
        folder: a face dataset; its attacks are not used.
        out: folder of the new dataset; exists only when complete.
        settings: what to make.
        workers: as of `draw`.

    Returns:
        `out`.

    Raises:
        AgfasError: `folder` is no face dataset or has no usable live face, or `out` holds something else.
    """
    return draw(Simulation(folder, out, settings), workers)


class Simulation(Drawing):
    """The pairs of a dataset's live faces, as a face dataset."""

    kind, what = "simulated", "simulated dataset"

    def __init__(self, folder: Path, out: Path, settings: SimulationSettings) -> None:
        self.folder, self.out = folder, out
        self.source = str(read_card(folder)["fingerprint"])
        faces = live_faces(folder, settings.domains)
        size = settings.size or min(_decoded(folder, self.source, faces[0].row).shape[:2])
        self.settings, self.size = settings.model_copy(update={"size": size}), size
        self.plan = plan_pairs(faces, self.settings)
        content = {"simulator": SIMULATOR_VERSION, "source": self.source}
        self.identity = fingerprint({**content, "settings": self.settings.model_dump(mode="json")})

    def faces(self) -> list[int]:
        """Two of each pair."""
        return [2 * len(self._pairs(block)) for block in range(-(-len(self.plan.pairs) // _PAIRS_A_BLOCK))]

    def _pairs(self, block: int) -> list[Pair]:
        return self.plan.pairs[block * _PAIRS_A_BLOCK : (block + 1) * _PAIRS_A_BLOCK]

    def block(self, number: int) -> list[Record]:
        """A live face and an attack of each pair, in turn."""
        records = []
        for pair in self._pairs(number):
            for kind in (NO_ATTACK, pair.kind):
                picture, landmarks = self.picture(pair, kind)
                records.append({**_record(pair, kind, landmarks), "image": encoded(picture)})
        return records

    def picture(self, pair: Pair, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """A picture of a pair: (size, size, 3) uint8, and its landmarks (5, 2) in pixels, NaN if unknown."""
        seed, crop = self.settings.seed, self._crop(pair.face)
        medium = pair.stream(seed, kind)
        lean = draw_lean(medium) if kind in _FLAT else _UPRIGHT
        noise = pair.of_the_frame(seed, kind)
        view = held(crop, pair.face.landmarks, OVERSAMPLING * self.size, lean, noise)
        view = lit(view, pair.stream(seed, "light"))
        taken = capture(self._light(pair, kind, view, medium), camera_of(pair, seed), noise, self.size)
        points = np.full((5, 2), np.nan) if view.landmarks is None else view.landmarks * self.size - 0.5
        return taken, points

    def _light(self, pair: Pair, kind: str, view: View, medium: np.random.Generator) -> np.ndarray:
        if kind == NO_ATTACK:
            return view.light
        if kind == "print":
            return printed_light(view, medium)
        if kind == "replay":
            return replayed_light(view, medium)
        if kind == "cutout":
            return cutout_light(view, self._partner(pair, view) ** np.float32(2.2), medium)
        if kind == "blend":
            return blended_light(view, self._partner(pair, view), medium)
        return paper_mask_light(view, medium) if kind == "mask_paper" else resin_mask_light(view, medium)

    def _partner(self, pair: Pair, view: View) -> np.ndarray:
        """The partner's face laid on the view; without one, the face itself."""
        if pair.partner is None or pair.partner.landmarks is None:
            return view.picture
        crop = self._crop(pair.partner)
        return on_face(view, to_square(crop, view.side), in_fractions(pair.partner.landmarks, crop))

    def _crop(self, face: SourceFace) -> np.ndarray:
        return _decoded(self.folder, self.source, face.row)

    def write(self, blocks: Iterator[list[Record]], folder: Path) -> None:
        """The dataset with its card, the refused faces and checksums, a block in memory at a time."""
        from datasets.arrow_writer import ArrowWriter

        folder.mkdir()
        features, metadata = face_features(), []
        with ArrowWriter(path=str(folder / _DATA), features=features) as writer:
            for records in blocks:
                writer.write_batch({name: [record[name] for record in records] for name in COLUMNS})
                metadata += [{name: record[name] for name in ("domain", "attack_type", "split")} for record in records]
            writer.finalize()
        write_state(folder, [_DATA], features, self.identity)
        refused = [{"key": key, "reason": reason} for key, reason in self.plan.refused]
        (folder / "refused.csv").write_text(csv_text(refused, ["key", "reason"]), encoding="utf-8")
        (folder / CARD_NAME).write_text(json.dumps(self._card(metadata), indent=2), encoding="utf-8")
        write_sums(folder)

    def _card(self, records: list[Record]) -> dict[str, object]:
        source = read_card(self.folder)
        recipe = {**recipe_of(source), "size": self.size}
        return {
            "fingerprint": self.identity,
            "kind": self.kind,
            "simulator_version": SIMULATOR_VERSION,
            "source": self.source,
            "settings": self.settings.model_dump(mode="json"),
            "attacks": kinds_of(self.plan),
            "simulated": sorted({record["domain"] for record in records}),
            "faces": len(records),
            "refused": len(self.plan.refused),
            "counts": counted(records),
            **({"recipe": recipe} if recipe_of(source) else {}),
            "licence": licence_of_faces(source),
        }


def camera_of(pair: Pair, seed: int) -> SimulatedCamera:
    """The camera of both pictures of a pair, as it was set for its video."""
    ranges = draw_camera(stream(seed, "simulate", "camera", pair.camera))
    return ranges.draw(pair.stream(seed, "camera"))


def _record(pair: Pair, kind: str, landmarks: np.ndarray) -> Record:
    face = pair.face
    domain, video = f"{face.domain}-camera{pair.camera}", f"{face.video}-{pair.number}-{_named(kind)}"
    return {
        "key": face_key(domain, face.subject, video, face.frame),
        "label": BONAFIDE if kind == NO_ATTACK else ATTACK,
        "attack_type": kind,
        "domain": domain,
        "subject": face.subject,
        "video": video,
        "frame": face.frame,
        "split": face.split,
        "landmarks": landmarks.tolist(),
    }


def _named(kind: str) -> str:
    return "live" if kind == NO_ATTACK else kind


@lru_cache(maxsize=4)
def _table(folder: Path, source: str) -> CheckedTable:
    """Not a member of `Simulation`, which is sent to other processes."""
    return checked_table(folder)


@lru_cache(maxsize=64)
def _decoded(folder: Path, source: str, row: int) -> np.ndarray:
    content = _table(folder, source).picture("image", row)
    try:
        return decode_picture(content or b"")
    except (OSError, ValueError, SyntaxError) as error:
        raise AgfasError(
            f"The image of row {row} of {folder} cannot be decoded ({error}). Make the dataset again."
        ) from error
