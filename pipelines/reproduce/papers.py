"""The numbers printed in the papers' tables, with their sources; `papers.yaml` holds them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipelines.errors import AgfasError, nearest
from pipelines.experiment.file import read_mapping
from pipelines.settings import Strict

DATA = Path(__file__).with_name("papers.yaml")


class Printed(Strict):
    """One printed number, and the word printed with it, such as the dataset of a best transfer."""

    value: float
    text: str = ""


# A bare number has no word.
_Printed = Annotated[Printed, BeforeValidator(lambda value: value if isinstance(value, dict) else {"value": value})]


class Paper(Strict):
    """A paper.

    Attributes:
        pages: where its numbers were read.
        rule: how it chose thresholds and checkpoints, in words.
        videos: numbers of live and attack videos of its datasets by short name, if known.
    """

    title: str
    authors: str
    url: str
    pages: str
    rule: str
    videos: dict[str, tuple[int, int]]


class PaperTable(Strict):
    """One table as printed: its columns are its heads times its metrics, in that order.

    Attributes:
        title: in our words.
        section: that holds or discusses it.
        unit: of all its numbers: `per cent`, `share` in [0, 1] or `count`.
        heads: over the columns; one empty head if the columns are metrics alone.
        metrics: under each head.
        notes: for the reader of the numbers.
        rows: numbers by printed label.
    """

    title: str
    section: str
    unit: Literal["per cent", "share", "count"]
    heads: tuple[str, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    rows: dict[str, tuple[_Printed, ...]]

    @model_validator(mode="after")
    def _whole(self) -> PaperTable:
        wanted = len(self.heads) * len(self.metrics)
        for label, values in self.rows.items():
            if len(values) != wanted:
                raise ValueError(f"row '{label}' of '{self.title}' has {len(values)} numbers for {wanted} columns")
        return self

    def printed(self, row: str, head: str, metric: str) -> Printed:
        """The number of a row under a head."""
        return self.rows[row][self.heads.index(head) * len(self.metrics) + self.metrics.index(metric)]


class Papers(Strict):
    """All papers and their tables; a table's name is `PAPER/NUMBER`."""

    papers: dict[str, Paper]
    tables: dict[str, PaperTable]

    def table(self, name: str) -> PaperTable:
        """A table by name.

        Raises:
            AgfasError: the table is unknown.
        """
        if name not in self.tables:
            raise AgfasError(f"Unknown table '{name}'; {nearest(name, self.tables)}")
        return self.tables[name]

    def paper_of(self, name: str) -> Paper:
        """The paper of a table."""
        return self.papers[name.partition("/")[0]]

    def source(self, name: str) -> str:
        """Paper, table and section, in one line."""
        paper, number = self.paper_of(name), name.partition("/")[2]
        return f"{paper.authors}: {paper.title}, Table {number}, section {self.tables[name].section}"


@lru_cache(maxsize=1)
def read_papers() -> Papers:
    """The papers' tables, from the file in this package."""
    return Papers.model_validate(read_mapping(DATA))
