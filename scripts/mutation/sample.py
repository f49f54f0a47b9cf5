"""Which faults are tried: lines drawn from rooms in proportion to the rooms' lines, one fault a drawn line.

A line is drawn by the hash of the seed and of its content, so that a change elsewhere does not change the draw, and a
larger number adds to a smaller one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import AgfasError
from scripts.mutation.changes import Change, changes_of, is_sound

PACKAGES = ("dfg", "oanet", "pipelines")


@dataclass(frozen=True)
class Room:
    """A package, a folder of `pipelines`, or its single files; `files` maps their paths to their bytes."""

    name: str
    files: dict[str, bytes]

    @property
    def lines(self) -> int:
        """Of all its files."""
        return sum(source.count(b"\n") for source in self.files.values())


def room_of(path: str) -> str:
    """`dfg`, `oanet`, `pipelines/data`; the ground's single files are `pipelines`."""
    package, *rest = path.split("/")
    return f"{package}/{rest[0]}" if package == "pipelines" and len(rest) > 1 else package


def rooms(root: Path, only: Sequence[str] = ()) -> list[Room]:
    """The rooms of a clone, by name; `only` are rooms, folders or files.

    Raises:
        AgfasError: if nothing is there.
    """
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not only or any(room_of(name) == each or name == each or name.startswith(f"{each}/") for each in only):
            found[room_of(name)][name] = path.read_bytes()
    if not found:
        raise AgfasError(f"no source in {', '.join(only)}: name a room such as dfg or pipelines/data, or a file")
    return [Room(name, files) for name, files in sorted(found.items())]


def draw(chosen: Iterable[Room], number: int, seed: int) -> list[Change]:
    """`number` faults, or all lines there are, room by room."""
    chosen = list(chosen)
    shares = _shares([room.lines for room in chosen], number)
    return [change for room, share in zip(chosen, shares, strict=True) for change in _of_room(room, share, seed)]


def _shares(lines: Sequence[int], number: int) -> list[int]:
    """Whole shares in proportion, by largest remainders."""
    exact = [number * each / sum(lines) for each in lines]
    shares = [int(each) for each in exact]
    order = sorted(range(len(lines)), key=lambda place: shares[place] - exact[place])
    for place in order[: number - sum(shares)]:
        shares[place] += 1
    return shares


def _of_room(room: Room, number: int, seed: int) -> list[Change]:
    lines: dict[tuple[str, int], list[Change]] = defaultdict(list)
    for path, source in room.files.items():
        for change in changes_of(path, source):
            lines[path, change.line].append(change)
    # A line is known by its first fault's key, which does not change when lines above it do.
    order = sorted(lines, key=lambda line: _drawn(seed, lines[line][0].key))
    drawn: list[Change] = []
    for path, line in order:
        if len(drawn) == number:
            break
        candidates = sorted(lines[path, line], key=lambda change: _drawn(seed, f"fault {change.key}"))
        drawn += next(([change] for change in candidates if is_sound(change, room.files[path])), [])
    return drawn


def _drawn(seed: int, what: str) -> str:
    return hashlib.sha256(f"{seed} {what}".encode()).hexdigest()
