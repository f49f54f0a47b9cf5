"""The data that a table is made on (the paper's datasets, the built-in benchmark or prepared ones), and its domains.

A table names datasets by the paper's short names, and what it tests as `SOURCE>TARGET` in these names. A `Ground` gives
each short name a domain of the data, from which follow the folds of a protocol and the targets of a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipelines.data.faces import has_masks
from pipelines.data.protocol_settings import CORPUS, AnyProtocol, ProtocolSettings
from pipelines.data.protocols import Fold, build_folds
from pipelines.data.records import CARD_NAME, read_columns
from pipelines.errors import AgfasError, nearest
from pipelines.report.contents import Target
from pipelines.reproduce.settings import PaperSettings, ProtocolChoice
from pipelines.synthetic.settings import DOMAINS, SyntheticSettings

SYNTHETIC = "synthetic"
OTHERS, TOGETHER = "others", "together"
_LISTS = ("domains", "train", "test")


@dataclass(frozen=True)
class Needed:
    """A dataset or file that a table needs.

    Attributes:
        name: the paper's short name of a dataset, or a file name.
        place: its path.
        found: whether it exists.
        required: whether nothing is run without it.
        how: how to get it.
    """

    name: str
    place: Path
    found: bool
    required: bool
    how: str


@dataclass(frozen=True)
class Ground:
    """The data of a table.

    Attributes:
        title: for headings.
        own: whether it is the paper's own data, so that numbers are comparable.
        domains: domain by the paper's short name; for a missing dataset, the name its domain would have.
        live: domains of the generator's live faces.
        folders: the prepared datasets; none for the benchmark.
        live_folders: those with live faces alone.
        needed: the datasets and files of the paper.
        masks: whether the faces have parsing masks.
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
        """Required things that are not found."""
        return [item for item in self.needed if item.required and not item.found]


def benchmark(choice: ProtocolChoice, settings: PaperSettings, names: Mapping[str, str]) -> Ground:
    """The built-in benchmark, its capture domains in the place of the paper's datasets.

    Args:
        choice: the table's protocol.
        settings: of the paper.
        names: domains by short name, from the command line.
    """
    data = SyntheticSettings(**{k: v for k, v in settings.small.experiment["data"].items() if k != "name"})
    live = (CORPUS,) if data.corpus_subjects else ()
    dealt = deal(choice, settings, data.domains or DOMAINS, names)
    return Ground("the built-in benchmark", False, dealt, live)


def given(choice: ProtocolChoice, settings: PaperSettings, folders: Sequence[Path], names: Mapping[str, str]) -> Ground:
    """Prepared datasets in the place of the paper's; the generator is trained on domains with live faces alone.

    Raises:
        AgfasError: a folder is not a face dataset.
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
    """The paper's own datasets, prepared in `folder` under their importers' names.

    Args:
        choices: the protocols that the table's rows use.
        settings: of the paper.
        folder: of the prepared datasets.
        takes_live: whether any row needs the generator's live faces and weights.
    """
    wanted = list(dict.fromkeys(name for choice in choices for name in choice.names()))
    needed = [_dataset(name, settings.datasets[name], folder) for name in wanted if name not in settings.closed]
    optional = _dispensable(choices, {item.name for item in needed if item.found})
    needed = [replace(item, required=item.name not in optional) for item in needed]
    domains = {item.name: _domain_of(item, settings) for item in needed if item.found or item.required}
    needed += [Needed(name, folder / settings.datasets[name], False, False, why)
               for name, why in settings.closed.items() if name in wanted]  # fmt: skip
    if takes_live:
        needed += [_dataset(name, name, folder, "live faces for the generator: ") for name in settings.live]
        how = "weights that have to be downloaded by hand"
        files = [(path, path.exists()) for path in map(Path, settings.files)]
        needed += [Needed(path.name, path, found, True, "" if found else how) for path, found in files]
    there = {item.name: item.place for item in needed if item.found and (item.place / CARD_NAME).is_file()}
    live = [there[importer] for importer in settings.live if importer in there]
    return Ground(
        "the paper's own datasets",
        True,
        domains,
        tuple(domain for path in live for domain in _classes(path)) or settings.live,
        tuple(there.values()),
        tuple(live),
        tuple(needed),
        _masks([there[name] for name in wanted if name in there]),
    )


def deal(
    choice: ProtocolChoice, settings: PaperSettings, domains: Sequence[str], names: Mapping[str, str]
) -> dict[str, str]:
    """Assign domains to short names: first as given in `names`, then those of equal name, then in order.

    Raises:
        AgfasError: an unknown short name or domain, or a domain assigned twice.
    """
    named = [name for name in settings.datasets if name in choice.names()]
    order = list(choice.deal) or sorted(named, key=lambda name: name in settings.closed)
    dealt: dict[str, str] = {}
    for name, domain in names.items():
        if name not in order:
            raise AgfasError(f"--map {name}={domain}: the table has no dataset '{name}'; {nearest(name, order)}")
        if domain not in domains:
            raise AgfasError(f"--map {name}={domain}: there is no domain '{domain}'; {nearest(domain, domains)}")
        if domain in dealt.values():
            raise AgfasError(f"--map assigns the domain '{domain}' twice. Assign it once.")
        dealt[name] = domain
    for name in order:
        alike = [domain for domain in domains if domain in (name, settings.datasets[name])]
        if name not in dealt and alike and alike[0] not in dealt.values():
            dealt[name] = alike[0]
    rest = [domain for domain in domains if domain not in dealt.values()]
    dealt.update(zip([name for name in order if name not in dealt], rest, strict=False))
    return {name: dealt[name] for name in order if name in dealt}


def protocol_on(choice: ProtocolChoice, domains: Mapping[str, str]) -> dict[str, Any]:
    """The protocol block of an experiment: short names replaced by domains, or left out if they have none.

    Raises:
        AgfasError: a list is empty, so that nothing can be trained or tested.
    """
    block: dict[str, Any] = {}
    for key, value in choice.protocol.items():
        block[key] = [domains[name] for name in value if name in domains] if key in _LISTS else value
        if block[key] == []:
            raise AgfasError(
                f"The protocol {choice.protocol['name']} needs a domain for one of {', '.join(value)} (protocol.{key}),"
                " but the data have none. Give more domains, or another --map."
            )
    return block


def folds_on(choice: ProtocolChoice, domains: Mapping[str, str]) -> tuple[Fold, ...]:
    """The protocol's folds on these domains."""
    settings: AnyProtocol = TypeAdapter(ProtocolSettings).validate_python(protocol_on(choice, domains))
    return build_folds(settings, list(domains.values()))


def targets_at(choice: ProtocolChoice, at: str, domains: Mapping[str, str]) -> list[Target]:
    """The targets of `SOURCE>TARGET`; empty if the data have no domain for it.

    Raises:
        AgfasError: `at` has another form.
    """
    source, sign, target = at.partition(">")
    if not sign or not target:
        raise AgfasError(f"'{at}' has no target: write SOURCE>TARGET, or >TARGET.")
    folds = folds_on(choice, domains)
    if source:
        folds = tuple(fold for fold in folds if fold.train_domains == (domains.get(source),))
    if target == TOGETHER:
        return [Target(fold.name) for fold in folds]
    wanted = set(domains.values()) - {domains.get(source)} if target == OTHERS else {domains.get(target)}
    return [
        Target(fold.name, domain if len(fold.test_domains) > 1 else "")
        for fold in folds
        for domain in fold.test_domains
        if domain in wanted
    ]


def short_name(target: Target, domains: Mapping[str, str]) -> str:
    """The paper's short name of a target's domain, or the target's own name."""
    return next((name for name, domain in domains.items() if domain == target.domain), target.name)


def _dispensable(choices: Sequence[ProtocolChoice], found: set[str]) -> set[str]:
    """The optional datasets, except those of a list of the protocol that has nothing else."""
    names: set[str] = set()
    for choice in choices:
        for part in choice.parts():
            if found & set(part) or set(part) - set(choice.optional):
                names |= set(part) & set(choice.optional)
    return names


def _dataset(name: str, importer: str, folder: Path, what: str = "") -> Needed:
    """A prepared dataset; `what` says what it is for."""
    place = folder / importer
    found = (place / CARD_NAME).is_file()
    how = f"{what}agfas prepare SOURCE --importer {importer} --domain {importer} --out {place}"
    return Needed(name, place, found, True, "" if found else how)


def _classes(folder: Path) -> dict[str, set[int]]:
    """Labels by domain, in the order of the dataset."""
    columns = read_columns(folder, ("domain", "label"))
    found: dict[str, set[int]] = {}
    for domain, label in set(zip(columns["domain"], columns["label"], strict=True)):
        found.setdefault(domain, set()).add(int(label))
    return dict(sorted(found.items()))


def _domain_of(item: Needed, settings: PaperSettings) -> str:
    """The domain of one of the paper's datasets, or the name it would have if the dataset is missing."""
    importer, folder = settings.datasets[item.name], item.place
    if not item.found:
        return importer
    domains = list(_classes(folder))
    if len(domains) == 1 or importer in domains:
        return importer if importer in domains else domains[0]
    raise AgfasError(f"{folder} holds the domains {', '.join(domains)}; one must be called '{importer}'.")


def _masks(folders: Sequence[Path]) -> bool:
    return bool(folders) and all(has_masks(folder) for folder in folders)
