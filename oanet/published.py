"""Published networks: what each was made to see, and how its publisher decides between live and attack.

Such a network judges faces only as its publisher's program shows them to it, so it makes its own input from a picture
(`Detector.look`), in the publisher's arithmetic of 8-bit pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from oanet.checks import check_name
from oanet.names import DETECTORS

# What a detector sees: the aligned crop of a face dataset; a whole picture; or what it cuts out of a picture itself,
# around the face's box or by its five points.
CROP: Final = "crop"
PICTURE: Final = "picture"
BOX: Final = "box"
POINTS: Final = "points"

# Published files are small; a folder may hold others, which are not worth reading.
_LARGEST_FILE = 100_000_000


class RejectedInput(ValueError):
    """A face of which the publisher's program gives no score, because too little of it is in the picture."""


@dataclass(frozen=True)
class Decision:
    """A publisher's rule: a face is live if its score >= `threshold`.

    Attributes:
        threshold: on P(live); of a rule by class the score from which every face is live.
        origin: whose rule it is and on what it was chosen, in words.
        by_class: the face is live if `live` is the most probable class, see `DetectorOutput.attack_classes`.
    """

    threshold: float
    origin: str
    by_class: bool = False


@dataclass(frozen=True)
class Publication:
    """What is known of published weights; a detector states it as the literal `published`.

    Attributes:
        title: of the network, with its publisher.
        files: the names that the files have, and where they come from.
        licence: of the weights.
        trained_on: in words.
        count: number of files.
    """

    title: str
    files: str
    licence: str
    trained_on: str
    count: int = 1


def published_names() -> list[str]:
    """The built-in detectors that have published weights of their own."""
    return [name for name in DETECTORS.builtin if DETECTORS.attribute(name, "published")]


def publication(name: str) -> Publication:
    """What is known of a detector's published weights. Raises ValueError, with the nearest name, if it has none."""
    check_name("published network", name, published_names())
    return Publication(**DETECTORS.attribute(name, "published"))


def sight(name: str, options: Mapping[str, Any]) -> str:
    """What a detector with these options sees: `crop`, `picture`, `box` or `points`; imports no torch."""
    if options.get("sees") is not None:
        return str(options["sees"])
    as_published = options.get("weights") and not options.get("cue")
    published = DETECTORS.attribute(name, "sees_published") if as_published else None
    return str(published or DETECTORS.attribute(name, "sees") or CROP)


def find_weights(name: str, place: Path) -> str | list[str]:
    """The published files of a network, known by their content whatever their names, as its option `weights`.

    Args:
        name: of `published_names`.
        place: a folder that may hold other files too, or one file.

    Raises:
        FileNotFoundError, ValueError: no such place or name, or the files are not there, or are too many.
    """
    known = publication(name)
    if not place.exists():
        raise FileNotFoundError(f"No weights at {place}: there is no such folder. '{name}' needs {known.files}.")
    files = [path for path in (sorted(place.iterdir()) if place.is_dir() else [place]) if _is_readable(path)]
    found = DETECTORS.load(name) if files else None  # with it torch
    paths = [str(path) for path in files if found is not None and found.recognises(path)]
    if len(paths) != known.count:
        names = f" ({', '.join(Path(path).name for path in paths)})" if paths else ""
        raise ValueError(
            f"{place} holds {len(paths) or 'no'} files of '{name}'{names}; {known.count} needed: {known.files}."
        )
    return paths if known.count > 1 else paths[0]


def _is_readable(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= _LARGEST_FILE
