"""`agfas show`: the content of a face dataset, a check of its splits, and a contact sheet."""

from __future__ import annotations

from pathlib import Path

from pipelines.data.leaks import Leaks, dataset_leaks, leaks_from_json
from pipelines.data.prepare.card import as_text, count_faces
from pipelines.data.records import SPLITS, load_faces, read_card
from pipelines.data.repeats import repeat_sentences
from pipelines.data.sheet import contact_sheet
from pipelines.files import read_json

_COLUMNS = ("domain", "label", "attack_type", "split", "subject", "video")


def run(folder: Path) -> list[str]:
    """Describe a face dataset, prepared or drawn, and write `contact_sheet.png` into its folder.

    Returns:
        The lines to print.

    Raises:
        AgfasError: the folder is not a finished face dataset.
    """
    card = read_card(folder)
    faces = load_faces(folder)
    columns = {name: faces[name][:] for name in _COLUMNS}
    subjects = len(set(zip(columns["domain"], columns["subject"], strict=True)))
    videos = len(set(zip(columns["domain"], columns["video"], strict=True)))
    shares = ", ".join(f"{columns['split'].count(split)} {split}" for split in SPLITS)
    lines = [
        f"{folder}: {len(faces)} faces ({shares}), {subjects} subjects, {videos} videos",
        f"fingerprint {card['fingerprint']}, crops of {faces.select_columns(['image'])[0]['image'].width} pixels",
        *as_text(count_faces(columns)),
        *_leaks(folder, card["fingerprint"]).sentences(),
    ]
    if "repeats" in card:
        lines += repeat_sentences(card["repeats"])
    if "refused_faces" in card:
        refused, filtered = card["refused_faces"], card["filtered_faces"]
        lines.append(
            f"{refused} of {card['asked']} faces were refused, {filtered} excluded by limits: {folder / 'refused.csv'}"
        )
    lines.append(f"Contact sheet: {contact_sheet(faces, folder / 'contact_sheet.png')}")
    return lines


def _leaks(folder: Path, fingerprint: str) -> Leaks:
    """The stored check of the splits, or a new one if the dataset has none."""
    path = folder / "leaks.json"
    if path.is_file():
        found = read_json(path)
        if found.get("fingerprint") == fingerprint:
            return leaks_from_json(found)
    return dataset_leaks(folder)
