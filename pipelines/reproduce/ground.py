"""The data that a table is made on: the paper's own datasets, the built-in benchmark, or any prepared ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.data.protocol_settings import CORPUS
from pipelines.data.records import CARD_NAME, load_faces
from pipelines.errors import AgfasError, nearest
from pipelines.reproduce.settings import PaperSettings, ProtocolChoice
from pipelines.synthetic.settings import DOMAINS, SyntheticSettings

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Needed:
    """One thing that a table needs.

    Attributes:
        name: of a dataset in the paper's words, or of a file.
        place: where it is looked for.
        found: whether it is there.
        required: whether nothing is run without it.
        how: what to do about it.
    """

    name: str
    place: Path
    found: bool
    required: bool
    how: str


@dataclass(frozen=True)
class Ground:
    """What is under a table.

    Attributes:
        title: in words, for every heading.
        own: whether it is the paper's own data, so that numbers may be compared.
        domains: the dataset's domain by the paper's short name; of a missing one, what it would be called.
        live: domains of the generator's live faces.
        folders: the prepared datasets that are its parts; none for the benchmark.
        live_folders: those of them that hold the live faces alone.
        needed: what was looked for.
        masks: whether all faces may have parsing masks.
    """

    title: str
    own: bool
    domains: Mapping[str, str]
    live: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    live_folders: tuple[Path, ...] = ()
    needed: tuple[Needed, ...] = ()
    masks: bool = False

    @property
    def missing(self) -> list[Needed]:
        """What stands in the way."""
        return [item for item in self.needed if item.required and not item.found]


def benchmark(choice: ProtocolChoice, settings: PaperSettings, names: Mapping[str, str]) -> Ground:
    """The built-in benchmark's capture domains in the places of the paper's datasets.

    Args:
        choice: the table's protocol.
        settings: of the paper.
        names: domains that the user gave to short names.
    """
    data = SyntheticSettings(**{k: v for k, v in settings.small.experiment["data"].items() if k != "name"})
    live = (CORPUS,) if data.corpus_subjects else ()
    dealt = deal(choice, settings, data.domains or DOMAINS, names)
    return Ground("the built-in benchmark", False, dealt, live)


def given(choice: ProtocolChoice, settings: PaperSettings, folders: Sequence[Path], names: Mapping[str, str]) -> Ground:
    """Prepared datasets in the places of the paper's; domains of live faces alone are the generator's.

    Raises:
        AgfasError: a folder is no face dataset.
    """
    classes = [_classes(folder) for folder in folders]
    judged = [domain for found in classes for domain, labels in found.items() if len(labels) == 2]
    live = [domain for found in classes for domain, labels in found.items() if labels == {1}]
    live_folders = [f for f, found in zip(folders, classes, strict=True) if all(v == {1} for v in found.values())]
    title = " and ".join(sorted(judged)) or "no domain with both classes"
    return Ground(
        title, False, deal(choice, settings, judged, names), tuple(live), tuple(folders), tuple(live_folders),
        masks=_masks(folders),
    )  # fmt: skip


def own(choices: Sequence[ProtocolChoice], settings: PaperSettings, folder: Path, takes_live: bool) -> Ground:
    """The paper's own datasets, as far as they lie prepared below `folder` under their importers' names.

    Args:
        choices: the protocols that the table's rows use.
        settings: of the paper.
        folder: where prepared datasets are looked for.
        takes_live: whether any row needs the live faces of the generator, and its weights.
    """
    wanted = list(dict.fromkeys(name for choice in choices for name in choice.names()))
    needed = [_dataset(name, settings, folder, required=True) for name in wanted]
    optional = _dispensable(choices, {item.name for item in needed if item.found})
    needed = [replace(item, required=item.required and item.name not in optional) for item in needed]
    if takes_live:
        needed += [_live(importer, folder) for importer in settings.live]
        needed += [_file(Path(path)) for path in settings.files]
    there = {item.name: item.place for item in needed if item.found and (item.place / CARD_NAME).is_file()}
    live = [there[importer] for importer in settings.live if importer in there]
    return Ground(
        "the paper's own datasets",
        True,
        {item.name: _domain_of(item, settings) for item in needed[: len(wanted)] if item.found or item.required},
        tuple(domain for path in live for domain in _classes(path)) or settings.live,
        tuple(there.values()),
        tuple(live),
        tuple(needed),
        _masks([there[name] for name in wanted if name in there]),
    )


def deal(
    choice: ProtocolChoice, settings: PaperSettings, domains: Sequence[str], names: Mapping[str, str]
) -> dict[str, str]:
    """Which domain takes the place of which dataset: those named by the user, then of equal name, then in order.

    Raises:
        AgfasError: an unknown short name or domain, or a domain in two places.
    """
    named = [name for name in settings.datasets if name in choice.names()]
    order = list(choice.deal) or sorted(named, key=lambda name: name in settings.closed)
    dealt: dict[str, str] = {}
    for name, domain in names.items():
        if name not in order:
            raise AgfasError(f"--map {name}={domain}: the table has no dataset '{name}'; {nearest(name, order)}")
        if domain not in domains:
            raise AgfasError(f"--map {name}={domain}: no domain is called '{domain}'; {nearest(domain, domains)}")
        if domain in dealt.values():
            raise AgfasError(f"--map gives the domain '{domain}' two places. Give it one.")
        dealt[name] = domain
    for name in order:
        alike = [domain for domain in domains if domain in (name, settings.datasets[name])]
        if name not in dealt and alike and alike[0] not in dealt.values():
            dealt[name] = alike[0]
    rest = [domain for domain in domains if domain not in dealt.values()]
    dealt.update(zip([name for name in order if name not in dealt], rest, strict=False))
    return {name: dealt[name] for name in order if name in dealt}


def _dispensable(choices: Sequence[ProtocolChoice], found: set[str]) -> set[str]:
    """The datasets that may be missing: optional ones, unless they are all that a part of the protocol has."""
    names: set[str] = set()
    for choice in choices:
        for part in choice.parts():
            if found & set(part) or set(part) - set(choice.optional):
                names |= set(part) & set(choice.optional)
    return names


def _dataset(name: str, settings: PaperSettings, folder: Path, required: bool) -> Needed:
    importer = settings.datasets[name]
    place = folder / importer
    if name in settings.closed:
        return Needed(name, place, False, False, settings.closed[name])
    found = (place / CARD_NAME).is_file()
    how = "" if found else f"agfas prepare SOURCE --importer {importer} --domain {importer} --out {place}"
    return Needed(name, place, found, required, how)


def _live(importer: str, folder: Path) -> Needed:
    place = folder / importer
    found = (place / CARD_NAME).is_file()
    how = f"live faces for the generator: agfas prepare SOURCE --importer {importer} --domain {importer} --out {place}"
    return Needed(importer, place, found, True, "" if found else how)


def _file(path: Path) -> Needed:
    return Needed(path.name, path, path.exists(), True, "" if path.exists() else "weights that are yours to fetch")


def _classes(folder: Path) -> dict[str, set[int]]:
    """Labels by domain, in the order of the dataset."""
    faces = load_faces(folder)
    found: dict[str, set[int]] = {}
    for domain, label in set(zip(faces["domain"][:], faces["label"][:], strict=True)):
        found.setdefault(domain, set()).add(int(label))
    return dict(sorted(found.items()))


def _domain_of(item: Needed, settings: PaperSettings) -> str:
    """The domain of one of the paper's datasets; of one that is missing, the one that it would have."""
    importer, folder = settings.datasets[item.name], item.place
    if not item.found:
        return importer
    domains = list(_classes(folder))
    if len(domains) == 1 or importer in domains:
        return importer if importer in domains else domains[0]
    raise AgfasError(f"{folder} holds the domains {', '.join(domains)}; one must be called '{importer}'.")


def _masks(folders: Sequence[Path]) -> bool:
    tables = [load_faces(folder) for folder in folders]
    return bool(tables) and all(
        "mask" in table.column_names and table.data.column("mask").null_count < len(table) for table in tables
    )
