"""The cue job one batch ahead: the same bytes, sooner."""

from __future__ import annotations

import threading

import pytest
import torch
from cue_job_parts import FACES, KEYS, SIZE, Blur, make, shard_bytes, some_images

from pipelines.cues.faces import ArrayFaces
from pipelines.cues.sources import CueSweep
from pipelines.cues.verify import verify_cues
from pipelines.errors import AgfasError


class Staged:
    """A source of two stages."""

    timesteps = (3,)
    prepares_ahead = True

    def __init__(self):
        self.threads = set()

    def fingerprint(self, timestep):
        return {"name": "staged"}

    def prepare(self, image, keys, timesteps):
        assert not torch.is_grad_enabled()
        self.threads.add(threading.current_thread().name)
        return image.mean((2, 3), keepdim=True)

    def restore_prepared(self, prepared, keys, timesteps):
        shift = torch.tensor([int(key[-3:]) / 500 for key in keys])[:, None, None, None]
        return {t: (prepared + shift).expand(-1, -1, SIZE, SIZE) for t in timesteps}

    @torch.no_grad()
    def restore(self, image, keys, timesteps):
        return self.restore_prepared(self.prepare(image, keys, timesteps), keys, timesteps)


class Plain(Staged):
    """The same without its stages."""

    prepare = None
    restore_prepared = None

    def restore(self, image, keys, timesteps):
        with torch.no_grad():
            return Staged.restore_prepared(self, Staged.prepare(self, image, keys, timesteps), keys, timesteps)


def test_stages_give_the_same_bytes_in_another_thread(tmp_path):
    staged = Staged()
    folder = make(tmp_path / "staged", staged)[3]
    assert staged.threads == {"ahead_0"}
    plain = Plain()
    assert isinstance(plain, CueSweep)
    assert shard_bytes(make(tmp_path / "plain", plain)[3]) == shard_bytes(folder)
    assert verify_cues(folder, FACES, SingleStaged()).ok


def test_stages_that_would_be_in_each_other_s_way_follow_one_another(tmp_path):
    staged, ahead = Staged(), Staged()
    staged.prepares_ahead = False
    folder = make(tmp_path / "behind", staged)[3]
    assert staged.threads == {threading.current_thread().name}
    assert shard_bytes(folder) == shard_bytes(make(tmp_path / "ahead", ahead)[3])


class SingleStaged(Staged):
    """The staged source as `verify_cues` takes it: with a fixed t."""

    timestep = 3

    def fingerprint(self):
        return {"name": "staged"}

    def __call__(self, image, keys):
        return self.restore(image, keys, (3,))[3]


class Overlapping(Staged):
    """Restores each batch only once the next one is being prepared."""

    def __init__(self, batches):
        super().__init__()
        self.begun = [threading.Event() for _ in range(batches)]
        self.prepared = self.restored = 0

    def prepare(self, image, keys, timesteps):
        self.begun[self.prepared].set()
        self.prepared += 1
        return super().prepare(image, keys, timesteps)

    def restore_prepared(self, prepared, keys, timesteps):
        self.restored += 1
        for next_one in self.begun[self.restored : self.restored + 1]:
            assert next_one.wait(60), f"batch {self.restored} is not prepared while the one before it is restored"
        return super().restore_prepared(prepared, keys, timesteps)


def test_stages_overlap(tmp_path):
    faces = ArrayFaces([f"{i:03d}" for i in range(16)], some_images(16))
    source = Overlapping(batches=8)
    make(tmp_path, source, faces, shard_size=16)
    assert source.restored == 8


def test_a_picture_that_cannot_be_read_ahead_is_named(tmp_path):
    class Torn(ArrayFaces):
        def batch(self, indices):
            if 6 in indices:
                raise AgfasError("the picture of face 6 cannot be decoded")
            return super().batch(indices)

    with pytest.raises(AgfasError, match="face 6"):
        make(tmp_path, Blur(), Torn(KEYS, FACES.images))
