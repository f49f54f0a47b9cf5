"""The exported folder: its description `export.json`, and shards as parquet files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter

from pipelines.cues.store import RECONSTRUCTION, RESIDUAL_MEAN, RESIDUAL_STD
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.fingerprint import canonical_json, fingerprint

LISTING_NAME = "export.json"
_SCHEMA = 1

_Count = Annotated[int, Field(strict=True, ge=1)]
_Side = Annotated[int, Field(strict=True, ge=2, le=1 << 14)]
_Sides = Annotated[list[_Side], Field(min_length=2, max_length=2)]


@dataclass(frozen=True)
class ExportedShard:
    """One parquet file.

    Attributes:
        task: number of the shard.
        file: its name, relative to the folder.
        sha256: of the parquet file.
        shard_sha256: of the store's shard.
        made: how it was made, from the manifest of the store.
    """

    task: Annotated[int, Field(strict=True, ge=0)]
    file: Annotated[str, Field(pattern=r"^data/cues-[0-9]{5,9}-of-[0-9]{5,9}\.parquet$")]
    sha256: str
    shard_sha256: str
    made: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FacesFacts:
    """The dataset that the cues were made of, as it says of itself.

    Attributes:
        title: in words.
        licence: its terms, which hold for the cues too; empty if it states none.
    """

    title: str
    licence: str


@dataclass(frozen=True)
class Listing:
    """A complete export.

    Attributes:
        identity: everything that decides the store's bytes.
        count: number of cues.
        shard_size: of the store.
        keys_sha256: of the store's keys.
        shards: in order.
        faces: None if the export did not find their dataset.
    """

    identity: dict[str, Any]
    count: _Count
    shard_size: _Count
    keys_sha256: str
    shards: tuple[ExportedShard, ...]
    faces: FacesFacts | None = None

    @property
    def store(self) -> str:
        """Name of the store: its identity's fingerprint."""
        return fingerprint(self.identity)

    def write(self, folder: Path) -> None:
        """Write it; this completes the export."""
        write_json(folder / LISTING_NAME, {"schema": _SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Listing:
        """Read it.

        Raises:
            AgfasError: it is missing (an interrupted export), damaged, or of another schema.
        """
        path = folder / LISTING_NAME
        if not path.is_file():
            raise AgfasError(
                f"{folder} is no complete export: it has no {LISTING_NAME}, which is written last."
                " Run `agfas export-cues` again, or download the whole folder."
            )
        values = read_json(path, schema=int)
        if (schema := values.pop("schema")) != _SCHEMA:
            raise AgfasError(f"{path} was written in schema {schema}; this version reads {_SCHEMA}. Export again.")
        try:
            listing = TypeAdapter(cls).validate_python(values, strict=False)
            if type(listing.identity["source"]) is not dict:
                raise ValueError("its source is not described")
            TypeAdapter(_Sides).validate_python(listing.identity["image_size"], strict=True)
        except (ValueError, KeyError, TypeError) as error:
            first = " ".join(str(error).split())[:200]
            raise AgfasError(f"{path} is damaged ({first}). Fetch it or export again.") from None
        return listing

    @property
    def tasks(self) -> int:
        """Number of shards that the store has."""
        return -(-self.count // self.shard_size)

    def rows(self, shard: ExportedShard) -> int:
        """Number of cues of a shard."""
        return min(self.shard_size, self.count - shard.task * self.shard_size)


Arrays = dict[str, np.ndarray]

_METADATA = b"agfas.cues"
_KEY, _SHAPE = "key", "shape"
# The hub's viewer reads a row group at a time.
_BYTES_OF_A_GROUP = 32 << 20
# A row's key and numbers, and headers.
_BYTES_BESIDE = 1 << 16


def write_shard(path: Path, keys: list[str], arrays: Arrays, identity: dict[str, Any], task: int) -> None:
    """Write one shard's arrays, (N, H, W, 3) uint8 and two (N,) float32; a picture is one value of bytes."""
    pictures = arrays[RECONSTRUCTION]
    metadata = {_METADATA: canonical_json({"identity": identity, "task": task}).encode()}
    schema = _schema().with_metadata(metadata)
    rows = max(1, _BYTES_OF_A_GROUP // max(1, pictures[0].nbytes))
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
    with pq.ParquetWriter(path, schema, write_statistics=[_KEY, RESIDUAL_MEAN, RESIDUAL_STD], **options) as writer:
        for start in range(0, len(keys), rows):
            piece = slice(start, start + rows)
            writer.write_table(_table(keys[piece], {name: array[piece] for name, array in arrays.items()}, schema))


def _schema() -> pa.Schema:
    return pa.schema(
        [
            (_KEY, pa.string()),
            (RECONSTRUCTION, pa.binary()),
            (_SHAPE, pa.list_(pa.int32(), 3)),
            (RESIDUAL_MEAN, pa.float32()),
            (RESIDUAL_STD, pa.float32()),
        ]
    )


def _table(keys: list[str], arrays: Arrays, schema: pa.Schema) -> pa.Table:
    pictures = np.ascontiguousarray(arrays[RECONSTRUCTION])
    offsets = np.arange(len(keys) + 1, dtype=np.int32) * pictures[0].nbytes
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(pictures)]
    shapes = pa.array(np.tile(np.array(pictures.shape[1:], dtype=np.int32), len(keys)))
    columns = [
        pa.array(keys, pa.string()),
        pa.Array.from_buffers(pa.binary(), len(keys), buffers),
        pa.FixedSizeListArray.from_arrays(shapes, 3),
        pa.array(arrays[RESIDUAL_MEAN]),
        pa.array(arrays[RESIDUAL_STD]),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def read_origin(path: Path) -> tuple[dict[str, Any], int]:
    """Identity of the store and number of the shard that a file holds; reads only its footer.

    Raises:
        AgfasError: it is no parquet file of cues.
    """
    with _explained(path) as file:
        values = json.loads((file.schema_arrow.metadata or {})[_METADATA])
        return values["identity"], int(values["task"])


def read_keys(path: Path) -> list[str]:
    """A file's keys.

    Raises:
        AgfasError: it is no parquet file of cues.
    """
    with _explained(path) as file:
        return file.read(columns=[_KEY])[_KEY].to_pylist()


def read_shard(path: Path, rows: int, image_size: Sequence[int]) -> Arrays:
    """The arrays of the shard.

    Raises:
        AgfasError: it is no parquet file of cues, or holds another number of rows or more bytes than these.
    """
    limit = rows * (3 * int(np.prod(image_size)) + _BYTES_BESIDE) + _BYTES_BESIDE
    with _explained(path) as file:
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
        if file.metadata.num_rows != rows or not 0 <= size <= limit:
            raise ValueError(f"it holds {file.metadata.num_rows} rows of {size} bytes; expected are {rows} rows")
        pieces = [_arrays(file.read_row_group(group)) for group in range(file.num_row_groups)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _arrays(table: pa.Table) -> Arrays:
    column = table[RECONSTRUCTION].combine_chunks()
    shape = table[_SHAPE][0].as_py()
    data = np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint8)
    return {
        RECONSTRUCTION: data.reshape(len(table), *shape),
        RESIDUAL_MEAN: table[RESIDUAL_MEAN].to_numpy().astype(np.float32),
        RESIDUAL_STD: table[RESIDUAL_STD].to_numpy().astype(np.float32),
    }


@contextmanager
def _explained(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_schema()):
                raise ValueError("its columns have other names or types")
            yield file
    except Exception as error:  # damaged bytes raise Arrow's errors, and Python's of text, numbers and memory
        first = " ".join(str(error).split())[:200]
        raise AgfasError(f"{path} is not a parquet file of cues ({first}). Fetch it or export again.") from None
