"""Opens what stages have made: faces, generators, cue stores, detectors and their scores.

Everything that reads an output folder reads it through this module, so that a path or a file name is known here
alone. Names are computed from settings and `done.json`: no function loads a model to find a folder, and torch is
imported where a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.cues.identity import cue_restoration, store_identity
from pipelines.cues.settings import AUTOENCODER
from pipelines.data.frames import used_frames
from pipelines.data.protocols import protocol_folds
from pipelines.errors import AgfasError
from pipelines.evaluation.scores import ScoreTable, read_scores
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import BaselineSettings
from pipelines.experiment.profile import remember_profile
from pipelines.experiment.workspace import Workspace
from pipelines.fingerprint import file_sha256, fingerprint, folder_sha256
from pipelines.training.run import read_done, score_path, snapshot_folder

if TYPE_CHECKING:
    from dfg.baselines.base import Baseline
    from dfg.identity import IdentityEncoder
    from dfg.pipeline import DeFakePipeline
    from oanet.detectors import Detector
    from pipelines.cues.reader import CueReader
    from pipelines.cues.sources import CueSweep
    from pipelines.cues.store import CueStore
    from pipelines.data.faces import Faces
    from pipelines.sums import CheckedRows

Columns = Mapping[str, Sequence[Any] | np.ndarray]
"""Metadata of a face dataset by column name, one value per face."""

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


def load_detector(folder: Path) -> Detector:
    """A saved detector in evaluation mode, on the CPU.

    Raises:
        AgfasError: it is missing or damaged.
    """
    from oanet.detectors import load_detector as load

    with _explained(folder, "detector"):
        return load(folder).eval()


def snapshot_sha256(folder: Path) -> str:
    """The checksum of a saved detector: of its config, which holds that of its weights."""
    return file_sha256(folder / "config.json")


@contextmanager
def _explained(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # values of a foreign config reach libraries, which raise errors of any kind
        found = " ".join(str(error).split())[:400]
        named = found if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {found}"
        raise AgfasError(f"The {what} at {folder} cannot be loaded: {named}") from error


def _not_ours(run: Path, what: str) -> AgfasError:
    return AgfasError(
        f"{run / 'done.json'} was not written with {what}: something was exchanged. Remove {run} and run the command"
        " that made it again."
    )


def make_faces(experiment: Experiment) -> Faces:
    """The experiment's faces; drawn faces, joined datasets and pixels are made on first use, by all processes."""
    from pipelines.data.join import join_faces
    from pipelines.data.leaks import check_recorded
    from pipelines.experiment.config import DatasetData, SyntheticData

    remember_profile(experiment)
    data, folder = experiment.data, Workspace(experiment).faces
    if isinstance(data, DatasetData) and not data.allow_leaks:
        for given in data.paths or [folder]:
            check_recorded(given)
    if isinstance(data, DatasetData) and data.paths is not None:
        join_faces(data.paths, folder)
    if isinstance(data, SyntheticData):
        from pipelines.synthetic.benchmark import build

        build(data.settings(), folder)
    return open_faces(experiment)


def open_faces(experiment: Experiment) -> Faces:
    """The experiment's faces, which a stage has made before."""
    from pipelines.data.faces import open_faces as open_dataset

    workspace = Workspace(experiment)
    return open_dataset(workspace.faces, workspace.size)


def face_columns(experiment: Experiment) -> dict[str, np.ndarray]:
    """The metadata of the experiment's faces, without opening a picture."""
    from pipelines.data.records import COLUMNS, FRAME_RULE, read_columns

    names = [name for name in COLUMNS if name != "image"]
    return read_columns(Workspace(experiment).faces, names, optional=[FRAME_RULE])


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
    with _explained(model, "identity encoder"):
        encoder = IdentityEncoder.from_pretrained(model, use_safetensors=True, local_files_only=True)
    if (read_done(run) or {}).get("weights_sha256") not in (None, folder_sha256(model)):
        raise _not_ours(run, f"the files of {model}")
    return encoder


def on_device(maker: DeFakePipeline | Baseline) -> DeFakePipeline | Baseline:
    """The generator or baseline, moved to this process's device."""
    from torch import nn

    from pipelines.processes import device

    # nn.Module's own: diffusers' decorators hide the signature of theirs from type checkers.
    return nn.Module.to(maker, device()) if isinstance(maker, nn.Module) else maker.to(device())


def load_pipeline(folder: Path) -> DeFakePipeline:
    """A saved generator.

    Raises:
        AgfasError: its files are missing or damaged.
    """
    from diffusers.utils.logging import disable_progress_bar

    from dfg.pipeline import DeFakePipeline

    disable_progress_bar()  # diffusers' own, over four small files
    with _explained(folder, "generator"):
        return DeFakePipeline.from_pretrained(folder, local_files_only=True)


def load_baseline(folder: Path) -> Baseline:
    """A saved baseline.

    Raises:
        AgfasError: its files are missing or damaged.
    """
    from dfg.baselines import load_baseline as load

    with _explained(folder, "model"):
        return load(folder)


def autoencoder_sha256(pipeline: Path) -> str:
    """The hash of a saved generator's autoencoder alone, which names the stores of t = 0."""
    return folder_sha256(pipeline / "autoencoder")


def open_sweep(experiment: Experiment, timesteps: Sequence[int]) -> CueSweep:
    """The trained generator or baseline as a source of several t at once, on this process's device."""
    from pipelines.cues.custom import open_source
    from pipelines.cues.sources import as_sweep, sweep_of

    if experiment.cue.is_custom:
        return as_sweep(open_source(experiment.cue))
    done = generator_done(experiment)
    maker = on_device(load_maker(experiment))
    return sweep_of(experiment.cue, maker, timesteps, done["weights_sha256"], done.get("autoencoder_sha256", ""))


def judged_rows(experiment: Experiment, columns: Columns) -> np.ndarray:
    """(N,) bool, whether a face is of the protocol's domains and frames: those that detectors see."""
    folds = protocol_folds(experiment.protocol, columns)
    domains = {name for fold in folds for name in (*fold.train_domains, *fold.dev_domains, *fold.test_domains)}
    frames = [used_frames(columns, experiment.protocol.frames, part) for part in ("train", "test")]
    return np.isin(np.asarray(columns["domain"]), sorted(domains)) & np.any(frames, axis=0)


def dataset_id(experiment: Experiment, keys: Sequence[str]) -> str:
    """Names some faces of the experiment's dataset at its size."""
    return f"{Workspace(experiment).faces_id()}:{fingerprint(sorted(map(str, keys)))}"


def store_folders(
    experiment: Experiment, columns: Columns, timesteps: Sequence[int], all_faces: bool = False
) -> dict[int, Path]:
    """The cue stores of the trained generator by t, finished or not.

    Args:
        experiment: its generator must be trained.
        columns: of its faces.
        timesteps: 0 is the autoencoder alone.
        all_faces: the stores of every face; otherwise those of the protocol's faces, in whose place a finished store
            of every face serves as well.

    Raises:
        AgfasError: the generator is not trained, or the protocol does not fit the dataset.
    """
    keys = np.asarray(columns["key"])
    over_all = _store_folders(experiment, keys.tolist(), timesteps)
    if all_faces:
        return over_all
    own = _store_folders(experiment, keys[judged_rows(experiment, columns)].tolist(), timesteps)
    return {t: over_all[t] if is_whole(over_all[t]) and not is_whole(own[t]) else own[t] for t in timesteps}


def _store_folders(experiment: Experiment, keys: list[str], timesteps: Sequence[int]) -> dict[int, Path]:
    workspace, cue = Workspace(experiment), experiment.cue
    done = {} if cue.is_custom else generator_done(experiment)
    maker, dataset, size = experiment.generator.name, dataset_id(experiment, keys), (workspace.size, workspace.size)
    folders = {}
    for timestep in timesteps:
        is_autoencoder = maker == "dfg" and timestep == AUTOENCODER
        weights = done.get("autoencoder_sha256" if is_autoencoder else "weights_sha256", "")
        restoration = cue_restoration(cue, maker, weights, timestep)
        folders[timestep] = workspace.cues() / fingerprint(store_identity(restoration, dataset, size))
    return folders


def is_whole(folder: Path) -> bool:
    """Whether a cue store exists and lacks nothing."""
    from pipelines.cues.description import STORE_NAME
    from pipelines.cues.shards import ShardStore
    from pipelines.sums import Damaged

    try:
        # A process that was killed may have left the folder without its last file.
        return (folder / STORE_NAME).is_file() and not ShardStore.open(folder).unfinished()
    except Damaged:  # its keys: the cue job writes them again
        return False


def cue_stores(experiment: Experiment, columns: Columns, timesteps: Sequence[int]) -> dict[int, CueStore]:
    """The finished stores by t.

    Raises:
        AgfasError: one is missing or unfinished.
    """
    from pipelines.cues.store import CueStore

    folders = store_folders(experiment, columns, timesteps)
    for timestep, folder in folders.items():
        if not is_whole(folder):
            raise AgfasError(
                f"The cues of t = {timestep} are not finished. Run `agfas cues` with the same configuration."
            )
    return {timestep: CueStore.open(folder) for timestep, folder in folders.items()}


def cue_reader(experiment: Experiment, faces: Faces) -> CueReader | None:
    """What makes the experiment's cues, or None if its detector takes none.

    Raises:
        AgfasError: cues or masks are missing.
    """
    from pipelines.cues.reader import CueReader

    workspace = Workspace(experiment)
    if not workspace.needs_cue():
        return None
    cue, columns, keys = experiment.cue, faces.columns(), [str(key) for key in faces.keys]
    wanted, judged = cue.timesteps_by(experiment.generator.name), judged_rows(experiment, columns)
    stores = cue_stores(experiment, columns, wanted) if wanted else {}
    stored = {t: store.join(keys, judged) for t, store in stores.items()}
    return CueReader(
        cue.source,
        keys,
        [f"{domain}/{video}" for domain, video in zip(faces.domains, faces.videos, strict=True)],
        faces.images,
        stored[workspace.timestep()] if stored else None,
        stored.get(AUTOENCODER) if len(wanted) > 1 else None,
        form=cue.form,
        normalize=cue.normalize,
        seed=cue.seed,
        groups=[f"{domain}/{split}" for domain, split in zip(faces.domains, faces.splits, strict=True)],
        masks=_masks(experiment, faces),
    )


def _masks(experiment: Experiment, faces: Faces) -> np.ndarray | CheckedRows | None:
    if experiment.cue.mask == "none":
        return None
    if faces.masks is None:
        raise AgfasError(
            f"cue.mask = face needs the faces' masks, which {faces.folder} does not have. Prepare the dataset with"
            " `agfas prepare ... --parsing-weights FILE`, or set cue.mask = none."
        )
    return faces.masks
