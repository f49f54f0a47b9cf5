"""One graph from 8-bit crops to scores: normalisation, restoration, rounding, cue and detector, written as ONNX."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.onnx import symbolic_helper

from dfg.noise import posterior_keys
from dfg.onnx_identity import OnnxIdentityEncoder
from dfg.pipeline import DeFakePipeline
from dfg.samplers import open_sampler
from oanet.cue import form_cue
from oanet.published import CROP
from pipelines.cues.settings import AUTOENCODER, MAKERS, CueSettings
from pipelines.errors import AgfasError, in_short
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.calibration.head import judged
from pipelines.verdict.exported import NoiseSettings
from pipelines.verdict.scorer import Scorer

OPSET = 17
_ANTIALIASED = ("bilinear", "bicubic")
FACES, SCORE, ATTACK_CLASSES, RAW_SCORE = "faces", "score", "attack_classes", "raw_score"

_UNLIKE_CROPS = {
    "picture": "sees the whole picture",
    "box": "cuts its own crops out of the whole picture around the face's box",
    "points": "cuts its own crop out of the whole picture by the face's points",
}


def exported_scorer(model: FaceAntiSpoofing) -> Scorer:
    """The scorer of a model that one graph can hold.

    Raises:
        AgfasError: it cannot, and why.
    """
    settings, scorer = model.settings, model.scorer
    if not isinstance(scorer, Scorer):
        raise AgfasError(f"{settings.label} is an exported model already. Export the model that it was made of.")
    if settings.sees != CROP:
        raise AgfasError(
            f"'{settings.detector}' is not exported: it {_UNLIKE_CROPS[settings.sees]}, and a graph takes"
            " aligned crops."
        )
    if settings.face.enhancement is not None:
        raise AgfasError(
            f"{settings.label} is not exported: its crops are enhanced, which a graph does not do. Prepare the dataset"
            " without --enhance, and train again."
        )
    if settings.cue is not None and (reason := _why_no_cue(settings.cue, scorer.maker)):
        raise AgfasError(f"{settings.label} is not exported: {reason}")
    return scorer


def _why_no_cue(cue: CueSettings, maker: Any) -> str:
    """Why a graph cannot make a cue, in words; empty if it can."""
    if cue.mask == "face":
        return "its cue is masked by a face parser, which a graph does not hold."
    if not cue.needs_generator:
        return f"its cue '{cue.source}' is made by no generator of this program."
    if cue.source == "anoddpm":
        return "AnoDDPM draws noise at each of its steps, and a graph takes the noise of one."
    if not isinstance(maker, DeFakePipeline):
        return ""
    if isinstance(maker.identity_encoder, OnnxIdentityEncoder):
        return "its identity encoder is an ONNX graph itself. Train one (identity: {name: trained}), or use none."
    if "bfloat16" in (cue.dtype, cue.autoencoder_dtype):
        return "its cue is made in bfloat16. Make cues in float32 (cue.dtype), and train again."
    if cue.source == "autoencoder":
        return ""
    calls = len(
        open_sampler(cue.scheduler, maker.scheduler, cue.timestep, cue.num_inference_steps, cue.calls).timesteps
    )
    if calls != 1:
        return (
            f"its generator is called {calls} times a face, and a graph holds one call. Make cues with cue.calls: 1,"
            " and train again."
        )
    return ""


class ExportGraph(nn.Module):
    """(B, S, S, 3) uint8 RGB, and the noise that the cue needs -> score (B,); of some detectors attack classes, and of
    a head the score without it.

    Args:
        scorer: of `exported_scorer`.
        size: S.

    Attributes:
        noise: the inputs after the faces.
        outputs: names of what it gives.
    """

    def __init__(self, scorer: Scorer, size: int) -> None:
        super().__init__()
        self.detector, self.recipe, self.device = scorer.detector, scorer.recipe, scorer.device
        self.head, self.outputs = scorer.head, [SCORE]
        self._maker: list[Any] = [scorer.maker]  # a list, since not every maker is a module
        parts = getattr(scorer.maker, "components", {"maker": scorer.maker})
        self.generator = nn.ModuleDict({name: part for name, part in parts.items() if isinstance(part, nn.Module)})
        self.noise = self._noise_inputs(size)
        self.eval().requires_grad_(False)

    def forward(self, faces: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        image = faces.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        cue = None if self.recipe is None else self._cue(self.recipe, image, noise)
        output = self.detector(image, cue)
        raw = output.probability_bonafide
        found = {SCORE: raw if self.head is None else judged(self.head, self.detector, output, image, cue)}
        if output.attack_classes is not None:
            found[ATTACK_CLASSES] = output.attack_classes
        if self.head is not None:
            found[RAW_SCORE] = raw
        self.outputs = list(found)
        return tuple(found.values())

    def _noise_inputs(self, size: int) -> list[NoiseSettings]:
        cue, maker = self.recipe, self._maker[0]
        if cue is None or not isinstance(maker, DeFakePipeline) or cue.source == "autoencoder":
            return []
        shape = tuple(maker.encode(torch.zeros(1, 3, size, size, device=maker.device)).shape[1:])
        prefixes = [("noise", "")]
        if cue.posterior == "sample":
            prefixes.append(("posterior", posterior_keys([""])[0]))
        return [
            NoiseSettings(input=f"{name}_{seed}", prefix=prefix, seed=seed, shape=shape)
            for seed in range(cue.seed, cue.seed + cue.samples)
            for name, prefix in prefixes
        ]

    def _cue(self, cue: CueSettings, image: Tensor, noise: Sequence[Tensor]) -> Tensor:
        made = {}
        for timestep in cue.timesteps_by(MAKERS.get(cue.source, "dfg")):
            made[timestep] = _rounded(self._restored(cue, image, timestep, noise))
        restored = made[cue.timestep_by(MAKERS.get(cue.source, "dfg"))]
        return form_cue(image, restored, made.get(AUTOENCODER), form=cue.form, normalize=cue.normalize)

    def _restored(self, cue: CueSettings, image: Tensor, timestep: int, noise: Sequence[Tensor]) -> Tensor:
        """As `pipelines.cues.sources` restores, with the noise given."""
        maker = self._maker[0]
        if not isinstance(maker, DeFakePipeline):
            return maker.reconstruct(image, [])
        latents, deviation = maker.encode_posterior(image)
        if timestep == AUTOENCODER:
            return maker.decode(latents)
        condition = "none" if maker.identity_encoder is None else "identity"
        given = dict(zip((each.input for each in self.noise), noise, strict=True))
        total: Any = 0
        with maker.conditioned(maker.identity_tokens(image, condition), cue.guidance_scale) as conditioning:
            for seed in range(cue.seed, cue.seed + cue.samples):
                drawn = latents
                if cue.posterior == "sample":
                    drawn = latents + deviation * given[f"posterior_{seed}"]
                denoised = maker.restore_latents(
                    drawn, conditioning, timestep, cue.num_inference_steps, given[f"noise_{seed}"],
                    sampler=cue.scheduler, calls=cue.calls,
                )  # fmt: skip
                total = maker.decode(denoised) + total
        return total / cue.samples


def _rounded(restored: Tensor) -> Tensor:
    """Through the 256 levels in which the cue store keeps a restoration."""
    return ((restored.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def write_onnx(graph: ExportGraph, size: int, path: Path) -> list[str]:
    """Write a graph with a free batch axis; returns the names of its outputs.

    Raises:
        AgfasError: torch's exporter does not know an operation of the network.
    """
    faces = torch.arange(2 * size * size * 3, dtype=torch.int64).remainder(251).to(torch.uint8)
    drawn = [torch.zeros(2, *each.shape) for each in graph.noise]
    given = [value.to(graph.device) for value in (faces.reshape(2, size, size, 3), *drawn)]
    inputs = [FACES, *(each.input for each in graph.noise)]
    with torch.no_grad():
        graph(*given)
        outputs = graph.outputs
        try:
            with _exporting():
                # The exporter by tracing: it needs no further package, and names nodes after the modules.
                torch.onnx.export(
                    graph, tuple(given), path, input_names=inputs, output_names=outputs, opset_version=OPSET,
                    dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)}, dynamo=False,
                )  # fmt: skip
        except Exception as error:  # the exporter raises what the operations raise
            raise AgfasError(
                f"torch's exporter cannot write the detector '{graph.detector.name}' as ONNX ({in_short(error)})."
            ) from error
    return outputs


@contextmanager
def _exporting() -> Iterator[None]:
    """What ONNX lacks is replaced in this block: fused layers by their parts, antialiased resizing by products."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for mode in _ANTIALIASED:
        torch.onnx.register_custom_op_symbolic(f"aten::_upsample_{mode}2d_aa", partial(_resized, mode), OPSET)
    try:
        with warnings.catch_warnings(), _silenced():
            warnings.simplefilter("ignore")  # of values that are constants of the graph, as they are meant to be
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for mode in _ANTIALIASED:
            torch.onnx.unregister_custom_op_symbolic(f"aten::_upsample_{mode}2d_aa", OPSET)


@contextmanager
def _silenced() -> Iterator[None]:
    """Where the exporter fails, it prints the whole network, from below Python."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _resized(mode: str, graph: Any, image: Any, size: Any, *others: Any) -> Any:
    """Antialiased resizing is linear along each side: two products with constant matrices, to the last bits."""
    before = image.type().varyingSizes()  # None along the free axis
    height, width = (int(value) for value in symbolic_helper._get_const(size, "is", "output_size"))
    columns = graph.op("Constant", value_t=_weights(before[3], width, mode))
    rows = graph.op("Constant", value_t=_weights(before[2], height, mode).T.contiguous())
    made = graph.op("MatMul", rows, graph.op("MatMul", image, columns))
    made.setType(image.type().with_sizes([*before[:2], height, width]))
    return made


def _weights(before: int, after: int, mode: str) -> Tensor:
    """(before, after): how much each value gives to each of the resized ones."""
    single = torch.eye(before)[None, :, None]
    return F.interpolate(single, size=(1, after), mode=mode, align_corners=False, antialias=True)[0, :, 0]
