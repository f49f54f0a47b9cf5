"""What training runs have left: detectors with their scores, generators, identity encoders.

Names are computed from settings and `done.json`: nothing loads a model to find a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artefacts.models import explained, load_baseline, load_detector, load_pipeline, snapshot_sha256
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable, read_scores
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import BaselineSettings
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import folder_sha256
from pipelines.training.run import read_done, score_path, snapshot_folder

if TYPE_CHECKING:
    from dfg.baselines.base import Baseline
    from dfg.identity import IdentityEncoder
    from dfg.pipeline import DeFakePipeline
    from oanet.detectors import Detector

PIPELINE, MODEL = "pipeline", "model"
"""Where a run folder holds its generator, and its baseline or identity encoder."""

SNAPSHOTS_SHA256 = "snapshots_sha256"
"""Where `done.json` holds the checksum of every kept detector, by its step."""


@dataclass(frozen=True)
class DetectorRun:
    """The run of one fold's detector.

    Attributes:
        folder: the run's.
    """

    folder: Path

    @property
    def is_finished(self) -> bool:
        """Whether the training has ended."""
        return (self.folder / "done.json").is_file()

    @property
    def done(self) -> dict[str, Any]:
        """What the training left.

        Raises:
            AgfasError: it has not ended, or is not what it left.
        """
        done = read_done(self.folder)
        if done is None:
            raise AgfasError(f"{self.folder} holds no finished detector. Run `agfas train` with its configuration.")
        if not isinstance(steps := done.get("snapshots"), list) or not all(type(step) is int for step in steps):
            raise _not_ours(self.folder, "the list of its snapshots")
        return done

    @property
    def steps(self) -> list[int]:
        """Steps of the kept checkpoints."""
        return list(self.done["snapshots"])

    def load(self, step: int) -> Detector:
        """The detector of one step in evaluation mode, on the CPU.

        Raises:
            AgfasError: it is missing or damaged, or is not of this run.
        """
        folder = snapshot_folder(self.folder, step)
        detector = load_detector(folder)
        known = (read_done(self.folder) or {}).get(SNAPSHOTS_SHA256)
        if known is not None and known.get(str(step)) != snapshot_sha256(folder):
            raise _not_ours(self.folder, f"the detector in {folder}")
        return detector

    def score_path(self, step: int, role: str) -> Path:
        """Where the scores of a step are stored; role is `dev` or `test`."""
        return score_path(self.folder, step, role)

    def scores(self, step: int, role: str) -> ScoreTable:
        """The score table of a step, by face.

        Raises:
            AgfasError: it is missing or damaged, or is not of this run.
        """
        return read_scores(self.folder, step, role)


def detector_run(experiment: Experiment, fold: str) -> DetectorRun:
    """The run of an experiment's detector for one fold of its protocol."""
    return DetectorRun(Workspace(experiment).detector() / fold)


def result_path(experiment: Experiment) -> Path:
    """Where the numbers of an evaluated experiment are stored."""
    return Workspace(experiment).detector() / "result.json"


def generator_done(experiment: Experiment) -> dict[str, Any]:
    """What the training of the generator or baseline left.

    Raises:
        AgfasError: it has not ended, or is not what it left.
    """
    folder = Workspace(experiment).generator()
    done = read_done(folder)
    if done is None:
        raise AgfasError(f"No finished generator at {folder}. Run `agfas train-dfg` with the same configuration.")
    if not isinstance(done.get("weights_sha256"), str):
        raise _not_ours(folder, "the checksum of weights")
    return done


def load_maker(experiment: Experiment) -> DeFakePipeline | Baseline:
    """The trained generator or baseline on the CPU.

    Raises:
        AgfasError: it is not finished, its files are damaged, or they are not of this run.
    """
    folder, done = Workspace(experiment).generator(), generator_done(experiment)
    is_baseline = isinstance(experiment.generator, BaselineSettings)
    model = folder / (MODEL if is_baseline else PIPELINE)
    maker = load_baseline(model) if is_baseline else load_pipeline(model)
    if folder_sha256(model) != done["weights_sha256"]:
        raise _not_ours(folder, f"the files of {model}")
    return maker


def load_identity(run: Path) -> IdentityEncoder:
    """The identity encoder of a finished run, on the CPU.

    Raises:
        AgfasError: its files are damaged, or are not of this run.
    """
    from dfg.identity import IdentityEncoder

    model = run / MODEL
    with explained(model, "identity encoder"):
        encoder = IdentityEncoder.from_pretrained(model, use_safetensors=True, local_files_only=True)
    if (read_done(run) or {}).get("weights_sha256") not in (None, folder_sha256(model)):
        raise _not_ours(run, f"the files of {model}")
    return encoder


def _not_ours(run: Path, what: str) -> AgfasError:
    return AgfasError(
        f"{run / 'done.json'} was not written with {what}: something was exchanged. Remove {run} and run the command"
        " that made it again."
    )
