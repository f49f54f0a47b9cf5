"""The run: copies, map, sample, one fault after the other, and the table."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError
from pipelines.markdown import table
from scripts.mutation.changes import Change
from scripts.mutation.child import Outcome, import_libraries, run_tests, shared_out, spent
from scripts.mutation.copies import clone_files, faulty, mirror, with_compiled
from scripts.mutation.reach import Reach
from scripts.mutation.sample import draw, room_of, rooms

ROOT = Path(__file__).parents[2]
_FIRST_FILES = 3
# Seconds after which a test depends on how busy the machine is.
_SLOW = 3.0
EQUIVALENT = Path(__file__).parent / "equivalent.csv"


@dataclass
class Verdict:
    """A row of the results."""

    key: str
    room: str
    path: str
    line: int
    kind: str
    text: str
    old: str
    new: str
    result: str = ""  # killed, survived, unreached
    how: str = ""  # failed, hung, memory, died; why it survived
    test: str = ""
    tried: int = 0  # tests that passed with the fault
    reaching: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """As a diff."""
        place = f"{self.path}:{self.line}"
        tests = f"{self.tried} of {self.reaching} tests" if self.reaching else "no test reaches it"
        return f"{self.key} {place} ({self.kind}; {tests})\n    {self.text}\n    {self.old!r} -> {self.new!r}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="mutate", description="Put faults into the source; see whether tests notice.")
    parser.add_argument("--number", type=int, default=150, help="of faults (150)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--room", action="append", default=[], help="a room, folder or file alone; may be repeated")
    parser.add_argument("--key", action="append", default=[], help="of the drawn faults, this one alone; again if done")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    parser.add_argument("--show", action="store_true", help="print what is known of the sample and stop")
    parser.add_argument("--again", action="store_true", help="try again what survived before")
    parser.add_argument("--old-map", action="store_true", help="measure no files of tests that have changed")
    parser.add_argument("--jobs", type=int, default=1, help="faults tried, and files measured, at a time (1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of a fault's tests (60)")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mutation", help="for copies, map and results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if everything drawn has been tried."""
    options = parse(arguments)
    chosen = draw(rooms(ROOT, options.room), options.number, options.seed)
    if options.key:
        chosen = [change for change in chosen if change.key in options.key]
    # In an order that says something of every room before the end.
    chosen.sort(key=lambda change: change.key)
    results = Results(options.folder / f"results-{options.seed}.csv")
    todo = [change for change in chosen if change.key not in results.done or options.key]
    if options.again:
        todo = [change for change in chosen if change.key not in results.done or results.done[change.key] != "killed"]
    if options.list:
        print("\n".join(str(_verdict(change)) for change in chosen))
        return 0
    if todo and not options.show:
        _try_all(todo, results, options)
    rows = results.of(chosen)
    print(report(rows, equivalents()))
    return 0 if len(rows) == len(chosen) else 1


def _try_all(todo: Sequence[Change], results: Results, options: argparse.Namespace) -> None:
    folder: Path = options.folder.resolve()
    clean = folder / "clean"
    changed = mirror(ROOT, clean, clone_files(ROOT))
    import_libraries()
    if changed:
        # Compiles every module and every file of tests once, for all copies.
        run_tests(clean, ["tests"], [], log=folder / "collection.log")
    reach = Reach(folder / "reach")
    if options.old_map:
        reach.load()
    else:
        reach.update(clean, options.jobs)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    compiled = with_compiled(clean)
    for job in range(options.jobs):
        mirror(clean, folder / f"copy-{job}", compiled)
    trials = [Trial(folder / f"copy-{job}", clean, reach, options.seconds) for job in range(options.jobs)]

    def try_one(job: int, place: int) -> None:
        verdict = trials[job].of(todo[place])
        results.add(verdict)
        print(f"{verdict.result:9} {verdict.seconds:5.1f} s  {verdict.path}:{verdict.line}", file=sys.stderr)

    shared_out(len(todo), options.jobs, try_one)


class Trial:
    """Tries faults in a copy, one after the other."""

    def __init__(self, copy: Path, clean: Path, reach: Reach, seconds: float) -> None:
        self._copy, self._clean, self._reach, self._seconds = copy, clean, reach, seconds
        self._walls = reach.walls()
        self._sound: dict[str, bool] = {}

    def of(self, change: Change) -> Verdict:
        """Put the fault in, run the tests that reach it, and judge."""
        verdict, before = _verdict(change), spent()
        tests = self._reach.tests_of(self._clean, change.path, change.line)
        verdict.reaching = len(tests)
        outcome = Outcome()
        with faulty(self._copy, change):
            for part in _rounds(tests):
                outcome = self._noticed(part, self._seconds - (spent() - before))
                verdict.tried += outcome.passed
                if outcome.failed:
                    break
        verdict.result = "killed" if outcome.failed else "survived" if tests else "unreached"
        verdict.test, verdict.how = outcome.failed, outcome.how
        verdict.seconds = round(spent() - before, 1)
        return verdict

    def _noticed(self, tests: list[str], seconds: float) -> Outcome:
        """Run tests until one fails that passes without the fault."""
        while tests and seconds > 0:
            files = list(dict.fromkeys(test.split("::")[0] for test in tests))
            outcome = run_tests(self._copy, files, tests, seconds, self._walls)
            if not outcome.failed or self._passes(outcome.failed):
                return outcome
            tests = [test for test in tests if test != outcome.failed]
        return Outcome()

    def _passes(self, test: str) -> bool:
        """Whether a test passes without the fault, as when it was measured; a slow one may not on a busy machine."""
        if self._walls.get(test, 0.0) < _SLOW:
            return True
        if test not in self._sound:
            self._sound[test] = not run_tests(self._clean, [test.split("::")[0]], [test]).failed
        return self._sound[test]


def _rounds(tests: Sequence[str]) -> list[list[str]]:
    """The tests of the first files, which mostly notice, and then the others: collecting files takes time."""
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))[:_FIRST_FILES]
    first = [test for test in tests if test.split("::")[0] in files]
    return [part for part in (first, list(tests[len(first) :])) if part]


def _verdict(change: Change) -> Verdict:
    source = (ROOT / change.path).read_bytes()
    old = source[change.start : change.end].decode()
    return Verdict(
        change.key, room_of(change.path), change.path, change.line, change.kind, change.text, old, change.new
    )


class Results:
    """The rows of a seed's file, which grows as faults are tried; the last row of a fault counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = list(Verdict.__dataclass_fields__)

    @property
    def done(self) -> dict[str, str]:
        """The results so far, by key."""
        return {row.key: row.result for row in self._rows().values()}

    def add(self, verdict: Verdict) -> None:
        """Write a row."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = [str(value) for value in asdict(verdict).values()]
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(self._names)
            writer.writerow(line)

    def of(self, changes: Iterable[Change]) -> list[Verdict]:
        """The rows of these faults, as far as they have been tried; lines as they are now."""
        rows = self._rows()
        found = []
        for change in changes:
            if change.key in rows:
                rows[change.key].line = change.line
                found.append(rows[change.key])
        return found

    def _rows(self) -> dict[str, Verdict]:
        if not self._path.exists():
            return {}
        with self._path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["seconds"]]
        kinds: dict[str, Any] = {"line": int, "tried": int, "reaching": int, "seconds": float}
        verdicts = [Verdict(**{name: kinds.get(name, str)(row[name]) for name in self._names}) for row in rows]
        return {verdict.key: verdict for verdict in verdicts}


def equivalents(path: Path = EQUIVALENT) -> dict[str, str]:
    """Faults that a person has judged to change nothing that anyone can see: key to reason."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if any(not row["reason"] for row in rows):
        raise AgfasError(f"{path}: a fault without a reason")
    return {row["key"]: row["reason"] for row in rows}


def report(rows: Sequence[Verdict], equal: dict[str, str]) -> str:
    """Survivors, a table of rooms, and the score with and without the faults that change nothing."""
    survivors = [row for row in rows if row.result != "killed"]
    parts = [
        f"{row}\n    judged to change nothing: {equal[row.key]}" if row.key in equal else str(row) for row in survivors
    ]
    body = []
    for room in sorted({row.room for row in rows}):
        own = [row for row in rows if row.room == room]
        body.append([room, *_counts(own, equal), f"{sum(row.seconds for row in own) / len(own):.1f}"])
    heads = ["room", "faults", "noticed", "not reached", "change nothing", "seconds each"]
    parts += ["", table(heads, body), ""]
    parts.append(f"Noticed: {_score(rows)}; without those that change nothing: {_score(_seen(rows, equal))}.")
    return "\n".join(parts)


def _counts(rows: Sequence[Verdict], equal: dict[str, str]) -> list[str]:
    noticed = sum(row.result == "killed" for row in rows)
    unreached = sum(row.result == "unreached" for row in rows)
    return [str(len(rows)), str(noticed), str(unreached), str(len(rows) - len(_seen(rows, equal)))]


def _seen(rows: Sequence[Verdict], equal: dict[str, str]) -> list[Verdict]:
    return [row for row in rows if row.result == "killed" or row.key not in equal]


def _score(rows: Sequence[Verdict]) -> str:
    """With the exact 95 % interval (Clopper and Pearson)."""
    from scipy.stats import binomtest

    if not rows:
        return "0 of 0"
    noticed = sum(row.result == "killed" for row in rows)
    interval = binomtest(noticed, len(rows)).proportion_ci(0.95, method="exact")
    share = f"{100 * noticed / len(rows):.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return f"{noticed} of {len(rows)} = {share}"
