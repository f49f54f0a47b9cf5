"""One contender of bench `cues-recipe`, and the process in which it runs.

The public recipe is ported to plain diffusers: what every speed of ours is held against. As in the public code it is
float32, eager, one call of the U-Net after the other with diffusers' own scheduler, identity tokens projected in every
call, and a PNG for every face. Two things are changed so that quality can be compared: the posterior's mode in place of
a sample, and noise drawn from each face's key in place of an unseeded one. A third follows the paper: DDIM, where the
public code takes the PNDM of Stable Diffusion's folder and starts in the middle of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch.nn import functional as F

from dfg.baselines import build_baseline
from dfg.noise import noise_for_keys
from dfg.pipeline import DeFakePipeline
from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import CueJob
from pipelines.cues.sources import BaselineSweep, CueSweep, DfgSweep
from pipelines.cues.store import CueStore
from pipelines.errors import AgfasError
from pipelines.memory import keep_freed_memory
from pipelines.pixels import to_unit_range
from scripts.bench import CLONE
from scripts.bench.contenders import CONTENDERS
from scripts.bench.generators import Size, build_generator
from scripts.bench.turns import plain_environment

PUBLIC = "the public recipe (float32, eager, PNG)"

STUDENT = "a student of one call (float32)"
"""Untrained, so that its restorations are compared with nothing."""


@dataclass(frozen=True)
class Task:
    """The work of all contenders.

    Attributes:
        size: of an untrained generator.
        timestep: t of every cue.
        count, batch_size: faces in all and at once.
        generator: folder of a trained one in place of `size`.
    """

    size: Size
    timestep: int
    count: int
    batch_size: int
    generator: str | None = None

    def build(self) -> tuple[DeFakePipeline, ArrayFaces]:
        """The generator and the faces."""
        if self.generator is None:
            return build_generator(self.size), bench_faces(self.count, self.size.image_size)
        pipeline = DeFakePipeline.from_pretrained(self.generator)
        return pipeline, bench_faces(self.count, pixels_of(pipeline))


class Contender(Protocol):
    """What can be timed and compared."""

    def time(self) -> float:
        """Restore and write all faces once; seconds."""
        ...

    def restored(self) -> torch.Tensor:
        """(n, 3, H, W) in [-1, 1], of the last time."""
        ...


class Here(ABC):
    """A contender in this process; it may change the type or the layout of the generator's weights.

    Attributes:
        images: (n, 3, H, W), the last run's.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.pipeline, self.faces = task.build()
        self.images = torch.zeros(())

    def time(self) -> float:
        """Restore and write all faces once; seconds."""
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            self.images = self.make(Path(folder))
            return time.perf_counter() - start

    def restored(self) -> torch.Tensor:
        """(n, 3, H, W) in [-1, 1], of the last time."""
        return self.images

    @abstractmethod
    def make(self, folder: Path) -> torch.Tensor:
        """Restore all faces and write them below `folder`."""


class Public(Here):
    """The public recipe."""

    def make(self, folder: Path) -> torch.Tensor:
        """Restore all faces and write a PNG of each."""
        pieces = []
        for start in range(0, len(self.faces.keys), self.task.batch_size):
            chosen = slice(start, start + self.task.batch_size)
            keys, image = self.faces.keys[chosen], to_unit_range(self.faces.images[chosen])
            pieces.append(restore_publicly(self.pipeline, image, keys, self.task.timestep))
            write_pictures(folder, pieces[-1], keys)
        return torch.cat(pieces)


@torch.no_grad()
def restore_publicly(
    parts: DeFakePipeline, image: torch.Tensor, keys: Sequence[str], timestep: int, num_inference_steps: int = 50
) -> torch.Tensor:
    """Faces (B, 3, H, W) in [-1, 1] -> restored ones, by the parts of a pipeline but none of its methods."""
    autoencoder, unet = parts.autoencoder, parts.unet
    scale = autoencoder.config.get("scaling_factor") or 1.0
    latents = autoencoder.encode(image).latent_dist.mode() * scale
    tokens = parts.identity_encoder(image)
    tokens = F.pad(tokens, (0, unet.config["cross_attention_dim"] - tokens.shape[-1]))
    scheduler = DDIMScheduler.from_config(parts.scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    timesteps = [t for t in scheduler.timesteps if t <= timestep]
    noise = noise_for_keys(keys, tuple(latents.shape[1:]))
    noisy = scheduler.add_noise(latents, noise, timesteps[0].expand(len(latents)))
    for t in timesteps:
        epsilon = unet(noisy, t, encoder_hidden_states=tokens).sample
        noisy = scheduler.step(epsilon, t, noisy, eta=0.0).prev_sample
    return autoencoder.decode(noisy / scale).sample.clamp(-1, 1)


def write_pictures(folder: Path, restored: torch.Tensor, keys: Sequence[str]) -> None:
    """A PNG for every face, as the public code caches its cues."""
    pixels = ((restored + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    for picture, key in zip(pixels, keys, strict=True):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{key.replace('/', '_')}.png")


class Ours(Here):
    """The cue job with some options."""

    def __init__(self, task: Task, name: str) -> None:
        super().__init__(task)
        ways = CONTENDERS[name]
        ways.change(self.pipeline)
        self.sweep = DfgSweep(self.pipeline, [task.timestep], "benchmark", "benchmark", ways.settings)

    def make(self, folder: Path) -> torch.Tensor:
        """Restore all faces and write their store."""
        return stored(self.task, self.faces, self.sweep, folder)


class Student(Here):
    """The cue job with a student of the generator, of the size for faces of 256 pixels."""

    def __init__(self, task: Task) -> None:
        _, self.faces = task.build()
        self.task, self.images = task, torch.zeros(())
        self.sweep = BaselineSweep(build_baseline("one_call", "compact", self.faces.images.shape[1]), "benchmark")

    def make(self, folder: Path) -> torch.Tensor:
        """Restore all faces and write their store."""
        return stored(self.task, self.faces, self.sweep, folder)


def stored(task: Task, faces: ArrayFaces, sweep: CueSweep, folder: Path) -> torch.Tensor:
    """Restore all faces by the cue job; what its store holds, (n, 3, H, W) in [-1, 1]."""
    job = CueJob.open(faces, sweep, folder, dataset_fingerprint="benchmark", batch_size=task.batch_size)
    (store,) = job.run(show_progress=False).values()
    return to_unit_range(CueStore.open(store).reconstructions(faces.keys))


class Alone:
    """A contender in a fresh process, which is started on entering and ended on leaving.

    Raises:
        AgfasError: the process died; the message ends with its last output.
    """

    def __init__(self, task: Task, name: str) -> None:
        self._order = json.dumps({"task": asdict(task), "name": name})

    def __enter__(self) -> Alone:
        self._errors = tempfile.TemporaryFile("w+")
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "scripts.bench.recipe_contender", self._order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=plain_environment(),
            cwd=CLONE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def time(self) -> float:
        """Restore and write all faces once; seconds."""
        return float(self._ask("time"))

    def restored(self) -> torch.Tensor:
        """(n, 3, H, W) in [-1, 1], of the last time."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "restored.npy"
            self._ask(str(path))
            return torch.from_numpy(np.load(path))

    def _ask(self, request: str) -> str:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            print(request, file=requests, flush=True)
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            raise AgfasError(f"A contender of the benchmark died: {self._errors.read().strip()[-2000:]}")
        return answer


def serve(order: str) -> None:
    """The process: answers `time` with seconds, and a path once the restorations are saved there."""
    given = json.loads(order)
    task, name = Task(**{**given["task"], "size": Size(**given["task"]["size"])}), given["name"]
    if name != PUBLIC:
        keep_freed_memory()
    made: dict[str, Callable[[], Here]] = {PUBLIC: lambda: Public(task), STUDENT: lambda: Student(task)}
    contender = made.get(name, lambda: Ours(task, name))()
    for line in sys.stdin:
        request = line.strip()
        if request == "time":
            print(contender.time(), flush=True)
        else:
            np.save(request, contender.restored().numpy())
            print("saved", flush=True)


def to_eight_bits(picture: torch.Tensor) -> torch.Tensor:
    """Round a picture in [-1, 1] to the 256 levels that are stored."""
    return ((picture + 1) * 127.5).round() / 127.5 - 1


def bench_faces(count: int, size: int) -> ArrayFaces:
    """Faces of 8 x 8 blocks of colour, smooth enough for an autoencoder."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    return ArrayFaces([f"bench/s{place:05d}/v/000" for place in range(count)], coarse.repeat(8, 1).repeat(8, 2))


def pixels_of(pipeline: DeFakePipeline) -> int:
    """Side of the faces that a trained generator was made for."""
    latents = pipeline.encode(torch.zeros(1, 3, 64, 64)).shape[-1]
    config = pipeline.unet.config
    return int(config.get("sample_size") or config["unet"]["sample_size"]) * 64 // latents


if __name__ == "__main__":
    serve(sys.argv[1])
