"""The files of `configs/paper`: one of settings for each paper, and one for each of its tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from pipelines.errors import AgfasError, nearest
from pipelines.evaluation.settings import HONEST_RULES, SELECTION_RULES, THRESHOLD_RULES
from pipelines.experiment.file import read_mapping
from pipelines.experiment.shipped import find_folder
from pipelines.reproduce.papers import read_papers
from pipelines.settings import Strict, explain

FOLDER = Path("configs/paper")
_TABLES = "*-*.yaml"

RUNNING_BEST = "running_best"
"""A rule: the lowest HTER, at the target's own EER threshold, and the highest AUC over the kept checkpoints, each by
itself on the target, so that the two may be of two checkpoints."""

OF_RUNNING_BEST = ("hter", "auc")
"""The metrics it gives."""

PAPERS_RULES = (RUNNING_BEST, *(f"{one}/{other}" for one in SELECTION_RULES for other in THRESHOLD_RULES))

Read = TypeVar("Read", bound=BaseModel)

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""A list of names; one alone may be written without brackets."""


def _one_of(allowed: Sequence[str]) -> AfterValidator:
    """A misspelt rule would leave its lines of a table empty without an error."""

    def check(rule: str) -> str:
        if rule not in allowed:
            raise ValueError(f"unknown rule '{rule}': {nearest(rule, allowed)}")
        return rule

    return AfterValidator(check)


class Rules(Strict):
    """The two rules whose numbers are printed side by side; a pair is `SELECTION/THRESHOLD`."""

    papers: Annotated[str, _one_of(PAPERS_RULES)] = Field(description="The paper's: a pair, or `running_best`.")
    honest: Annotated[str, _one_of(HONEST_RULES)] = Field(description="A pair that never looks at the target.")


class ProtocolChoice(Strict):
    """A protocol over the paper's short names of datasets.

    What a column or row tests is written `SOURCE>TARGET`: `>M` is the fold that tests M, `3DMAD>CSMAD` one domain of
    the fold trained on 3DMAD, `3DMAD>others` the mean over its other targets, `>together` all targets pooled.
    """

    protocol: dict[str, Any]
    full: dict[str, Any] = Field({}, description="Keys of the protocol added at the paper's size.")
    optional: tuple[str, ...] = Field((), description="Datasets that may be missing.")
    deal: tuple[str, ...] = Field(
        (), description="Short names in the order in which domains of other data are assigned."
    )
    columns: dict[str, Names] = Field({}, description="What each head of a table tests; a table may override it.")

    def parts(self) -> list[list[str]]:
        """The short names in each list of the protocol."""
        return [self.protocol[key] for key in ("domains", "train", "test") if key in self.protocol]

    def names(self) -> list[str]:
        """The short names of all its datasets."""
        return [name for part in self.parts() for name in part]


class Method(Strict):
    """A row's overrides of the experiment, at the paper's size and at a small one.

    Attributes:
        set: at both sizes.
        full, small: at one of them, after `set`.
        needs: `masks` if the faces must have parsing masks.
    """

    set: dict[str, Any] = Field({})
    full: dict[str, Any] = Field({})
    small: dict[str, Any] = Field({})
    needs: tuple[str, ...] = ()


class Size(Strict):
    """One size of a paper's experiments.

    Attributes:
        experiment: the configuration that methods override.
        seeds: of the detectors.
        differs: the differences from the paper, in sentences.
    """

    experiment: dict[str, Any]
    seeds: tuple[int, ...] = Field(min_length=1)
    differs: tuple[str, ...] = ()


class PaperSettings(Strict):
    """What all tables of a paper share.

    Attributes:
        paper: its name in `papers.yaml`.
        datasets: the importer by the paper's short name; the prepared folder and the domain have the importer's name.
        closed: datasets that are not available to anyone, with the reason.
        live: importers of the datasets whose live faces the generator is trained on.
        files: weights that the paper's size reads.
        rules: the paper's and the honest one.
        protocols, methods: by name.
        full, small: the two sizes.
    """

    paper: str
    datasets: dict[str, str]
    closed: dict[str, str] = Field({})
    live: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rules: Rules
    protocols: dict[str, ProtocolChoice]
    methods: dict[str, Method]
    full: Size
    small: Size


class RowChoice(Strict):
    """How a row of a table is made.

    Attributes:
        absent: why it is not run; empty if it is.
        ours: what a row is that the paper does not have; empty for the paper's rows.
        method: name of one method, or of several whose values are averaged.
        set: overrides after the method's.
        protocol, at: instead of the table's and the column's.
    """

    absent: str = ""
    ours: str = ""
    method: Names = ()
    set: dict[str, Any] = Field({})
    protocol: str = ""
    at: Names = ()


class TableChoice(Strict):
    """One table.

    Attributes:
        table: its name in `papers.yaml`.
        settings: the file of the paper's settings in the same folder, without its suffix.
        protocol: one of the settings' protocols.
        columns: what each head tests, beside the protocol's.
        metrics: our metric by the printed name.
        reference: label of the row that others are compared with.
        notes: for the readers of our table.
        rows: by printed label, and our own rows.
    """

    table: str
    settings: str
    protocol: str
    columns: dict[str, Names] = Field({})
    metrics: dict[str, str]
    reference: str = ""
    notes: tuple[str, ...] = ()
    rows: dict[str, RowChoice]


def table_names(folder: Path = FOLDER) -> list[str]:
    """Names of the tables that have a configuration, in the papers' order."""
    there = {path.stem.replace("-", "/", 1) for path in find_folder(folder, _TABLES).glob(_TABLES)}
    return [name for name in read_papers().tables if name in there]


def read_table(name: str, folder: Path = FOLDER) -> tuple[TableChoice, PaperSettings]:
    """The configuration of a table and of its paper.

    Raises:
        AgfasError: the table is unknown, or a file is invalid or contradicts the printed table.
    """
    names = table_names(folder)
    if not names:
        raise AgfasError(f"{folder} holds no table. Set --configs to the folder configs/paper of the project.")
    if name not in names:
        raise AgfasError(f"Unknown table '{name}'; {nearest(name, names)}")
    folder = find_folder(folder, _TABLES)
    path = folder / f"{name.replace('/', '-', 1)}.yaml"
    choice = _read(path, TableChoice)
    settings = _read(folder / f"{choice.settings}.yaml", PaperSettings)
    _check_fits(choice, settings, path)
    return choice, settings


def _read(path: Path, model: type[Read]) -> Read:
    try:
        return model.model_validate(read_mapping(path))
    except ValidationError as error:
        raise AgfasError(explain(error, model, str(path))) from None


def _check_fits(choice: TableChoice, settings: PaperSettings, path: Path) -> None:
    printed = read_papers().table(choice.table)
    _check_known(path, "row", [label for label, row in choice.rows.items() if not row.ours], printed.rows)
    _check_known(path, "row", printed.rows, choice.rows)
    _check_known(path, "metric", choice.metrics, printed.metrics)
    _check_known(path, "protocol", [choice.protocol, *_given(choice, "protocol")], settings.protocols)
    _check_known(path, "method", _given(choice, "method"), settings.methods)
    if choice.reference:
        _check_known(path, "row (reference)", [choice.reference], printed.rows)
    if settings.rules.papers == RUNNING_BEST:
        _check_known(path, f"metric under {RUNNING_BEST}", choice.metrics.values(), OF_RUNNING_BEST)
    for label, row in choice.rows.items():
        if bool(row.absent) == bool(row.method):
            raise AgfasError(f"In {path}: row '{label}' must have either a method or a reason why it is absent.")
        if row.ours and label in printed.rows:
            raise AgfasError(f"In {path}: row '{label}' is the paper's; remove `ours`, or give another label.")


def _given(choice: TableChoice, field: str) -> list[str]:
    found = [getattr(row, field) for row in choice.rows.values()]
    return [name for value in found if value for name in ([value] if isinstance(value, str) else value)]


def _check_known(path: Path, what: str, given: Iterable[str], allowed: Collection[str]) -> None:
    for name in given:
        if name not in allowed:
            raise AgfasError(f"In {path}: unknown {what} '{name}'; {nearest(name, allowed)}")
