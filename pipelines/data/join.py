"""Joins face datasets into one that keeps their domains, for protocols across datasets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.blocks import Blocks
from pipelines.data.intact import write_sums
from pipelines.data.records import (
    CARD_NAME,
    FRAME_RULE,
    face_features,
    licence_of_faces,
    open_table,
    picture_features,
    read_card,
    write_state,
)
from pipelines.errors import AgfasError
from pipelines.files import write_atomically
from pipelines.fingerprint import fingerprint
from pipelines.processes import say
from pipelines.spelling import alike

if TYPE_CHECKING:
    import pyarrow
    from datasets import Features


def joined_name(folders: Sequence[Path]) -> str:
    """Folder name of the joined dataset: a fingerprint of the contents of its parts, not of their paths."""
    return fingerprint({"joined": sorted(str(read_card(folder)["fingerprint"]) for folder in folders)})


def join_faces(folders: Sequence[Path], out: Path) -> Path:
    """Write the faces of several datasets as one dataset at `out`; an existing one is kept. One process writes it.

    Keeps the columns of a face dataset, the parsing masks if every part has them, and of the parts that have them the
    rules of the frames, the places of the faces and the pictures around them.

    Raises:
        AgfasError: a folder is not a face dataset, or two hold the same domain.
    """
    parts = [open_table(folder, with_pictures=True) for folder in folders]
    _check_domains(folders, parts)
    if not (out / CARD_NAME).is_file():
        Blocks(out, 0, joined_name(folders)).finish(
            lambda: write_atomically(out, lambda temporary: _write(parts, folders, temporary))
        )
    return out


def _write(parts: list[pyarrow.Table], folders: Sequence[Path], out: Path) -> None:
    features = _features(parts)
    if repeated := _repeated(parts):
        say(
            f"{repeated} faces lie in more than one of {', '.join(map(str, folders))}, pixel for pixel: a detector that"
            " is tested on one of these domains may have been trained on its faces."
        )
    names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
    out.mkdir()
    for name, part in zip(names, parts, strict=True):
        _copy(part, features, out / name)
    write_state(out, names, features, joined_name(folders))
    cards = [read_card(folder) for folder in folders]
    card: dict[str, Any] = {
        "fingerprint": joined_name(folders),
        "faces": sum(map(len, parts)),
        "joined": [str(card["fingerprint"]) for card in cards],
        "recipe": _common([card.get("recipe") or {} for card in cards]),
        "licence": "; ".join(sorted(set(map(licence_of_faces, cards)))),
    }
    if simulated := sorted({domain for one in cards for domain in one.get("simulated", [])}):
        card["simulated"] = simulated
    (out / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    write_sums(out)


def _features(parts: list[pyarrow.Table]) -> Features:
    """The columns of the whole."""
    from datasets import Features, Image, Value

    masks = {"mask": Image()} if all("mask" in part.column_names for part in parts) else {}
    there = {name for part in parts for name in part.column_names}
    optional = {FRAME_RULE: Value("string"), **picture_features()}
    return Features({**face_features(), **masks, **{name: kind for name, kind in optional.items() if name in there}})


def _copy(part: pyarrow.Table, features: Features, path: Path) -> None:
    """Copy the columns of a part, one batch at a time: whole pictures do not fit into memory together."""
    import pyarrow as pa
    from datasets.table import table_cast

    schema = features.arrow_schema
    for name in schema.names:
        if name not in part.column_names:
            part = part.append_column(schema.field(name), pa.nulls(len(part), schema.field(name).type))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in part.select(schema.names).to_batches():
            writer.write_table(table_cast(pa.Table.from_batches([batch]), schema))


def _common(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings that all parts share, so that a saved model knows how its crops were aligned."""
    first, *others = recipes
    return {name: value for name, value in first.items() if all(name in o and o[name] == value for o in others)}


def _check_domains(folders: Sequence[Path], parts: list[pyarrow.Table]) -> None:
    known: dict[str, tuple[str, Path]] = {}
    for folder, part in zip(folders, parts, strict=True):
        for domain in part.column("domain").unique().to_pylist():
            name, place = known.setdefault(alike(domain), (domain, folder))
            if place != folder:
                spelled = "" if name == domain else f", spelled '{name}' in the first"
                raise AgfasError(
                    f"{place} and {folder} both hold the domain '{domain}'{spelled}. Prepare one of them again with"
                    " another --domain."
                )


def _repeated(parts: Sequence[pyarrow.Table]) -> int:
    """Number of faces that a part before has too, pixel for pixel: parts of one size store equal pixels equally."""
    seen: set[bytes] = set()
    count = 0
    for part in parts:
        pictures = (image["bytes"] for batch in part.select(["image"]).to_batches() for image in batch[0].to_pylist())
        own = {hashlib.sha256(picture).digest()[:12] for picture in pictures if picture}
        count += len(seen & own)
        seen |= own
    return count
