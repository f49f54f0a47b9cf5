"""Where the artefacts of an experiment are stored, each under the hash of everything that decides it.

    ROOT/
      faces/ID/        face dataset (synthetic benchmark)
      identity/ID/     run: the identity encoder
      latents/ID/      stored latents and tokens of the live faces
      generator/ID/    run: the De-fake Face Generator, `pipeline/` in diffusers layout; or a baseline, `model/`
      tiny_autoencoder/ID/  run: a small autoencoder for `cue.autoencoder: trained`, `model/`
      cues/ID/         cue store of one source, one t, one dataset
      detectors/ID/    one experiment: a run for every fold of the protocol, scores, result.json
      plan.json        the experiments of this folder, by label
      profile.json     the arithmetic of this folder, see `pipelines.experiment.profile`
      report/          index.html, results.csv, results.md

Experiments that share a part share its folder: a sweep trains one generator and restores each face once. Which
settings enter a hash is marked at the fields, see `pipelines.settings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oanet.names import takes_cue
from oanet.published import CROP, sight
from pipelines.cues.identity import cue_restoration, input_identity
from pipelines.cues.settings import CONTROLS, OWN, TRAINED, CueSettings
from pipelines.data.protocol_settings import CORPUS
from pipelines.data.records import read_card
from pipelines.experiment.config import DatasetData, Experiment, SyntheticData
from pipelines.experiment.generator import GeneratorSettings, OneCallSettings, TrainedIdentity
from pipelines.experiment.published import content_of_weights
from pipelines.fingerprint import fingerprint
from pipelines.settings import decisive

# Raise it when the meaning of a stored artefact changes, so that old ones are not used as new ones.
SCHEMA = 2


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
        if data.paths is not None:
            from pipelines.data.join import joined_name

            return self.root / "faces" / joined_name(data.paths)
        assert data.path is not None  # the settings require one of the two
        return data.path

    def makes_faces(self) -> bool:
        """Whether a run makes the face dataset; one that is given by its folder must exist."""
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
        trained_on = {"faces": self.faces_id()} if isinstance(settings, TrainedIdentity) else {}
        return {"schema": SCHEMA, "identity": decisive(settings, "identity"), **trained_on}

    def identity(self) -> Path:
        """Run folder of the identity encoder."""
        return self.root / "identity" / fingerprint(self.identity_key())

    def generator_key(self) -> dict[str, Any]:
        """What decides the generator; baselines are not conditioned on an identity, but a student's teacher is."""
        settings = self.experiment.generator
        if isinstance(settings, OneCallSettings):
            teacher = fingerprint(Workspace(teacher_of(self.experiment)).generator_key())
            own = {**decisive(settings, "generator"), "teacher": teacher}
            return {"schema": SCHEMA, "generator": own, "faces": self.faces_id()}
        conditioned = {"identity": fingerprint(self.identity_key())} if isinstance(settings, GeneratorSettings) else {}
        return {"schema": SCHEMA, "generator": decisive(settings, "generator"), "faces": self.faces_id(), **conditioned}

    def latents_key(self) -> dict[str, Any]:
        """What decides the stored latents and identity tokens."""
        settings = self.experiment.generator
        assert isinstance(settings, GeneratorSettings)  # baselines are trained on pixels
        return {
            "schema": SCHEMA,
            "autoencoder": decisive(settings.autoencoder, "generator.autoencoder"),
            "identity": fingerprint(self.identity_key()),
            "faces": self.faces_id(),
            "domains": settings.domains,
        }

    def generator(self) -> Path:
        """Run folder of the generator."""
        return self.root / "generator" / fingerprint(self.generator_key())

    def has_generator(self) -> bool:
        """Whether the generator is finished; the faces must exist."""
        return (self.generator() / "done.json").is_file()

    def has_tiny_autoencoder(self) -> bool:
        """Whether the small autoencoder is finished; the faces must exist."""
        return (self.tiny_autoencoder() / "done.json").is_file()

    def has_makers(self) -> bool:
        """Whether all that makes cues is finished: the generator, and the small autoencoder if the cue takes it."""
        return self.has_generator() and (not self.needs_tiny_autoencoder() or self.has_tiny_autoencoder())

    def generator_state(self) -> str:
        """How far the generator is, in words; the faces must exist."""
        state = f"generator {'trained' if self.has_generator() else 'not trained'}: {self.generator()}"
        if not self.needs_tiny_autoencoder():
            return state
        small = "trained" if self.has_tiny_autoencoder() else "not trained"
        return f"{state}; tiny autoencoder {small}: {self.tiny_autoencoder()}"

    def latents(self) -> Path:
        """Folder of the stored latents and tokens."""
        return self.root / "latents"

    def tiny_autoencoder_key(self) -> dict[str, Any]:
        """What decides the small autoencoder; generators of one autoencoder share it."""
        settings = self.experiment.generator
        assert isinstance(settings, GeneratorSettings)  # baselines have no autoencoder beside them
        return {
            "schema": SCHEMA,
            "tiny_autoencoder": decisive(self.experiment.tiny_autoencoder, "tiny_autoencoder"),
            "autoencoder": decisive(settings.autoencoder, "generator.autoencoder"),
            "faces": self.faces_id(),
            "domains": settings.domains,
        }

    def tiny_autoencoder(self) -> Path:
        """Run folder of the small autoencoder."""
        return self.root / "tiny_autoencoder" / fingerprint(self.tiny_autoencoder_key())

    def needs_tiny_autoencoder(self) -> bool:
        """Whether the restorations are encoded and decoded by a small autoencoder of this program."""
        return self.experiment.cue.needs_generator and self.experiment.cue.autoencoder == TRAINED

    def _cue_autoencoder(self) -> str:
        """Names what takes the place of the generator's autoencoder, before it is made or fetched; or empty."""
        cue = self.experiment.cue
        if not cue.needs_generator or cue.autoencoder == OWN:
            return ""
        if cue.autoencoder == TRAINED:
            return fingerprint(self.tiny_autoencoder_key())
        return str(decisive(cue, "cue")["autoencoder"])

    def cues(self) -> Path:
        """Folder of all cue stores."""
        return self.root / "cues"

    def detector_key(self) -> dict[str, Any]:
        """What decides the detectors. Keys without effect are omitted, so that equal work is done once."""
        experiment = self.experiment
        always = {
            "schema": SCHEMA,
            "faces": self.faces_id(),
            "detector": content_of_weights(experiment.detector.model_dump(mode="json")),
            "protocol": decisive(experiment.protocol, "protocol"),
        }
        if experiment.train.steps == 0:
            # Scores of the crop, which such detectors once were given, are not theirs.
            sees = sight(experiment.detector.name, experiment.detector.options())
            return {**always, "train": {"steps": 0}, **({"sees": sees} if sees != CROP else {})}
        return {
            **always,
            "cue": self._cue_key(),
            "objective": experiment.objective.model_dump(mode="json"),
            "train": self._train_key(),
            "seed": experiment.seed,
        }

    def _cue_key(self) -> dict[str, Any] | None:
        if not self.needs_cue():
            return None
        cue, maker = self.experiment.cue, self.experiment.generator.name
        generator = fingerprint(self.generator_key()) if cue.needs_generator else ""
        return input_identity(cue, maker, generator, self._cue_autoencoder())

    def _train_key(self) -> dict[str, Any]:
        train = self.experiment.train
        key = decisive(train, "train")
        if train.extra_live is not None and train.extra_live.dataset != CORPUS:
            card = read_card(Path(train.extra_live.dataset))
            key["extra_live"]["dataset"] = str(card["fingerprint"])
        return key

    def detector(self) -> Path:
        """Folder of this experiment's detectors."""
        return self.root / "detectors" / fingerprint(self.detector_key())

    def needs_cue(self) -> bool:
        """Whether the detector takes a cue."""
        detector = self.experiment.detector
        return takes_cue(detector.name, detector.options())

    def needs_restoration(self) -> bool:
        """Whether that cue is made from restored faces."""
        return self.needs_cue() and self.experiment.cue.is_restored

    def is_control(self) -> bool:
        """Whether the detector's cue carries nothing that a generator learnt from live faces."""
        return self.needs_cue() and self.experiment.cue.source in CONTROLS

    def needs_generator(self) -> bool:
        """Whether those restorations are made by the generator or baseline of the experiment."""
        return self.needs_cue() and self.experiment.cue.needs_generator

    def timestep(self) -> int:
        """The t of the restorations; 0 for the autoencoder alone and for a generator that adds no noise."""
        return self.experiment.cue.timestep_by(self.experiment.generator.name)

    def restoration(self) -> str:
        """Name of what experiments must share, beside the faces, so that one pass restores their different t."""
        cue, maker = self.experiment.cue, self.experiment.generator.name
        weights = fingerprint(self.generator_key()) if cue.needs_generator else ""
        shared = cue_restoration(cue, maker, weights, cue.timestep, self._cue_autoencoder())
        return fingerprint({**shared, "timestep": "any", "batch_size": cue.batch_size})


def teacher_of(experiment: Experiment) -> Experiment:
    """The experiment whose generator is the teacher of a student, and whose cues are what the student learns.

    Its settings of faces and identity are the student's, so that it is the same as that of an experiment which names
    this generator itself.
    """
    student = experiment.generator
    assert isinstance(student, OneCallSettings)
    cue = CueSettings(**student.restoration.model_dump(), batch_size=experiment.cue.batch_size)
    return experiment.model_copy(update={"generator": student.teacher, "cue": cue})
