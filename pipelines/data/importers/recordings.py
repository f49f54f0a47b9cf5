"""Datasets that are distributed as HDF5: their colour stream exported to videos or to folders of frames.

Idiap's multi-channel datasets keep colour, depth and infrared of a recording in one HDF5 file, each in its own way.
This program reads pictures and videos, so the colour stream is exported once, under the recording's own name:
`NAME.mp4`, or a folder `NAME` with one picture per frame whose name ends in the frame's number. Everything else stays
where it was; the HDF5 files may lie beside.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.data.importers.layout import Layout
from pipelines.data.importers.source import files_in
from pipelines.errors import AgfasError

HDF5_SUFFIXES = (".hdf5", ".h5")
# The end of a path's pattern: a video, or a frame in a folder of the recording's name.
EXPORTED = r"(?:\.\w+|/[^/]*?(?P<frame>\d+)\.\w+)"


def check_exported(layout: Layout, root: Path, stream: str) -> None:
    """Say how to export recordings that are there as HDF5 alone.

    Args:
        layout: the dataset's.
        root: where its uppermost folders lie.
        stream: where the colour frames are within a file, and their form.

    Raises:
        AgfasError: a recording is there as HDF5 and neither as a video nor as a folder beside it.
    """
    places = [root / name for name in layout.folders if (root / name).is_dir()]
    recordings = [path for place in places for path in files_in(place, HDF5_SUFFIXES)]
    beside = {folder: _names(folder) for folder in {path.parent for path in recordings}}
    waiting = [path for path in recordings if path.stem not in beside[path.parent]]
    if waiting:
        raise AgfasError(
            f"{len(waiting)} of the recordings of {layout.title} are there as HDF5 alone: {waiting[0]} is the first."
            f" Export the colour stream of each ({stream}) beside it, as a video {waiting[0].stem}.mp4 or as pictures"
            f" {waiting[0].stem}/0000.png, {waiting[0].stem}/0001.png, ... and run the command again."
        )


def _names(folder: Path) -> frozenset[str]:
    return frozenset(os.path.splitext(name)[0] for name in os.listdir(folder) if not name.endswith(HDF5_SUFFIXES))
