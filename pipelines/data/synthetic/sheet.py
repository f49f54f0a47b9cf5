"""The contact sheet: a block for live faces and each attack of every domain, for a person to judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from pipelines.data.records import NO_ATTACK

if TYPE_CHECKING:
    from datasets import Dataset

_MARGIN, _LABEL, _GAP = 8, 18, 3


def contact_sheet(faces: Dataset, path: Path, *, rows: int = 4, columns: int = 4, zoom: int | None = None) -> Path:
    """Write a PNG of example faces.

    Args:
        faces: a face dataset.
        path: the PNG to write.
        rows, columns: size of each group of faces (first frames of different videos, in order).
        zoom: whole-number enlargement; by default faces come to about 128 pixels.

    Returns:
        `path`.
    """
    groups = _groups(faces)
    kinds = [NO_ATTACK, *sorted({kind for _, kind in groups} - {NO_ATTACK})]
    domains = list(dict.fromkeys(domain for domain, _ in groups))
    first = faces[0]["image"].width
    side = first * (zoom or max(1, round(128 / first)))
    width = columns * side + _GAP
    height = rows * side + _LABEL
    sheet = Image.new("RGB", (_MARGIN + len(kinds) * width, _MARGIN + len(domains) * height), "white")
    for down, domain in enumerate(domains):
        for across, kind in enumerate(kinds):
            corner = (_MARGIN + across * width, _MARGIN + down * height)
            indices = groups.get((domain, kind), [])
            _paint_group(
                sheet,
                faces,
                indices[: rows * columns],
                corner,
                columns,
                side,
                _title(domain, kind, len(indices)),
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, "PNG")
    partial.replace(path)
    return path


def _groups(faces: Dataset) -> dict[tuple[str, str], list[int]]:
    """Indices of the videos' first frames by domain and attack type."""
    groups: dict[tuple[str, str], list[int]] = {}
    columns = (faces[name] for name in ("domain", "attack_type", "frame"))
    for index, (domain, kind, frame) in enumerate(zip(*columns, strict=True)):
        if frame == 0:
            groups.setdefault((domain, kind), []).append(index)
    return groups


def _title(domain: str, kind: str, videos: int) -> str:
    return f"{domain}: {'live' if kind == NO_ATTACK else kind} ({videos} videos)"


def _paint_group(sheet, faces, indices, corner, columns: int, side: int, title: str) -> None:
    ImageDraw.Draw(sheet).text((corner[0], corner[1] + 2), title, fill="black")
    for position, index in enumerate(indices):
        row, column = divmod(position, columns)
        picture = faces[index]["image"].resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(picture, (corner[0] + column * side, corner[1] + _LABEL + row * side))
