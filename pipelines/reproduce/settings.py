"""What `configs/paper/*.yaml` hold: a file of settings for each paper, and one for each of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from pipelines.errors import AgfasError, nearest
from pipelines.experiment.file import read_mapping
from pipelines.reproduce.rules import HONEST_RULES, OF_RUNNING_BEST, PAPERS_RULES, RUNNING_BEST
from pipelines.settings import Strict, explain

FOLDER = Path("configs/paper")


Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""A list of which one may be written alone."""


def _one_of(allowed: Sequence[str]) -> AfterValidator:
    """A misspelt rule would leave its lines of a table empty."""

    def check(rule: str) -> str:
        if rule not in allowed:
            raise ValueError(f"'{rule}' is no such rule: {nearest(rule, allowed)}")
        return rule

    return AfterValidator(check)


class Rules(Strict):
    """The two ways to a number that stand side by side; a pair is `SELECTION/THRESHOLD`."""

    papers: Annotated[str, _one_of(PAPERS_RULES)] = Field(description="The paper's own: a pair, or `running_best`.")
    honest: Annotated[str, _one_of(HONEST_RULES)] = Field(description="A pair that never looks at the target.")


class ProtocolChoice(Strict):
    """A protocol over the paper's short names of datasets.

    A column or row says what it tests as `SOURCE>TARGET`: `>M` is the fold that tests M, `3DMAD>CSMAD` one domain of a
    fold with one source, `3DMAD>others` the mean over all targets but the source, `>together` all targets pooled.
    """

    protocol: dict[str, Any]
    full: dict[str, Any] = Field({}, description="Keys of the protocol at the paper's size alone.")
    optional: tuple[str, ...] = Field((), description="Datasets without which the rest is run all the same.")
    deal: tuple[str, ...] = Field((), description="The order in which other data's domains take the short names.")
    columns: dict[str, Names] = Field({}, description="What each head of a table tests; a table may give its own.")

    def parts(self) -> list[list[str]]:
        """The short names in each list of the protocol."""
        return [self.protocol[key] for key in ("domains", "train", "test") if key in self.protocol]

    def names(self) -> list[str]:
        """The short names of all its datasets."""
        return [name for part in self.parts() for name in part]


class Method(Strict):
    """What a row is here: overrides of an experiment, at the paper's size and at a small one.

    Attributes:
        set: at both sizes.
        full, small: at one of them, after `set`.
        needs: `masks` where the faces must have parsing masks.
    """

    set: dict[str, Any] = Field({})
    full: dict[str, Any] = Field({})
    small: dict[str, Any] = Field({})
    needs: tuple[str, ...] = ()


class Size(Strict):
    """One size of a paper's experiments.

    Attributes:
        experiment: the configuration that its methods change.
        seeds: of the detectors.
        differs: how this differs from the paper, in sentences.
        rates: core seconds: of a trained face by `detector`, a step by `generator` or `identity`, a restored face and
            call by `restoration`; see `cost`.
    """

    experiment: dict[str, Any]
    seeds: tuple[int, ...] = Field(min_length=1)
    differs: tuple[str, ...] = ()
    rates: dict[str, dict[str, float]] = Field({})


class PaperSettings(Strict):
    """What all tables of a paper share.

    Attributes:
        paper: its name in `papers.yaml`.
        datasets: by the paper's short name, the importer; a prepared folder and a domain are looked for by that name.
        closed: short names of datasets that nobody can have, and why.
        live: importers of the datasets whose live faces the generator is trained on.
        files: weights that the paper's size reads; hub ids are told and not looked for.
        rules: the papers' and the honest one.
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
    """What a row of a table is here.

    Attributes:
        absent: why it is not run, where it is not.
        method: name of one method, or of several whose values are averaged.
        set: overrides after the method's.
        protocol, at: where they differ from the table's and the column's.
    """

    absent: str = ""
    method: Names = ()
    set: dict[str, Any] = Field({})
    protocol: str = ""
    at: Names = ()


class TableChoice(Strict):
    """One table.

    Attributes:
        table: its name in `papers.yaml`.
        settings: file of the paper's settings beside this one, without its ending.
        protocol: name of one of the settings' protocols.
        columns: what each head tests, where the protocol does not say.
        metrics: our metric by the printed name.
        reference: a row that the others are compared with.
        notes: what a reader of ours must know.
        rows: by printed label.
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
    """The tables that can be made, in the papers' order."""
    from pipelines.reproduce.numbers import read_papers

    there = {path.stem.replace("-", "/", 1) for path in folder.glob("*-*.yaml")}
    return [name for name in read_papers().tables if name in there]


def read_table(name: str, folder: Path = FOLDER) -> tuple[TableChoice, PaperSettings]:
    """A table's choices and its paper's.

    Raises:
        AgfasError: no such table, or a file that does not fit its paper.
    """
    names = table_names(folder)
    if not names:
        raise AgfasError(
            f"{folder} holds no table. Give --configs the folder configs/paper that comes with the project."
        )
    if name not in names:
        raise AgfasError(f"No table is called '{name}'; {nearest(name, names)}")
    path = folder / f"{name.replace('/', '-', 1)}.yaml"
    choice = _read(path, TableChoice)
    settings = _read(folder / f"{choice.settings}.yaml", PaperSettings)
    _check_fits(choice, settings, path)
    return choice, settings


def _read(path: Path, model: Any) -> Any:
    try:
        return model.model_validate(read_mapping(path))
    except ValidationError as error:
        raise AgfasError(explain(error, model, str(path))) from None


def _check_fits(choice: TableChoice, settings: PaperSettings, path: Path) -> None:
    from pipelines.reproduce.numbers import read_papers

    printed = read_papers().table(choice.table)
    _check_known(path, "row", choice.rows, printed.rows)
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


def _given(choice: TableChoice, field: str) -> list[str]:
    found = [getattr(row, field) for row in choice.rows.values()]
    return [name for value in found if value for name in ([value] if isinstance(value, str) else value)]


def _check_known(path: Path, what: str, given: Any, allowed: Any) -> None:
    for name in given:
        if name not in allowed:
            raise AgfasError(f"In {path}: unknown {what} '{name}'; {nearest(name, allowed)}")
