"""The cue job's memory does not grow with the number of faces.

The measured job is this file run as a script, so that nothing else moves its memory.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest

SIDE, BATCH = 64, 32
ALLOWED = 8 << 20
REPOSITORY = Path(__file__).parents[3]


class DrawnFaces:
    """Faces that are made when they are read."""

    def __init__(self, count):
        self.keys = [f"d/s{i // 40:05d}/v{i // 4:06d}/{i:07d}" for i in range(count)]

    def batch(self, indices):
        """(n, H, W, 3) uint8 out of the faces' numbers."""
        ramp = np.arange(SIDE * SIDE * 3, dtype=np.uint32).reshape(SIDE, SIDE, 3)
        return (ramp + np.asarray(indices, dtype=np.uint32)[:, None, None, None] * 7).astype(np.uint8)


class Stub:
    """Gives a face back half as bright and notes how much memory the process holds; one that hoards keeps it too."""

    def __init__(self, hoards):
        self.hoards, self.kept, self.resident = hoards, [], []

    def fingerprint(self):
        return {"name": "stub"}

    def __call__(self, image, keys):
        self.resident.append(resident_bytes())
        if self.hoards:
            self.kept.append((image * 127).byte())
        return image / 2


def resident_bytes():
    """Memory that the process holds at this moment, in or out of RAM, but for files, whose pages come and go."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * sum(int(words[1]) for words in lines if words[0] in ("RssAnon:", "VmSwap:"))


def growths(root, *runs):
    """Growth in bytes from the first quarter of a run to the last, for each (faces, whether it hoards).

    Medians, since the peaks depend on how far the writing thread is behind.
    """
    words = [str(int(word)) for run in runs for word in run]
    # Nothing else of this environment: a measurement of coverage, for one, would grow in the process as well.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    environment = {**kept, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, __file__, str(root), *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [int(line) for line in result.stdout.split()[-len(runs) :]]


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@pytest.mark.slow
@needs_proc
def test_memory_is_flat_over_five_thousand_cues_and_a_source_that_hoards_is_seen(tmp_path):
    flat, hoarding = growths(tmp_path, (5_000, False), (4_000, True))
    assert flat < ALLOWED
    assert hoarding > 2 * ALLOWED


@needs_proc
@pytest.mark.slow
def test_memory_is_flat_over_a_hundred_thousand_cues(tmp_path):
    assert growths(tmp_path, (100_000, False))[0] < ALLOWED


if __name__ == "__main__":
    from pipelines.cues.job import CueJob

    settings = {"dataset_fingerprint": "drawn", "batch_size": BATCH, "shard_size": 4 * BATCH}
    for place in range(2, len(sys.argv), 2):
        count, hoards = int(sys.argv[place]), bool(int(sys.argv[place + 1]))
        source, faces = Stub(hoards), DrawnFaces(count)
        gc.collect()
        CueJob.open(faces, source, Path(sys.argv[1]) / str(place), **settings).run(show_progress=False)
        quarter = len(source.resident) // 4
        print(int(median(source.resident[-quarter:]) - median(source.resident[:quarter])))
