"""Where everything of an experiment lies, each artefact under the hash of what decides it.

    ROOT/
      faces/ID/        face dataset (synthetic benchmark)
      identity/ID/     run: the identity encoder
      latents/ID/      stored latents and tokens of the live faces
      generator/ID/    run: the De-fake Face Generator, `pipeline/` in diffusers layout; or a baseline, `model/`
      cues/ID/         cue store of one source, one t, one dataset
      detectors/ID/    one experiment: a run for every fold of the protocol, scores, result.json
      plan.json        what was asked for, by label
      report/          index.html, results.csv, results.md

Two experiments that share a part share its folder, so a sweep trains one generator and restores each face once.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from oanet.names import takes_cue
from pipelines.cues.names import CONTROLS, MAKERS, WITHOUT_PICTURES, moment
from pipelines.data.protocols import CORPUS
from pipelines.data.records import read_card
from pipelines.errors import AgfasError
from pipelines.experiment.config import DatasetData, Experiment, PicturesData, SyntheticData
from pipelines.experiment.generator import (
    BaselineSettings,
    GeneratorSettings,
    PretrainedAutoencoder,
    TaesdSettings,
    TrainedIdentity,
)
from pipelines.experiment.published import content_of_weights
from pipelines.fingerprint import file_sha256, fingerprint, folder_sha256

# Raised when the meaning of a stored artefact changes, so that old ones are not taken for new ones.
SCHEMA = 1


class Workspace:
    """The folders of one experiment."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.root = experiment.root

    @property
    def faces(self) -> Path:
        """The face dataset's folder."""
        data = self.experiment.data
        if isinstance(data, SyntheticData):
            return self.root / "faces" / fingerprint(data.settings().model_dump(mode="json"))
        if isinstance(data, PicturesData):
            return self.root / "faces" / fingerprint(data.model_dump(mode="json"))
        if data.paths is not None:
            from pipelines.data.join import joined_name

            return self.root / "faces" / joined_name(data.paths)
        assert data.path is not None  # one of the two is given
        return data.path

    def makes_faces(self) -> bool:
        """Whether a run makes the face dataset; one that is named by its folder has to be there."""
        data = self.experiment.data
        return not isinstance(data, DatasetData) or data.path is None

    @property
    def size(self) -> int:
        """Side of the face crops in pixels."""
        return self.experiment.data.size

    def faces_id(self) -> str:
        """Identity of the face dataset; it must exist."""
        return str(read_card(self.faces)["fingerprint"]) + f"-{self.size}"

    def identity_key(self) -> dict[str, Any]:
        """What decides the identity encoder."""
        settings = self.experiment.identity
        key: dict[str, Any] = {"schema": SCHEMA, "identity": _result_keys(settings.model_dump(mode="json"))}
        if isinstance(settings, TrainedIdentity):
            return {**key, "faces": self.faces_id()}
        path = getattr(settings, "path", None)
        return key if path is None else {"schema": SCHEMA, "identity": _without_path(key), "sha256": _sha(path)}

    def identity(self) -> Path:
        """Run folder of the identity encoder."""
        return self.root / "identity" / fingerprint(self.identity_key())

    def generator_key(self) -> dict[str, Any]:
        """What decides the generator; a baseline has no identity to be told."""
        settings = self.experiment.generator
        if isinstance(settings, BaselineSettings):
            content = _result_keys(settings.model_dump(mode="json"))
            return {"schema": SCHEMA, "generator": content, "faces": self.faces_id()}
        return {
            "schema": SCHEMA,
            "generator": {
                **_content_of_unet(settings, _without_later(settings, _LATER_OF_GENERATOR)),
                "autoencoder": self.autoencoder_key(),
            },
            "identity": fingerprint(self.identity_key()),
            "faces": self.faces_id(),
        }

    def autoencoder_key(self) -> dict[str, Any]:
        """What decides the generator's autoencoder: weights of this machine by their content, not by their place."""
        assert isinstance(self.experiment.generator, GeneratorSettings)  # baselines have none
        settings = self.experiment.generator.autoencoder
        key: dict[str, Any] = settings.model_dump(mode="json")
        if isinstance(settings, TaesdSettings):
            return {**key, "encoder": _content_of(key["encoder"]), "decoder": _content_of(key["decoder"])}
        if isinstance(settings, PretrainedAutoencoder) and Path(settings.path).exists():
            return {"name": settings.name, "path": _content_of(settings.path, settings.subfolder)}
        return key

    def generator(self) -> Path:
        """Run folder of the generator."""
        return self.root / "generator" / fingerprint(self.generator_key())

    def has_generator(self) -> bool:
        """Whether the generator is finished; the faces must exist."""
        return (self.generator() / "done.json").is_file()

    def generator_state(self) -> str:
        """How far the generator is, in words; the faces must exist."""
        return f"generator {'trained' if self.has_generator() else 'not trained'}: {self.generator()}"

    def latents(self) -> Path:
        """Folder of the stored latents and tokens."""
        return self.root / "latents"

    def cues(self) -> Path:
        """Folder of all cue stores."""
        return self.root / "cues"

    def detector_key(self) -> dict[str, Any]:
        """What decides the detectors; keys that cannot matter are left out, so that equal work is done once."""
        experiment = self.experiment
        always = {
            "schema": SCHEMA,
            "faces": self.faces_id(),
            "detector": content_of_weights(experiment.detector.model_dump(mode="json")),
            "protocol": _without_later(experiment.protocol, _LATER_OF_PROTOCOL),
        }
        if experiment.train.steps == 0:
            return {**always, "train": {"steps": 0}}
        return {
            **always,
            "cue": self._cue_key(),
            "objective": experiment.objective.model_dump(mode="json"),
            "train": self._train_key(),
            "seed": experiment.seed,
        }

    def _train_key(self) -> dict[str, Any]:
        train = self.experiment.train
        key: dict[str, Any] = _without_later(train, _LATER_OF_TRAIN)
        for name in ("depth_maps", "reflection_maps"):
            if key.get(name) is not None:
                key[name] = _maps_sha(Path(key[name]), f"train.{name}")
        if train.extra_live is not None and train.extra_live.dataset != CORPUS:
            card = read_card(Path(train.extra_live.dataset))
            key["extra_live"] = {**key["extra_live"], "dataset": str(card["fingerprint"])}
        return key

    def detector(self) -> Path:
        """Folder of this experiment's detectors."""
        return self.root / "detectors" / fingerprint(self.detector_key())

    def needs_cue(self) -> bool:
        """Whether the detector looks at a cue at all."""
        detector = self.experiment.detector
        return takes_cue(detector.name, detector.options())

    def needs_restoration(self) -> bool:
        """Whether that cue is made from restored faces."""
        return self.needs_cue() and self.experiment.cue.source not in WITHOUT_PICTURES

    def is_control(self) -> bool:
        """Whether the detector's cue carries nothing that a generator learnt from live faces."""
        return self.needs_cue() and self.experiment.cue.source in CONTROLS

    def timestep(self) -> int:
        """The t of the restorations; 0 for the autoencoder alone and for a generator that adds no noise."""
        cue = self.experiment.cue
        return moment(cue.source, self.experiment.generator.name, cue.timestep)

    def _cue_key(self) -> dict[str, Any] | None:
        if not self.needs_cue():
            return None
        cue = self.experiment.cue
        form: dict[str, Any] = {
            # The generator's own key tells whether it has an identity.
            "source": MAKERS.get(cue.source, cue.source),
            "form": cue.form,
            "normalize": cue.normalize,
            "seed": cue.seed,
            **({} if cue.mask == "none" else {"mask": cue.mask}),
        }
        if not self.needs_restoration():
            return form
        generator = {**form, "generator": fingerprint(self.generator_key())}
        if cue.source == "autoencoder":
            return {**generator, **({"channels_last": True} if cue.channels_last else {})}
        if not self.timestep():
            return generator
        return {**generator, "timestep": cue.timestep, **self._sampling_key()}

    def _sampling_key(self) -> dict[str, Any]:
        cue = self.experiment.cue
        if self.experiment.generator.name != "dfg":
            return {"samples": cue.samples, "calls": cue.calls} if self.timestep() else {}
        later = {name: getattr(cue, name) for name in _LATER_OF_CUE if not _is_default(cue, name)}
        return {"num_inference_steps": cue.num_inference_steps, "samples": cue.samples, **later}

    def restoration(self) -> str:
        """Names what experiments must share, beside the faces, to restore their different t in one pass."""
        cue = self.experiment.cue
        shared = {"seed": cue.seed, "batch_size": cue.batch_size, **self._sampling_key()}
        return fingerprint({"generator": self.generator_key(), **shared})


# They change when a run's lines and checkpoints are written, or where it is watched, never what it ends with.
_BYSTANDERS = ("checkpoint_every", "log_every", "trackers", "gradient_checkpointing")

# Settings that came when artefacts had names already: at their default they leave the names as they were.
_LATER_OF_GENERATOR = (
    "name",
    "unet_subfolder",
    "train",
    "prediction",
    "min_snr_gamma",
    "condition_dropout",
    "tokens",
    "share",
    "attention",
)
_LATER_OF_CUE = (
    "scheduler",
    "calls",
    "guidance_scale",
    "dtype",
    "channels_last",
    "compile",
    "attention",
    "autoencoder_dtype",
)

_LATER_OF_PROTOCOL = ("train_splits", "test_splits")

_LATER_OF_TRAIN = ("plateau", "early_stopping", "look_every", "extra_live", "depth_maps", "reflection_maps")


def _result_keys(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _result_keys(value) for key, value in settings.items() if key not in _BYSTANDERS}
    return settings


def _without_later(settings: BaseModel, later: tuple[str, ...]) -> Any:
    """The settings that decide a result, as JSON, without later ones that are at their default."""
    content = _result_keys(settings.model_dump(mode="json"))
    return {name: value for name, value in content.items() if name not in later or not _is_default(settings, name)}


def _is_default(settings: BaseModel, name: str) -> bool:
    return bool(getattr(settings, name) == type(settings).model_fields[name].default)


def _without_path(key: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in key["identity"].items() if name != "path"}


def _content_of_unet(settings: GeneratorSettings, key: dict[str, Any]) -> dict[str, Any]:
    if settings.unet_weights is None or not Path(settings.unet_weights).exists():
        return key
    content = {name: value for name, value in key.items() if name != "unet_subfolder"}
    return {**content, "unet_weights": _content_of(settings.unet_weights, settings.unet_subfolder)}


def _content_of(place: str, subfolder: str | None = None) -> str:
    """The hash of weights on this machine; what is not there is a hub id, or will be missed when it is loaded."""
    path = Path(place) / subfolder if subfolder else Path(place)
    return f"sha256:{_weights_sha(path, _WEIGHTS)}" if path.exists() else place


# What diffusers and taesd's authors write, and what recognition packs consist of; other files of a folder are left out.
_WEIGHTS = (".safetensors", ".bin", ".pth", ".json")
_PACK = (".safetensors", ".json", ".onnx")


def _sha(path: Path) -> str:
    if not path.exists():
        raise AgfasError(f"No identity weights at {path}. Set identity.path to a backbone.pth or an ONNX file.")
    return _weights_sha(path, _PACK)


def _weights_sha(path: Path, suffixes: tuple[str, ...]) -> str:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in suffixes)
    stamps = [(file.as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _hash_once(path, suffixes, tuple(stamps))


@lru_cache(maxsize=16)
def _hash_once(path: Path, suffixes: tuple[str, ...], stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Once in a process for files that stay as they are: a U-Net's 3.4 GB take seconds, and many keys hold it."""
    return folder_sha256(path, suffixes) if path.is_dir() else file_sha256(path)


@lru_cache(maxsize=16)
def _maps_sha(folder: Path, field: str) -> str:
    if not folder.is_dir():
        raise AgfasError(f"{field} = {folder} is no folder. Give the folder that holds the maps, or leave it out.")
    return folder_sha256(folder, (".png", ".npz"))
