"""Faces of the built-in benchmark: every camera's live faces and attacks, drawn while the site is built."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from pipelines.data.records import NO_ATTACK
from pipelines.synthetic.benchmark import plan_videos, render_faces
from pipelines.synthetic.settings import DOMAINS, SyntheticSettings
from pipelines.synthetic.videos import VideoPlan
from scripts.site.table import table

KINDS = ("live", "print", "replay", "mask")
SIDE, PERSONS = 160, 2
_SETTINGS = SyntheticSettings(size=SIDE, subjects=30, live_videos=1, attack_videos=8, frames=1, corpus_subjects=0)


def gallery_page() -> str:
    """A table: a camera a row, a kind a column."""
    shown = {(video.domain, kind, number) for video, kind, number in _chosen()}
    rows = [
        [domain, *("".join(_link(domain, kind, number) for number in range(PERSONS) if (domain, kind, number) in shown)
                   or "–" for kind in KINDS)]
        for domain in DOMAINS
    ]  # fmt: skip
    return table(("camera", *KINDS), rows)


def gallery_pictures() -> dict[str, bytes]:
    """The pictures as PNG, by their place in the site."""
    found = {}
    for video, kind, number in _chosen():
        faces, _ = render_faces([video], _SETTINGS.seed, SIDE)
        stored = io.BytesIO()
        Image.fromarray(faces[0]).save(stored, "PNG")
        found[_place(video.domain, kind, number)] = stored.getvalue()
    return found


def _chosen() -> Iterator[tuple[VideoPlan, str, int]]:
    """The first videos of each camera and kind, each of another person, with kind and number."""
    persons: dict[tuple[str, str], list[str]] = {}
    for video in plan_videos(_SETTINGS):
        kind = "live" if video.attack_type == NO_ATTACK else video.attack_type
        seen = persons.setdefault((video.domain, kind), [])
        if len(seen) < PERSONS and video.subject not in seen:
            yield video, kind, len(seen)
            seen.append(video.subject)


def _place(domain: str, kind: str, number: int) -> str:
    return f"gallery/{domain}-{kind}-{number}.png"


def _link(domain: str, kind: str, number: int) -> str:
    what = "live face" if kind == "live" else f"{kind} attack"
    return f"![{what}, camera {domain}]({_place(domain, kind, number)})"
