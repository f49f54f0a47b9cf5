"""Idiap Replay-Attack: prints and replays before a laptop's camera, held by hand or on a support.

    {train,devel,test}/real/client001_session01_webcam_authenticate_adverse_1.mov
    {train,devel,test}/attack/{fixed,hand}/attack_print_client001_session01_highdef_photo_adverse.mov
    enroll/{train,devel,test}/...                videos for face recognition, not samples of the attack protocols

Layout after the database's page at Idiap and its interface `bob.db.replay` (attack devices print, mobile, highdef;
supports fixed, hand). The splits are also distributed as `replayattack-train` and so on.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import TRAIN_AND_TEST, Layout, expected
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import PRINT, REPLAY
from pipelines.data.records import NO_ATTACK

TITLE = "Idiap Replay-Attack"
CITATION = (
    "I. Chingovska, A. Anjos, S. Marcel: On the Effectiveness of Local Binary Patterns in Face Anti-spoofing. BIOSIG"
    " 2012."
)
LICENCE = "For research, under Idiap's end user licence agreement."
VERIFIED = "Not checked against a real copy; names follow Idiap's published interface."
EXPECTED = (*expected(140, 700, "train", "test", what=TRAIN_AND_TEST), *expected(60, 300, "dev"))

_SPLITS = {"train": "train", "devel": "dev", "test": "test"}
_TYPES = {None: NO_ATTACK, "print": PRINT, "mobile": REPLAY, "highdef": REPLAY}
_LAYOUT = Layout(
    TITLE,
    tuple(f"{prefix}{part}" for prefix in ("", "replayattack-") for part in _SPLITS),
    r"(?:replayattack-)?(?P<split>train|devel|test)/(?:"
    r"real/(?P<real>client(?P<client>\d{3})_session\d+_webcam_authenticate_(?:adverse|controlled)_\d+)|"
    r"attack/(?P<support>fixed|hand)/(?P<attack>attack_(?P<device>print|mobile|highdef)_client(?P<victim>\d{3})"
    r"_session\d+_\w+_(?:adverse|controlled))"
    r")\.\w+",
    "train/attack/hand/attack_print_client001_session01_highdef_photo_adverse.mov",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; the subject of an attack is the client it shows."""
    faces = []
    for path, match in _LAYOUT.files(source):
        # An attack has the same name under `fixed` and `hand`, so the support is part of the video's name.
        video = match["real"] or f"{match['support']}-{match['attack']}"
        subject = match["client"] or match["victim"]
        faces.append(SourceFace(path, domain, _TYPES[match["device"]], subject, video, split=_SPLITS[match["split"]]))
    return faces
