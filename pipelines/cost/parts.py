"""What a plan runs: trainings and passes over the faces, done and to do. Work that experiments share counts once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from pipelines.artefacts.cues import is_whole, store_folders
from pipelines.artefacts.faces import face_columns, judged_rows
from pipelines.cues.settings import AUTOENCODER, WITH_TIMESTEP
from pipelines.data.protocol_settings import CORPUS, AnyProtocol, ProtocolSettings
from pipelines.data.protocols import Fold, build_folds, protocol_folds
from pipelines.data.records import read_columns
from pipelines.experiment.config import Experiment, SyntheticData
from pipelines.experiment.generator import OneCallSettings
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace, teacher_of
from pipelines.files import read_json
from pipelines.training.run import read_metrics

KINDS = ("identity", "generator", "tiny_autoencoder", "restoration", "detector")
"""Kinds of work in the order in which it is done."""

_MAKERS = KINDS[:3]

FACES = 100_000
"""Faces that are assumed of a dataset that is not there yet."""

DOMAINS = ("first", "second", "third", "fourth")
"""Domains that are assumed of a dataset that is not there yet, if the protocol names none."""


@dataclass(frozen=True)
class Part:
    """Trainings of one model, or a pass over the faces.

    Attributes:
        kind: one of `KINDS`.
        name: of the detector or generator.
        experiment: one that needs it.
        amount: units left to do.
        unit: what is counted.
        done, total: trainings, or passes.
        domains: training domains of a detector.
        timesteps: t of the restorations, beside the t = 0 of `dfg`.
        faces: of the dataset; for a training, those that it learns from.
        assumed: whether the dataset is not there, so that faces and domains are assumptions.
    """

    kind: str
    name: str
    experiment: Experiment
    amount: float
    unit: str
    done: int
    total: int
    domains: int = 0
    timesteps: tuple[int, ...] = ()
    faces: int = 0
    assumed: bool = False

    @property
    def model(self) -> str:
        """Names the model and its size: parts that share it cost the same for a unit of work."""
        blocks = {
            "identity": ("identity",),
            "generator": ("identity", "generator"),
            "tiny_autoencoder": ("generator", "tiny_autoencoder"),
            "restoration": ("identity", "generator", "tiny_autoencoder", "cue"),
            "detector": ("detector", "objective", "train"),
        }
        form = self.experiment.cue.form if self.kind == "detector" else ""
        sizes = [self.experiment.data.size, form, self.domains, self.timesteps]
        return _key(self.kind, self.experiment, blocks[self.kind]) + json.dumps(sizes)


def left_of(parts: Iterable[Part]) -> list[Part]:
    """What is left to do, parts of one model as one."""
    found: dict[str, Part] = {}
    for part in (part for part in parts if part.amount):
        known = found.get(part.model)
        found[part.model] = part if known is None else replace(
            known, amount=known.amount + part.amount, done=known.done + part.done, total=known.total + part.total,
            faces=known.faces + part.faces,
        )  # fmt: skip
    return list(found.values())


def parts_of(experiments: Iterable[tuple[Experiment, Sequence[Fold]]]) -> list[Part]:
    """The parts of some experiments, each with the folds of its protocol."""
    found: dict[str, Part] = {}
    for experiment, folds in experiments:
        for key, part in _parts(experiment, folds):
            found[key] = _joined(found[key], part) if key in found else part
    return sorted(found.values(), key=lambda part: (KINDS.index(part.kind), part.name))


def folds_of(experiment: Experiment) -> tuple[Fold, ...]:
    """The folds of an experiment's protocol, on assumed domains if its faces are not there."""
    if Workspace(experiment).faces.is_dir():
        return protocol_folds(experiment.protocol, face_columns(experiment))
    data, protocol = experiment.data, experiment.protocol
    named = {name for field in ("domains", "train", "test") for name in getattr(protocol, field, None) or []}
    drawn = data.domains if isinstance(data, SyntheticData) else DOMAINS
    return build_folds(protocol, sorted({*named, *(() if named else drawn)}))


def _parts(experiment: Experiment, folds: Sequence[Fold]) -> Iterator[tuple[str, Part]]:
    """The parts of one experiment, each with a key of everything that decides it."""
    if experiment.train.steps:
        yield _detector(experiment, folds)
    if Workspace(experiment).needs_restoration():
        yield from maker_parts(experiment)
        yield restoration_part(experiment, folds, (Workspace(experiment).timestep(),))


def _detector(experiment: Experiment, folds: Sequence[Fold]) -> tuple[str, Part]:
    workspace, train = Workspace(experiment), experiment.train
    there = workspace.faces.is_dir()
    left = [fold for fold in folds if not (there and (workspace.detector() / fold.name / "done.json").is_file())]
    seen = sum(2 * train.per_cell * len(fold.train_domains) for fold in left) * train.steps
    widest = max((len(fold.train_domains) for fold in folds), default=1)
    restored = ("identity", "generator", "cue") if workspace.needs_restoration() else ()
    key = _key("detector", experiment, (*restored, "data", "detector", "objective", "train", "protocol", "seed"))
    faces, assumed = _faces(experiment, folds)
    return key, Part(
        "detector", experiment.detector.name, experiment, seen, "faces seen", len(folds) - len(left), len(folds),
        domains=widest, faces=faces, assumed=assumed,
    )  # fmt: skip


def maker_parts(experiment: Experiment) -> Iterator[tuple[str, Part]]:
    """Identity encoder, generator and its small autoencoder, as far as they are trained; of a student, its teacher."""
    workspace, maker, of_maker = Workspace(experiment), experiment.generator, ("data", "identity", "generator")
    there = workspace.faces.is_dir()
    if experiment.cue.is_custom:
        return
    if getattr(maker, "train", True):
        trained = there and workspace.has_generator()
        yield _training("generator", maker.name, experiment, maker, trained, of_maker)
    if isinstance(maker, OneCallSettings):
        yield from maker_parts(teacher_of(experiment))
    if experiment.identity.name == "trained" and maker.name == "dfg":
        known = there and (workspace.identity() / "done.json").is_file()
        yield _training("identity", "trained", experiment, experiment.identity, known, of_maker[:2])
    if workspace.needs_tiny_autoencoder():
        known, blocks = there and workspace.has_tiny_autoencoder(), ("data", "generator", "tiny_autoencoder")
        yield _training("tiny_autoencoder", "trained", experiment, experiment.tiny_autoencoder, known, blocks)


def parts_of_plan(experiment: Experiment) -> list[Part]:
    """The parts of an experiment, or of every one of its sweep."""
    return parts_of((planned.experiment, folds_of(planned.experiment)) for planned in expand(experiment))


def parts_of_makers(experiment: Experiment) -> list[Part]:
    """Identity encoder and generator of an experiment, or of every one of its sweep."""
    made = dict(item for planned in expand(experiment) for item in maker_parts(planned.experiment))
    return sorted(made.values(), key=lambda part: KINDS.index(part.kind))


def parts_of_cues(experiment: Experiment, timesteps: Sequence[int], all_faces: bool) -> list[Part]:
    """What fills the cue stores of an experiment at some t, from the identity encoder on."""
    folds = () if all_faces else folds_of(experiment)
    restoration = restoration_part(experiment, folds, timesteps, all_faces)[1]
    return [*parts_of_makers(experiment), restoration]


def _training(
    kind: str, name: str, experiment: Experiment, settings: Any, done: bool, blocks: Sequence[str]
) -> tuple[str, Part]:
    faces, assumed = _live(experiment, getattr(settings, "domains", experiment.generator.domains))
    steps = 0 if done else settings.loop.steps
    part = Part(kind, name, experiment, steps, "steps", int(done), 1, faces=faces, assumed=assumed)
    return _key(kind, experiment, blocks), part


def restoration_part(
    experiment: Experiment, folds: Sequence[Fold], timesteps: Sequence[int], all_faces: bool = False
) -> tuple[str, Part]:
    """The pass that restores every face at some t.

    Args:
        experiment: its generator and cue.
        folds: of its protocol, whose faces are restored.
        timesteps: t above 0; those that are 0 need no call of the generator.
        all_faces: the whole dataset instead.
    """
    name = experiment.cue.source if experiment.cue.is_custom else experiment.generator.name
    noised = tuple(sorted({t for t in timesteps if t != AUTOENCODER}))
    filled = _filled(experiment, noised, all_faces)
    faces, assumed = _faces(experiment, () if all_faces else folds)
    calls = sum(calls_of(experiment, t) for t in noised) or 1
    unit = "calls for faces that are assumed" if assumed else "calls of the generator"
    part = Part(
        "restoration", name, experiment, 0 if filled else faces * calls, unit, int(filled), 1, timesteps=noised,
        faces=faces, assumed=assumed,
    )  # fmt: skip
    cue = experiment.cue.model_dump(mode="json", exclude={"timestep", "form", "normalize", "mask", "source"})
    source = experiment.cue.source if experiment.cue.is_custom else ""
    return _key("restoration", experiment, ("data", "identity", "generator")) + json.dumps([cue, source]), part


def _joined(known: Part, other: Part) -> Part:
    """One pass over the faces at every t that either asks for."""
    if known.kind != "restoration" or known.timesteps == other.timesteps:
        return known
    both = tuple(sorted({*known.timesteps, *other.timesteps}))
    left = [t for part in (known, other) if not part.done for t in part.timesteps]
    calls = sum(calls_of(known.experiment, t) for t in dict.fromkeys(left))
    return replace(known, amount=known.faces * calls, timesteps=both, done=min(known.done, other.done))


def calls_of(experiment: Experiment, timestep: int) -> int:
    """Calls of the generator that restore one face from one t."""
    cue, maker = experiment.cue, experiment.generator.name
    if maker not in WITH_TIMESTEP or cue.is_custom:
        return 1
    if maker != "dfg":
        return (cue.calls or timestep) * cue.samples
    return (cue.calls or calls_of_grid(cue.scheduler, timestep, cue.num_inference_steps)) * cue.samples


def calls_of_grid(sampler: str, timestep: int, num_inference_steps: int) -> int:
    """Calls of `dfg.samplers.open_sampler`, which imports torch.

    The grid is 1, 1 + s, 1 + 2 s, ... with s = 1000 // num_inference_steps. `pndm_cut` calls the second-highest twice;
    the others make a call more at the last training timestep if it is off the grid.
    """
    stride = 1000 // num_inference_steps
    size = min(num_inference_steps, 999)
    on_grid = min((timestep - 1) // stride + 1, size)
    if sampler == "pndm_cut":
        return on_grid + (1 < size < on_grid + 2)
    return on_grid + (timestep == 999 and stride * (size - 1) != 998)


def _filled(experiment: Experiment, timesteps: Sequence[int], all_faces: bool) -> bool:
    """Whether the stores of every t are complete."""
    workspace = Workspace(experiment)
    if not workspace.faces.is_dir() or not (experiment.cue.is_custom or workspace.has_makers()):
        return False
    folders = store_folders(experiment, face_columns(experiment), timesteps or (AUTOENCODER,), all_faces)
    return all(map(is_whole, folders.values()))


def _faces(experiment: Experiment, folds: Sequence[Fold]) -> tuple[int, bool]:
    """Number of faces that some folds use, of all without folds; and whether it is an assumption."""
    domains = {name for fold in folds for name in (*fold.train_domains, *fold.test_domains)}
    data, folder = experiment.data, Workspace(experiment).faces
    if folder.is_dir():
        columns = face_columns(experiment)
        return int(judged_rows(experiment, columns).sum()) if folds else len(columns["domain"]), False
    if isinstance(data, SyntheticData):
        each = data.subjects * (data.live_videos + data.attack_videos) * data.frames
        return (len(domains) or len(data.domains)) * each, False
    return FACES, True


def _live(experiment: Experiment, domains: Sequence[str]) -> tuple[int, bool]:
    """Number of live training faces of some domains, and whether it is an assumption."""
    data, folder = experiment.data, Workspace(experiment).faces
    if folder.is_dir():
        columns = read_columns(folder, ["domain", "label", "split"])
        rows = zip(columns["domain"], columns["label"], columns["split"], strict=True)
        return sum(name in domains and label == 1 and split == "train" for name, label, split in rows), False
    if isinstance(data, SyntheticData):
        corpus = data.corpus_subjects * data.corpus_images * (CORPUS in domains)
        others = len({*domains} & {*data.domains})
        return corpus + others * data.subjects * data.live_videos * data.frames, False
    return FACES, True


def _key(kind: str, experiment: Experiment, blocks: Sequence[str]) -> str:
    content: dict[str, Any] = experiment.model_dump(mode="json", include=set(blocks))
    return json.dumps([kind, content], sort_keys=True)


def measured_rates(root: Path) -> dict[tuple[str, str], float]:
    """Median seconds per unit of work, by kind and name, of the finished trainings in an output folder."""
    measured: dict[tuple[str, str], list[float]] = {}
    for folder in sorted({*root.glob("detectors/*/*"), *(one for kind in _MAKERS for one in root.glob(f"{kind}/*"))}):
        if not (folder / "done.json").is_file() or not (folder / "config.json").is_file():
            continue
        lines, config = read_metrics(folder), read_json(folder / "config.json")
        steps = [line["step"] for line in lines]
        if not steps:
            continue
        between = zip([0, *steps], lines, strict=False)
        seconds = sum(line["seconds_per_step"] * (line["step"] - start) for start, line in between) / steps[-1]
        kind = folder.parent.name if folder.parent.name in KINDS else "detector"
        name = "trained" if kind in ("identity", "tiny_autoencoder") else config[kind]["name"]
        units = _faces_of_a_step(config, folder.name) if kind == "detector" else 1
        if units:
            measured.setdefault((kind, name), []).append(seconds / units)
    return {key: median(values) for key, values in measured.items()}


def _faces_of_a_step(config: dict[str, Any], fold: str) -> int:
    """Faces of one training step; 0 if the protocol does not name its domains."""
    settings: AnyProtocol = TypeAdapter(ProtocolSettings).validate_python(config["protocol"])
    lists = [getattr(settings, name, None) for name in ("domains", "train", "test")]
    named = [domain for domains in lists for domain in domains or []]
    if not named:
        return 0
    sources = [part.train_domains for part in build_folds(settings, named) if part.name == fold]
    return 2 * int(config["train"]["per_cell"]) * len(sources[0]) if sources else 0
