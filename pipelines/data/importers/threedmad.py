"""3D Mask Attack Database: 17 persons and their printed resin masks before a Kinect.

    session01/Data/04_01_05.hdf5        client_session_shot; sessions 1 and 2 are genuine, 3 is the mask
    session02/..., session03/...

Layout after the paper and Idiap's interface `bob.db.maskattack`, whose sets of clients are the splits here: 1 to 7
train, 8 to 12 dev, 13 to 17 test. The files are HDF5; `Layout.colour_stream` says how to export them.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import EXPORTED, Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import MASK
from pipelines.data.records import NO_ATTACK

TITLE = "3DMAD"
CITATION = (
    "N. Erdogmus, S. Marcel: Spoofing in 2D Face Recognition with 3D Masks and Anti-spoofing with Kinect. BTAS 2013."
)
LICENCE = "For research, under Idiap's end user licence agreement."
VERIFIED = "Not checked against a real copy; names and sets follow Idiap's published interface."
EXPECTED = (*expected(70, 35, "train"), *expected(50, 25, "dev"), *expected(50, 25, "test"))

# The others are for testing.
_LAST_CLIENT = {"train": 7, "dev": 12}
_LAYOUT = Layout(
    TITLE,
    ("session01", "session02", "session03"),
    r"session(?P<folder>\d\d)/(?:.*/)?(?P<video>(?P<client>0[1-9]|1[0-7])_(?P<session>(?P=folder))_\d\d)" + EXPORTED,
    "session01/Data/04_01_05.mp4",
    colour_stream="`Color_Data`, frames x 3 x 480 x 640 RGB",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per exported video or frame; the subject of an attack is the client whose mask it is."""
    faces = []
    for path, match in _LAYOUT.files(source):
        kind = MASK if match["session"] == "03" else NO_ATTACK
        split = next((name for name, last in _LAST_CLIENT.items() if int(match["client"]) <= last), "test")
        frame = int(match["frame"] or 0)
        faces.append(SourceFace(path, domain, kind, match["client"], match["video"], frame, split))
    return faces
