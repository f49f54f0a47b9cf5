"""Which cue a detector sees, and how its restorations are made.

A class holds exactly the settings that one kind of restoration reads, so that the identity of a cue
(`pipelines.cues.identity`) is these fields and no others. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from dfg.baselines import BASELINES, BASELINES_WITH_TIMESTEP
from oanet.names import CUE_FORMS, CUE_FORMS_WITH_AUTOENCODED
from oanet.registry import Registry
from pipelines.errors import nearest
from pipelines.settings import Added, Content, Strict

AUTOENCODER = 0
"""The t of the control that encodes and decodes without noise."""

OWN, TRAINED = "generator", "trained"
"""Values of `cue.autoencoder` that are no place: the generator's own, and a small one distilled from it."""

MAKERS: dict[str, str] = {"dfg": "dfg", "dfg_no_identity": "dfg", **{name: name for name in BASELINES}}
"""The `generator.name` that each source of restorations needs."""

RESTORING: tuple[str, ...] = tuple(MAKERS)
"""Sources whose cue compares a face with what a model of live faces makes of it."""

CONTROLS: tuple[str, ...] = ("autoencoder", "shuffled", "zero", "noise")

WITHOUT_PICTURES: tuple[str, ...] = ("zero", "noise")
"""Sources that need no restoration."""

SOURCES = Registry("cue source", "agfas.cue_sources", builtin={})
"""Sources beyond those named here: classes by `module:Class` or from other packages, see `pipelines.cues.custom`."""

WITH_TIMESTEP: tuple[str, ...] = ("dfg", *BASELINES_WITH_TIMESTEP)
"""Generators that noise a face to t."""


BUILTIN_SOURCES: tuple[str, ...] = (*RESTORING, *CONTROLS)


class AutoencodedSettings(Strict):
    """What the reconstruction by the autoencoder alone (t = 0) reads."""

    autoencoder: Annotated[str, Added(), Content(words=(OWN, TRAINED))] = Field(
        OWN,
        description="What encodes and decodes: the `generator`'s own autoencoder; `trained`, a small one distilled from"
        " it (`tiny_autoencoder`); or one with the same latents, by its folder or its id of the hub, such as"
        " madebyollin/taesd for Stable Diffusion 1.5's.",
    )
    autoencoder_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Number type of the autoencoder; its rounding shows in the picture, so measure it first."
    )
    channels_last: bool = Field(False, description="Memory layout in which convolutions may be faster.")
    tf32: Annotated[bool, Added()] = Field(
        False, description="On a GPU, products of float32 numbers in TF32: faster, to three digits."
    )

    @field_validator("autoencoder")
    @classmethod
    def _a_word_or_a_place(cls, given: str) -> str:
        if given not in (OWN, TRAINED) and "/" not in given and not Path(given).is_dir():
            raise ValueError(f"{nearest(given, [OWN, TRAINED])} Or a folder, or an id of the hub as USER/NAME")
        return given


class AncestralSettings(Strict):
    """What a restoration from noise reads, whatever the sampler; all that AnoDDPM reads."""

    timestep: int = Field(
        801,
        ge=1,
        le=999,
        description="How far a face is noised before it is restored. `anoddpm` uses 200 in the paper, with as many"
        " ancestral steps back unless `calls` is smaller. `memae`, `deep_svdd` and `one_call` ignore it, `samples` and"
        " `calls`.",
    )
    calls: int | None = Field(
        None, ge=1, description="Calls of the U-Net from t down, evenly spaced; default: those of the grid."
    )
    samples: int = Field(1, ge=1, description="Restorations per face that are averaged; 1 is the paper's.")
    seed: int = Field(0, description="Seed of the noise streams.")


class RestorationSettings(AutoencodedSettings, AncestralSettings):
    """What a restoration by the De-fake Face Generator reads."""

    num_inference_steps: int = Field(
        50, ge=1, le=1000, description="Grid of the sampler, for `dfg` alone; t = 801 of 50 is 41 calls."
    )
    scheduler: Literal["ddim", "unipc", "dpmsolver++", "pndm_cut"] = Field(
        "ddim",
        description="Sampler from t down; `unipc` and `dpmsolver++` need fewer calls of the U-Net. `pndm_cut` is the"
        " public code's PNDM, started in the middle of its schedule; it takes no `calls`.",
    )
    posterior: Annotated[Literal["mode", "sample"], Added()] = Field(
        "mode",
        description="Which latents of the autoencoder's posterior are noised; `sample`, as in AG-FAS's public code, is"
        " drawn from a stream of the face.",
    )
    guidance_scale: float = Field(
        1.0, ge=0, le=100, description="Classifier-free guidance against zero tokens; 1 is off, others double the work."
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number type of the U-Net.")
    compile: bool = Field(False, description="torch.compile the U-Net: minutes at the start, faster afterwards.")
    attention: Literal["sdpa", "eager", "xformers"] = Field("sdpa", description="Attention kernel of the cue job.")

    @model_validator(mode="after")
    def _calls_of_the_grid(self) -> RestorationSettings:
        if self.scheduler == "pndm_cut" and self.calls is not None:
            raise ValueError("scheduler = pndm_cut makes the calls of its grid: leave calls out, or use another one")
        if self.calls is not None and self.calls > self.timestep:
            raise ValueError(f"calls = {self.calls} must be at most timestep = {self.timestep}")
        return self


class CueSettings(RestorationSettings):
    """Which anomalous cue the detector sees."""

    source: str = Field(
        "dfg",
        description="`dfg_no_identity` is the generator under `identity: {name: none}`; `memae`, `deep_svdd`, `anoddpm`"
        " and `one_call` are the generators of these names; `autoencoder` (t = 0), `shuffled`, `zero` and `noise` are"
        " controls. `module:Class` is a `CueSource` of yours, which needs no generator.",
    )
    options: dict[str, Any] = Field({}, description="Arguments of the constructor, for `source: module:Class`.")
    form: str = Field("residual", description=f"One of {', '.join(CUE_FORMS)}.")
    normalize: Literal["per_face", "none"] = Field(
        "per_face", description="`per_face` brings each face's residual to mean 0 and deviation 1."
    )
    mask: Literal["none", "face"] = Field(
        "none", description="`face` keeps the cue where face parsing found the face; `agfas prepare` stores the masks."
    )
    batch_size: int = Field(32, ge=1, description="Faces restored at once.")
    shard_size: int = Field(
        256, ge=1, description="Faces of one task, rounded to whole batches: what a crash can cost."
    )

    @model_validator(mode="after")
    def _known_source(self) -> CueSettings:
        if self.is_custom:
            if self.source not in SOURCES and ":" not in self.source:
                allowed = [*BUILTIN_SOURCES, *SOURCES]
                raise ValueError(f"unknown cue.source '{self.source}': {nearest(self.source, allowed)} Or module:Class")
            SOURCES.check(self.source, self.options)
        elif self.options:
            raise ValueError(f"options are for source: module:Class; '{self.source}' takes none")
        return self

    @model_validator(mode="after")
    def _known_form(self) -> CueSettings:
        if self.form not in CUE_FORMS:
            raise ValueError(f"unknown form '{self.form}': {nearest(self.form, CUE_FORMS)}")
        return self

    @property
    def is_restored(self) -> bool:
        """Whether the cue is made from restored faces."""
        return self.source not in WITHOUT_PICTURES

    @property
    def is_custom(self) -> bool:
        """Whether the source is a class outside this program, `module:Class`."""
        return self.source not in BUILTIN_SOURCES

    @property
    def needs_generator(self) -> bool:
        """Whether a generator or baseline of this program makes the restorations."""
        return self.is_restored and not self.is_custom

    def timestep_by(self, maker: str) -> int:
        """The t of the restorations: 0 for the control `autoencoder`, generators without noise and custom sources.

        Args:
            maker: `generator.name`; the source `shuffled` does not say it.
        """
        noised = self.needs_generator and self.source != "autoencoder" and maker in WITH_TIMESTEP
        return self.timestep if noised else AUTOENCODER

    def timesteps_by(self, maker: str) -> list[int]:
        """Every t whose restorations the cue is made of, in order; none for cues without restorations."""
        if not self.is_restored:
            return []
        compared = [AUTOENCODER] if self.form in CUE_FORMS_WITH_AUTOENCODED else []
        return sorted({self.timestep_by(maker), *compared})
