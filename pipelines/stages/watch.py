"""`agfas detect` of a camera or stream: one line an answer, until it is stopped."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.data.cameras import live_source
from pipelines.ending import REQUEUE, exit_code, finishing, is_asked, stop
from pipelines.errors import AgfasError
from pipelines.files import append_line
from pipelines.verdict.sightings import END, SEEN, Sighting
from pipelines.verdict.watching import Pace

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

_BOX = ("left", "top", "width", "height")
_FACE = ("id", "verdict", "score", "newest_score", "frames", "threshold")
_COLUMNS = ("time", "seconds", "state", "reason", *_FACE, *_BOX, "latency", "judged", "dropped", "threshold_origin")
_SPELLED = {"seconds": "--for"}


def pace_of(words: Sequence[str], times: Mapping[str, float | None], of_files: Mapping[str, bool]) -> Pace | None:
    """How the camera or stream among the words of `agfas detect` is watched; None if they are all files.

    Args:
        words: numbers, addresses, paths.
        times: fields of `Pace`; None where nothing was given.
        of_files: options that only files have, and whether they were given.

    Raises:
        AgfasError: several sources, one beside files, or an option of the other kind.
    """
    live = [source for source in map(live_source, words) if source is not None]
    given = {name: value for name, value in times.items() if value is not None}
    if not live:
        for name in given:
            raise AgfasError(f"{_SPELLED.get(name, f'--{name}')} is for a camera or stream; these are files.")
        return None
    if len(words) > 1:
        raise AgfasError(
            f"A camera or stream is watched alone, until it is stopped; {live[0].shown} is one of {len(words)}. Start a"
            " command for each."
        )
    for name in (name for name, is_given in of_files.items() if is_given):
        raise AgfasError(f"{name} is for files. {live[0].shown} is watched: nothing of it is stored but --csv.")
    return Pace(**given)  # type: ignore[arg-type]


def run(
    source: str, detector: FaceAntiSpoofing, pace: Pace, *, as_json: bool = False, table: Path | None = None
) -> None:
    """Watch a camera or stream, and print every answer as it is made.

    Lines of verdicts, or with `as_json` all lines, go to stdout, the others to stderr. Ctrl-C and a reader that closes
    the pipe are the end, not errors.

    Args:
        source: the one word for which `pace_of` gives a pace.
        detector: of `open_detector`.
        pace: times of the watch.
        as_json: an object a line.
        table: a CSV file to append to, a row for each face of each answer, each on the disk before the next answer.

    Raises:
        AgfasError: of `FaceAntiSpoofing.watch`, or a CSV file with other columns.
        Stopped: a scheduler takes the machine back.
    """
    sightings = detector.watch(source, pace, stop=is_asked)
    if table is not None:
        _begin(table)
    settings, noted = detector.settings, set[str]()
    _say(f"{settings.threshold.words}\ndetector: {settings.label}, {settings.fold}")
    with finishing():
        for sighting in sightings:
            if table is not None:
                append_line(table, _csv(_rows(sighting)))
            for note in sighting.notes:
                if note not in noted:
                    _say(f"note: {note}")
                    noted.add(note)
            if not _printed(sighting, as_json):
                return
    if is_asked() and exit_code() == REQUEUE:
        stop()


def _printed(sighting: Sighting, as_json: bool) -> bool:
    """Print an answer; whether somebody still reads them."""
    lines = [json.dumps(sighting.to_dict())] if as_json else list(sighting.lines())
    if not as_json and sighting.state not in SEEN:
        if sighting.state != END:  # a failure is an error, which says it; another end was asked for
            _say("\n".join(lines))
        return True
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        # Python would complain once more at its end, when it flushes what is left.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _begin(table: Path) -> None:
    """Write the header of a new CSV file.

    Raises:
        AgfasError: the file has another header.
    """
    header = _csv([_COLUMNS])
    if not table.exists() or not table.stat().st_size:
        table.parent.mkdir(parents=True, exist_ok=True)
        append_line(table, header)
        return
    with table.open("rb") as stream:
        found = stream.readline().rstrip(b"\r\n")
    if found != header:
        raise AgfasError(f"{table} is another table: rows of a watch are appended to their own. Name another file.")


def _rows(sighting: Sighting) -> Iterator[list[Any]]:
    """A row for each followed face, or one without a face."""
    common = sighting.to_dict()
    for face in common["tracks"] or [{}]:
        box = face.get("box") or [""] * len(_BOX)
        values = {**common, **dict.fromkeys(_FACE, ""), **face, **dict(zip(_BOX, box, strict=True))}
        # `seconds` is that of the answer, not how long the face was followed.
        values["seconds"] = common["seconds"]
        yield ["" if values[name] is None else values[name] for name in _COLUMNS]


def _csv(rows: Iterator[list[Any]] | Sequence[Sequence[str]]) -> bytes:
    """Rows without the end of the last line, which `append_line` writes."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue().rstrip("\n").encode("utf-8", "backslashreplace")
