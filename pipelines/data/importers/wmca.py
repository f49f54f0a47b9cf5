"""Wide Multi-Channel Presentation Attack: the colour channel of prints, replays, masks, heads and glasses.

    face-station/12.02.18/100_03_015_2_10.hdf5        client_session_presenter_type_instrument
    PROTOCOL-grandtest.csv                            path, label, ..., train, dev or eval; also in wmca-protocols-csv/

Layout after Idiap's interface `bob.pad.face`, whose table of instruments (`lists/batl/idiap_converter_v2.json`) defines
type and instrument, and published readers of the protocol files; counts after the paper (1,679 recordings). The files
are HDF5; `Layout.colour_stream` says how to export them. The official splits are those of `grandtest`; without its file
the splits stay empty and clients are dealt out. Wigs and make-up, which `grandtest` excludes, are skipped if its file
exists and does not list them.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from pipelines.data.importers.layout import EXPORTED, Expected, Layout
from pipelines.data.importers.source import SourceFace
from pipelines.data.importers.words import FLEXIBLE_MASK, HEAD, MAKEUP, MASK, PAPER_MASK, PARTIAL, PRINT, REPLAY, WIG
from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError

TITLE = "WMCA"
CITATION = (
    "A. George, Z. Mostaani, D. Geissenbuhler, O. Nikisins, A. Anjos, S. Marcel: Biometric Face Presentation Attack"
    " Detection with Multi-Channel Convolutional Neural Network. IEEE Transactions on Information Forensics and"
    " Security 15, 2020."
)
LICENCE = "For research, under Idiap's end user licence agreement."
VERIFIED = "Not checked against a real copy; names and instruments follow Idiap's published interface."
EXPECTED = (
    Expected(BONAFIDE, 347),
    Expected(ATTACK, 200, attack_type=PRINT),
    Expected(ATTACK, 348, attack_type=REPLAY),
    Expected(ATTACK, 122, attack_type=HEAD),
    Expected(ATTACK, 137, attack_type=MASK),
    Expected(ATTACK, 379, attack_type=FLEXIBLE_MASK),
    Expected(ATTACK, 71, attack_type=PAPER_MASK),
    Expected(ATTACK, 75, attack_type=PARTIAL, what="glasses"),
)

# Attack type by type and instrument. Types 0, 4 and 5 are one attack type each, whatever the instrument.
_WHOLE_TYPES = {"0": NO_ATTACK, "4": REPLAY, "5": MAKEUP}
_INSTRUMENTS: dict[str, dict[str, Collection[int]]] = {
    "1": {PARTIAL: (1, 3, 4, 5, 6, 7, 15, 16), MASK: (2, 13, 14), WIG: range(8, 13)},
    "2": {HEAD: range(1, 8), PAPER_MASK: range(8, 12), MASK: range(12, 18), FLEXIBLE_MASK: (18, *range(75, 100))},
    "3": {REPLAY: (5, 10, 15), PRINT: (1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14)},
}
_PROTOCOL = "PROTOCOL-grandtest.csv"
_SPLITS = {"train": "train", "dev": "dev", "eval": "test"}
_LAYOUT = Layout(
    TITLE,
    ("face-station",),
    r"face-station/(?:.*/)?(?P<video>(?P<client>\d{3})_\d{2}_\d{3}_(?P<type>[0-5])_(?P<instrument>\d{2,3}))" + EXPORTED,
    "face-station/12.02.18/100_03_015_2_10.mp4",
    colour_stream="group `Frame_N`, dataset `array`, 3 x height x width RGB, of the RGB archive",
)


def find(source: Path, domain: str) -> list[SourceFace]:
    """One face per exported video or frame; the subject is the client, for an artefact its owner or itself.

    Raises:
        AgfasError: besides the errors of every importer, an unknown instrument, or a protocol file of another dataset.
    """
    root = _LAYOUT.root(source)
    splits = _splits(root)
    faces, strange, unlisted = [], [], []
    for path, match in _LAYOUT.match(root):
        kind, video = _attack_type(match["type"], int(match["instrument"])), match["video"]
        if kind is None:
            strange.append(path)
        elif splits and video not in splits:
            unlisted += [path] if kind not in (WIG, MAKEUP) else []
        else:
            split, frame = splits.get(video, ""), int(match["frame"] or 0)
            faces.append(SourceFace(path, domain, kind, match["client"], video, frame, split))
    if strange:
        raise _LAYOUT.not_so_called(strange)
    if unlisted:
        raise AgfasError(
            f"{len(unlisted)} recordings are not in {_PROTOCOL}, the first is {unlisted[0]}. Copy the protocol file of"
            " this dataset again, or remove it to have the clients dealt out."
        )
    return faces


def _attack_type(kind: str, instrument: int) -> str | None:
    """None for an instrument that the dataset does not have."""
    if kind in _WHOLE_TYPES:
        return _WHOLE_TYPES[kind]
    return next((name for name, numbers in _INSTRUMENTS[kind].items() if instrument in numbers), None)


def _splits(root: Path) -> dict[str, str]:
    """The split of every recording of `grandtest`; empty without its file."""
    folders = (root, root / "wmca-protocols-csv", root.parent, root.parent / "wmca-protocols-csv")
    path = next((folder / _PROTOCOL for folder in folders if (folder / _PROTOCOL).is_file()), None)
    if path is None:
        return {}
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        rows = [row for row in csv.reader(stream) if row]
    splits = {Path(row[0].strip()).name: _SPLITS[row[-1].strip()] for row in rows if row[-1].strip() in _SPLITS}
    if not splits:
        raise AgfasError(f"{path} names no recording with train, dev or eval in its last column. Copy it again.")
    return {name.removesuffix(".hdf5"): split for name, split in splits.items()}
