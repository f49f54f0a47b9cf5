"""The contact sheet: a block for live faces and each attack of every domain, for a person to judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from pipelines.data.records import NO_ATTACK
from pipelines.files import write_atomically

if TYPE_CHECKING:
    from datasets import Dataset

_MARGIN, _LABEL, _GAP = 8, 18, 3
# About the side at which a face is shown.
_SIDE = 128


def contact_sheet(faces: Dataset, path: Path, *, rows: int = 4, columns: int = 4, zoom: int | None = None) -> Path:
    """Write a PNG of example faces.

    Args:
        faces: a face dataset.
        path: the PNG to write.
        rows, columns: size of each group of faces (the first frames of different videos, evenly spaced).
        zoom: whole-number enlargement; by default faces come to about 128 pixels.

    Returns:
        `path`.
    """
    groups = _groups(faces)
    kinds = [NO_ATTACK, *sorted({kind for _, kind in groups} - {NO_ATTACK})]
    domains = list(dict.fromkeys(domain for domain, _ in groups))
    side = _side(faces[0]["image"].width, zoom)
    width = columns * side + _GAP
    height = rows * side + _LABEL
    sheet = Image.new("RGB", (_MARGIN + len(kinds) * width, _MARGIN + len(domains) * height), "white")
    for down, domain in enumerate(domains):
        for across, kind in enumerate(kinds):
            corner = (_MARGIN + across * width, _MARGIN + down * height)
            indices = groups.get((domain, kind), [])
            title = _title(domain, kind, len(indices))
            _paint_group(sheet, faces, _spread(indices, rows * columns), corner, columns, side, title)
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG"))
    return path


def _side(width: int, zoom: int | None) -> int:
    """Of a face on the sheet: small ones enlarged by a whole number, large ones reduced."""
    if zoom is None and width > _SIDE:
        return _SIDE
    return width * (zoom or max(1, round(_SIDE / width)))


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


def _spread(indices: list[int], count: int) -> list[int]:
    """`count` of them, evenly spaced: the first ones may all be of one person."""
    if len(indices) <= count:
        return indices
    return [indices[place * len(indices) // count] for place in range(count)]


def _title(domain: str, kind: str, videos: int) -> str:
    return f"{domain}: {'live' if kind == NO_ATTACK else kind} ({videos} videos)"


def _paint_group(sheet, faces, indices, corner, columns: int, side: int, title: str) -> None:
    ImageDraw.Draw(sheet).text((corner[0], corner[1] + 2), title, fill="black")
    for position, index in enumerate(indices):
        row, column = divmod(position, columns)
        face = faces[index]["image"]
        how = Image.Resampling.NEAREST if side % face.width == 0 else Image.Resampling.LANCZOS
        sheet.paste(face.resize((side, side), how), (corner[0] + column * side, corner[1] + _LABEL + row * side))
