"""`agfas prepare`: pictures and videos to a face dataset."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from pipelines.data.duplicates import joined_sentences
from pipelines.data.formats import kind_named
from pipelines.data.leaks import leaks_from_json
from pipelines.data.prepare.card import as_text, expectation
from pipelines.data.prepare.cutter import DetectorFactory
from pipelines.data.prepare.job import open_job, run_job
from pipelines.data.prepare.result import contradicted_share, refused_share
from pipelines.data.prepare.settings import PrepareRecipe, build_recipe
from pipelines.data.prepare.sources import Sources, find_sources, title_of
from pipelines.data.repeats import repeat_sentences
from pipelines.errors import AgfasError
from pipelines.experiment.file import read_mapping, set_dotted
from pipelines.experiment.shipped import find_config
from pipelines.files import read_json
from pipelines.plain_yaml import parse_value
from pipelines.processes import say

# Reasons and endings that the terminal shows.
_SHOWN = 3


def read_recipe(config: Path | None, given: dict[str, Any], options: list[str]) -> PrepareRecipe:
    """The recipe of a YAML file, overridden by the command line.

    Args:
        config: the file, or the name of a shipped one. Default: the defaults of `PrepareRecipe`.
        given: values by key of `PrepareRecipe`; None: not given.
        options: `key=value` for the importer.

    Raises:
        AgfasError: no such file, not YAML, an unknown key, or a value that is not allowed.
    """
    content = read_mapping(find_config(config, "recipe")) if config else {}
    chosen = {name: value for name, value in given.items() if value is not None}
    content |= chosen
    overrides = {name: f"--{name.replace('_', '-')} {value}" for name, value in chosen.items()}
    for option in options:
        name, sign, text = option.partition("=")
        if not sign:
            raise AgfasError(f"'{option}' is not an option of an importer. Write --option key=value.")
        key = f"options.{name.strip()}"
        set_dotted(content, key, parse_value(text, f"--option {name}"))
        overrides[key] = f"--option {option}"
    return build_recipe(content, str(config) if config else "the command line", overrides)


def run(source: Path, out: Path, recipe: PrepareRecipe, make_detector: DetectorFactory | None = None) -> int:
    """Make the dataset and print a summary.

    Args:
        source: a folder, a list, or a dataset of the hub, depending on the importer.
        out: folder of the dataset.
        recipe: settings.
        make_detector: replaces the recipe's face detector; must be picklable.

    Returns:
        The exit code: 1 if the recipe allows fewer refused faces, no missing videos, or no leaks; otherwise 0.
    """
    sources = find_sources(source, recipe)
    _print_found(sources)
    if sources.missing and not recipe.allow_missing:
        say("Nothing was made. Complete the copy, or accept it with --allow-missing.")
        return 1
    job = open_job(source, out, recipe, sources, make_detector)
    card = run_job(job)
    return _print_result(out, recipe, card)


def _print_found(sources: Sources) -> None:
    videos = sum(face.is_video for face in sources.faces)
    say(f"{title_of(sources.importer)}: {len(sources.faces) - videos} pictures, {videos} videos")
    for count in sources.counts:
        say(f"  {expectation(count)}")
    for line in groups((one.path, one.reason) for one in sources.unreadable):
        say(line)
    endings = Counter(why.removesuffix(", ignored by the importer") for _, why in sources.passed_over)
    if endings:
        kinds = ", ".join(f"{count} {why}" for why, count in endings.most_common(_SHOWN))
        say(f"  {len(sources.passed_over)} other files and links are passed over: {kinds}")


def _print_result(out: Path, recipe: PrepareRecipe, card: dict[str, Any]) -> int:
    for line in as_text(read_json(out / "counts.json")["counts"]):
        say(line)
    leaks = leaks_from_json(read_json(out / "leaks.json"))
    for line in [*joined_sentences(card), *leaks.sentences(), *repeat_sentences(card.get("repeats", {}))]:
        say(line)
    if "sources" in card:  # datasets of earlier versions have no account
        say(_account(card["sources"]))
    share = refused_share(card)
    say(f"{card['refused_faces']} of {card['asked']} faces were refused ({share:.1%}): {out / 'refused.csv'}")
    for line in groups(_refused_sources(out / "refused.csv")):
        say(line)
    if card["filtered_faces"]:
        say(f"{card['filtered_faces']} sound faces are beyond the limits of pose or quality, listed there too")
    if card["left_out"]:
        say(f"{card['left_out']} faces were left out for the ratio: {out / 'left_out.csv'}")
    if card["noted"]:
        say(f"{card['noted']} files were not read whole, such as animations and cut videos: {out / 'noted.csv'}")
    if passed := sum(card["passed_over"].values()):
        say(f"{passed} files and links are passed over: {out / 'passed_over.csv'}")
    say(f"Dataset: {out} ({card['faces']} faces, fingerprint {card['fingerprint']})")
    if not card["faces"]:
        say("No face came through, so there is no dataset to work with and the exit code is 1: read refused.csv.")
        return 1
    if one_class := _one_class(card):
        say(one_class)
    if not leaks.clean and not recipe.allow_leaks:
        say(
            "Splits leak, so the exit code is 1: error rates on this dataset would be too low. leaks.json says what"
            " is in two: correct the subjects or the official split, or accept it with --allow-leaks."
        )
        return 1
    if share > recipe.max_refused:
        say(
            f"That is more than --max-refused {recipe.max_refused:g}, so the exit code is 1. The dataset is complete"
            " and can be used; read refused.csv first."
        )
        return 1
    if contradicted_share(card) > recipe.max_refused:
        say(
            f"{card['repeats']['both_classes']} pictures are both bona fide and attack"
            f" ({contradicted_share(card):.1%} of the faces, more than --max-refused {recipe.max_refused:g}), so the"
            " exit code is 1: read repeated.csv."
        )
        return 1
    return 0


def _refused_sources(path: Path) -> Iterator[tuple[str, str]]:
    """Path and reason of the refused files, without single frames."""
    with path.open(newline="", encoding="utf-8") as stream:
        yield from ((row["path"], row["reason"]) for row in csv.DictReader(stream) if not row["frame"])


def _what(ending: str) -> str:
    kind = kind_named(PurePath(f"x{ending}"))
    return "files" if kind is None else f"{kind.medium}s"


def groups(refused: Iterable[tuple[str, str]]) -> list[str]:
    """The most frequent reasons of refusals by the ending of the names, a line each."""
    groups = Counter(
        (PurePath(path).suffix.lower() or "no ending", reason.removeprefix(f"{path} ").removeprefix("It "))
        for path, reason in refused
    )
    return [
        f"  {count} {_what(ending)} in {ending}: {reason}" for (ending, reason), count in groups.most_common(_SHOWN)
    ]


def _account(sources: dict[str, int]) -> str:
    """One line that says where every file or row has gone."""
    words = {"read": "read", "refused": "refused", "passed_over": "passed over", "beyond_limit": "beyond --limit"}
    parts = [f"{sources[name]} {word}" for name, word in words.items() if sources[name] or name == "read"]
    return f"Sources: {sources['found']} found: {', '.join(parts)}"


def _one_class(card: dict[str, Any]) -> str:
    """What a dataset of one class is good for; empty if it has both."""
    labels = {place.rsplit("/", 2)[1] for place in card["counts"]}
    if len(labels) > 1:
        return ""
    if labels == {"bonafide"}:
        return "All faces are bona fide: enough to train a generator, not a detector."
    return "All faces are attacks: no generator and no detector can be trained on them alone."
