"""What the parts of a plan need of a machine: the models that the stages would build, counted and not run.

Weights that are not here are not fetched: the sizes of the published ones are assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from dfg.arcface import ArcFaceObjective
from dfg.attention import use_attention
from dfg.autoencoder import PatchAutoencoder, decode_latents, encode_latents
from dfg.identity import IdentityEncoder
from dfg.objective import DenoisingObjective
from dfg.schedule import sd_scheduler
from dfg.speed import DTYPES
from dfg.tiny_autoencoder import TinyAutoencoderObjective
from dfg.tokens import TokenProjection
from dfg.unet import build_unet, checkpoint_gradients
from oanet.batch import FaceBatch
from oanet.names import CUE_CHANNELS
from oanet.objectives import Objective
from pipelines.cost.autoencoders import autoencoders, local, own_autoencoder
from pipelines.cost.counting import Count, as_fake, count, fake_tensors, number_of, size_of, step_of
from pipelines.cost.estimate import Restoring, Training
from pipelines.cost.machines import Machine, machine_of
from pipelines.cost.parts import Part, calls_of, measured_rates
from pipelines.cost.printing import Priced, priced_restoring, priced_training, total_line
from pipelines.cues.settings import OWN
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.generator import (
    BackboneIdentity,
    GeneratorSettings,
    NoIdentity,
    OneCallSettings,
    TrainedIdentity,
)
from pipelines.experiment.untrained import build_baseline_training, build_training
from pipelines.experiment.workspace import Workspace, teacher_of
from pipelines.training.parallel import Place, ProcessShare, make_independent
from pipelines.training.settings import LoopSettings


def print_costs(left: list[Part], gpu: str | None, gpus: int | None, echo: Callable[[str], Any] = print) -> None:
    """What the rest of a plan costs, part by part.

    Args:
        left: parts that are not done.
        gpu, gpus: as of `machine_of`.
        echo: prints a line.
    """
    machine = machine_of(gpu, gpus)
    rates = measured_rates(left[0].experiment.root) if gpu is None else {}
    priced = []
    for part in left:
        echo(f"{part.kind} {part.name}: {part.total - part.done} of {part.total} to do")
        if part.kind == "restoration" and part.experiment.cue.is_custom:
            echo("  by a class outside this program: its cost is unknown and not in the total")
            continue
        priced.append(price(part, machine, rates.get((part.kind, part.name))))
        echo("\n".join(priced[-1].lines))
    echo(total_line(priced, machine))


def price(part: Part, machine: Machine, measured: float | None = None) -> Priced:
    """The cost of a part; `measured` are the seconds per unit of work of earlier runs on this machine."""
    if part.kind == "restoration":
        return priced_restoring(part, restoring(part), machine.in_tf32(part.experiment.cue.tf32))
    return priced_training(part, training(part, machine), machine.in_tf32(loop_of(part).tf32), measured)


Makes = Callable[[Any, int], Any]
"""An objective on fake tensors and a number of faces -> its batch."""


def training(part: Part, machine: Machine) -> Training:
    """What one optimiser step of an identity encoder, a generator or a detector needs of each process.

    Raises:
        AgfasError: fewer faces than processes.
    """
    loop, batch = loop_of(part), batch_of(part)
    if batch < machine.count:
        raise AgfasError(
            f"A step of the {part.kind} has {batch} faces, which {machine.count} GPUs cannot share: take at most"
            f" {batch}, or a larger {'train.per_cell' if part.kind == 'detector' else 'batch_size'}."
        )
    with torch.device("meta"):
        objective, makes = objective_of(part)
        place = Place()
        for observer in objective.observers if isinstance(objective, Objective) else (objective,):
            make_independent(observer, place, 1)
    maker = part.experiment.generator if part.kind == "generator" else None
    chosen = maker.gradient_checkpointing if isinstance(maker, GeneratorSettings) else None
    parts = math.ceil(batch / loop.gradient_accumulation)
    faces, counts = math.ceil(parts / machine.count), dict[bool, Count]()
    place.begin(0)
    place.share = ProcessShare((faces,), 0)
    with fake_tensors():
        fake = as_fake(objective.train())
        for on in (False,) if chosen is None else (False, True):
            if on:
                checkpoint_gradients(fake.unet)
            for parameter in fake.parameters():
                # Of several processes, gradients lie in the buckets of their exchange, which are never freed.
                shared = machine.count > 1 and parameter.requires_grad
                parameter.grad = torch.zeros_like(parameter) if shared else None
            batches = [makes(fake, faces) for _ in range(loop.gradient_accumulation)]
            counts[on], alone = _counted(fake, batches, loop.mixed_precision, machine.is_gpu)
        trained = [p for p in fake.parameters() if p.requires_grad]
        weights = size_of([*fake.parameters(), *fake.buffers()])
        sizes = number_of(fake.parameters()), number_of(trained), len(trained)
    if isinstance(maker, OneCallSettings):
        counts[False] = _with_teacher(counts[False], part.experiment, faces, loop.gradient_accumulation)
    return Training(*sizes, weights, counts[bool(chosen)], loop, batch, faces, counts.get(not chosen), alone)


def _counted(objective: Any, batches: list[Any], mixed_precision: str, gpu: bool) -> tuple[Count, bool]:
    """The step of an objective, or of its detector alone if the losses need values; and whether it is the latter."""
    try:
        return step_of(objective, batches, mixed_precision, gpu), False
    except (DataDependentOutputException, DynamicOutputShapeException):
        if not isinstance(objective, Objective):
            raise
        objective.zero_grad()
        return step_of(partial(_detector_alone, objective), batches, mixed_precision, gpu), True


def _detector_alone(objective: Objective, batch: FaceBatch, progress: float) -> dict[str, torch.Tensor]:
    output = objective.detect(batch)
    maps = [value.sum() for value in (output.maps or {}).values()]
    return {"loss": output.logits.sum() + output.features.sum() + sum(maps)}


def batch_of(part: Part) -> int:
    """Faces of one optimiser step of all processes."""
    if part.kind == "detector":
        return 2 * part.experiment.train.per_cell * part.domains
    return loop_of(part).batch_size


def loop_of(part: Part) -> LoopSettings:
    """The settings of the loop that trains a part."""
    experiment = part.experiment
    if part.kind == "identity":
        assert isinstance(experiment.identity, TrainedIdentity)
        return experiment.identity.loop
    if part.kind == "tiny_autoencoder":
        return experiment.tiny_autoencoder.loop
    return experiment.train if part.kind == "detector" else experiment.generator.loop


def objective_of(part: Part) -> tuple[Any, Makes]:
    """The training objective of a part, untrained, and what makes its batches; on torch's default device."""
    experiment, size = part.experiment, part.experiment.data.size
    if part.kind == "detector":
        return _of_detector(experiment, part.domains)
    if part.kind == "identity":
        assert isinstance(experiment.identity, TrainedIdentity)
        encoder = IdentityEncoder.from_preset(experiment.identity.preset)
        people = max(2, part.faces // 10)
        return ArcFaceObjective(encoder, people), lambda _, faces: {
            "image": torch.zeros(faces, 3, size, size),
            "identity": torch.zeros(faces, dtype=torch.long),
        }
    if part.kind == "tiny_autoencoder":
        own, small = autoencoders(experiment)
        return TinyAutoencoderObjective(small, own), lambda _, faces: {
            "image": torch.zeros(faces, 3, size, size),
            "smooth": torch.zeros(faces),
        }
    if isinstance(experiment.generator, GeneratorSettings):
        return _of_generator(experiment, experiment.generator)
    objective = build_baseline_training(experiment.generator, size)
    if isinstance(experiment.generator, OneCallSettings):
        objective.teacher = lambda image, keys: torch.zeros_like(image)  # `_with_teacher` counts it
    return objective, lambda _, faces: {
        "image": torch.zeros(faces, 3, size, size),
        "keys": [""] * faces,
        "noise": torch.zeros(faces, 3, size, size),
        "timesteps": torch.zeros(faces, dtype=torch.long),
    }


def _with_teacher(step: Count, experiment: Experiment, faces: int, times: int) -> Count:
    """The step of a student, and what its teacher does for each of its `times` micro-batches."""
    teacher = teacher_of(experiment)
    need, operations = _by_generator(teacher, faces), step.operations.copy()
    calls, samples = calls_of(teacher, teacher.cue.timestep), teacher.cue.samples
    for part, number in ((need.once, 1), (need.call, calls), (need.decode, samples)):
        operations.update({operation: count * number * times for operation, count in part.operations.items()})
    return Count(operations, max(step.peak, need.once.peak, need.call.peak, need.decode.peak), step.left)


def _of_generator(experiment: Experiment, settings: GeneratorSettings) -> tuple[Any, Makes]:
    made = generator(experiment)
    projection = None
    if settings.tokens == "projection" and made.identity is not None:
        projection = TokenProjection(made.identity.token_dim, made.width)
    objective = DenoisingObjective(
        made.unet, made.scheduler, min_snr_gamma=settings.min_snr_gamma, projection=projection
    )
    width = made.width if projection is None else projection.config["token_dim"]

    def batch(_: Any, faces: int) -> dict[str, torch.Tensor]:
        latents = torch.zeros(faces, made.channels, made.side, made.side)
        return {
            "latents": latents,
            "noise": torch.zeros_like(latents),
            "tokens": torch.zeros(faces, made.cells, width),
            "timesteps": torch.zeros(faces, dtype=torch.long),
        }

    return objective, batch


def _of_detector(experiment: Experiment, domains: int) -> tuple[Any, Makes]:
    if experiment.detector.options().get("pretrained"):
        experiment = with_overrides(experiment, {"detector.pretrained": False})
    objective = build_training(experiment, domains)
    size, needs_cue = experiment.data.size, Workspace(experiment).needs_cue()

    def batch(fake: Any, faces: int) -> FaceBatch:
        place = torch.arange(faces)
        maps = {name: torch.zeros(faces, 1, 32, 32) for name in fake.wanted_maps}
        cue = torch.zeros(faces, CUE_CHANNELS[experiment.cue.form], size, size) if needs_cue else None
        image, keys = torch.zeros(faces, 3, size, size), [str(number) for number in range(faces)]
        return FaceBatch(image, cue, place % 2, place // 2 % domains, keys, **maps, kind=place % 2)

    return objective, batch


@dataclass(frozen=True)
class Generator:
    """The parts of a De-fake Face Generator.

    Attributes:
        channels, side: of the latents.
        cells, width: number and width of the identity tokens that the U-Net reads.
    """

    unet: Any
    autoencoder: Any
    identity: Any
    scheduler: Any
    channels: int
    side: int
    cells: int
    width: int


def generator(experiment: Experiment) -> Generator:
    """The generator of an experiment; its U-Net on torch's default device, its frozen parts without values."""
    settings, size, scheduler = experiment.generator, experiment.data.size, _scheduler()
    assert isinstance(settings, GeneratorSettings)
    with torch.device("meta"):
        identity, autoencoder = _identity(experiment.identity), own_autoencoder(settings.autoencoder).eval()
        channels, side = _latents(autoencoder, size)
    unet = _unet(settings, channels, side, identity.token_dim if identity is not None else 1)
    use_attention(unet, "eager" if settings.attention == "eager" else "sdpa")
    cells = identity.num_tokens if identity is not None else 1
    width = unet.config["cross_attention_dim"]
    return Generator(unet, autoencoder, identity, scheduler, channels, side, cells, width)


def try_unet(experiment: Experiment) -> None:
    """Call the U-Net of a generator once without values; raises what the network raises."""
    with torch.device("meta"):
        made = generator(experiment)
    with fake_tensors(), torch.no_grad():
        latents = torch.zeros(1, made.channels, made.side, made.side)
        tokens = torch.zeros(1, made.cells, made.width)
        as_fake(made.unet.eval())(latents, torch.zeros(1, dtype=torch.long), encoder_hidden_states=tokens)


def _latents(autoencoder: Any, size: int) -> tuple[int, int]:
    """Channels and side of the latents of faces of `size` pixels."""
    if isinstance(autoencoder, PatchAutoencoder):  # it refuses to encode until it is fitted
        return autoencoder.config["latent_channels"], size // autoencoder.config["patch_size"]
    latents = encode_latents(autoencoder, torch.zeros(1, 3, size, size))
    return latents.shape[1], latents.shape[-1]


def _scheduler() -> Any:
    with torch.device("cpu"):  # it reads values when it is built
        return sd_scheduler()


def _identity(settings: Any) -> IdentityEncoder | None:
    """One in ONNX is taken for an iResNet-50, which the usual packs hold."""
    if isinstance(settings, NoIdentity):
        return None
    if isinstance(settings, TrainedIdentity):
        return IdentityEncoder.from_preset(settings.preset)
    preset = settings.preset if isinstance(settings, BackboneIdentity) else "iresnet50"
    return IdentityEncoder.from_preset(preset, embedding_dim=None)


def _unet(settings: GeneratorSettings, channels: int, side: int, token_dim: int) -> Any:
    from diffusers import UNet2DConditionModel

    found = local(UNet2DConditionModel, settings.unet_weights, settings.unet_subfolder)
    if found:
        return UNet2DConditionModel.from_config(found)
    options = dict(settings.unet)
    if settings.preset == "tiny":
        options.setdefault("cross_attention_dim", token_dim)
    if settings.precondition:
        options["latent_variance"] = [1.0] * channels
    return build_unet(settings.preset, in_channels=channels, sample_size=side, **options)


def restoring(part: Part) -> Restoring:
    """What restoring one batch of faces needs of each process."""
    experiment, faces = part.experiment, part.experiment.cue.batch_size
    if isinstance(experiment.generator, GeneratorSettings):
        return _by_generator(experiment, faces)
    size = experiment.data.size
    with torch.device("meta"):
        model = build_baseline_training(experiment.generator, size).model.eval()
    with fake_tensors(), torch.no_grad():
        model = as_fake(model)
        image, index = torch.zeros(faces, 3, size, size), torch.zeros(faces, dtype=torch.long)
        call = count(lambda: model(image, index) if part.timesteps else model(image))
    return Restoring(number_of(model.parameters()), _bytes_of(model), Count(), call, Count(), faces)


def _by_generator(experiment: Experiment, faces: int) -> Restoring:
    with torch.device("meta"):
        made = generator(experiment)
        small = None if experiment.cue.autoencoder == OWN else autoencoders(experiment)[1]
    cue, size = experiment.cue, experiment.data.size
    unet, autoencoder, identity = made.unet.eval(), (small or made.autoencoder).eval(), made.identity
    # nn.Module's `to`: diffusers' warns about modules to keep in float32 even if there are none.
    torch.nn.Module.to(unet, DTYPES[cue.dtype])
    torch.nn.Module.to(autoencoder, DTYPES[cue.autoencoder_dtype])
    guided = faces * (2 if cue.guidance_scale != 1 else 1)
    with fake_tensors(), torch.no_grad():
        models = [as_fake(model) for model in (unet, autoencoder, identity) if model is not None]
        image, dtype = torch.zeros(faces, 3, size, size), DTYPES[cue.dtype]
        tokens = torch.zeros(guided, made.cells, made.width, dtype=dtype)
        latents = torch.zeros(guided, made.channels, made.side, made.side, dtype=dtype)
        steps = torch.zeros(guided, dtype=torch.long)
        call = count(lambda: unet(latents, steps, encoder_hidden_states=tokens).sample)
        linear = isinstance(autoencoder, PatchAutoencoder)  # one small matrix product
        once = Count() if linear else count(partial(encode_latents, autoencoder, image))
        if identity is not None:
            tokens_of = count(lambda: identity(image))
            once = Count(once.operations + tokens_of.operations, max(once.peak, tokens_of.peak), once.left)
        decode = Count() if linear else count(partial(decode_latents, autoencoder, latents[:faces].float()))
        numbers = sum(number_of(model.parameters()) for model in models)
        return Restoring(numbers, sum(map(_bytes_of, models)), once, call, decode, faces)


def _bytes_of(model: Any) -> int:
    return size_of([*model.parameters(), *model.buffers()])
