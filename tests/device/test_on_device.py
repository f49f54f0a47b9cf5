"""What a GPU computes is what the CPU computes: cues, training steps, scores, one process and two.

`scripts/gpu_check.sh` runs these on a machine with CUDA. Elsewhere they are skipped, unless `AGFAS_DEVICE=cpu` compares
the processor with itself, which tests the checks.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from launching import launch
from safetensors.torch import load_file
from small_experiments import chain_settings

from dfg.identity import IdentityEncoder
from dfg.objective import DenoisingObjective
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler
from dfg.unet import build_unet
from oanet.batch import FaceBatch
from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.sources import DfgSweep

DEVICE = os.environ.get("AGFAS_DEVICE", "cuda")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU; AGFAS_DEVICE=cpu compares a CPU with itself"
    ),
]

GREY_LEVEL = 2 / 255
KEYS = [f"corpus/{number}/0/0" for number in range(4)]


@pytest.fixture(autouse=True)
def full_float32():
    """Without TF32, so that only the order of sums differs."""
    allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed


def generator() -> DeFakePipeline:
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8,
    )  # fmt: skip
    unet = build_unet("tiny", in_channels=4, sample_size=16)
    encoder = IdentityEncoder.from_preset("tiny", embedding_dim=None)
    return DeFakePipeline(autoencoder.eval(), unet.eval(), sd_scheduler(), encoder.eval())


def faces(count: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def cue(device: str, dtype: str) -> torch.Tensor:
    pipeline: Any = generator()
    sweep = DfgSweep(pipeline.to(device), [41], "weights", "autoencoder", RestorationSettings(dtype=dtype))
    return sweep.restore(faces(), KEYS, [41])[41].float().cpu()


@pytest.mark.parametrize(("dtype", "greatest"), [("float32", 0.5 * GREY_LEVEL), ("bfloat16", 12 * GREY_LEVEL)])
def test_a_cue_of_the_gpu_is_that_of_the_cpu(dtype, greatest):
    difference = (cue(DEVICE, dtype) - cue("cpu", "float32")).abs().max()
    assert float(difference) < greatest


def denoiser(device: str):
    torch.manual_seed(0)
    objective = DenoisingObjective(build_unet("tiny", in_channels=4, sample_size=16), sd_scheduler())
    latents = torch.randn(4, 4, 16, 16)
    batch = {
        "latents": latents, "noise": torch.randn_like(latents), "tokens": torch.randn(4, 49, 128),
        "timesteps": torch.tensor([1, 300, 600, 999]),
    }  # fmt: skip
    return objective.to(device), {name: value.to(device) for name, value in batch.items()}


def detector(device: str):
    torch.manual_seed(0)
    objective = build_objective("ssdg", build_detector("oanet", preset="tiny"), 3)
    place = torch.arange(12)
    image, residual = faces(12, 64), torch.randn(12, 3, 64, 64)
    batch = FaceBatch(image, residual, place % 2, place // 2 % 3, [str(number) for number in place.tolist()])
    return objective.to(device), batch.to(device)


TRAININGS = {"generator": denoiser, "detector": detector}


def step(training: str, device: str, dtype: torch.dtype | None = None) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of one step of SGD, and the weights after it."""
    objective, batch = TRAININGS[training](device)
    before = copy.deepcopy({name: value.detach().cpu() for name, value in objective.named_parameters()})
    optimizer = torch.optim.SGD(objective.parameters(), 0.01)
    with torch.autocast(torch.device(device).type, dtype or torch.bfloat16, enabled=dtype is not None):
        loss = objective(batch, 0.5)["loss"]
    loss.float().backward()
    optimizer.step()
    after = {name: value.detach().cpu() - before[name] for name, value in objective.named_parameters()}
    return float(loss.detach()), after


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_step_of_the_gpu_is_that_of_the_cpu(training):
    (here, moved), (there, moved_there) = step(training, "cpu"), step(training, DEVICE)
    assert there == pytest.approx(here, rel=1e-4)
    largest = max(float(value.abs().max()) for value in moved.values())
    torch.testing.assert_close(moved_there, moved, atol=1e-3 * largest, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("training", TRAININGS)
def test_lower_precision_gives_nearly_the_same_loss(training, dtype):
    if dtype is torch.float16 and DEVICE == "cpu":
        pytest.skip("fp16 is for GPUs")
    loss, moved = step(training, DEVICE, dtype)
    assert loss == pytest.approx(step(training, "cpu")[0], rel=0.03)
    assert all(bool(value.isfinite().all()) for value in moved.values())


def test_scores_of_the_gpu_are_those_of_the_cpu():
    def scores(device: str) -> torch.Tensor:
        objective, batch = detector(device)
        with torch.no_grad():
            return objective.detector.eval()(batch.image, batch.cue).probability_bonafide.cpu()

    torch.testing.assert_close(scores(DEVICE), scores("cpu"), atol=1e-4, rtol=0)


def test_two_processes_train_what_one_trains(tmp_path):
    if DEVICE == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("one GPU: two processes need two")
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1")
    visible = {} if DEVICE == "cpu" else {"CUDA_VISIBLE_DEVICES": shown, "ACCELERATE_USE_CPU": "false"}
    for count in (1, 2):
        settings = chain_settings(tmp_path / str(count))
        (tmp_path / f"{count}.yaml").write_text(yaml.safe_dump(settings))
        launch(count, "-m", "pipelines.cli", "train-dfg", tmp_path / f"{count}.yaml", **visible)
    one, two = (weights(tmp_path / str(count)) for count in (1, 2))
    torch.testing.assert_close(two, one, atol=1e-3, rtol=1e-3)


def weights(root: Path) -> dict[str, torch.Tensor]:
    (path,) = root.glob("generator/*/pipeline/unet/*.safetensors")
    return load_file(path)
