"""What the labels of a dataset mean: one rule for class folders, lists and Hugging Face datasets.

Words with a common meaning (`words.meaning`) are understood. Numbers are not, since datasets disagree on whether 1 is
live: they are asked for, as other words are. The option `bonafide`, or `live`, names the labels that mean bona fide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias

from pipelines.data.importers.words import MEANINGS, UNKNOWN, meaning, plain
from pipelines.data.records import NO_ATTACK
from pipelines.errors import AgfasError, nearest

Given: TypeAlias = "str | float | bool | Sequence[str | float | bool] | None"
# What stands for nothing in a column of attack types, and for no attack.
_NO_VALUE, _NO_TYPE = ("", "nan", "null", "n/a", "na"), ("none", "no")
_LISTED = 20


def as_text(value: object) -> str:
    """A label as text: 1.0 as `1`, True as `true`, nothing and NaN as the empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def meanings(
    there: Mapping[str, str], bonafide: Given, live: Given, where: str, names: Sequence[str] = ()
) -> dict[str, str]:
    """The attack type of every label, `none` for bona fide.

    Args:
        there: the labels, as `as_text` writes them, each with its first place.
        bonafide, live: the labels that mean bona fide, by name or number, several in one text with commas between; at
            most one of the two is given. Without both, every label must have a common meaning.
        where: where the labels are, for messages: `the column 'label' of list.csv`.
        names: names by number, if the labels have both.

    Raises:
        AgfasError: a label without a common meaning that no option explains, both options, a label that is not there,
            or an option that contradicts what a label says.
    """
    labels = sorted(set(there))
    common = {label: meaning(label) for label in labels}
    if bonafide is not None and live is not None:
        raise AgfasError("bonafide and live are two names of one option. Give one of them.")
    given = live if bonafide is None else bonafide
    if given is None:
        unclear = [label for label, kind in common.items() if kind is None]
        if unclear:
            close = get_close_matches(plain(unclear[0]), MEANINGS)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise AgfasError(
                f"Which labels mean bona fide? {unclear[0]!r} ({there[unclear[0]]}) has no common meaning{hint}. Name"
                " those that do with --option bonafide=..., several with commas; all others are attacks. In"
                f" {where} there are: {_some(labels)}."
            )
        return {label: kind for label, kind in common.items() if kind is not None}
    chosen = {label for word in _words(given) for label in _named(word, labels, names, where)}
    found = {label: NO_ATTACK if label in chosen else kind or UNKNOWN for label, kind in common.items()}
    wrong = [label for label, kind in common.items() if kind and (kind == NO_ATTACK) != (label in chosen)]
    if wrong:
        said = "an attack" if wrong[0] in chosen else "bona fide"
        raise AgfasError(
            f"bonafide={','.join(_words(given))} contradicts the label {wrong[0]!r}, which says {said}. In {where}"
            f" there are: {_some(labels)}. Name all that mean bona fide and no other, or rename the label."
        )
    return found


def attack_type_of(kind: str, given: str, label: str, place: str) -> str:
    """The attack type of a row, by its label and its own column.

    Args:
        kind: what the label means.
        given: the row's attack type; may be empty.
        label, place: of the row, for messages.

    Raises:
        AgfasError: one says bona fide and the other an attack.
    """
    if plain(given) in _NO_VALUE:
        return kind
    none = plain(given) in _NO_TYPE or meaning(given) == NO_ATTACK
    if none != (kind == NO_ATTACK):
        raise AgfasError(
            f"{place}: attack_type {given!r} does not go with the label {label!r}. Correct one of them, or leave the"
            " attack type out."
        )
    return NO_ATTACK if none else meaning(given) or given


def _words(given: Given) -> list[str]:
    if isinstance(given, str):
        return [word.strip() for word in given.split(",")]
    return [as_text(word) for word in (given if isinstance(given, Sequence) else [given])]


def _named(word: str, labels: Sequence[str], names: Sequence[str], where: str) -> list[str]:
    """The labels that a word of the option names: by their spelling, else by their number."""
    same = [label for label in labels if _spelling(label) == _spelling(word)]
    if not same:
        numbered = {str(number): name for number, name in enumerate(names)}
        same = [label for label in labels if label == numbered.get(_spelling(word))]
    if not same and {"0": "false", "1": "true"}.get(word) in labels:
        same = [{"0": "false", "1": "true"}[word]]
    if not same:
        there = nearest(word, labels) if len(labels) <= _LISTED else f"there are: {_some(labels)}."
        raise AgfasError(f"No label in {where} is {word!r}; {there}")
    return same


def _spelling(word: str) -> str:
    try:
        number = float(word)
    except ValueError:
        return plain(word)
    return str(int(number)) if number.is_integer() else word


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _LISTED} more" if len(labels) > _LISTED else ""
    return ", ".join(labels[:_LISTED]) + more
