"""Settings of the models that restore faces, and of their training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dfg.baselines import check_baseline
from pipelines.cues.settings import OWN, RestorationSettings
from pipelines.data.protocol_settings import Domains
from pipelines.settings import Bystander, Content, Strict, Unit, named
from pipelines.training.settings import LoopSettings


class TrainedIdentity(Strict):
    """A small ArcFace trained on the live faces' identities as the chain's first step."""

    name: Literal["trained"] = "trained"
    preset: Literal["tiny", "iresnet18", "iresnet34", "iresnet50", "iresnet100"] = Field(
        "tiny", description="Size of the network; `tiny` is for faces of 64 pixels and minutes of training."
    )
    domains: Domains = Field(["corpus"], description="Domains whose live faces are its classes.")
    scale: float = Field(32.0, gt=0, description="ArcFace's s.")
    margin: float = Field(0.3, ge=0, description="ArcFace's angular margin m in radians.")
    loop: LoopSettings = LoopSettings(steps=400, batch_size=64, learning_rate=1e-3, schedule="cosine", warmup=20)


class BackboneIdentity(Strict):
    """An ArcFace state dict, `backbone.pth` in insightface's layout."""

    name: Literal["backbone"]
    path: Annotated[Path, Content()] = Field(description="The state dict's file.")
    preset: Literal["iresnet18", "iresnet34", "iresnet50", "iresnet100"] = Field(
        "iresnet18", description="The network that the state dict is of."
    )


class OnnxIdentity(Strict):
    """A recognition pack in ONNX, such as insightface's."""

    name: Literal["onnx"]
    path: Annotated[Path, Content()] = Field(description="The ONNX file.")
    tensor: str | None = Field(None, description="Name of the feature map before pooling; default: found by its shape.")
    input_mean: float = Field(127.5, description="Grey level that the net takes as 0; see `input_scale`.")
    input_scale: float = Field(127.5, gt=0, description="The net's input is (pixel - input_mean) / input_scale.")


class NoIdentity(Strict):
    """No identity: the condition is zero, as the paper's ablation."""

    name: Literal["none"]


IdentitySettings = Annotated[
    TrainedIdentity | BackboneIdentity | OnnxIdentity | NoIdentity,
    Field(discriminator="name"),
    named("trained"),
]


class PatchSettings(Strict):
    """A linear patch transform, fitted to the live faces in closed form."""

    name: Literal["patch"] = "patch"
    patch_size: int = Field(4, ge=1, description="Factor between pixels and latents.")
    latent_channels: int = Field(24, ge=1, description="Kept directions; all patch_size^2 x 3 make it lossless.")
    whitening: Unit = Field(
        1.0,
        description="1 gives every channel unit variance, so that noise reaches fine detail no sooner than"
        " coarse; 0 keeps the variances, so that noise takes fine detail first.",
    )

    @model_validator(mode="after")
    def _directions_of_a_patch(self) -> PatchSettings:
        if self.latent_channels > (most := 3 * self.patch_size**2):
            raise ValueError(
                f"latent_channels = {self.latent_channels} exceeds {most}, the directions of a patch of"
                f" {self.patch_size}x{self.patch_size}"
            )
        return self


class TaesdSettings(Strict):
    """A tiny pretrained autoencoder in taesd's layout, two state dicts."""

    name: Literal["taesd"]
    encoder: Annotated[Path, Content()] = Field(description="State dict of the encoder.")
    decoder: Annotated[Path, Content()] = Field(description="State dict of the decoder.")


class PretrainedAutoencoder(Strict):
    """AutoencoderKL or AutoencoderTiny in diffusers' layout, from a folder or a hub id."""

    name: Literal["pretrained"]
    path: Annotated[str, Content(subfolder="subfolder")] = Field(description="Folder, or id of the hub.")
    subfolder: str = Field("vae", description="Where it lies in the folder; Stable Diffusion's is `vae`.")


AutoencoderSettings = Annotated[
    PatchSettings | TaesdSettings | PretrainedAutoencoder, Field(discriminator="name"), named("patch")
]


class TinyAutoencoderLoop(LoopSettings):
    """The training of a small autoencoder; a setting that is given leaves the others as they are."""

    steps: int = Field(10_000, ge=1, description="Optimiser steps.")
    batch_size: int = Field(16, ge=1, le=1_000_000, description="Faces per step.")
    learning_rate: float = Field(2e-3, gt=0, description="The rate after the warm-up, before the schedule lowers it.")
    weight_decay: float = Field(0.0, ge=0, description="How fast the weights shrink, in units of the rate.")
    schedule: Literal["constant", "cosine", "step"] = Field("cosine", description="`cosine` falls to 0 at the end.")
    warmup: int = Field(50, ge=0, description="Steps of linear warm-up from 0.")
    max_grad_norm: float = Field(1.0, ge=0, description="Clip the gradient's norm to this value; 0 does not clip.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the average of the weights; 0 keeps no average.")


class TinyAutoencoderSettings(Strict):
    """A small autoencoder distilled from the generator's own on the same live faces, for `cue.autoencoder: trained`."""

    width: int = Field(64, ge=4, le=512, description="Channels of every layer; madebyollin/taesd has 64.")
    blocks: int = Field(
        3, ge=0, le=12, description="Residual blocks of every resolution below the faces' own; taesd has 3."
    )
    flip: bool = Field(True, description="Mirror faces at random.")
    loop: TinyAutoencoderLoop = TinyAutoencoderLoop()


class GeneratorSettings(Strict):
    """The De-fake Face Generator and its training on live faces only."""

    name: Literal["dfg"] = "dfg"
    preset: Literal["tiny", "compact", "sd15"] = Field(
        "tiny", description="Size of the U-Net; `sd15` is Stable Diffusion 1.5's, which the paper trains."
    )
    unet: dict[str, Any] = Field({}, description="Overrides of the preset, by UNet2DConditionModel's names.")
    precondition: bool = Field(
        False,
        description="Start from the best linear denoiser of the latents; lets a small U-Net restore after minutes.",
    )
    unet_weights: Annotated[str | None, Content(subfolder="unet_subfolder")] = Field(
        None, description="Folder or hub id of U-Net weights to start from."
    )
    unet_subfolder: str | None = Field(None, description="Their subfolder: `unet` in Stable Diffusion's layout.")
    train: bool = Field(True, description="False uses `unet_weights` without training, such as the public checkpoint.")
    prediction: Literal["epsilon", "v_prediction"] = Field(
        "epsilon", description="What the U-Net predicts: the noise (the paper's) or the velocity."
    )
    min_snr_gamma: float | None = Field(
        None, gt=0, description="Weights the loss by timestep, so that none outweighs the others; 5 is usual."
    )
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of faces trained with zero tokens; what `cue.guidance_scale` needs."
    )
    tokens: Literal["zero_pad", "projection"] = Field(
        "zero_pad", description="How 512-wide identity tokens meet the U-Net's width; `projection` learns a linear map."
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the live faces that the U-Net is trained on; smaller shares are subsets of larger ones."
        " The autoencoder is fitted to all of them.",
    )
    gradient_checkpointing: Annotated[bool, Bystander()] = Field(
        False, description="Compute activations again in the backward pass: half the memory, a third more time."
    )
    attention: Literal["sdpa", "eager", "xformers"] = Field("sdpa", description="Attention kernel of the training.")
    autoencoder: AutoencoderSettings = Field(PatchSettings(), description="What turns pixels into latents and back.")
    domains: Domains = Field(["corpus"], description="Domains whose live faces it is trained on.")
    flip: bool = Field(True, description="Store the mirrored faces' latents as a second view.")
    loop: LoopSettings = LoopSettings(steps=1000, learning_rate=3e-4, ema_decay=0.999, max_grad_norm=1.0)

    @model_validator(mode="after")
    def _possible(self) -> GeneratorSettings:
        if self.precondition and self.prediction != "epsilon":
            raise ValueError(
                "precondition starts from a denoiser that predicts the noise: it needs prediction: epsilon"
            )
        if self.precondition and self.unet_weights:
            raise ValueError("precondition builds a U-Net of its own: it cannot start from unet_weights")
        if not self.train and not self.unet_weights:
            raise ValueError("train: false takes given weights as they are: name them with unet_weights")
        if not self.train and self.tokens == "projection":
            raise ValueError("tokens: projection is learned in training: it needs train: true")
        return self


# Adam without weight decay, as in the public code of the baselines.
_BASELINE_LOOP = LoopSettings(steps=1000, weight_decay=0.0)


class BaselineSettings(Strict):
    """Shared by the models beside the generator; all are trained on the pixels of live faces."""

    name: str = Field(description="The baseline.")
    preset: Literal["tiny", "paper"] = Field("tiny", description="`paper` is for faces of 256 pixels.")
    options: dict[str, Any] = Field({}, description="Overrides of the preset, by the constructor's names.")
    share: float = Field(
        1.0, gt=0, le=1, description="Share of the live faces it is trained on; smaller shares are subsets."
    )
    domains: Domains = Field(["corpus"], description="Domains whose live faces it is trained on.")
    flip: bool = Field(True, description="Mirror faces at random.")
    loop: LoopSettings = _BASELINE_LOOP

    @model_validator(mode="after")
    def _known_options(self) -> BaselineSettings:
        check_baseline(self.name, self.preset, self.options)
        return self


class MemaeSettings(BaselineSettings):
    """MemAE: an autoencoder with a memory of live faces."""

    name: Literal["memae"]
    entropy_weight: float = Field(
        2e-4, ge=0, description="Weight of the addressing's entropy; higher uses fewer slots."
    )


class DeepSvddSettings(BaselineSettings):
    """Deep SVDD's autoencoder, with its one-class loss on the bottleneck."""

    name: Literal["deep_svdd"]
    compactness_weight: float = Field(0.01, ge=0, description="Weight of the squared distance to the centre.")
    pretraining: float = Field(
        0.5, gt=0, lt=1, description="Share of the steps before the centre is fixed and the distance added."
    )


class AnoddpmSettings(BaselineSettings):
    """AnoDDPM with Gaussian noise: a diffusion model of pixels, without identity."""

    name: Literal["anoddpm"]
    train_timesteps: int = Field(
        1000,
        ge=1,
        le=1000,
        description="Noise levels trained on, of 1,000; a cue from t needs t of them.",
    )
    loop: LoopSettings = LoopSettings(steps=1000, weight_decay=0.0, ema_decay=0.999)


class TeacherRestoration(RestorationSettings):
    """How the teacher of a student restores; by default in three calls from t = 401."""

    timestep: int = Field(401, ge=1, le=999, description="How far the teacher noises a face, on its grid.")
    num_inference_steps: int = Field(5, ge=1, le=1000, description="Grid of the sampler; t = 401 of 5 is 3 calls.")

    @model_validator(mode="after")
    def _of_its_own(self) -> TeacherRestoration:
        if self.autoencoder != OWN:
            raise ValueError(f"a teacher restores with its own autoencoder, which a student lacks: leave it at {OWN}")
        return self


class OneCallSettings(BaselineSettings):
    """A student that gives the mean of many restorations in one call; it learns from faces without labels."""

    name: Literal["one_call"]
    preset: Literal["tiny", "compact"] = Field(  # type: ignore[assignment]
        "tiny", description="`compact` is for faces of 256 pixels."
    )
    teacher: GeneratorSettings = Field(
        GeneratorSettings(), description="The generator whose restorations it learns; found or trained first."
    )
    restoration: TeacherRestoration = Field(
        TeacherRestoration(),
        description="How the teacher restores. Every step draws new noise, so the student learns the mean over all"
        " noise, whatever `samples` is; more samples make a step dearer and its gradient quieter.",
    )
    unlabelled: Domains = Field(
        [], description="Further domains whose training faces it learns from; their labels are not read."
    )
    changed: Unit = Field(
        0.5,
        description="Share of the faces that FAS-Aug's operators change before the teacher restores them, so that the"
        " student has seen prints, screens and blur. 0 leaves all as they are.",
    )
    loop: LoopSettings = LoopSettings(
        steps=2000, batch_size=32, learning_rate=1e-3, weight_decay=0.0, schedule="cosine", warmup=50, ema_decay=0.99
    )


MakerSettings = Annotated[
    GeneratorSettings | MemaeSettings | DeepSvddSettings | AnoddpmSettings | OneCallSettings,
    Field(discriminator="name"),
    named("dfg"),
]
