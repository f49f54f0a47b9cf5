"""Counts on fake tensors are those of the real modules: parameters, FLOPs and bytes alive."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dfg.identity import IdentityEncoder
from dfg.unet import build_unet, checkpoint_gradients
from oanet.detectors import build_detector
from oanet.trunks import forget_constants
from pipelines.cost.counting import Operation, as_fake, count, fake_tensors, number_of, size_of, step_of
from pipelines.training.optimizer import make_optimizer
from pipelines.training.settings import LoopSettings

FACES = 2


def unet(checkpointed: bool = False) -> torch.nn.Module:
    net = build_unet("tiny", in_channels=4, sample_size=8).train()
    if checkpointed:
        checkpoint_gradients(net)
    return net


class Squares(torch.nn.Module):
    """The mean square of one field of a network's output, as a loss."""

    def __init__(self, net: torch.nn.Module, field: str) -> None:
        super().__init__()
        self.net, self.field = net, field

    def forward(self, batch, progress):
        return {"loss": getattr(self.net(*batch), self.field).square().mean()}


def latents():
    return torch.zeros(FACES, 4, 8, 8), torch.zeros(FACES, dtype=torch.long), torch.zeros(FACES, 49, 128)


def faces():
    return torch.zeros(FACES, 3, 64, 64), torch.zeros(FACES, 3, 64, 64)


MODELS = {
    "U-Net": (lambda: Squares(unet(), "sample"), latents),
    "U-Net, checkpointed": (lambda: Squares(unet(checkpointed=True), "sample"), latents),
    "OA-Net": (lambda: Squares(build_detector("oanet", preset="tiny"), "logits"), faces),
}
QUICK = [name for name in MODELS if name != "U-Net, checkpointed"]


def counted(model: str, precision: str = "no", gpu: bool = False):
    build, batch = MODELS[model]
    with torch.device("meta"):
        objective = build()
    with fake_tensors():
        return step_of(as_fake(objective), [batch()], precision, gpu)


@pytest.mark.parametrize("model", [*QUICK, pytest.param("U-Net, checkpointed", marks=pytest.mark.slow)])
def test_flops_are_those_of_torchs_counter(model):
    build, batch = MODELS[model]
    real = build()
    # torch's counter does not know the fused attention of a CPU, which multiplies once more in its backward pass.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            real(batch(), 0.5)["loss"].backward()
        assert counted(model).flops == counter.get_total_flops()


def test_flops_of_one_call_are_exact():
    real = unet().eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        real(*latents())
    with torch.device("meta"):
        net = unet().eval()
    with fake_tensors(), torch.no_grad():
        net = as_fake(net)
        assert count(lambda: net(*latents())).flops == counter.get_total_flops()


@pytest.mark.parametrize("model", [*QUICK, pytest.param("U-Net, checkpointed", marks=pytest.mark.slow)])
def test_bytes_alive_are_those_of_a_real_step(model):
    build, batch = MODELS[model]
    real = step_of(build(), [batch()], "no", False)
    fake = counted(model)
    assert fake.peak == pytest.approx(real.peak, rel=0.01)
    assert fake.left == pytest.approx(real.left, rel=0.01)
    assert fake.left >= 4 * number_of(build().parameters())  # the gradients


@pytest.mark.slow
def test_checkpointing_and_lower_precision_need_less_memory_and_micro_batches_do_too(monkeypatch):
    monkeypatch.setattr("test_cost_counting.FACES", 32)  # enough that activations outweigh gradients
    whole, checkpointed = counted("U-Net"), counted("U-Net, checkpointed")
    assert checkpointed.peak < whole.peak
    assert checkpointed.flops > whole.flops
    half = counted("U-Net", "bf16")
    assert half.peak < whole.peak
    # A GPU keeps norms in float32.
    assert half.peak < counted("U-Net", "bf16", gpu=True).peak < whole.peak
    with torch.device("meta"):
        objective = Squares(unet(), "sample")
    with fake_tensors():
        parts = list(zip(*(part.split(16) for part in latents()), strict=True))
        several = step_of(as_fake(objective), parts, "no", False)
    assert several.flops == whole.flops
    assert several.peak < whole.peak


def test_the_optimisers_values_are_those_that_it_keeps():
    from pipelines.cost.estimate import STATES

    for name, kept in STATES.items():
        net = IdentityEncoder.from_preset("tiny")
        optimizer = make_optimizer(net, LoopSettings(optimizer=name))
        net.embedding(torch.zeros(2, 3, 56, 56)).sum().backward()
        optimizer.step()
        trained = [p for p in net.parameters() if p.grad is not None]
        states = [value for each in optimizer.state.values() for value in each.values() if value.numel() > 1]
        assert number_of(states) == kept * number_of(trained)


def test_tied_weights_stay_one():
    with torch.device("meta"):
        tied = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        tied[1].weight = tied[0].weight
    with fake_tensors():
        assert number_of(as_fake(tied).parameters()) == 16 + 4 + 4


def test_counting_leaves_nothing_without_values_behind():
    forget_constants()
    build = partial(build_detector, "resnet18", preset="tiny")
    with torch.device("meta"):
        detector = build()
    with fake_tensors():
        as_fake(detector)(torch.zeros(2, 3, 64, 64))
    assert build().eval()(torch.zeros(2, 3, 64, 64)).logits.isfinite().all()


def test_operations_their_bytes_and_what_is_alive_by_hand():
    def work() -> torch.Tensor:
        first = torch.zeros(100)  # 400 bytes
        second = first.view(10, 10) + 1.0  # 400 read, 400 written; the view is none
        product = second @ torch.ones(10, 5)  # 200 written; 400, 200 and 200 moved
        del first, second
        return product.double()  # 400 written

    found = count(work)
    assert found.operations == {
        Operation("move", "float32", 0, 400): 1, Operation("move", "float32", 0, 800): 1,
        Operation("move", "float32", 0, 200): 1, Operation("matmul", "float32", 2 * 10 * 10 * 5, 800): 1,
        Operation("move", "float64", 0, 600): 1,
    }  # fmt: skip
    assert (found.flops, found.peak, found.left) == (1000, 1200, 400)


def test_a_convolution_and_attention_are_products():
    picture, kernel = torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)
    found = count(lambda: torch.conv2d(picture, kernel, padding=1))
    assert [(each.kind, each.flops) for each in found.operations] == [("conv", 2 * (2 * 4 * 64) * (3 * 9))]
    heads = torch.ones(1, 2, 8, 16, requires_grad=True)
    attended = step_of(
        lambda batch, _: {"loss": F.scaled_dot_product_attention(*[batch] * 3).sum()}, [heads], "no", False
    )
    # Two products forward, five backward, of 8 x 8 x 16 in each of two heads.
    assert attended.flops == 7 * 2 * (2 * 8 * 8 * 16)
    assert {each.kind for each in attended.operations if each.flops} == {"matmul"}


def test_a_step_is_at_half_of_the_training_and_adds_gradients():
    weight = torch.nn.Parameter(torch.ones(3))
    seen = []

    def objective(batch: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
        seen.append((progress, torch.is_autocast_enabled("cpu")))
        return {"loss": (weight * batch).sum()}

    batches = [torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)]
    found = step_of(objective, batches, "bf16", False)
    assert weight.grad.tolist() == [2.0, 3.0, 4.0]
    assert seen == [(0.5, True)] * 2
    assert found.left == 12


@pytest.mark.parametrize(("precision", "gpu", "dtype"), [
    ("bf16", True, "float32"), ("bf16", False, "bfloat16"), ("no", True, "bfloat16"), ("fp16", True, "float32"),
])  # fmt: skip
def test_a_gpus_autocast_keeps_norms_in_float32(precision, gpu, dtype):
    before = {
        name: getattr(F, name) for name in ("layer_norm", "group_norm", "softmax", "log_softmax", "cross_entropy")
    }
    given = torch.zeros(2, 4, dtype=torch.bfloat16)
    kinds: list[torch.dtype] = []

    def work() -> None:
        assert all((getattr(F, name) is not function) == (dtype == "float32") for name, function in before.items())
        kinds.append(F.layer_norm(given, (4,), None, None, eps=1.0).dtype)

    count(work, precision, gpu)
    assert [str(kind) for kind in kinds] == [f"torch.{dtype}"]
    step_of(lambda *_: {"loss": work() or torch.ones(1, requires_grad=True).sum()}, [None], precision, gpu)
    assert str(kinds[1]) == f"torch.{dtype}"
    assert all(getattr(F, name) is function for name, function in before.items())


def test_a_faked_module_keeps_what_is_trained():
    with torch.device("meta"):
        module = torch.nn.BatchNorm1d(3)
    module.bias.requires_grad = False
    module.constant = torch.zeros(2, dtype=torch.int64, device="meta")
    with fake_tensors():
        made = as_fake(module)
        assert made is module
        assert [(name, p.requires_grad) for name, p in made.named_parameters()] == [("weight", True), ("bias", False)]
        assert {str(each.device) for each in (made.weight, made.running_mean, made.constant)} == {"cpu"}
        assert made.constant.dtype == torch.int64
        assert size_of([made.weight, made.constant]) == 3 * 4 + 2 * 8
