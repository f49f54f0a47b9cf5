"""Target maps of faces: depth, reflection and face masks, which some objectives regress per pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from pipelines.data.faces import Faces
from pipelines.data.records import ATTACK, BONAFIDE
from pipelines.errors import AgfasError


class TargetMaps(Protocol):
    """Maps of the faces of a dataset."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Maps of the faces at `rows` (n,), (n, H, W) float32 in [0, 1], of the faces' size."""


class FaceMasks:
    """Masks stored by `agfas prepare --parsing-weights`: 1 where face parsing found the face."""

    def __init__(self, faces: Faces) -> None:
        if faces.masks is None:
            raise AgfasError(
                f"The objective predicts face masks, which {faces.folder} does not have. Prepare the dataset with"
                " `agfas prepare ... --parsing-weights FILE`, or set objective.lambda_mask = 0."
            )
        self.masks = faces.masks

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See `TargetMaps.read`."""
        return self.masks[rows].astype(np.float32)


class MapFolder:
    """Maps from a folder, one file per face: FOLDER/KEY.png or FOLDER/KEY.npz, where KEY keeps its slashes.

    A PNG is grey with 8 or 16 bits, whose largest value means 1. An .npz holds one array (h, w) in [0, 1]. Maps are
    resized to the faces' size. Only faces of one label have maps; those of other faces are zero.

    Args:
        faces: the dataset.
        folder: of the maps.
        label: of the faces that have maps.
        rows: faces that will be read; those with the label must have a map.
        field: of the configuration, for messages.

    Raises:
        AgfasError: a map is missing.
    """

    def __init__(self, faces: Faces, folder: Path, label: int, rows: np.ndarray, field: str) -> None:
        self.faces, self.folder, self.label, self.field = faces, folder, label, field
        wanted = [row for row in rows if faces.labels[row] == label]
        missing = [str(faces.keys[row]) for row in wanted if self._find(str(faces.keys[row])) is None]
        if missing:
            raise AgfasError(
                f"{field}: {len(missing)} of {len(wanted)} {'live faces' if label == BONAFIDE else 'attacks'} have no"
                f" map in {folder}; the first is {missing[0]}. Add {missing[0]}.png or .npz to the folder, or remove"
                f" {field}."
            )

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See `TargetMaps.read`."""
        side = self.faces.size
        maps = np.zeros((len(rows), side, side), dtype=np.float32)
        for place, row in enumerate(rows):
            if self.faces.labels[row] == self.label:
                maps[place] = self._load(str(self.faces.keys[row]), side)
        return maps

    def _find(self, key: str) -> Path | None:
        paths = (self.folder / f"{key}.png", self.folder / f"{key}.npz")
        return next((path for path in paths if path.is_file()), None)

    def _load(self, key: str, side: int) -> np.ndarray:
        path = self._find(key)
        try:
            if path is None:
                raise ValueError("the file was removed")
            values = _read_png(path) if path.suffix == ".png" else _read_array(path)
        except (OSError, ValueError) as error:
            raise AgfasError(f"{self.field}: {path or key} cannot be read as a map: {error}.") from error
        picture = Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(picture, dtype=np.float32)


def target_maps(
    wanted: tuple[str, ...],
    needed: tuple[str, ...],
    faces: Faces,
    rows: np.ndarray,
    folders: dict[str, Path | None],
) -> dict[str, TargetMaps]:
    """The maps that an objective reads and that are available.

    Args:
        wanted: maps of `FaceBatch` that it reads if they are available.
        needed: maps that it requires.
        faces: the dataset.
        rows: faces that will be read.
        folders: of `depth` and `reflection`; None if not configured.

    Raises:
        AgfasError: a required map is not available, or a folder lacks one.
    """
    labels = {"depth": BONAFIDE, "reflection": ATTACK}
    found: dict[str, TargetMaps] = {}
    for name in wanted:
        folder = folders.get(name)
        if name == "mask" and (faces.masks is not None or name in needed):
            found[name] = FaceMasks(faces)
        elif folder is not None:
            found[name] = MapFolder(faces, folder, labels[name], rows, f"train.{name}_maps")
        elif name in needed:
            raise AgfasError(
                f"The objective requires {name} maps. Set train.{name}_maps to a folder of them"
                + (", or objective.reflection_target = ellipse." if name == "reflection" else ".")
            )
    return found


def _read_png(path: Path) -> np.ndarray:
    """(h, w) float32 in [0, 1]."""
    with Image.open(path) as picture:
        # Pillow's modes of 16-bit grey start with I: I;16 and, in older versions, I.
        deep = picture.mode.startswith("I")
        values = np.asarray(picture if deep else picture.convert("L"), dtype=np.float32)
    return values / (65535.0 if deep else 255.0)


def _read_array(path: Path) -> np.ndarray:
    """(h, w) float32 in [0, 1].

    Raises:
        ValueError: the file holds something else.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if len(arrays.files) != 1:
            raise ValueError(f"it holds {len(arrays.files)} arrays instead of one")
        values = np.asarray(arrays[arrays.files[0]], dtype=np.float32)
    if values.ndim != 2 or not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"expected an array (h, w) of values in [0, 1], got one of shape {values.shape}")
    return values
