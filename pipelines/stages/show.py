"""`agfas show`: what a face dataset holds, whether its splits are clean, and a contact sheet to look at."""

from __future__ import annotations

from pathlib import Path

from pipelines.data.leaks import Leaks, dataset_leaks, leaks_from_json
from pipelines.data.prepare.counts import as_text, count_faces
from pipelines.data.records import SPLITS, load_faces, read_card
from pipelines.data.sheet import contact_sheet
from pipelines.files import read_json

_COLUMNS = ("domain", "label", "attack_type", "split", "subject", "video")


def run(folder: Path) -> list[str]:
    """Write `contact_sheet.png` into the dataset's folder.

    Args:
        folder: of any face dataset, prepared or synthetic.

    Returns:
        What there is to say, line by line.

    Raises:
        AgfasError: the folder is no finished face dataset.
    """
    card = read_card(folder)
    faces = load_faces(folder)
    columns = {name: faces[name][:] for name in _COLUMNS}
    subjects = len(set(zip(columns["domain"], columns["subject"], strict=True)))
    videos = len(set(zip(columns["domain"], columns["video"], strict=True)))
    shares = ", ".join(f"{columns['split'].count(split)} {split}" for split in SPLITS)
    lines = [
        f"{folder}: {len(faces)} faces ({shares}), {subjects} subjects, {videos} videos",
        f"fingerprint {card['fingerprint']}, crops of {faces[0]['image'].width} pixels",
        *as_text(count_faces(columns)),
        *_leaks(folder, card["fingerprint"]).sentences(),
    ]
    if "refused_faces" in card:
        refused, filtered = card["refused_faces"], card["filtered_faces"]
        lines.append(
            f"{refused} of {card['asked']} faces were refused, {filtered} kept out by limits: {folder / 'refused.csv'}"
        )
    elif "refused" in card:
        lines.append(f"{card['refused']} pictures were refused; {folder / 'refused.csv'} says why")
    lines.append(f"Contact sheet: {contact_sheet(faces, folder / 'contact_sheet.png')}")
    return lines


def _leaks(folder: Path, fingerprint: str) -> Leaks:
    """What was found when the dataset was made; a dataset that was not checked then is checked now."""
    path = folder / "leaks.json"
    if path.is_file():
        found = read_json(path)
        if found.get("fingerprint") == fingerprint:
            return leaks_from_json(found)
    return dataset_leaks(folder)
