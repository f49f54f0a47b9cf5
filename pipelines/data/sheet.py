"""The contact sheet: example faces of a dataset in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from pipelines.data.records import NO_ATTACK
from pipelines.data.splits import evenly_spaced
from pipelines.files import write_atomically

if TYPE_CHECKING:
    from datasets import Dataset

_MARGIN, _LABEL, _GAP = 8, 18, 3
_ROWS = _COLUMNS = 4
# Approximate side of a face in pixels.
_SIDE = 128


def contact_sheet(faces: Dataset, path: Path) -> Path:
    """Write a PNG with a block of example faces for each domain and attack type.

    A block shows the first frames of different videos, evenly spaced.

    Args:
        faces: a face dataset.
        path: the PNG to write.

    Returns:
        `path`.
    """
    groups = _groups(faces)
    kinds = [NO_ATTACK, *sorted({kind for _, kind in groups} - {NO_ATTACK})]
    domains = list(dict.fromkeys(domain for domain, _ in groups))
    crops = faces.select_columns(["image"])
    own = crops[0]["image"].width
    # Small faces are enlarged by an integer factor, large ones reduced.
    side = _SIDE if own > _SIDE else own * round(_SIDE / own)
    width = _COLUMNS * side + _GAP
    height = _ROWS * side + _LABEL
    sheet = Image.new("RGB", (_MARGIN + len(kinds) * width, _MARGIN + len(domains) * height), "white")
    for down, domain in enumerate(domains):
        for across, kind in enumerate(kinds):
            corner = (_MARGIN + across * width, _MARGIN + down * height)
            indices = groups.get((domain, kind), [])
            title = f"{domain}: {'live' if kind == NO_ATTACK else kind} ({len(indices)} videos)"
            # Spread, since the first videos may all show one person.
            _paint_group(sheet, crops, evenly_spaced(indices, _ROWS * _COLUMNS), corner, side, title)
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG"))
    return path


def _groups(faces: Dataset) -> dict[tuple[str, str], list[int]]:
    """Indices of the videos' first frames by domain and attack type."""
    groups: dict[tuple[str, str], list[int]] = {}
    seen: set[tuple[str, str]] = set()
    columns = (faces[name][:] for name in ("domain", "attack_type", "video"))
    for index, (domain, kind, video) in enumerate(zip(*columns, strict=True)):
        if (domain, video) not in seen:
            seen.add((domain, video))
            groups.setdefault((domain, kind), []).append(index)
    return groups


def _paint_group(
    sheet: Image.Image, crops: Dataset, indices: list[int], corner: tuple[int, int], side: int, title: str
) -> None:
    ImageDraw.Draw(sheet).text((corner[0], corner[1] + 2), title, fill="black")
    for position, index in enumerate(indices):
        row, column = divmod(position, _COLUMNS)
        face = crops[index]["image"]
        how = Image.Resampling.NEAREST if side % face.width == 0 else Image.Resampling.LANCZOS
        sheet.paste(face.resize((side, side), how), (corner[0] + column * side, corner[1] + _LABEL + row * side))
