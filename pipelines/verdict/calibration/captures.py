"""The live pictures and videos of a calibration and whose they are, by names and lists alone: no picture is decoded.

    SOURCE/PERSON/FILE...     every folder is one person; deeper folders are theirs
    LIST.csv                  as the importer `csv` reads it; its attacks are passed over
    a face dataset            of `agfas prepare`; its attacks are passed over

With one person alone, the folders and videos of SOURCE (or the videos of a list or dataset) are that person's sessions.
What they alone can say is refused here, before a detector is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.data.formats import is_video
from pipelines.data.importers.csv_file import find as find_listed
from pipelines.data.importers.source import media_in, place_below
from pipelines.data.importers.words import meaning
from pipelines.data.records import BONAFIDE, CARD_NAME, NO_ATTACK, read_columns
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256
from pipelines.spelling import one_form
from pipelines.verdict.calibration.choice import Choice
from pipelines.verdict.calibration.enough import check_enough


@dataclass(frozen=True)
class Capture:
    """One picture or video of a live person, or the frames that a dataset keeps of it.

    Attributes:
        name: for messages.
        person: empty if it is not known.
        session: of the person, if all captures are of one; empty if it is not known.
        path: of the file; None for rows of a dataset.
        rows: of the dataset.
    """

    name: str
    person: str
    session: str
    path: Path | None = None
    rows: Sequence[int] = ()


@dataclass(frozen=True)
class Captures:
    """Everything to see.

    Attributes:
        source: where it lies.
        each: the captures.
        groups: the person of each, or its session.
        of_dataset: whether they are rows of a face dataset.
    """

    source: Path
    each: Sequence[Capture]
    groups: Sequence[str]
    of_dataset: bool


def find_captures(source: Path, choice: Choice) -> Captures:
    """The live captures of a source, which may be enough.

    Raises:
        AgfasError: of `list_captures`; too few persons, captures or faces, or one file of two persons.
    """
    found = list_captures(source, choice)
    check_enough(
        sorted(set(found.groups)),
        len(found.each),
        _different(found, choice.frames_of_video),
        choice.bpcer,
        head=not choice.threshold_only,
        one_person=choice.one_person,
        at_most=True,
    )
    return found


def list_captures(source: Path, choice: Choice) -> Captures:
    """The live captures of a source, however few.

    Raises:
        AgfasError: no such source, no live captures, persons or sessions in it, or options that it leaves nothing to do
            for.
    """
    of_dataset = (source / CARD_NAME).is_file()
    if of_dataset:
        _check_options(source, choice)
        captures = _of_dataset(source)
    elif source.is_file():
        captures = _listed(source)
    else:
        captures = _in_folders(source)
    return Captures(source, captures, _groups(captures, source, choice.one_person), of_dataset)


def _check_options(dataset: Path, choice: Choice) -> None:
    given = {"--aligned": choice.aligned, "--frames": choice.frames is not None}
    for name in (name for name, is_given in given.items() if is_given):
        raise AgfasError(
            f"{name} is for pictures and videos. {dataset} is a face dataset, made with its own: leave it out."
        )


def _listed(path: Path) -> list[Capture]:
    """The live pictures and videos of a list."""
    if path.suffix.lower() != ".csv":
        raise AgfasError(f"{path} is a file. Give a folder with a folder for each person, or a list (.csv).")
    found = [
        Capture(str(face.path), face.subject if face.subject_known else "", face.video, face.path)
        for face in find_listed(path, "live")
        if face.attack_type == NO_ATTACK
    ]
    if not found:
        raise AgfasError(f"{path} lists attacks alone. Give it rows of live pictures, labelled `live`.")
    return found


def _in_folders(source: Path) -> list[Capture]:
    """The pictures and videos of a folder."""
    captures = []
    for path in media_in(source, expected="a folder for each person, with pictures or videos of them"):
        top, _, below = one_form(place_below(source, path)).partition("/")
        person = top if below else ""
        captures.append(Capture(str(path), person, person or (top if is_video(path) else ""), path))
    _check_classes(source, {capture.person for capture in captures})
    return captures


def _check_classes(source: Path, folders: set[str]) -> None:
    classes = {name: meaning(name) for name in sorted(folders) if meaning(name) is not None}
    live = [name for name, kind in classes.items() if kind == NO_ATTACK]
    if classes:
        raise AgfasError(
            f"{source} has folders of classes ({', '.join(classes)}), and here every folder is one live person. Give"
            f" {source / live[0] if live else 'a folder of live pictures alone'}."
        )


def _of_dataset(folder: Path) -> list[Capture]:
    """The live videos of a face dataset."""
    names = ("domain", "subject", "video", "label")
    columns = {name: values.tolist() for name, values in read_columns(folder, names, ("subject_known",)).items()}
    known = columns.get("subject_known")
    rows: dict[tuple[str, str, str], list[int]] = {}
    for row, (domain, subject, video, label) in enumerate(zip(*(columns[name] for name in names), strict=True)):
        if label == BONAFIDE:
            rows.setdefault((domain, subject, video), []).append(row)
    if not rows:
        raise AgfasError(f"{folder} has no live faces. Give a dataset that has some.")
    return [
        Capture("/".join(key), f"{key[0]}/{key[1]}" if known is None or known[found[0]] else "",
                f"{key[0]}/{key[2]}", rows=found)
        for key, found in rows.items()
    ]  # fmt: skip


def _groups(captures: Sequence[Capture], source: Path, one_person: bool) -> list[str]:
    """The person of each capture, or its session."""
    groups = [capture.session if one_person else capture.person for capture in captures]
    if not one_person and "" in groups:
        raise AgfasError(
            f"{captures[groups.index('')].name} is of no known person: put every person's pictures and videos into a"
            f" folder of their own below {source}. If all are of one person, say so with --one-person."
        )
    persons = sorted({capture.person for capture in captures if capture.person not in ("", capture.session)})
    if one_person and len(persons) > 1:
        raise AgfasError(f"{source} names {len(persons)} persons ({', '.join(persons[:3])}): leave --one-person out.")
    if "" in groups:
        raise AgfasError(
            f"{captures[groups.index('')].name} is of no known session: put the pictures of every session (another day,"
            f" another light) into a folder of their own below {source}."
        )
    return groups


def _different(captures: Captures, frames: int) -> int:
    """How many faces there are at most: of equal files one counts.

    Raises:
        AgfasError: one file is there for two persons, or for two sessions.
    """
    count, groups = 0, captures.groups
    for first, *others in _equal_files(captures.each):
        one = captures.each[first]
        for other in (other for other in others if groups[other] != groups[first]):
            raise AgfasError(
                f"{one.name} ({groups[first]}) and {captures.each[other].name} ({groups[other]}) are the same file."
                " If both folders show one person, make them one; else remove the copy."
            )
        count += len(one.rows) or (frames if one.path is not None and is_video(one.path) else 1)
    return count


def _equal_files(captures: Sequence[Capture]) -> Iterator[list[int]]:
    """The captures by what their files hold; only files of one size are read."""
    for alike in _alike(captures, range(len(captures)), lambda path: path.stat().st_size):
        yield from [alike] if len(alike) == 1 else _alike(captures, alike, file_sha256)


def _alike(
    captures: Sequence[Capture], numbers: Iterable[int], measure: Callable[[Path], Hashable]
) -> Iterable[list[int]]:
    """Captures by a measure of their files; rows of a dataset, and files that cannot be read, are alone."""
    found: dict[tuple[bool, Hashable], list[int]] = {}
    for number in numbers:
        path = captures[number].path
        key: tuple[bool, Hashable] = (False, number)
        with suppress(OSError):  # why, is said where it is seen
            key = key if path is None else (True, measure(path))
        found.setdefault(key, []).append(number)
    return found.values()
