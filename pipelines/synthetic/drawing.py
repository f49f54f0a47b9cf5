"""A face dataset that is drawn: in blocks, by every process that asks for it, and killed or not with the same bytes."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import feather

from pipelines.blocks import Blocks, Job, share
from pipelines.data.records import CARD_NAME, read_card
from pipelines.errors import AgfasError
from pipelines.files import write_atomically, write_text
from pipelines.fingerprint import file_sha256
from pipelines.processes import stand_alone, threads
from pipelines.sums import Damaged

Record = dict[str, Any]
"""The columns of a face dataset; `image` is a struct of PNG bytes and no path."""

# With fewer faces, starting processes takes longer than it saves.
_FACES_WORTH_HELPERS = 1500
# Drawing processes at most, by default.
_MOST_WORKERS = 8


class Drawing(ABC):
    """What is drawn. It is sent to other processes.

    Attributes:
        out: folder of the dataset; exists only when complete.
        kind: the dataset's, as its card has it.
        what: the same for messages.
        identity: fingerprint of everything that decides its bytes.
    """

    out: Path
    kind: str
    what: str
    identity: str

    @abstractmethod
    def faces(self) -> list[int]:
        """The number of faces of every block, which is what a kill can cost each process."""

    @abstractmethod
    def block(self, number: int) -> list[Record]:
        """The records of a block."""

    @abstractmethod
    def write(self, blocks: Iterator[list[Record]], folder: Path) -> None:
        """The dataset of all blocks."""


def draw(drawing: Drawing, workers: int | None = None) -> Path:
    """Write a dataset; a complete one of the same identity is kept, an unfinished one resumed.

    Every process that calls it draws its share.

    Args:
        drawing: what to draw.
        workers: drawing processes; default: one per core of this process, 8 at most. The bytes do not depend on it.
            With more than one, a script that calls this needs `if __name__ == "__main__":`.

    Returns:
        Its folder.

    Raises:
        AgfasError: the folder holds something else.
    """
    if _finished(drawing):
        return drawing.out
    with suppress(OSError):
        drawing.out.rmdir()  # an empty folder; what a process beside this one has finished stays
    few = sum(drawing.faces()) < _FACES_WORTH_HELPERS
    helpers = 0 if few else (workers or min(threads(), _MOST_WORKERS)) - 1
    # Spawned rather than forked: a fork after PyTorch has started its threads may hang.
    with ProcessPoolExecutor(max(1, helpers), get_context("spawn"), stand_alone) as pool:
        begun = [pool.submit(draw_share, drawing, False) for _ in range(helpers)]
        try:
            draw_share(drawing, True)
        except BaseException:
            for helper in active_children():
                helper.terminate()
            raise
        for one in begun:
            one.result()
    return drawing.out


def draw_share(drawing: Drawing, shown: bool) -> None:
    """Draw the blocks that no other process draws; the last to finish puts the dataset together."""
    sizes = drawing.faces()
    blocks = Blocks(drawing.out, len(sizes), drawing.identity)

    def make(block: int) -> None:
        store(drawing.block(block), _part(blocks, block))

    def finish() -> None:
        parts = (stored(_part(blocks, block)) for block in range(len(sizes)))
        write_atomically(drawing.out, lambda folder: drawing.write(parts, folder))

    share([Job(blocks, make, finish, sum(sizes))], "Rendering faces", "face", shown)


def encoded(picture: np.ndarray) -> dict[str, Any]:
    """A picture (H, W, 3) uint8 as the column `image` holds it."""
    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG", compress_level=4)
    return {"bytes": png.getvalue(), "path": None}


def store(records: list[Record], part: Path) -> None:
    """Write the records of a block with their checksum."""
    table = pa.Table.from_pylist(records)
    write_atomically(part, lambda path: feather.write_feather(table, path, compression="uncompressed"))
    write_text(part.with_suffix(".sha256"), file_sha256(part))


def stored(part: Path) -> list[Record]:
    """The records that `store` wrote.

    Raises:
        Damaged: they are not what was written.
    """
    whole = part.with_suffix(".sha256")
    if whole.is_file() and whole.read_bytes() != file_sha256(part).encode():  # earlier versions wrote none
        raise Damaged(part, f"Remove {part.parent} and run the command again.")
    return list(feather.read_table(part, memory_map=False).to_pylist())


def counted(records: Iterable[Record]) -> dict[str, dict[str, dict[str, int]]]:
    """Number of faces by domain, attack type and split."""
    counter = Counter((record["domain"], record["attack_type"], record["split"]) for record in records)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (domain, kind, split), number in sorted(counter.items()):
        counts.setdefault(domain, {}).setdefault(kind, {})[split] = number
    return counts


def _part(blocks: Blocks, block: int) -> Path:
    return blocks.folder / f"{block:05d}.arrow"


def _finished(drawing: Drawing) -> bool:
    out = drawing.out
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / CARD_NAME).is_file():
        raise AgfasError(f"{out} exists and is not a {drawing.what}. Give another folder, or remove this one.")
    card = read_card(out)
    if card.get("kind") != drawing.kind:
        raise AgfasError(f"{out} is a face dataset of another kind, not a {drawing.what}. Give another folder.")
    found = card.get("fingerprint")
    if found != drawing.identity:
        raise AgfasError(
            f"{out} holds a {drawing.what} of other settings (fingerprint {found}, these give {drawing.identity}). "
            "Give another folder, remove this one, or use the settings in its card."
        )
    return True
