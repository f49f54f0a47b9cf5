"""What it takes to start: one picture judged by a saved model in a process of its own, beside importing torch alone."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.bench import CLONE
from scripts.bench.turns import in_turns, plain_environment

_REPEATS = 3
_SIDE = 64
# Detector, and whether a generator restores the face before it is judged.
MODELS = {
    "livenessnet, a network of torch alone": ("livenessnet", False),
    "image_only, a ViT of timm": ("image_only", False),
    "oanet, with a generator's cue": ("oanet", True),
}


def cold_start_benchmark() -> list[dict[str, Any]]:
    """Untrained models at their smallest, which judge one crop.

    Returns:
        A row each for `import torch`, `import torch, timm`, and `agfas detect` with each model, as it is saved and,
        without a cue, as it is exported: medians of the processor time (user and system) in seconds and of the peak
        resident memory in MB, of processes that start and end.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        picture = root / "face.png"
        pixels = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(picture)
        commands: dict[str, tuple[str, ...]] = {
            "import torch": ("-c", "import torch"),
            "import torch, timm": ("-c", "import torch, timm"),
        }
        judge = ("-m", "agfas", "detect", str(picture), "--aligned", "--model")
        for number, (title, (detector, restores)) in enumerate(MODELS.items()):
            folder = root / f"model{number}"
            save_untrained(folder, detector, restores)
            commands[f"agfas detect: {title}"] = (*judge, str(folder))
            if not restores:
                out, options = root / f"exported{number}", ("--aligned-only", "--quiet")
                _measured("-m", "agfas", "export", str(folder), "--out", str(out), *options)
                commands[f"agfas detect: {title}, exported"] = (*judge, str(out))
                commands[f"predict.py: {title}, exported"] = (str(out / "predict.py"), str(picture), "--aligned")
        found: dict[str, list[tuple[float, float]]] = {title: [] for title in commands}
        for title in in_turns(commands, _REPEATS + 1):
            found[title].append(_measured(*commands[title]))
    rows: list[dict[str, Any]] = []
    torch_alone = statistics.median(seconds for seconds, _ in found["import torch"][1:])
    for title, runs in found.items():
        seconds, megabytes = zip(*runs[1:], strict=True)  # the first fills the page cache
        rows.append(
            {
                "benchmark": "cold-start",
                "process": title,
                "processor_seconds": statistics.median(seconds),
                "fastest": min(seconds),
                "times_import_torch": statistics.median(seconds) / torch_alone,
                "peak_mb": statistics.median(megabytes),
                "repeats": _REPEATS,
            }
        )
    return rows


# A child counts the memory of its parent until it is another program: a small one starts the measured process.
_STARTER = """
import os, sys
child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv[1:]])
_, status, used = os.wait4(child, 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def _measured(*arguments: str) -> tuple[float, float]:
    """Processor seconds and peak megabytes of a Python process.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**plain_environment(), "PYTHONPATH": str(CLONE)}
    command = [sys.executable, "-S", "-c", _STARTER, *arguments]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    status, seconds, megabytes = said.splitlines()[-1].split()
    if status != "0":
        raise RuntimeError(f"{' '.join(arguments)} ended with status {status}.")
    return float(seconds), float(megabytes)


def save_untrained(folder: Path, detector: str, restores: bool) -> None:
    """A saved model with random weights."""
    from oanet.detectors import build_detector
    from pipelines.cues.settings import CueSettings
    from pipelines.verdict import FaceAntiSpoofing
    from pipelines.verdict.scorer import Scorer
    from pipelines.verdict.settings import About, FaceSettings, ModelSettings, ThresholdSettings

    cue = CueSettings(timestep=401, num_inference_steps=5) if restores else None
    settings = ModelSettings(
        label=detector, fold="none", detector=detector,
        face=FaceSettings(size=_SIDE, crop_size=_SIDE, template="agfas", template_known=True, detector=None),
        threshold=ThresholdSettings(value=0.5, origin="none", selection="last", rule="source_dev_eer", step=0), cue=cue,
    )  # fmt: skip
    about = About(
        dataset="none", dataset_fingerprint="none", drawn=True, train_domains=[], counts=[], objective="erm", seed=0,
        steps=0, parameters=0, generator=None, measured=None, parts=[], versions={},
    )  # fmt: skip
    network = build_detector(detector, preset="tiny").eval()
    scorer = Scorer(network, cue, _generator() if restores else None, "none")
    FaceAntiSpoofing(settings, scorer, lambda: about).save_pretrained(folder)


def _generator() -> Any:
    """An untrained generator of the quickstart's kind."""
    import torch

    from dfg.autoencoder import PatchAutoencoder
    from dfg.identity import IdentityEncoder
    from dfg.pipeline import DeFakePipeline
    from dfg.schedule import sd_scheduler
    from dfg.unet import build_unet

    autoencoder = PatchAutoencoder(4, 24)
    autoencoder.fit(torch.rand(32, 3, _SIDE, _SIDE) * 2 - 1)
    unet = build_unet("tiny", in_channels=24, sample_size=_SIDE // 4, cross_attention_dim=128)
    return DeFakePipeline(autoencoder, unet, sd_scheduler(), IdentityEncoder.from_preset("tiny"))
