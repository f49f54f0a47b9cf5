"""The look-alike of a CUDA device refuses and records what CUDA would, computes as the CPU does, and goes away."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from accelerate.state import PartialState
from lookalike import DeviceTensor, Lookalike, installed
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dfg.speed import use_tf32

Operation = Callable[[torch.Tensor], object]


@pytest.fixture
def there(lookalike: Lookalike) -> torch.Tensor:
    """(3, 4) on the device; nothing is recorded yet."""
    values = torch.arange(12.0, device="cuda").view(3, 4)
    lookalike.clear()
    return values


REFUSED: dict[str, Operation] = {
    "sum": lambda x: x + torch.zeros(4),
    "product": lambda x: x @ torch.zeros(4, 2),
    "layer": lambda x: nn.Linear(4, 2)(x),
    "in place on the host": lambda x: torch.zeros(()).add_(x.sum()),
    "concatenation": lambda x: torch.cat([x, torch.zeros(1, 4)]),
    "stack of numbers": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "selection": lambda x: x.index_select(0, torch.tensor([1])),
    "lookup": lambda x: F.embedding(torch.tensor([1]), x),
    "assigned values": lambda x: x.__setitem__(torch.tensor([0, 1], device="cuda"), torch.zeros(2, 4)),
    "index of a host tensor": lambda x: torch.zeros(3)[x[:, 0].long()],
    "batch norm": lambda x: nn.BatchNorm1d(4)(x),
    "optimiser's list": lambda x: torch._foreach_add_([x], [torch.zeros(3, 4)]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_operands_on_two_devices_are_refused(there, case):
    with pytest.raises(RuntimeError, match="same device"):
        REFUSED[case](there)


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), np.asarray, np.sqrt])
def test_numpy_of_the_device_is_refused(there, convert):
    with pytest.raises(TypeError, match=r"Tensor\.cpu\(\)"):
        convert(there)


def test_a_number_on_the_host_may_stand_beside_the_device(there):
    assert torch.equal((there + torch.tensor(2.0)).cpu(), torch.arange(12.0).view(3, 4) + 2)
    assert (torch.tensor(2.0) * there).is_cuda


def test_a_generator_belongs_to_its_device(there):
    ours, theirs = torch.Generator(), torch.Generator(device="cuda").manual_seed(3)
    assert isinstance(theirs, torch.Generator)
    assert isinstance(ours, torch.Generator)
    assert torch.randn(2, generator=theirs, device="cuda").is_cuda
    assert torch.rand(2, generator=ours).is_cpu
    for generator, device in ((ours, "cuda"), (theirs, "cpu")):
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.randn(2, generator=generator, device=device)
    with pytest.raises(RuntimeError, match="device type for generator"):
        there.normal_(generator=ours)


WAITS: dict[str, Operation] = {
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool((x > 0).any()),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "f-string": lambda x: f"{x.sum():.3f}",
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 3],
    "masked_select": lambda x: x.masked_select(x > 3),
    "assigned by a mask": lambda x: x.__setitem__(x > 3, torch.zeros(8, device="cuda")),
    "list as index": lambda x: x[[0, 2]],
    "host tensor as index": lambda x: x[torch.tensor([0, 2])],
    "number on the device as index": lambda x: x[x[0, 1].long()],
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "to the device": lambda x: torch.zeros(2).to("cuda"),
    "much to the device, pageable": lambda x: torch.zeros(2**15).to("cuda", non_blocking=True),
    "new tensor": lambda x: torch.tensor(5, device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "copied in": lambda x: x.copy_(torch.zeros(3, 4)),
    "copied out": lambda x: torch.zeros(3, 4).copy_(x),
    "synchronize": lambda x: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("case", WAITS)
def test_waiting_for_the_device_is_recorded_with_its_place(lookalike, there, case):
    WAITS[case](there)
    (record,) = lookalike.synchronisations
    assert record.where.startswith("tests/test_lookalike.py:")


RUNS_ON: dict[str, Operation] = {
    "arithmetic": lambda x: (x * 2 - 1).clamp(0, 1).mean(),
    "new zeros": lambda x: torch.zeros(3, device=x.device) + torch.full((), 5, device=x.device),
    "where": lambda x: torch.where(x > 3, x, 0.5),
    "number put by a mask": lambda x: x.__setitem__(x > 3, 0.0),
    "filled by a mask": lambda x: x.masked_fill(x > 3, 0.0),
    "device index": lambda x: x[torch.arange(2, device="cuda")],
    "slice": lambda x: x[1:, 0],
    "dropout": lambda x: F.dropout(x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "pinned, not waited for": lambda x: torch.zeros(2).pin_memory().to("cuda", non_blocking=True),
    "little, pageable": lambda x: torch.zeros(2).to("cuda", non_blocking=True),
    "out, not waited for": lambda x: x.to("cpu", non_blocking=True),
    "same device": lambda x: x.to("cuda").cuda().to(x),
    "cross-entropy": lambda x: F.cross_entropy(x, torch.zeros(3, dtype=torch.long, device="cuda")),
}


@pytest.mark.parametrize("case", RUNS_ON)
def test_what_only_queues_work_is_no_synchronisation(lookalike, there, case):
    RUNS_ON[case](there)
    assert lookalike.synchronisations == []


def test_copies_to_the_device_are_recorded(lookalike, there):
    torch.zeros(2).pin_memory().to("cuda", non_blocking=True)
    torch.empty(2, pin_memory=True).cuda(non_blocking=True)
    there.to("cuda")
    assert [record.what for record in lookalike.copies] == ["copy", "copy"]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 2)
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9),
    "adamw": lambda weights: torch.optim.AdamW(weights, 0.01),
    "one by one": lambda weights: torch.optim.AdamW(weights, 0.01, foreach=False),
    "fused": lambda weights: torch.optim.AdamW(weights, 0.01, fused=True),
}


def trained(optimizer: str, device: str) -> dict[str, torch.Tensor]:
    """The weights after three steps with a clipped gradient."""
    model, image = network().to(device), torch.linspace(-1, 1, 96).view(2, 3, 4, 4).to(device)
    label = torch.tensor([0, 1]).to(device)
    chosen = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(3):
        loss = F.cross_entropy(checkpoint(model, image, use_reentrant=False), label)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        chosen.step()
        chosen.zero_grad()
    return {name: value.cpu() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_gives_the_weights_of_the_cpu_and_waits_for_nothing(lookalike, optimizer):
    expected = trained(optimizer, "cpu")
    found = trained(optimizer, "cuda")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    kinds = {record.what for record in lookalike.synchronisations}
    assert kinds == {"copy to the device", "copy to the host"}


def test_autocast_lowers_products_and_keeps_losses(there):
    weight = torch.zeros(2, 4, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        product = F.linear(there, weight)
        assert product.dtype == torch.bfloat16
        assert F.mse_loss(product, product.detach()).dtype == torch.float32
        with torch.autocast("cuda", enabled=False):
            assert F.linear(there, weight).dtype == torch.float32
    product.float().sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_gradients_cross_between_the_devices(lookalike):
    here = torch.ones(3, requires_grad=True)
    (here.to("cuda") * 2).cpu().sum().backward()
    assert torch.equal(here.grad, torch.full((3,), 2.0))


def test_a_module_keeps_its_parameters_and_copies_of_it_are_its_own(lookalike):
    model = network()
    before = list(map(id, model.parameters()))
    model.to("cuda")
    assert list(map(id, model.parameters())) == before
    assert all(isinstance(weight, nn.Parameter) and weight.is_cuda for weight in model.parameters())
    twin = copy.deepcopy(model)
    twin[0].weight.data.zero_()
    assert model[0].weight.any()
    model.to("cpu")
    assert not any(isinstance(value, DeviceTensor) for value in model.state_dict().values())


def test_the_meta_device_stays_what_it_is(lookalike):
    with torch.device("meta"):
        assert network()[0].weight.is_meta


def test_threads_see_the_device_too(lookalike):
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(lambda: torch.zeros(2, device="cuda")).result()
    assert made.is_cuda


def test_nothing_of_it_is_left():
    watched = (
        *((torch.Tensor, name) for name in ("to", "cuda", "pin_memory", "is_pinned")),
        *((torch, name) for name in ("tensor", "as_tensor", "Generator")),
        *((torch.cuda, name) for name in ("is_available", "device_count", "_lazy_init", "Stream")),
        (torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "benchmark"),
        (torch.accelerator, "is_available"), (threading.Thread, "run"), (PartialState, "_shared_state"),
    )  # fmt: skip
    before = [getattr(owner, name) for owner, name in watched]
    with installed():
        use_tf32(True)
        torch.use_deterministic_algorithms(True)
        assert torch.cuda.is_available()
        assert PartialState().device.type == "cuda"
    assert [getattr(owner, name) for owner, name in watched] == before
    assert not torch.cuda.is_available()
    assert not torch.are_deterministic_algorithms_enabled()
    assert type(torch.tensor([1.0]).to("cpu")) is torch.Tensor
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(2, device="cuda")
