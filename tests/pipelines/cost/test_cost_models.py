"""The models that an estimate counts are those that the stages build, with the batches that they are given."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_experiments import chain_settings
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from dfg.autoencoder import PatchAutoencoder
from dfg.identity import IdentityEncoder
from dfg.taesd import TaesdAutoencoder
from dfg.tokens import TokenProjection
from pipelines.cost import models
from pipelines.cost.autoencoders import local, own_autoencoder
from pipelines.cost.counting import Count, Operation
from pipelines.cost.machines import machine_of
from pipelines.cost.parts import Part, left_of, parts_of_plan
from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment, set_dotted
from pipelines.experiment.generator import BackboneIdentity, NoIdentity, OnnxIdentity, TrainedIdentity

ONE, TWO = machine_of("h100"), machine_of("h100", 2)


def part(kind: str, **changes: Any) -> Part:
    """A part of the small chain; dotted settings are written with `__`."""
    settings = copy.deepcopy(chain_settings(Path("nowhere")))
    for name, value in changes.items():
        set_dotted(settings, name.replace("__", "."), value)
    return next(part for part in left_of(parts_of_plan(build_experiment(settings, "a test"))) if part.kind == kind)


@pytest.fixture
def steps(monkeypatch) -> list[SimpleNamespace]:
    """What is given to be counted; the first step takes 100 bytes, the second 200."""
    seen: list[SimpleNamespace] = []

    def step_of(objective: Any, batches: list[Any], precision: str, gpu: bool) -> Count:
        gradients = [None if p.grad is None else tuple(p.grad.shape) for p in getattr(objective, "parameters", list)()]
        seen.append(SimpleNamespace(**{**locals(), "seen": None, "on": checkpointed(objective)}))
        return Count(peak=100 * len(seen))

    monkeypatch.setattr(models, "step_of", step_of)
    return seen


def checkpointed(objective: Any) -> bool:
    return any(getattr(each, "gradient_checkpointing", False) for each in getattr(objective, "modules", list)())


def shapes(batch: dict[str, torch.Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(value.shape), value.dtype) for name, value in batch.items()}


def test_a_generator_is_counted_with_and_without_checkpointing(steps):
    """Seven faces a step in two parts: four of a part's faces at most, two of them on each of two GPUs."""
    work = part("generator", generator__loop__batch_size=7, generator__loop__gradient_accumulation=2)
    need = models.training(work, TWO)
    assert [step.on for step in steps] == [False, True]
    assert (need.step.peak, need.other.peak, need.batch, need.faces, need.alone) == (100, 200, 7, 2, False)
    assert (need.parameters, need.trained) == (49_808, 49_808)
    assert 4 * 49_808 < need.weights < 4 * 49_808 + 20_000  # and the buffers of the schedule
    assert need.loop == work.experiment.generator.loop
    (first, _) = steps
    assert need.tensors == len(first.gradients)
    assert (first.precision, first.gpu, len(first.batches)) == ("no", True, 2)
    floats, whole = torch.float32, torch.int64
    assert shapes(first.batches[0]) == shapes(first.batches[1]) == {
        "latents": ((2, 8, 8, 8), floats), "noise": ((2, 8, 8, 8), floats),
        "tokens": ((2, 49, 128), floats), "timesteps": ((2,), whole),
    }  # fmt: skip
    # Of several processes, the gradients lie in buckets before the step.
    assert all(shape is not None for shape in first.gradients)
    assert models.training(part("generator"), ONE).faces == 4
    assert steps[-1].gradients == [None] * need.tensors
    chosen = models.training(part("generator", generator__gradient_checkpointing=True), ONE)
    assert chosen.step.peak == chosen.other.peak + 100


def test_an_identity_encoder_is_counted(steps):
    need = models.training(replace(part("identity", identity__loop__mixed_precision="bf16"), faces=50), ONE)
    (step,) = steps
    assert step.objective.centers.shape[0] == 5
    assert shapes(step.batches[0]) == {"image": ((4, 3, 32, 32), torch.float32), "identity": ((4,), torch.int64)}
    assert (step.precision, need.other, need.batch, need.faces) == ("bf16", None, 4, 4)
    assert need.parameters - need.trained == 128  # of the last norm, whose scale is fixed
    assert need.weights > 4 * need.parameters  # and its buffers


def test_a_baseline_is_counted(steps):
    models.training(part("generator", generator={"name": "memae"}, cue={"source": "memae"}, data__size=64), ONE)
    (step,) = steps
    (given,) = step.batches
    assert list(given) == ["image", "keys", "noise", "timesteps"]
    assert given["keys"] == [""] * len(given["image"])
    batch = shapes({name: value for name, value in given.items() if name != "keys"})
    assert batch["image"] == batch["noise"]
    assert batch["image"][0][1:] == (3, 64, 64)
    assert batch["timesteps"] == (batch["image"][0][:1], torch.int64)


def test_a_detector_is_counted(steps):
    need = models.training(part("detector", detector__pretrained=True, train__mixed_precision="fp16"), ONE)
    (step,) = steps
    (batch,) = step.batches
    assert (step.precision, step.gpu, need.other, need.batch) == ("fp16", True, None, 4)
    assert (tuple(batch.image.shape), tuple(batch.cue.shape)) == ((4, 3, 32, 32), (4, 6, 32, 32))
    assert batch.key == ["0", "1", "2", "3"]
    assert all(value.dtype == torch.int64 for value in (batch.label, batch.domain, batch.kind))
    assert batch.depth is None


def test_labels_and_domains_of_a_batch_are_even():
    experiment = part("detector", detector={"name": "image_only", "preset": "tiny"}).experiment
    objective, makes = models._of_detector(experiment, 3)
    batch = makes(objective, 8)
    assert batch.label.tolist() == batch.kind.tolist() == [0, 1] * 4
    assert batch.domain.tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    assert batch.cue is None
    maps = makes(SimpleNamespace(wanted_maps=("depth", "mask")), 2)
    assert tuple(maps.depth.shape) == tuple(maps.mask.shape) == (2, 1, 32, 32)


@pytest.mark.parametrize("error", [DataDependentOutputException, DynamicOutputShapeException])
def test_losses_that_need_values_are_left_out(error, monkeypatch):
    with torch.device("meta"):
        objective, _ = models.objective_of(part("detector"))
    tried: list[Any] = []

    def step_of(counted: Callable[..., Any], *given: Any) -> Count:
        tried.append((counted, given))
        if len(tried) == 1:
            raise error(None)
        return Count(peak=7)

    monkeypatch.setattr(models, "step_of", step_of)
    found, alone = models._counted(objective, ["batch"], "bf16", True)
    assert (found.peak, alone) == (7, True)
    assert [given for _, given in tried] == [(["batch"], "bf16", True)] * 2
    assert tried[1][0].args == (objective,)
    tried.clear()
    with pytest.raises(error):
        models._counted(torch.nn.Linear(1, 1), [], "no", False)


def test_a_detector_alone_gives_everything_that_its_losses_read():
    output = SimpleNamespace(
        logits=torch.ones(2), features=torch.full((2, 3), 10.0), maps={"depth": torch.full((4,), 100.0)}
    )
    objective = SimpleNamespace(detect=lambda batch: output)
    assert float(models._detector_alone(objective, None, 0.5)["loss"]) == 2 + 60 + 400
    output.maps = None
    assert float(models._detector_alone(objective, None, 0.5)["loss"]) == 62


def test_processes_that_get_no_face_are_refused(steps):
    assert models.training(part("generator"), machine_of("h100", 4)).faces == 1
    for kind, setting in (("generator", "batch_size"), ("identity", "batch_size"), ("detector", r"train\.per_cell")):
        match = rf"A step of the {kind} has 4 faces, which 5 GPUs cannot share: take at most 4, or a larger {setting}\."
        with pytest.raises(AgfasError, match=match):
            models.training(part(kind), machine_of("h100", 5))


def test_a_projection_of_tokens_is_trained_too():
    work = part(
        "generator",
        generator__tokens="projection",
        generator__min_snr_gamma=5.0,
        generator__unet__cross_attention_dim=32,
    )
    with torch.device("meta"):
        objective, makes = models.objective_of(work)
    assert isinstance(objective.projection, TokenProjection)
    assert objective.min_snr_gamma == 5.0
    assert (objective.projection.config["token_dim"], objective.projection.config["width"]) == (128, 32)
    assert tuple(makes(objective, 3)["tokens"].shape) == (3, 49, 128)


@pytest.mark.parametrize(
    ("settings", "preset", "embedded"),
    [
        (TrainedIdentity(preset="tiny"), "tiny", True),
        (BackboneIdentity(name="backbone", path=Path("b.pth"), preset="iresnet34"), "iresnet34", False),
        (OnnxIdentity(name="onnx", path=Path("o.onnx")), "iresnet50", False),
    ],
)
def test_identity_encoders_have_the_size_of_their_preset(settings, preset, embedded):
    with torch.device("meta"):
        found = models._identity(settings)
        options = {} if embedded else {"embedding_dim": None}
        assert found.config == IdentityEncoder.from_preset(preset, **options).config


def test_autoencoders_and_latents(tmp_path):
    assert models._identity(NoIdentity(name="none")) is None
    with torch.device("meta"):
        settings = part("generator").experiment.generator.autoencoder
        patch = own_autoencoder(settings)
        assert isinstance(patch, PatchAutoencoder)
        assert models._latents(patch, 32) == (8, 8)
        taesd = own_autoencoder(SimpleNamespace(name="taesd"))
        assert isinstance(taesd, TaesdAutoencoder)
        assert models._latents(taesd.eval(), 64) == (32, 8)


def test_published_weights_that_are_not_here_are_stable_diffusions(tmp_path):
    from diffusers import AutoencoderKL, AutoencoderTiny

    from pipelines.experiment.generator import PretrainedAutoencoder

    with torch.device("meta"):
        hub = own_autoencoder(PretrainedAutoencoder(name="pretrained", path="someone/something"))
        assert sum(p.numel() for p in hub.parameters()) == 83_653_863
        for kind in (AutoencoderKL, AutoencoderTiny):
            config = {"_class_name": kind.__name__, "latent_channels": 4}
            (tmp_path / "vae").mkdir(exist_ok=True)
            (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
            assert type(own_autoencoder(PretrainedAutoencoder(name="pretrained", path=str(tmp_path)))) is kind
            assert local(kind, str(tmp_path), None) is None
            assert local(kind, None, "vae") is None


def test_the_u_net_of_local_weights_or_of_the_settings(tmp_path):
    with torch.device("meta"):
        built = models.generator(part("generator", generator__precondition=True).experiment)
        assert built.unet.config["latent_variance"] == [1.0] * 8
        assert (built.width, built.cells, built.channels, built.side) == (128, 49, 8, 8)
        plain = models.generator(part("generator", identity={"name": "none"}).experiment)
        assert (plain.identity, plain.cells, plain.width, plain.channels, plain.side) == (None, 1, 1, 8, 8)
        assert "latent_variance" not in plain.unet.config
        plain.unet.save_config(tmp_path / "unet")
        local = {"generator__unet_weights": str(tmp_path), "generator__unet_subfolder": "unet"}
        assert models.generator(part("generator", **local).experiment).width == 1
        changed = part("generator", generator__unet__cross_attention_dim=32, generator__attention="eager").experiment
        made = models.generator(changed)
        assert (made.width, made.cells) == (32, 49)


def test_a_restoration_has_a_call_an_encoding_and_a_decoding(monkeypatch):
    seen = []

    def count(work: Callable[[], Any]) -> Count:
        seen.append(work())
        return Count(Counter({Operation("move", "float32", len(seen), 0): 1}), peak=10 * len(seen), left=len(seen))

    monkeypatch.setattr(models, "count", count)
    work = part("restoration", cue__dtype="bfloat16", cue__guidance_scale=2.0, cue__batch_size=3)
    need = models.restoring(work)
    call, tokens = seen
    assert (tuple(call.shape), call.dtype) == ((6, 8, 8, 8), torch.bfloat16)
    assert tuple(tokens.shape) == (3, 49, 128)
    assert (need.call.peak, need.once.peak, need.decode.peak, need.faces) == (10, 20, 0, 3)
    assert need.once.flops == 2
    assert need.parameters == 1_161_312


@pytest.mark.parametrize("timesteps", [(), (20,)])
def test_a_baselines_restoration_is_one_call(timesteps, monkeypatch):
    class Net(torch.nn.Linear):
        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            assert not self.training
            return given

    seen: list[tuple[torch.Tensor, ...]] = []
    monkeypatch.setattr(models, "build_baseline_training", lambda settings, size: SimpleNamespace(model=Net(3, 2)))
    monkeypatch.setattr(models, "count", lambda work: seen.append(work()) or Count(peak=5))
    work = part("restoration", generator={"name": "memae"}, cue={"source": "memae", "batch_size": 3}, data__size=64)
    need = models.restoring(replace(work, timesteps=timesteps))
    assert (need.parameters, need.weights, need.faces, need.call.peak) == (8, 32, 3, 5)
    assert need.once == need.decode == Count()
    ((image, *index),) = seen
    assert tuple(image.shape) == (3, 3, 64, 64)
    assert [(tuple(each.shape), each.dtype) for each in index] == [((3,), torch.int64)] * len(timesteps)


@pytest.mark.parametrize(("kind", "seconds"), [("identity", None), ("identity", 7.0), ("restoration", None)])
def test_a_price_is_of_the_chosen_arithmetic(kind, seconds, monkeypatch):
    asked = []
    monkeypatch.setattr(models, "training", lambda part, machine: (part, machine))
    monkeypatch.setattr(models, "restoring", lambda part: (part,))
    for name in ("priced_training", "priced_restoring"):
        monkeypatch.setattr(models, name, lambda part, need, *rest: asked.append((need, *rest)))
    tf32 = {"identity": {"identity__loop__tf32": True}, "restoration": {"cue__tf32": True}}[kind]
    for changes, machine in (({}, ONE), (tf32, ONE.in_tf32(True))):
        work = part(kind, **changes)
        models.price(work, ONE, seconds)
        expected = ((work, ONE), machine, seconds) if kind == "identity" else ((work,), machine)
        assert asked.pop() == expected


def test_costs_of_a_plan_are_printed_part_by_part(monkeypatch, tmp_path):
    lines: list[str] = []
    priced = {"identity": ["one", "two"], "generator": ["three"]}
    given = []

    def price(part: Part, machine: Any, measured: float | None) -> Any:
        given.append((part.kind, machine, measured))
        return SimpleNamespace(lines=priced[part.kind], seconds=60.0, disk=(0.0, 0.0))

    monkeypatch.setattr(models, "price", price)
    monkeypatch.setattr(models, "machine_of", lambda gpu, gpus: ONE if (gpu, gpus) == ("h100", 1) else TWO)
    monkeypatch.setattr(models, "measured_rates", lambda root: {("identity", "trained"): 0.5, ("generator", "x"): 1.0})
    left = [replace(part("identity"), done=1, total=4), part("generator")]
    models.print_costs(left, "h100", 1, lines.append)
    assert lines[:4] == ["identity trained: 3 of 4 to do", "one\ntwo", "generator dfg: 1 of 1 to do", "three"]
    assert lines[4].startswith("total 2 min, ")
    models.print_costs(left, None, 2, lines.append)
    assert given == [
        ("identity", ONE, None), ("generator", ONE, None), ("identity", TWO, 0.5), ("generator", TWO, None),
    ]  # fmt: skip
