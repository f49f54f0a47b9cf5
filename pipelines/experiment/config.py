"""One typed experiment: a YAML file, validated, with dotted overrides.

The settings of a room are defined in that room; a field's description states what changing it does. Unknown keys are
refused with the nearest valid name. Imports no torch: reading a configuration takes a fraction of a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from oanet.names import CUE_FORMS_WITH_AUTOENCODED, DETECTORS, OBJECTIVES, check_objective, takes_cue
from pipelines.cues.settings import (
    MAKERS,
    TRAINED,
    WITHOUT_PICTURES,
    AncestralSettings,
    CueSettings,
    RestorationSettings,
)
from pipelines.data.protocol_settings import LeaveOneOut, ProtocolSettings
from pipelines.evaluation.settings import PUBLISHED_RULE, EvaluateSettings
from pipelines.experiment.generator import (
    AnoddpmSettings,
    GeneratorSettings,
    IdentitySettings,
    MakerSettings,
    PatchSettings,
    TinyAutoencoderSettings,
    TrainedIdentity,
)
from pipelines.experiment.published import check_published
from pipelines.experiment.sizes import check_side
from pipelines.settings import Bystander, Strict, named
from pipelines.synthetic.settings import SyntheticSettings
from pipelines.training.settings import TrainSettings


class SyntheticData(SyntheticSettings):
    """The built-in benchmark, rendered on first use."""

    name: Literal["synthetic"] = "synthetic"

    def settings(self) -> SyntheticSettings:
        """The settings that the benchmark itself takes, without `name`."""
        return SyntheticSettings(**self.model_dump(exclude={"name"}))


class DatasetData(Strict):
    """Face datasets on disk, as `agfas synth` or `agfas prepare` wrote them: one by `path`, or several by `paths`."""

    name: Literal["dataset"]
    path: Path | None = Field(None, description="Folder of the Hugging Face dataset.")
    paths: list[Path] | None = Field(
        None, min_length=2, description="Folders of several datasets with different domains, which are joined."
    )
    size: int = Field(
        64, ge=16, le=2048, description="Side of the square crop in pixels; other sizes are resized to it."
    )
    allow_leaks: Annotated[bool, Bystander()] = Field(
        False, description="Accept datasets of which something is in two splits, so that test videos are learnt from."
    )

    @property
    def title(self) -> str:
        """The folders' names, for people."""
        folders = self.paths or [path for path in (self.path,) if path is not None]
        return " and ".join(folder.name for folder in folders)

    @model_validator(mode="after")
    def _one_of_both(self) -> DatasetData:
        if (self.path is None) == (self.paths is None):
            raise ValueError(
                "give either path (one folder) or paths (a list of at least two); to replace the path of a"
                " configuration, give data.path=null and data.paths=[ONE,OTHER]"
            )
        return self


DataSettings = Annotated[SyntheticData | DatasetData, Field(discriminator="name"), named("synthetic")]


# Settings of the cue that a baseline accepts: those that it reads, and the sampler's grid, which it ignores.
_FREE = {*AncestralSettings.model_fields, "num_inference_steps"}


class DetectorSettings(BaseModel):
    """A detector by name; every other key is an argument of its constructor."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(
        "oanet", description="A registered detector, or `module:Class`.", examples=list(DETECTORS.builtin)
    )

    @model_validator(mode="after")
    def _known_name(self) -> DetectorSettings:
        DETECTORS.check(self.name, [option for option in self.options() if option != "preset"])
        takes_cue(self.name, self.options())
        return self

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self.model_extra or {})


class ObjectiveSettings(BaseModel):
    """An objective by name; every other key is an argument of its constructor."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(
        "ssdg", description="A registered objective, or `module:Class`.", examples=list(OBJECTIVES.builtin)
    )

    @model_validator(mode="after")
    def _known_name(self) -> ObjectiveSettings:
        check_objective(self.name, self.options())
        return self

    @property
    def title(self) -> str:
        """The name, and that of the objective beside which it goes, for people."""
        base = self.options().get("base")
        return f"{self.name} beside {base.get('name', 'erm')}" if isinstance(base, dict) else self.name

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self.model_extra or {})


class Variant(Strict):
    """One row of a study: a label and the overrides that make it."""

    label: str = Field(description="Its name in tables.")
    set: dict[str, Any] = Field({}, description="Overrides by dotted key; a key without a dot replaces its block.")


class SweepSettings(Strict):
    """A grid of experiments: every variant under every combination of the axes' values."""

    axes: dict[str, list[Any]] = Field({}, description="The values that a dotted key takes in turn, such as `seed`.")
    variants: list[Variant] = Field([Variant(label="base")], description="The rows.")


class Experiment(Strict):
    """Everything that decides a result."""

    name: str = Field(
        "experiment", pattern=r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", description="Names the run's folder and the report."
    )
    output: Path | None = Field(None, description="Output folder; default: runs/NAME.")
    profile: Literal["auto", "exact", "gpu"] = Field(
        "auto",
        description="`exact` computes as the settings say, in float32 by default. `gpu` fills in what they leave open:"
        " TF32 and fused AdamW in training; TF32, a compiled bfloat16 U-Net and channels-last in the cue job. `auto` is"
        " `gpu` on an NVIDIA GPU from Ampere on; the output folder keeps the choice.",
    )
    seed: int = Field(0, ge=0, description="Seed of the detector's initial weights and of its training batches.")
    data: DataSettings = Field(SyntheticData(), description="The faces.")
    identity: IdentitySettings = Field(TrainedIdentity(), description="What tells the generator whose face it is.")
    generator: MakerSettings = Field(GeneratorSettings(), description="What restores faces, and how it is trained.")
    tiny_autoencoder: TinyAutoencoderSettings = Field(
        TinyAutoencoderSettings(), description="A small autoencoder in place of the generator's own."
    )
    cue: CueSettings = Field(CueSettings(), description="What the detector sees beside the face.")
    detector: DetectorSettings = Field(DetectorSettings(), description="The network that judges.")
    objective: ObjectiveSettings = Field(ObjectiveSettings(), description="The loss that it is trained with.")
    train: TrainSettings = Field(TrainSettings(), description="The detector's training; defaults are the paper's.")
    protocol: Annotated[ProtocolSettings, named("leave_one_out")] = Field(
        LeaveOneOut(), description="Which domains are trained on and which are tested."
    )
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="How scores become numbers.")
    sweep: SweepSettings | None = Field(None, description="A grid of experiments, for `agfas sweep`.")

    @model_validator(mode="after")
    def _cue_of_its_maker(self) -> Experiment:
        source, maker = self.cue.source, self.generator.name
        if source in MAKERS and MAKERS[source] != maker:
            raise ValueError(
                f"cue.source = {source} needs generator.name = {MAKERS[source]}, not {maker}: give both, for example"
                f" generator: {{name: {MAKERS[source]}}}; a sweep's variant replaces the whole block"
            )
        if source == "dfg_no_identity" and self.identity.name != "none":
            raise ValueError(
                f"cue.source = dfg_no_identity needs identity: {{name: none}}, not {self.identity.name}: the generator"
                " is trained under a zero condition"
            )
        if maker != "dfg" and not self.cue.is_custom:
            self._check_baseline_cue()
        if self.cue.is_custom and self.cue.form in CUE_FORMS_WITH_AUTOENCODED:
            raise ValueError(
                f"cue.form = {self.cue.form} needs an autoencoder's reconstruction, which {source} does not have: use"
                " residual"
            )
        return self

    @model_validator(mode="after")
    def _halved(self) -> Experiment:
        own = getattr(self.generator, "autoencoder", None)
        if self.cue.autoencoder == TRAINED and isinstance(own, PatchSettings) and own.patch_size.bit_count() != 1:
            raise ValueError(
                "cue.autoencoder = trained halves the sides again and again: it needs a"
                f" generator.autoencoder.patch_size of 1, 2, 4, 8, ..., not {own.patch_size}"
            )
        return self

    @model_validator(mode="after")
    def _trained_or_published(self) -> Experiment:
        options = self.detector.options()
        check_published(self.detector.name, options.get("weights"), options.get("sees"), self.train.steps)
        if self.evaluate.threshold == PUBLISHED_RULE and self.train.steps:
            raise ValueError("evaluate.threshold = published is of published weights as they are: set train.steps: 0")
        return self

    @model_validator(mode="after")
    def _faces_of_the_generator(self) -> Experiment:
        if takes_cue(self.detector.name, self.detector.options()) and self.cue.needs_generator:
            check_side(self.data.size, self.generator)
        return self

    def _check_baseline_cue(self) -> None:
        """Refuse options that change the cue of the generator only; a baseline ignores no such option silently."""
        cue, maker = self.cue, self.generator
        if cue.source == "autoencoder":
            raise ValueError(f"cue.source = autoencoder is the t = 0 of generator.name = dfg; {maker.name} has none")
        if cue.form in CUE_FORMS_WITH_AUTOENCODED and cue.source not in WITHOUT_PICTURES:
            raise ValueError(
                f"cue.form = {cue.form} needs an autoencoder's reconstruction, which {maker.name} does not have: use"
                " residual"
            )
        for option, field in RestorationSettings.model_fields.items():
            if option not in _FREE and getattr(cue, option) != field.default:
                raise ValueError(f"cue.{option} is an option of generator.name = dfg; leave it out for {maker.name}")
        if isinstance(maker, AnoddpmSettings) and cue.source not in WITHOUT_PICTURES:
            _check_ancestral(cue, maker)

    @property
    def root(self) -> Path:
        """The output folder of this experiment."""
        return self.output or Path("runs") / self.name


def _check_ancestral(cue: CueSettings, maker: AnoddpmSettings) -> None:
    if cue.timestep > maker.train_timesteps:
        raise ValueError(
            f"cue.timestep = {cue.timestep} exceeds generator.train_timesteps = {maker.train_timesteps}: anoddpm"
            " was not trained on so much noise"
        )
