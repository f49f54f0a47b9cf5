"""Score tables: what detectors write, and all that metrics, tables and figures read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.data.records import ATTACK, BONAFIDE, NO_ATTACK
from pipelines.errors import AgfasError
from pipelines.files import write_atomically
from pipelines.fingerprint import canonical_json
from pipelines.training.run import run_id, score_path

TEXT_COLUMNS = ("key", "video", "subject", "domain", "attack_type")
SCORE_COLUMNS = (*TEXT_COLUMNS, "label", "score")
RUN = "run"
"""Where a table's metadata name its run, see `pipelines.training.run.run_id`."""

_METADATA_KEY, _CHECKSUM = b"agfas", "sha256"
_KINDS: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "label": ("whole numbers", pa.types.is_integer),
    "score": ("numbers", pa.types.is_floating),
}
_AGAIN = "Remove it and run `agfas evaluate` again"


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One score per face, or per video after `by_video`.

    Columns are given as any sequences and kept as numpy arrays of N rows.

    Attributes:
        key: the record's key, unique.
        video: capture, unique within its domain.
        subject: person, unique within the domain.
        domain: dataset or camera.
        attack_type: `none` for bona fide, else the presentation attack instrument.
        label: int64, 0 attack, 1 bona fide.
        score: float64, finite; probability of bona fide.
        metadata: origin of the scores (role, checkpoint, fingerprints); JSON values.

    Raises:
        AgfasError: columns of unequal length, a label other than 0 and 1, a score that is not finite, a duplicate
            key, or an attack type that contradicts its label.
    """

    key: np.ndarray
    video: np.ndarray
    subject: np.ndarray
    domain: np.ndarray
    attack_type: np.ndarray
    label: np.ndarray
    score: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in TEXT_COLUMNS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.str_))
        object.__setattr__(self, "score", np.asarray(self.score, dtype=np.float64))
        _check_lengths({name: np.asarray(getattr(self, name)) for name in SCORE_COLUMNS})
        object.__setattr__(self, "label", _checked_labels(self.label))
        _check_scores(self.key, self.score)
        _check_keys(self.key)
        _check_attack_types(self.key, self.label, self.attack_type)

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def attack_codes(self) -> tuple[np.ndarray, list[str]]:
        """(N,) the index of each row's attack type, and the sorted attack types, `none` included."""
        return encode(self.attack_type)

    def save(self, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the table as parquet (zstd), atomically; `metadata` is added to its own."""
        facts = json.loads(json.dumps({**self.metadata, **(metadata or {})}))
        content = json.dumps({**facts, _CHECKSUM: _checksum(self, facts)})
        columns = {name: pa.array(getattr(self, name)) for name in SCORE_COLUMNS}
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: content.encode()})
        write_atomically(Path(path), lambda temporary: pq.write_table(table, temporary, compression="zstd"))

    @classmethod
    def load(cls, path: Path) -> ScoreTable:
        """Read what `save` wrote.

        Raises:
            AgfasError: the file is missing, is not parquet, has other columns, or is not what was written.
        """
        columns, metadata = _read_parquet(Path(path))
        expected = metadata.pop(_CHECKSUM, None)
        try:
            table = cls(**columns, metadata=metadata)
        except AgfasError as error:
            raise AgfasError(f"{path} is no score table: {error}") from None
        if expected not in (None, _checksum(table, metadata)):
            raise AgfasError(f"{path} is not what was written (its checksum differs). {_AGAIN}.")
        return table

    def where(self, mask: np.ndarray) -> ScoreTable:
        """The rows selected by a boolean mask (N,) or an array of indices."""
        return ScoreTable(**{name: getattr(self, name)[mask] for name in SCORE_COLUMNS}, metadata=self.metadata)

    def by_video(self) -> ScoreTable:
        """Average the scores of each video's frames; a table of videos is returned unchanged.

        The key of a row becomes `domain/video`; rows are sorted by domain, then video. Scores are summed in rising
        order, so that the result does not depend on the order of the frames, not even in its last bit.

        Raises:
            AgfasError: the frames of a video differ in label, subject or attack type.
        """
        codes, names = _video_codes(self.domain, self.video)
        first = np.empty(len(names), dtype=np.int64)
        first[codes[::-1]] = np.arange(len(self))[::-1]  # of the rows of a video, the one that is set last
        for name in ("label", "subject", "attack_type"):
            _check_consistent(name, getattr(self, name), codes, first, names)
        rising = np.argsort(self.score)
        sums = np.bincount(codes[rising], weights=self.score[rising])
        columns = {name: getattr(self, name)[first] for name in SCORE_COLUMNS}
        columns |= {"key": np.asarray(names, dtype=np.str_), "score": sums / np.bincount(codes)}
        return ScoreTable(**columns, metadata=self.metadata)

    def require_both_classes(self, what: str = "The score table") -> None:
        """Check that error rates can be computed.

        Raises:
            AgfasError: the table has no bona fide or no attack.
        """
        for label, name in ((BONAFIDE, "bona fide"), (ATTACK, "attack")):
            if not np.any(self.label == label):
                raise AgfasError(
                    f"{what} holds {len(self)} scores but no {name}: EER, AUC and the error rates need both"
                    " classes. Score faces of both."
                )


def read_scores(run: Path, step: int, role: str) -> ScoreTable:
    """The score table of one step of a run; role is `dev` or `test`.

    Raises:
        AgfasError: as `ScoreTable.load`, or it is of another run, step or role.
    """
    path = score_path(run, step, role)
    table = ScoreTable.load(path)
    for name, expected in (("role", role), ("step", step), ("fold", run.name)):
        if table.metadata.get(name, expected) != expected:
            raise AgfasError(f"{path} holds scores of another {name}: {table.metadata[name]}. {_AGAIN}.")
    if RUN in table.metadata and table.metadata[RUN] != run_id(run):
        raise AgfasError(f"{path} holds scores of another run. {_AGAIN}.")
    return table


def concat(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Concatenate tables; metadata is kept if it is equal in all of them."""
    if not tables:
        raise AgfasError("There is no score table to concatenate. Run `agfas evaluate` first.")
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in SCORE_COLUMNS}
    same = all(table.metadata == tables[0].metadata for table in tables)
    return ScoreTable(**columns, metadata=tables[0].metadata if same else {})


def encode(column: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """(N,) the index of each value among the sorted distinct values, and these; by hashing, faster than by sorting."""
    encoded = pa.array(column).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[encoded.indices.to_numpy()], [names[i] for i in order]


def _video_codes(domain: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, list[str]]:
    domain_codes, domains = encode(domain)
    video_codes, videos = encode(video)
    codes, pairs = encode(domain_codes * len(videos) + video_codes)
    return codes, [f"{domains[pair // len(videos)]}/{videos[pair % len(videos)]}" for pair in pairs]


def _read_parquet(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The columns of a file, whose names and types are checked, and its metadata."""
    if not path.is_file():
        raise AgfasError(f"There is no score table at {path}. Create it with `agfas evaluate`.")
    try:
        # Not `read_table`, which takes `NAME=VALUE` in a path for a column.
        with pq.ParquetFile(path) as file:
            table = file.read()
        metadata = dict(json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}")))
    except Exception as error:  # damaged bytes raise Arrow's errors, and Python's of text, numbers and memory
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AgfasError(f"{path} cannot be read as a score table ({first[:200]}). {_AGAIN}.") from error
    missing = [name for name in SCORE_COLUMNS if name not in table.column_names]
    if missing:
        raise AgfasError(f"The score table {path} lacks the columns {', '.join(missing)}. {_AGAIN}.")
    for name in SCORE_COLUMNS:
        _check_column(path, name, table)
    return {name: table[name].to_numpy() for name in SCORE_COLUMNS}, metadata


def _check_column(path: Path, name: str, table: pa.Table) -> None:
    if table.column_names.count(name) > 1:
        raise AgfasError(f"The score table {path} has the column {name} more than once. {_AGAIN}.")
    kind, fits = _KINDS.get(name, ("text", lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind)))
    column = table[name]
    if not fits(column.type):
        raise AgfasError(f"The column {name} of the score table {path} holds {column.type}, not {kind}. {_AGAIN}.")
    if column.null_count:
        raise AgfasError(f"The column {name} of the score table {path} has {column.null_count} empty values. {_AGAIN}.")


def _checksum(table: ScoreTable, metadata: Mapping[str, Any]) -> str:
    """The SHA-256 of everything that a table holds, whatever way it is stored."""
    digest = hashlib.sha256(canonical_json([len(table), metadata]).encode())
    for name in TEXT_COLUMNS:
        digest.update("\0".join([name, *getattr(table, name).tolist()]).encode("utf-8", "surrogatepass"))
    digest.update(table.label.astype("<i8").tobytes() + table.score.astype("<f8").tobytes())
    return digest.hexdigest()


def _check_lengths(columns: Mapping[str, np.ndarray]) -> None:
    flat = all(column.ndim == 1 for column in columns.values())
    if not flat or len({len(column) for column in columns.values()}) > 1:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise AgfasError(f"The columns of a score table must be one-dimensional and equally long, but are: {shapes}.")


def _checked_labels(labels: Any) -> np.ndarray:
    labels = np.asarray(labels)
    wrong = np.flatnonzero((labels != ATTACK) & (labels != BONAFIDE))
    if len(wrong):
        value = labels[wrong[0]].item()
        raise AgfasError(
            f"Row {wrong[0]} of a score table has the label {value!r}: allowed are 0 (attack) and 1 (bona fide)."
        )
    return labels.astype(np.int64)


def _check_scores(key: np.ndarray, score: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(score))
    if len(wrong):
        raise AgfasError(
            f"{len(wrong)} of {len(score)} scores are not finite; the first is {score[wrong[0]]}, of"
            f" '{key[wrong[0]]}'. The detector has diverged: lower train.learning_rate and train again."
        )


def _check_keys(key: np.ndarray) -> None:
    if len(pa.array(key).unique()) == len(key):
        return
    names, counts = np.unique(key, return_counts=True)
    raise AgfasError(
        f"Key '{names[counts.argmax()]}' occurs {counts.max()} times in a score table: score each face once."
    )


def _check_attack_types(key: np.ndarray, label: np.ndarray, attack_type: np.ndarray) -> None:
    wrong = np.flatnonzero((attack_type == NO_ATTACK) != (label == BONAFIDE))
    if len(wrong):
        row = wrong[0]
        raise AgfasError(
            f"'{key[row]}' has label {label[row]} and attack type '{attack_type[row]}': bona fide (1) requires"
            f" '{NO_ATTACK}', an attack (0) the name of its instrument. Correct the dataset's records."
        )


def _check_consistent(name: str, column: np.ndarray, codes: np.ndarray, first: np.ndarray, videos: list[str]) -> None:
    wrong = np.flatnonzero(column != column[first][codes])
    if len(wrong):
        code = codes[wrong[0]]
        raise AgfasError(
            f"The frames of video '{videos[code]}' have more than one {name} ({column[first[code]]} and"
            f" {column[wrong[0]]}), so their scores cannot be averaged. Give each capture its own video name."
        )
