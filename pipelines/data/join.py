"""Joins face datasets into one that keeps their domains, for protocols across datasets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.blocks import Blocks
from pipelines.data.records import CARD_NAME, COLUMNS, face_features, load_faces, read_card
from pipelines.errors import AgfasError
from pipelines.files import write_atomically
from pipelines.fingerprint import fingerprint

if TYPE_CHECKING:
    from datasets import Dataset


def joined_name(folders: Sequence[Path]) -> str:
    """Folder name of the joined dataset: a fingerprint of the contents of its parts, not of their paths."""
    return fingerprint({"joined": sorted(str(read_card(folder)["fingerprint"]) for folder in folders)})


def join_faces(folders: Sequence[Path], out: Path) -> Path:
    """Write the faces of several datasets as one dataset at `out`; an existing one is kept. One process writes it.

    Keeps the columns of a face dataset, and the parsing masks if every part has them.

    Raises:
        AgfasError: a folder is not a face dataset, or two hold the same domain.
    """
    parts = [load_faces(folder) for folder in folders]
    _check_domains(folders, parts)
    if not (out / CARD_NAME).is_file():
        Blocks(out, 0, joined_name(folders)).finish(
            lambda: write_atomically(out, lambda temporary: _write(parts, folders, temporary))
        )
    return out


def _write(parts: list[Dataset], folders: Sequence[Path], out: Path) -> None:
    from datasets import Features, Image, concatenate_datasets

    with_masks = all("mask" in part.column_names for part in parts)
    features = Features({**face_features(), **({"mask": Image()} if with_masks else {})})
    kept = [part.select_columns([*COLUMNS, *(["mask"] if with_masks else [])]).cast(features) for part in parts]
    faces = concatenate_datasets(kept)
    faces.save_to_disk(str(out))
    cards = [read_card(folder) for folder in folders]
    card: dict[str, Any] = {
        "fingerprint": joined_name(folders),
        "faces": len(faces),
        "joined": [str(card["fingerprint"]) for card in cards],
        "recipe": _common([card.get("recipe") or {} for card in cards]),
        "licence": "; ".join(sorted({str(card["licence"]) for card in cards if card.get("licence")})),
    }
    (out / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _common(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings that all parts share, so that a saved model knows how its crops were aligned."""
    first, *others = recipes
    return {name: value for name, value in first.items() if all(name in o and o[name] == value for o in others)}


def _check_domains(folders: Sequence[Path], parts: list[Dataset]) -> None:
    known: dict[str, Path] = {}
    for folder, part in zip(folders, parts, strict=True):
        for domain in part.unique("domain"):
            if domain in known:
                raise AgfasError(
                    f"{known[domain]} and {folder} both hold the domain '{domain}'. Prepare one of them again with"
                    " another --domain."
                )
            known[domain] = folder
