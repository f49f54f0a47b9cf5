"""A folder of live faces without identities, such as UTKFace or All-Age-Faces: every picture its own subject."""

from __future__ import annotations

from pathlib import Path

from pipelines.data.importers.source import SourceFace, pictures_in
from pipelines.data.records import BONAFIDE, NO_ATTACK


def find(source: Path, domain: str) -> list[SourceFace]:
    """One subject, one video, one frame per picture."""
    return [SourceFace(path, BONAFIDE, NO_ATTACK, domain, path.stem, path.stem, 0) for path in pictures_in(source)]
