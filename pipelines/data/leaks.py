"""Checks that nothing leaks between the splits of a face dataset: no person, no video, no near-duplicate picture.

Near-duplicates are found in two steps. A 64-bit perceptual hash (C. Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010, section 3.2.1: signs of the lowest frequencies of a discrete cosine transform
about their median) finds candidates, since hashes can be searched without comparing all pairs. Aligned faces look
alike: among millions of pairs, some of different persons are as close as copies. A candidate therefore counts only if
the two pictures also correlate at 16 x 16 pixels.

The thresholds were measured on aligned live faces and prints (UTKFace, All-Age-Faces, NUAA; 700 copies, 6 million pairs
of different persons). Copies saved again as JPEG (quality 50 to 75), made 20 % darker or 15 % brighter, or
halved in size differ in at most 6 bits and correlate above .98; pictures of different persons within 6 bits
correlate below .9.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from pipelines.errors import AgfasError
from pipelines.files import read_json
from pipelines.progress import track

# Hashes of near-duplicates differ in this many bits at most.
HASH_BITS = 6
# Their 16 x 16 grey pictures correlate at least this much.
CORRELATION = 0.97
_GRID, _LOW, _THUMBNAIL = 32, 8, 16
# Pairs compared at once (8 MB of hashes, 16 MB of thumbnails), so that a million black pictures do not fill memory.
_PAIRS_AT_ONCE, _CORRELATED_AT_ONCE = 1 << 20, 1 << 14
# Pairs listed at most, so that they do not fill the disk either.
LISTED = 1000


@dataclass(frozen=True)
class Leaks:
    """What is in more than one split.

    Attributes:
        subjects, videos: {"domain", "name", "splits"} of each.
        near_duplicates: {"keys", "splits", "bits", "correlation"} of pairs in different splits, `LISTED` at most.
        near_duplicate_pairs: the number of all such pairs.
        faces: the number of faces checked.
        subjects_unknown: the number of videos whose subject is unknown; splits may share their persons.
    """

    subjects: list[dict[str, Any]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)
    near_duplicates: list[dict[str, Any]] = field(default_factory=list)
    near_duplicate_pairs: int = 0
    faces: int = 0
    subjects_unknown: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is in more than one split."""
        return not (self.subjects or self.videos or self.near_duplicate_pairs)

    def as_json(self) -> dict[str, Any]:
        """The content of `leaks.json`."""
        rule = {"hash_bits": HASH_BITS, "correlation": CORRELATION}
        return {"clean": self.clean, "near_duplicate_rule": rule, **self.__dict__}

    def sentences(self) -> list[str]:
        """Lines for the user: what was checked, what was found, what cannot be proved."""
        if self.clean:
            lines = [f"Splits are clean: no subject, video or near-duplicate of {self.faces} faces is in two."]
        else:
            lines = [
                f"SPLITS LEAK: {len(self.subjects)} subjects, {len(self.videos)} videos and {self.near_duplicate_pairs}"
                f" pairs of near-duplicates among {self.faces} faces are in two splits. leaks.json lists them."
            ]
            for what, found in (("subject", self.subjects), ("video", self.videos)):
                places = ((f"{leak['domain']}/{leak['name']}", " and ".join(leak["splits"])) for leak in found[:3])
                lines += [f"  {what} {name} is in {splits}" for name, splits in places]
            lines += [f"  {' and '.join(leak['keys'])} are nearly equal" for leak in self.near_duplicates[:3]]
        if self.subjects_unknown:
            lines.append(
                f"The subject of {self.subjects_unknown} videos is unknown: no video is in two splits, but a person may"
                " be."
            )
        return lines


def leaks_from_json(content: Mapping[str, Any]) -> Leaks:
    """The inverse of `Leaks.as_json`."""
    return Leaks(**{item.name: content[item.name] for item in fields(Leaks)})


def check_recorded(folder: Path) -> None:
    """Refuse a dataset whose splits leak by the check that `agfas prepare` left beside it, if it left one.

    Raises:
        AgfasError: something is in two splits.
    """
    path = folder / "leaks.json"
    if path.is_file() and not (leaks := leaks_from_json(read_json(path))).clean:
        raise AgfasError(
            f"{leaks.sentences()[0]} A detector would be tested on what it has learnt. Correct the subjects or"
            f" the official split and prepare {folder} again, or accept it with data.allow_leaks=true."
        )


def dataset_leaks(folder: Path) -> Leaks:
    """Check a face dataset on disk; decodes every picture once.

    Raises:
        AgfasError: the folder is not a face dataset.
    """
    from pipelines.data.records import load_faces

    faces = load_faces(folder)
    signatures = [signature(row["image"]) for row in track(faces.select_columns(["image"]), "compare faces")]
    columns = {name: faces[name][:] for name in ("key", "domain", "subject", "video", "split")}
    if "subject_known" in faces.column_names:
        columns["subject_known"] = faces["subject_known"][:]
    hashes = np.array([code for code, _ in signatures], dtype=np.uint64)
    return find_leaks(columns, hashes, np.stack([thumbnail for _, thumbnail in signatures]))


def find_leaks(columns: Mapping[str, Sequence[Any]], hashes: np.ndarray, thumbnails: np.ndarray) -> Leaks:
    """Check N faces.

    Args:
        columns: `key`, `domain`, `subject`, `video`, `split`, and optionally `subject_known`, of N faces.
        hashes: (N,) uint64.
        thumbnails: (N, 256) uint8; both from `signature`.
    """
    known = columns.get("subject_known", [True] * len(hashes))
    unknown = {
        (domain, video)
        for domain, video, sure in zip(columns["domain"], columns["video"], known, strict=True)
        if not sure
    }
    pairs, count = _near_duplicates(columns["key"], np.asarray(columns["split"]), hashes, thumbnails)
    return Leaks(
        subjects=_crossing(columns, "subject"),
        videos=_crossing(columns, "video"),
        near_duplicates=pairs,
        near_duplicate_pairs=count,
        faces=len(hashes),
        subjects_unknown=len(unknown),
    )


def signature(picture: Image.Image) -> tuple[int, np.ndarray]:
    """The perceptual hash and the thumbnail of a picture.

    Args:
        picture: of any size and mode.

    Returns:
        The 64-bit hash, and (256,) uint8: the picture in grey at 16 x 16 pixels.
    """
    grey = picture.convert("L")
    small = np.asarray(grey.resize((_GRID, _GRID), Image.Resampling.LANCZOS), dtype=np.float64)
    # Rounded, so that zeros of a flat picture do not take the sign of a rounding error.
    low = dctn(small, norm="ortho")[:_LOW, :_LOW].ravel().round(6)
    bits = np.packbits(low > np.median(low))
    thumbnail = np.asarray(grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS), dtype=np.uint8)
    return int.from_bytes(bits.tobytes(), "big"), thumbnail.reshape(-1)


def neighbours(codes: np.ndarray, bits: int = HASH_BITS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of codes that differ in at most `bits` bits, each pair once, in chunks.

    The 64 bits are cut into `bits + 1` blocks: two codes that differ in `bits` bits agree in at least one block
    (M. Norouzi, A. Punjani, D. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012, section 3),
    so only codes that share a block are compared.

    Args:
        codes: (N,) uint64.
        bits: largest number of differing bits, 0 to 63.

    Yields:
        Two arrays (n,) int64: the indices of the two codes of each pair.
    """
    edges = np.linspace(0, 64, bits + 2).astype(int)
    masks = [np.uint64((1 << int(stop)) - (1 << int(start))) for start, stop in pairwise(edges)]
    for number, mask in enumerate(masks):
        for bucket in _buckets(codes & mask):
            for one, other in _pairs_in(bucket):
                differing = codes[one] ^ codes[other]
                near = np.bitwise_count(differing) <= bits
                for earlier in masks[:number]:  # an earlier block has found this pair
                    near &= (differing & earlier) != 0
                if near.any():
                    yield one[near], other[near]


def _buckets(values: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of values that occur more than once, ascending, an array per value."""
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order])) + 1
    yield from (bucket for bucket in np.split(order, edges) if len(bucket) > 1)


def _pairs_in(bucket: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = max(1, _PAIRS_AT_ONCE // len(bucket))
    for start in range(0, len(bucket), rows):
        piece = np.arange(start, min(start + rows, len(bucket)))
        one, other = np.nonzero(piece[:, None] < np.arange(len(bucket))[None, :])
        yield bucket[piece[one]], bucket[other]


def _near_duplicates(
    keys: Sequence[str], splits: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray
) -> tuple[list[dict[str, Any]], int]:
    """The first `LISTED` pairs in different splits, and the number of all.

    Of equal pictures in a split only the first is compared, so that a dataset of one repeated picture costs no more
    than one of different pictures.
    """
    rows = _representatives(splits, hashes, thumbnails)
    listed, count = np.empty((0, 2), dtype=np.int64), 0
    for one, other in neighbours(hashes[rows]):
        pairs = np.sort(np.stack([rows[one], rows[other]], axis=1), axis=1)
        pairs = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
        pairs = pairs[correlations(thumbnails, pairs) >= CORRELATION]
        count += len(pairs)
        listed = np.concatenate([listed, pairs])
        listed = listed[np.lexsort((listed[:, 1], listed[:, 0]))][:LISTED]
    values = correlations(thumbnails, listed)
    bits = np.bitwise_count(hashes[listed[:, 0]] ^ hashes[listed[:, 1]])
    return [
        {
            "keys": [keys[row] for row in pair],
            "splits": [str(splits[row]) for row in pair],
            "bits": int(differing),
            "correlation": round(float(value), 3),
        }
        for pair, differing, value in zip(listed.tolist(), bits, values, strict=True)
    ], count


def _representatives(splits: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """(n,) int64, the first of every set of equal pictures in a split."""
    first: dict[tuple[int, str, bytes], int] = {}
    for row, code in enumerate(hashes.tolist()):
        first.setdefault((code, splits[row], thumbnails[row].tobytes()), row)
    return np.array(list(first.values()), dtype=np.int64)


def correlations(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(n,) float32 correlations of pairs of rows (n, 2), in chunks that bound memory; flat pictures count as equal."""
    values = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _CORRELATED_AT_ONCE):
        piece = slice(start, start + _CORRELATED_AT_ONCE)
        one, other = _normalised(thumbnails[pairs[piece, 0]]), _normalised(thumbnails[pairs[piece, 1]])
        values[piece] = np.einsum("ij,ij->i", one, other)
    return values


def _normalised(thumbnails: np.ndarray) -> np.ndarray:
    """(n, 256) float32 of mean 0 and norm 1, so that products are correlations; a flat picture becomes all 1/16."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(length > 0, values / np.maximum(length, 1e-6), np.float32(1 / _THUMBNAIL))


def _crossing(columns: Mapping[str, Sequence[Any]], column: str) -> list[dict[str, Any]]:
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for domain, name, split in zip(columns["domain"], columns[column], columns["split"], strict=True):
        seen[domain, name].add(split)
    return [
        {"domain": domain, "name": name, "splits": sorted(splits)}
        for (domain, name), splits in sorted(seen.items())
        if len(splits) > 1
    ]
