"""The autoencoder of the cues: the generator's own, or a small one that takes its place (`cue.autoencoder`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.artefacts.models import explained
from pipelines.artefacts.runs import MODEL, generator_done, load_maker
from pipelines.cues.settings import OWN, TRAINED
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.fingerprint import file_sha256, fingerprint, folder_sha256
from pipelines.hub import ANYHOW, fetch, repository
from pipelines.training.run import read_done

if TYPE_CHECKING:
    from dfg.baselines.base import Baseline
    from dfg.pipeline import DeFakePipeline

FILES = ("config.json", "diffusion_pytorch_model.safetensors")
"""Of an autoencoder in diffusers' layout."""


def autoencoder_of_cue(experiment: Experiment, done: dict[str, Any] | None = None) -> str:
    """The hash of what encodes and decodes the cues of a generator; empty for baselines and custom sources.

    Args:
        experiment: what makes its cues must be trained.
        done: of `generator_done`, if it is known.

    Raises:
        AgfasError: it is not trained, or the hub does not give it.
    """
    cue = experiment.cue
    if cue.autoencoder == OWN or not cue.needs_generator:
        known = (generator_done(experiment) if done is None else done) if not cue.is_custom else {}
        return str(known.get("autoencoder_sha256", ""))
    if cue.autoencoder == TRAINED:
        return str(tiny_autoencoder_done(experiment)["weights_sha256"])
    place = _place(cue.autoencoder)
    return fingerprint([[name, file_sha256(place / name)] for name in FILES])


def tiny_autoencoder_done(experiment: Experiment) -> dict[str, Any]:
    """What the training of the small autoencoder left.

    Raises:
        AgfasError: it has not ended, or is not what it left.
    """
    folder = Workspace(experiment).tiny_autoencoder()
    done = read_done(folder)
    if done is None:
        raise AgfasError(
            f"No finished tiny autoencoder at {folder}. Run `agfas train-tiny-autoencoder` with the same configuration."
        )
    if done.get("weights_sha256") != folder_sha256(folder / MODEL):
        raise AgfasError(
            f"{folder / 'done.json'} was not written with the files of {folder / MODEL}: something was exchanged."
            f" Remove {folder} and run the command that made it again."
        )
    return done


def load_restorer(experiment: Experiment) -> DeFakePipeline | Baseline:
    """The trained generator or baseline on the CPU, with the autoencoder of the cue.

    Raises:
        AgfasError: something is not finished or damaged, or the autoencoder's latents are not the generator's.
    """
    maker, chosen = load_maker(experiment), experiment.cue.autoencoder
    if chosen == OWN:
        return maker
    from dfg.tiny_autoencoder import take_place

    try:
        take_place(maker, load_autoencoder(experiment))
    except ValueError as error:
        raise AgfasError(f"cue.autoencoder = {chosen} does not fit the generator: {error} Name another one.") from None
    return maker


def load_autoencoder(experiment: Experiment) -> Any:
    """The small autoencoder that `cue.autoencoder` names, on the CPU.

    Raises:
        AgfasError: it is not trained, or the place holds none.
    """
    if experiment.cue.autoencoder == TRAINED:
        tiny_autoencoder_done(experiment)
        return open_autoencoder(Workspace(experiment).tiny_autoencoder() / MODEL)
    return open_autoencoder(_place(experiment.cue.autoencoder))


def open_autoencoder(folder: Path) -> Any:
    """An autoencoder in diffusers' layout, in evaluation mode, on the CPU.

    Raises:
        AgfasError: the folder is damaged, or holds something else.
    """
    from importlib import import_module

    from dfg.known import CLASSES
    from dfg.saved import check_saved, in_own_memory

    known = {name: module for module, name in CLASSES["autoencoder"]}
    with explained(folder, "autoencoder"):
        check_saved(folder)
        named = str(read_json(folder / FILES[0], _class_name=str)["_class_name"])
        if named not in known:
            raise ValueError(f"it is a {named}, not one of {', '.join(sorted(known))}.")
        kind = getattr(import_module(known[named]), named)
        return in_own_memory(kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)).eval()


def _place(name: str) -> Path:
    """The folder of an autoencoder; of an id of the hub, that of its cache, after settings and weights are there.

    Raises:
        AgfasError: it lacks one of them, or the hub does not give it.
    """
    named = repository(name)
    folder = Path(name) if named is None else fetch(named, FILES, ANYHOW)
    for lacking in (one for one in FILES if not (folder / one).is_file()):
        raise AgfasError(
            f"cue.autoencoder = {name} has no {lacking}. Give the folder of an AutoencoderTiny in diffusers' layout, an"
            f" id of the hub, {OWN} or {TRAINED}."
        )
    return folder
