"""Protocols: domains to train a detector on, videos that set its threshold, domains to test it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.data.frames import used_frames
from pipelines.data.protocol_settings import (
    CORPUS,
    AllToUnseen,
    AnyProtocol,
    Combined,
    CrossMatrix,
    LeaveOneOut,
    Limited,
    OneAgainstOthers,
    Within,
)
from pipelines.data.records import ATTACK, BONAFIDE, SPLITS
from pipelines.errors import AgfasError, nearest
from pipelines.spelling import short_name

# Bytes of a fold's name: a lock and temporary files stand beside its folder, with longer names.
_LONGEST = 200
PROTOCOL_COLUMNS = ("label", "domain", "subject", "video", "split")


@dataclass(frozen=True)
class Fold:
    """One training of a protocol and its test.

    Attributes:
        name: short and valid as a folder name, see `short_name`.
        train_domains: sources, sorted; the detector is trained on their records of `train_splits`.
        dev_domains: their `dev` records, held-out source videos, set the threshold.
        test_domains: targets; the detector is tested on their records of `test_splits`, or on the `test` records of a
            target that is also a source.
        train_splits: `train`, or `train` and `test` if no source is tested.
        test_splits: None for all, as in the papers.
        frames: of each video, see `used_frames`.
    """

    name: str
    train_domains: tuple[str, ...]
    dev_domains: tuple[str, ...]
    test_domains: tuple[str, ...]
    train_splits: tuple[str, ...] = ("train",)
    test_splits: tuple[str, ...] | None = None
    frames: str = "all"

    @property
    def within_domains(self) -> tuple[str, ...]:
        """Targets that are also sources."""
        return tuple(name for name in self.test_domains if name in {*self.train_domains, *self.dev_domains})


def protocol_folds(settings: AnyProtocol, columns: Mapping[str, Any]) -> tuple[Fold, ...]:
    """The folds of a protocol for a dataset with the column `domain` (N,); see `build_folds`."""
    return build_folds(settings, np.unique(np.asarray(columns["domain"])).tolist())


def build_folds(settings: AnyProtocol, available: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of a protocol for a dataset with the domains `available`.

    Raises:
        AgfasError: the dataset lacks a domain, or has too few.
    """
    folds = tuple(replace(fold, frames=settings.frames) for fold in _between_domains(settings, available))
    if isinstance(settings, Within | CrossMatrix | Combined):
        return folds
    trained = tuple(settings.train_splits)
    tested = None if settings.test_splits is None else tuple(settings.test_splits)
    return tuple(replace(fold, train_splits=trained, test_splits=tested) for fold in folds)


def _between_domains(settings: AnyProtocol, available: Sequence[str]) -> tuple[Fold, ...]:
    """The folds with their default splits."""
    rest = sorted(set(available) - {CORPUS})
    if isinstance(settings, Limited | AllToUnseen):
        train, test = settings.train, settings.test
        check_domains([*(train or []), *(test or [])], available)
        if isinstance(settings, Limited):
            return limited(settings.train, settings.test)
        train = [name for name in rest if name not in (test or [])] if train is None else train
        return all_to_unseen(train, [name for name in rest if name not in train] if test is None else test)
    domains = rest if settings.domains is None else settings.domains
    check_domains(domains, available)
    return _BUILDERS[type(settings)](domains)


def leave_one_out(domains: Sequence[str]) -> tuple[Fold, ...]:
    """Each domain is the target once, all others are the sources (O&C&I to M and so on)."""
    _check_distinct(domains, at_least=2)
    return tuple(_fold(f"to_{target}", [d for d in domains if d != target], [target]) for target in domains)


def limited(sources: Sequence[str], targets: Sequence[str]) -> tuple[Fold, ...]:
    """The same few sources for every target (M&I to C, M&I to O); one fold per target."""
    _check_sides("limited", sources, targets)
    return tuple(_fold(f"{'_'.join(sources)}_to_{target}", sources, [target]) for target in targets)


def one_against_others(domains: Sequence[str]) -> tuple[Fold, ...]:
    """Each domain is the only source once; all others are tested together."""
    _check_distinct(domains, at_least=2)
    return tuple(_fold(f"from_{source}", [source], [d for d in domains if d != source]) for source in domains)


def within(domains: Sequence[str]) -> tuple[Fold, ...]:
    """Each domain by itself, from its `train` records to its `test` records."""
    _check_distinct(domains, at_least=1)
    return tuple(_fold(f"within_{domain}", [domain], [domain]) for domain in domains)


def cross_matrix(domains: Sequence[str]) -> tuple[Fold, ...]:
    """Each domain is the only source once; every domain is tested, the source on its `test` records."""
    _check_distinct(domains, at_least=2)
    return tuple(_fold(f"from_{source}", [source], domains) for source in domains)


def combined(domains: Sequence[str]) -> tuple[Fold, ...]:
    """All domains are sources; each is tested on its `test` records."""
    _check_distinct(domains, at_least=2)
    return (_fold("combined", domains, domains),)


def all_to_unseen(sources: Sequence[str], targets: Sequence[str]) -> tuple[Fold, ...]:
    """All sources together; the targets are other domains (O&C&I&M to WMCA and others)."""
    _check_sides("all_to_unseen", sources, targets)
    return (_fold("all_to_unseen", sources, targets),)


_BUILDERS: dict[type, Callable[[Sequence[str]], tuple[Fold, ...]]] = {
    LeaveOneOut: leave_one_out,
    OneAgainstOthers: one_against_others,
    Within: within,
    CrossMatrix: cross_matrix,
    Combined: combined,
}


def check_domains(names: Sequence[str], available: Sequence[str]) -> None:
    """Check that the dataset has the domains.

    Raises:
        AgfasError: it lacks one; the message suggests the nearest name.
    """
    for name in names:
        if name not in available:
            raise AgfasError(f"The dataset has no domain '{name}': {nearest(name, set(available))}")


def indices(columns: Mapping[str, Any], fold: Fold) -> dict[str, np.ndarray]:
    """The rows of a dataset for training, threshold and test of a fold, in ascending order.

    train: records of the train domains in `train_splits`. dev: `dev` records of the dev domains. test: records of the
    test domains in `test_splits`, or the `test` records of a test domain that is also a source.

    Args:
        columns: `label`, `domain`, `subject`, `video`, `split` of the dataset, (N,) each, and those of `used_frames`;
            others are ignored.

    Returns:
        {"train": (n,) int64, "dev": ..., "test": ...}

    Raises:
        AgfasError: an unknown domain or split, a part that lacks a class, a domain without the `test` records or the
            frames it needs, or a subject or video in two parts.
    """
    arrays = {name: np.asarray(columns[name]) for name in PROTOCOL_COLUMNS}
    _check_split_column(arrays["split"])
    available = sorted(set(arrays["domain"].tolist()))
    check_domains([*fold.train_domains, *fold.dev_domains, *fold.test_domains], available)
    masks = {
        "train": np.isin(arrays["domain"], fold.train_domains) & np.isin(arrays["split"], fold.train_splits),
        "dev": np.isin(arrays["domain"], fold.dev_domains) & (arrays["split"] == "dev"),
        "test": np.isin(arrays["domain"], fold.test_domains) & _is_tested(arrays["domain"], arrays["split"], fold),
    }
    _check_held_out(arrays["domain"], arrays["split"], fold)
    rows = {part: np.flatnonzero(mask & used_frames(columns, fold.frames, part)) for part, mask in masks.items()}
    _check_frames(arrays["domain"], masks, rows, fold)
    _check_classes(arrays["label"], rows, fold)
    for column in ("subject", "video"):
        _check_crossing(arrays["domain"], arrays[column], column, rows, fold)
    return rows


def _is_tested(domain: np.ndarray, splits: np.ndarray, fold: Fold) -> np.ndarray:
    """(N,) bool: whether a record is tested if its domain is a target."""
    chosen = np.isin(splits, SPLITS if fold.test_splits is None else fold.test_splits)
    return np.where(np.isin(domain, fold.within_domains), splits == "test", chosen)


def _fold(name: str, sources: Sequence[str], targets: Sequence[str]) -> Fold:
    ordered = tuple(sorted(sources))
    return Fold(short_name(name, _LONGEST), ordered, ordered, tuple(sorted(targets)))


def _check_distinct(domains: Sequence[str], at_least: int) -> None:
    twice = sorted({name for name in domains if list(domains).count(name) > 1})
    if twice:
        raise AgfasError(
            f"Domain '{twice[0]}' is named twice in the protocol; a domain is either a source or a target. Remove one."
        )
    if len(domains) < at_least:
        raise AgfasError(
            f"A protocol across domains needs at least {at_least}, but has {len(domains)}"
            f" ({', '.join(domains)}). Use a dataset with more domains, or list them in protocol.domains."
        )


def _check_sides(protocol: str, sources: Sequence[str], targets: Sequence[str]) -> None:
    _check_distinct([*sources, *targets], at_least=2)
    if not sources or not targets:
        raise AgfasError(
            f"The protocol {protocol} needs at least one source (protocol.train) and one target (protocol.test), but"
            f" has {len(sources)} and {len(targets)}."
        )


def _check_split_column(values: np.ndarray) -> None:
    for name in sorted(set(values.tolist()) - set(SPLITS)):
        raise AgfasError(
            f"Records of the dataset have the split '{name}': {nearest(str(name), SPLITS)} Prepare it again."
        )


def _check_held_out(domain: np.ndarray, splits: np.ndarray, fold: Fold) -> None:
    for name in fold.within_domains:
        there = sorted(set(splits[domain == name].tolist()))
        if "test" not in there:
            raise AgfasError(
                f"Fold '{fold.name}' trains on domain '{name}' and tests on its `test` records, but it has none"
                f" (only {', '.join(there)}). Prepare it again with subjects in train, dev and test, or list the"
                " domains that have them in protocol.domains."
            )


def _check_frames(domain: np.ndarray, masks: dict[str, np.ndarray], rows: dict[str, np.ndarray], fold: Fold) -> None:
    for part, mask in masks.items():
        for name in sorted(set(domain[mask].tolist()) - set(domain[rows[part]].tolist())):
            raise AgfasError(
                f"protocol.frames is {fold.frames}, but the domain '{name}' was prepared with frame_rule: released and"
                " has no uniform frames. Prepare it again with --frame-rule both, or set protocol.frames to all or"
                " released."
            )


def _check_classes(labels: np.ndarray, rows: dict[str, np.ndarray], fold: Fold) -> None:
    domains = {"train": fold.train_domains, "dev": fold.dev_domains, "test": fold.test_domains}
    for part, chosen in rows.items():
        for label, name in ((BONAFIDE, "bona fide"), (ATTACK, "attack")):
            if not np.any(labels[chosen] == label):
                raise AgfasError(
                    f"Fold '{fold.name}' has {len(chosen)} {part} records of {', '.join(domains[part])} but"
                    f" no {name} among them. {_CLASS_FIX[part]}"
                )


_CLASS_FIX = {
    "train": "Choose source domains with both in protocol.train_splits, or prepare the dataset again.",
    "dev": "The sources need `dev` subjects with both: prepare a dataset with more subjects.",
    "test": "Choose a target domain with both in protocol.test_splits (default: all).",
}


def _check_crossing(
    domain: np.ndarray, names: np.ndarray, column: str, rows: dict[str, np.ndarray], fold: Fold
) -> None:
    """Nobody and no video may be in two parts; their names are unique within a domain only."""
    found = {part: set(zip(domain[r].tolist(), names[r].tolist(), strict=True)) for part, r in rows.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        both = found[one] & found[other]
        if both:
            where, name = min(both)
            raise AgfasError(
                f"In fold '{fold.name}', {len(both)} {column}s are in both {one} and {other}, the first is"
                f" {column} '{name}' of domain '{where}'. Prepare the dataset again, split by subject."
            )
