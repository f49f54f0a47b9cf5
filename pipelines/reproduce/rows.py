"""The experiments of each row of a table, or the reason why there are none."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oanet.names import DETECTORS, OBJECTIVES, inference_only, takes_cue
from pipelines.data.join import joined_name
from pipelines.data.protocol_settings import CORPUS
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, set_dotted
from pipelines.experiment.plan import Planned
from pipelines.reproduce.ground import Ground, protocol_on
from pipelines.reproduce.settings import Method, PaperSettings, ProtocolChoice, RowChoice, Size, TableChoice


@dataclass(frozen=True)
class PlannedRow:
    """One row of a table.

    Attributes:
        label: as printed, or our own.
        choice: its configuration.
        protocol: of its experiments.
        absent: why it is not run; empty if it is.
        methods: experiments by method, one per seed; also of a row that is only left out now.
        waits: whether only missing data keep it from being run.
    """

    label: str
    choice: RowChoice
    protocol: ProtocolChoice
    absent: str = ""
    methods: Mapping[str, tuple[Planned, ...]] = field(default_factory=dict)
    waits: bool = False

    @property
    def title(self) -> str:
        """The label, with a mark on rows that the paper does not have."""
        return f"{self.label} (our row, not the paper's)" if self.choice.ours else self.label

    @property
    def planned(self) -> list[Planned]:
        """All its experiments."""
        return [item for items in self.methods.values() for item in items]


@dataclass(frozen=True)
class Recipe:
    """What all rows of a table share.

    Attributes:
        table: the table's configuration.
        settings: its paper's.
        size: the paper's or the small one.
        is_small: whether it is the small one.
        ground: the data.
        root: output folder.
        seeds: of the detectors.
        overrides: (key, value) pairs applied last to every experiment.
    """

    table: TableChoice
    settings: PaperSettings
    size: Size
    is_small: bool
    ground: Ground
    root: Path
    seeds: tuple[int, ...]
    overrides: tuple[tuple[str, Any], ...] = ()

    def data(self) -> dict[str, Any]:
        """The experiments' data block."""
        data = dict(self.size.experiment["data"])
        if not self.ground.own and not self.ground.folders:
            return data
        folder = self.root / "faces" / "missing" if self.ground.missing else self.joined(self.ground.folders)
        return {"name": "dataset", "path": str(folder), "size": data.get("size", 64)}

    def joined(self, folders: Sequence[Path]) -> Path:
        """The folder of prepared datasets: the only one, or the one that joins them."""
        return folders[0] if len(folders) == 1 else self.root / "faces" / joined_name(folders)

    def extra_live(self) -> str:
        """`train.extra_live.dataset`: the benchmark's corpus, or a folder of live faces."""
        folders = self.ground.live_folders
        return str(self.joined(folders)) if folders and not self.ground.missing else CORPUS


def plan_rows(recipe: Recipe, only: Sequence[str] = ()) -> list[PlannedRow]:
    """All rows of the table in the printed order; if `only` names some, the others are not run."""
    return [_plan_row(recipe, label, row, only) for label, row in recipe.table.rows.items()]


def takes_live(table: TableChoice, settings: PaperSettings) -> bool:
    """Whether any row needs live faces in addition to the protocol's, for a generator or as extra training faces."""
    rows = [row for row in table.rows.values() if not row.absent]
    return any(_needs_live(_content(settings.methods[name], row, False)) for row in rows for name in row.method)


def _plan_row(recipe: Recipe, label: str, row: RowChoice, only: Sequence[str]) -> PlannedRow:
    protocol = recipe.settings.protocols[row.protocol or recipe.table.protocol]
    obstacles = [_obstacle(recipe, recipe.settings.methods[name], row) for name in row.method]
    why = row.absent or next(filter(None, obstacles), "")
    if why:
        return PlannedRow(label, row, protocol, why)
    made = {name: _experiments(recipe, label, row, name, protocol) for name in row.method}
    if only and label not in only:
        return PlannedRow(label, row, protocol, "left out by --only", made)
    waits = bool(recipe.ground.missing)
    return PlannedRow(label, row, protocol, "waits for what is missing" if waits else "", made, waits)


def _obstacle(recipe: Recipe, method: Method, row: RowChoice) -> str:
    """Why a method cannot be run on this ground, or an empty string."""
    content = _content(method, row, recipe.is_small)
    detector = content.get("detector", {}).get("name")
    objective = content.get("objective", {}).get("name")
    try:
        if detector is not None:
            DETECTORS.check(detector)
        if objective is not None:
            OBJECTIVES.check(objective)
    except ValueError as error:
        return f"not available: {error}"
    why = None if detector is None else inference_only(detector)
    if why is not None:
        return f"not available: {detector} cannot be trained here, {why}"
    if recipe.ground.missing:
        return ""
    if "masks" in method.needs and not recipe.ground.masks:
        return f"not available: no masks of face parsing in {recipe.ground.title} (agfas prepare --parsing-weights)"
    if _needs_live(content) and not recipe.ground.live:
        return "not available: needs live faces beside the protocol's; give a prepared dataset of live faces alone too"
    return ""


def _needs_live(content: dict[str, Any]) -> bool:
    detector = dict(content.get("detector", {}))
    name = detector.pop("name", None)
    reads_cue = name in DETECTORS.builtin and takes_cue(name, detector)
    return reads_cue or "train.extra_live" in content


def _content(method: Method, row: RowChoice, is_small: bool) -> dict[str, Any]:
    """The dotted overrides of a row's method; later ones take precedence."""
    return {**method.set, **(method.small if is_small else method.full), **row.set}


def _experiments(
    recipe: Recipe, label: str, row: RowChoice, method: str, protocol: ProtocolChoice
) -> tuple[Planned, ...]:
    title = f"{recipe.table.table} {label}" + (f", {method}" if len(row.method) > 1 else "")
    changes = _content(recipe.settings.methods[method], row, recipe.is_small)
    return tuple(
        Planned(title, {"seed": seed}, _experiment(recipe, changes, protocol, title, seed)) for seed in recipe.seeds
    )


def _experiment(recipe: Recipe, changes: dict[str, Any], protocol: ProtocolChoice, title: str, seed: int) -> Experiment:
    content = copy.deepcopy(recipe.size.experiment)
    selection, threshold = recipe.settings.rules.honest.split("/")
    content["name"], content["output"], content["seed"] = recipe.settings.paper, str(recipe.root), seed
    content["data"], content["protocol"] = recipe.data(), protocol_on(protocol, recipe.ground.domains)
    if not recipe.is_small:
        content["protocol"].update(protocol.full)
    content["evaluate"] = {**content.get("evaluate", {}), "selection": selection, "threshold": threshold}
    for key, value in changes.items():
        set_dotted(content, key, value)
    if _needs_live(changes):
        _name_live_faces(content, recipe)
    for key, value in recipe.overrides:
        set_dotted(content, key, value)
    return build_experiment(content, f"{title} of configs/paper")


def _name_live_faces(content: dict[str, Any], recipe: Recipe) -> None:
    domains = list(recipe.ground.live)
    set_dotted(content, "generator.domains", domains)
    if content.get("identity", {}).get("name", "trained") == "trained":
        set_dotted(content, "identity.domains", domains)
    if "extra_live" in content.get("train", {}):
        set_dotted(content, "train.extra_live.dataset", recipe.extra_live())
