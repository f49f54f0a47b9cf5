"""A full disk, a folder without write permission, and flipped bits."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.cues.shards import ShardStore
from scripts.torture.checks import Witness, checksums
from scripts.torture.processes import Tortured
from scripts.torture.worker import FAILED, TIMESTEPS, Orders, job, open_stores

_MIB = 1 << 20


@dataclass
class Outcome:
    """The result of one kind of damage.

    Attributes:
        how: how it was done on this machine.
        times: how often.
        answer: what the job answered, or what was found.
        violations: a sentence for each broken promise.
    """

    how: str
    times: int = 1
    answer: str = ""
    violations: list[str] = field(default_factory=list)


def fill_the_disk(folder: Path, tasks: int = 80) -> Outcome:
    """Run the job with disk space for some shards only, then with enough.

    The disk is a small tmpfs if this process may mount one; otherwise the job's own `write` raises ENOSPC.
    """
    job(folder / "clean", tasks)
    clean = checksums(folder / "clean")
    root = folder / "full"
    root.mkdir()
    size = sum((folder / "clean" / name).stat().st_size for name in clean)
    with small_disk(root, size // 2) as mounted:
        how = f"tmpfs of {size / 2 / _MIB:.1f} MiB" if mounted else "`write` fails with ENOSPC after half of the bytes"
        orders = Orders(root, tasks, room=0 if mounted else size // 2)
        outcome = _refused(orders, Outcome(how), "disk is full while writing")
        witness = Witness(root, clean)
        outcome.violations += witness.look()
        if not 0 < len(witness.listed) < tasks * len(TIMESTEPS):
            outcome.violations.append(f"{len(witness.listed)} shards were listed when the disk was full")
        outcome.violations += [f"{path.name} was left over" for path in root.rglob(".*.tmp")]
        if mounted:
            subprocess.run(["mount", "-o", f"remount,size={4 * size}", str(root)], check=True)
        job(root, tasks)
        outcome.violations += witness.look_at_the_end()
    return outcome


@contextmanager
def small_disk(root: Path, size: int) -> Iterator[bool]:
    """A tmpfs of `size` bytes at `root`, if this process may mount one; yields whether it may."""
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
    try:
        mounted = subprocess.run(options, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(root)], check=True)


def lock_the_folder(folder: Path, tasks: int = 6) -> Outcome:
    """Run the job in an unfinished and in a finished folder without write permission; then with the permission back."""
    job(folder / "clean", tasks)
    clean = checksums(folder / "clean")
    root = folder / "locked"
    job(root, tasks)
    for store in open_stores(root, tasks).values():
        store.revoke(tasks - 1)
    before = Witness(root, clean)
    violations = before.look()
    as_root = os.geteuid() == 0
    outcome = Outcome("rights of `nobody`" if as_root else "no write permission", 2, violations=violations)
    with _without_permission(root, not as_root), _without_permission(folder / "clean", not as_root):
        _refused(Orders(root, tasks, as_nobody=as_root), outcome, "cannot be written")
        code, answer = Tortured.start(Orders(folder / "clean", tasks, as_nobody=as_root)).end()
        if code != 0:
            outcome.violations.append(f"a finished store that cannot be written was not found finished: {answer}")
    outcome.violations += before.look()
    job(root, tasks)
    outcome.violations += Witness(root, clean).look_at_the_end()
    return outcome


@contextmanager
def _without_permission(root: Path, wanted: bool) -> Iterator[None]:
    places = [root, *root.rglob("*")] if wanted else []
    modes = {place: place.stat().st_mode for place in places}
    for place in reversed(places):
        place.chmod(modes[place] & ~0o222)
    try:
        yield
    finally:
        for place in places:
            place.chmod(modes[place])


def _refused(orders: Orders, outcome: Outcome, sentence: str) -> Outcome:
    code, answer = Tortured.start(orders).end()
    outcome.answer = str(answer).replace(str(orders.root), "STORE")
    if code != FAILED or sentence not in outcome.answer:
        outcome.violations.append(f"the job ended with code {code} and said '{answer}', not '{sentence}'")
    return outcome


def flip_bits(folder: Path, seed: int, flips: int = 16, tasks: int = 6) -> Outcome:
    """Flip one bit of a finished shard, verify, and run the job again; `flips` times, at random places.

    The first flips are in the header's length, in the header and in the last byte.
    """
    draws = random.Random(seed)
    job(folder, tasks)
    clean = checksums(folder)
    outcome, found = Outcome("one bit, at random", flips), 0
    for number in range(flips):
        stores = open_stores(folder, tasks)
        store, task = draws.choice(list(stores.values())), draws.randrange(tasks)
        path = store.folder / "shards" / store.entry(task).file
        place = {0: 0, 1: 12, 2: path.stat().st_size - 1}.get(number, draws.randrange(path.stat().st_size))
        flip(path, place, draws.randrange(8))
        found += _is_found(store, task, stores, outcome)
        job(folder, tasks)
        outcome.violations += Witness(folder, clean).look_at_the_end()
    outcome.answer = f"{found} of {flips} found by verifying, dropped, and made again"
    return outcome


def _is_found(store: ShardStore, task: int, stores: dict[int, ShardStore], outcome: Outcome) -> bool:
    broken = {name: other.verify_checksums() for name, other in stores.items()}
    expected = {name: [task] if other is store else [] for name, other in stores.items()}
    if broken != expected:
        outcome.violations.append(f"shard {task} of {store.folder.name} was broken, verifying found {broken}")
    return broken == expected


def flip(path: Path, place: int, bit: int) -> None:
    """Flip one bit of the byte at a place of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
