"""MSU Mobile Face Spoofing Database: prints and replays before a laptop's and a phone's camera.

    scene01/real/real_client001_android_SD_scene01.mp4
    scene01/attack/attack_client001_laptop_SD_ipad_video_scene01.mov
    train_sub_list.txt, test_sub_list.txt        client numbers without leading zero, one a line

Layout after the file lists and official subject lists in Idiap's interface `bob.db.msu_mfsd_mod` (folder `folds`). The
`.face` file with detections beside every video is not read. 15 clients are for training, 20 for testing; there is no
official development split. Copies without either list are accepted: their splits stay empty and clients are dealt out,
since the leave-one-out protocols use all 280 videos anyway.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.layout import Expected, Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import PRINT, REPLAY
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "MSU-MFSD"
CITATION = (
    "D. Wen, H. Han, A. K. Jain: Face Spoof Detection with Image Distortion Analysis. IEEE Transactions on Information"
    " Forensics and Security 10(4), 2015."
)
LICENCE = "For research, under the agreement that Michigan State University sends with the data."
VERIFIED = "Not checked against a real copy; names and lists follow Idiap's published interface."
EXPECTED = (
    Expected(BONAFIDE, 70),
    Expected(ATTACK, 70, attack_type=PRINT),
    Expected(ATTACK, 140, attack_type=REPLAY),
)

_TYPES = {None: NO_ATTACK, "printed_photo": PRINT, "ipad_video": REPLAY, "iphone_video": REPLAY}
_LAYOUT = Layout(
    TITLE,
    ("scene01",),
    r"scene01/(?P<class>real|attack)/(?P<video>(?P=class)_client(?P<client>\d{3})_(?:android|laptop)_SD"
    r"(?:_(?P<instrument>ipad_video|iphone_video|printed_photo))?_scene01)\.\w+",
    "scene01/real/real_client001_android_SD_scene01.mp4",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per video; subjects are the clients.

    Raises:
        AgfasError: besides the errors of every importer, a client on no list or on both, or one list without the other.
    """
    root = _LAYOUT.root(source)
    splits = _splits(root)
    faces = []
    for path, match in _LAYOUT.match(root):
        client, kind = match["client"], _TYPES[match["instrument"]]
        if (match["class"] == "real") != (kind == NO_ATTACK):
            raise _LAYOUT.not_so_called([path])
        if splits and client not in splits:
            raise AgfasError(f"Client {client} of {path} is neither in train_sub_list.txt nor in test_sub_list.txt.")
        faces.append(SourceFace(path, domain, kind, client, match["video"], split=splits.get(client, "")))
    return faces


def _splits(root: Path) -> dict[str, str]:
    """The split of every client, by its three digits; empty if there is neither list."""
    lists = {split: root / f"{split}_sub_list.txt" for split in ("train", "test")}
    missing = [path for path in lists.values() if not path.is_file()]
    if len(missing) == 2:
        return {}
    if missing:
        raise AgfasError(f"{missing[0]} is missing, but the other list is there. Copy this list beside it.")
    texts = {split: path.read_text(encoding="utf-8-sig", errors="replace") for split, path in lists.items()}
    clients = {split: {number.zfill(3) for number in text.split()} for split, text in texts.items()}
    both = clients["train"] & clients["test"]
    if both:
        raise AgfasError(f"Client {min(both)} is both in train_sub_list.txt and in test_sub_list.txt at {root}.")
    return {number: split for split, numbers in clients.items() for number in numbers}
