"""Arrays in one safetensors file, written in pieces and read as views of the mapped file.

The format (huggingface/safetensors): 8 bytes little-endian length, a JSON header with dtype, shape and
offsets of every array, then the arrays' bytes. The header is padded so that the first array is aligned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_CODES = {
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in _CODES.items()}
_ALIGNMENT = 64


def encode(arrays: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The file's bytes in pieces, without copying contiguous arrays; equal arrays give equal bytes.

    Raises:
        ValueError: an array has a dtype that the format lacks.
    """
    header: dict[str, dict] = {}
    pieces: list[bytes | memoryview] = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        array = _little_endian(name, arrays[name])
        offsets = [end, end + array.nbytes]
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        # reshape(-1) gives arrays without elements or dimensions a buffer too.
        pieces.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
        end = offsets[1]
    return [_header_bytes(header), *pieces]


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _CODES:
        raise ValueError(f"array '{name}' has dtype {array.dtype}; safetensors takes {', '.join(_CODES)}.")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _header_bytes(header: dict[str, dict]) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read-only views of a file's arrays; nothing is read before use or copied.

    Raises:
        ValueError: the file's header is damaged.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        body = data[8 + length :]
        # np.asarray drops the memmap class, whose indexing is several times slower; the mapping stays open.
        return {name: np.asarray(_view(body, entry)) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}).") from error


def _view(body: np.ndarray, entry: dict) -> np.ndarray:
    start, end = entry["data_offsets"]
    return body[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
