"""What a push makes public: the files of one folder, checked, and the licence of every part that they are made of.

    saved model      anti_spoofing.json, README.md, and the files that it lists
    exported model   settings.json, README.md, predict.py, and the files that it lists
    generator        a folder of `DeFakePipeline.save_pretrained`
    cue parcel       a folder of `agfas export-cues`; a dataset of the hub, the others are models

Other files of the folder are not pushed. Of an earlier push, the repository loses what belongs to these layouts and is
no longer there; everything else in it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfg.known import CLASSES, INDEX_NAME, check_generator
from dfg.seals import SEAL_NAME, check
from dfg.seals import names as names_in
from pipelines.cues.exchange.format import LISTING_NAME
from pipelines.data.records import CARD_NAME as FACES_NAME
from pipelines.data.records import COLLECTED, read_card
from pipelines.errors import AgfasError, nearest
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.hub import Kind, Push, push, target
from pipelines.licences import PUBLISHER, known_licence
from pipelines.templates import render_card
from pipelines.verdict.card import (
    carried_licences,
    face_parts,
    generator_parts,
    licence_header,
    licence_rows,
    model_card,
)
from pipelines.verdict.exported import PREDICT_NAME, is_exported, read_exported
from pipelines.verdict.exported import SETTINGS_NAME as EXPORTED_NAME
from pipelines.verdict.folder import CARD_NAME, FACE_DETECTOR, FACE_PARSER, PARTS, read_saved
from pipelines.verdict.folder import SETTINGS_NAME as SAVED_NAME
from pipelines.verdict.settings import ModelSettings, Part, SavedModel

TEMPLATE = Path(__file__).with_name("generator_card.md.j2")

_GRAPHS = ("model.onnx", "model.xml", "model.bin")
_FILES = (SAVED_NAME, EXPORTED_NAME, PREDICT_NAME, INDEX_NAME, SEAL_NAME, LISTING_NAME, *_GRAPHS)
_FOLDERS = (*PARTS, *CLASSES, "scheduler")
_PARCEL = re.compile(r"data/cues-[0-9]+-of-[0-9]+\.parquet")

_INSTEAD = {
    "face detector": "save or export without it: whoever opens the model then names one",
    "face parser": "save without its weights: whoever opens the model then gives them",
    "identity encoder": "train the generator with identity.name: trained, or none",
    "training faces": "ask those who collected them",
    "faces": "ask those who collected them",
}


@dataclass(frozen=True)
class Shipment:
    """A checked folder, ready to be pushed.

    Attributes:
        what: its kind and title, in words.
        kind: of the repository.
        files: by their names in it; a card that the folder lacks is made.
        parts: what they hold, or were made from, with licences.
    """

    what: str
    kind: Kind
    files: Mapping[str, Path | bytes]
    parts: Sequence[Part]

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(map(size_of, self.files.values()))

    def withheld(self) -> list[Part]:
        """Parts that may not be shared, unless someone who read their licence says so."""
        return [part for part in self.parts if known_licence(part.licence).share == "no"]

    def check(self, licence_checked: Collection[str] = ()) -> None:
        """Check that every part may be shared.

        Args:
            licence_checked: names of parts whose licence allows it, by the word of who pushes.

        Raises:
            AgfasError: names the parts that may not, or an unknown name.
        """
        for name in licence_checked:
            if name not in (names := list(dict.fromkeys(part.what for part in self.parts))):
                raise AgfasError(f"--licence-checked '{name}' is no part of it: {nearest(name, names)}")
        refused = [part for part in self.withheld() if part.what not in licence_checked]
        if not refused:
            return
        each = "; ".join(f"the {part.what} ({part.source}), under '{part.licence}'" for part in refused)
        advice = "; ".join(dict.fromkeys(_INSTEAD.get(part.what, "make it without that part") for part in refused))
        said = " ".join(f"--licence-checked '{name}'" for name in dict.fromkeys(part.what for part in refused))
        raise AgfasError(
            f"Nothing is pushed, as this may not be shared as far as this program knows: {each}. What to do: {advice}."
            f" If you have read its terms and they let you share what is pushed, say so with {said}."
        )


def size_of(content: Path | bytes) -> int:
    """In bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def send(shipment: Shipment, name: str, revision: str | None, how: Push, licence_checked: Collection[str] = ()) -> str:
    """Push it as one commit; returns the commit's address.

    Raises:
        AgfasError: a part that may not be shared, or see `pipelines.hub.push`.
    """
    shipment.check(licence_checked)
    place = target(name, shipment.kind, revision)
    note = f"{shipment.what}."
    if licence_checked:
        note += f" Who pushes has read the licence of: {', '.join(sorted(licence_checked))}."
    return push(place, shipment.files, is_ours, how, note)


def is_ours(name: str) -> bool:
    """Whether a file of a repository has a name that a push gives, so that a later push removes it."""
    folder, _, rest = name.partition("/")
    return name in _FILES or (rest != "" and folder in _FOLDERS) or _PARCEL.fullmatch(name) is not None


def pack(folder: Path) -> Shipment:
    """A folder as it would be pushed, after every file was checked; makes no request.

    Raises:
        AgfasError: it holds nothing that is pushed, or is damaged.
    """
    if not folder.is_dir():
        raise AgfasError(f"No folder at {folder}. Give what `agfas save-model`, `export` or `export-cues` wrote.")
    if (folder / SAVED_NAME).is_file():
        return _saved(folder)
    if (folder / LISTING_NAME).is_file():
        return _parcel(folder)
    if (folder / INDEX_NAME).is_file():
        return _generator(folder)
    if is_exported(folder):
        return _exported(folder)
    raise AgfasError(
        f"{folder} is nothing that is pushed: no saved or exported model, no generator, and no export of cues."
    )


def _saved(folder: Path) -> Shipment:
    saved = read_saved(folder)
    files = {name: folder / name for name in (SAVED_NAME, *saved.files)}
    return Shipment(
        f"saved model: {saved.settings.label}, {saved.settings.fold}",
        "model",
        {CARD_NAME: _card(folder, model_card(saved)), **files},
        _held(saved.settings, saved.about.parts, folder),
    )


def _exported(folder: Path) -> Shipment:
    exported = read_exported(folder)
    saved = SavedModel.of(exported.model, exported.about, {})
    names = [EXPORTED_NAME, *([PREDICT_NAME] if (folder / PREDICT_NAME).is_file() else []), *exported.files]
    return Shipment(
        f"exported model: {exported.model.label}, {exported.model.fold}",
        "model",
        {CARD_NAME: _card(folder, model_card(saved)), **{name: folder / name for name in names}},
        _held(exported.model, exported.about.parts, folder),
    )


def _held(settings: ModelSettings, parts: Sequence[Part], folder: Path) -> list[Part]:
    """The parts without those whose weights are not in the folder: the settings alone name them."""
    absent = ["cue source"]
    for name, loaded, place in (
        ("face detector", settings.face_detector, FACE_DETECTOR),
        ("face parser", settings.face_parser, FACE_PARSER),
    ):
        if loaded is None or not loaded.weights or not (folder / place / loaded.weights).is_file():
            absent.append(name)
    unknown = Part(what="model", source="without a list of its parts", licence=PUBLISHER)
    return [part for part in parts if part.what not in absent] if parts else [unknown]


def _parcel(folder: Path) -> Shipment:
    from pipelines.cues.exchange.card import card_of
    from pipelines.cues.exchange.transfer import check_parcel

    listing = check_parcel(folder)
    faces = listing.faces
    source, licence = (faces.title, faces.licence) if faces else ("not recorded: export with --faces", COLLECTED)
    return Shipment(
        f"cue parcel: {listing.count} cues, {listing.store}",
        "dataset",
        {
            CARD_NAME: _card(folder, card_of(listing)),
            LISTING_NAME: folder / LISTING_NAME,
            **{shard.file: folder / shard.file for shard in listing.shards},
        },
        [Part(what="faces", source=source, licence=licence)],
    )


def _generator(folder: Path) -> Shipment:
    from huggingface_hub import ModelCardData

    try:
        check_generator(folder)
        check(folder)
    except ValueError as error:
        raise AgfasError(str(error)) from None
    parts = _parts_of_generator(folder)
    header = ModelCardData(
        **licence_header(parts), library_name="diffusers", pipeline_tag="image-to-image", tags=["face-anti-spoofing"]
    )
    made = render_card(TEMPLATE, header, parts=licence_rows(parts), carried=carried_licences(parts))
    names = [*names_in(folder), *([SEAL_NAME] if (folder / SEAL_NAME).is_file() else [])]
    return Shipment(
        "generator", "model", {CARD_NAME: _card(folder, made), **{name: folder / name for name in names}}, parts
    )


def _parts_of_generator(folder: Path) -> list[Part]:
    """What the run or the saved model around the folder states of it; a lone folder's origin is not known."""
    around = folder.absolute().parent
    if (around / SAVED_NAME).is_file():
        settings = ("face detector", "face parser", "detector", "pretrained weights of the detector", "cue source")
        return [part for part in read_saved(around).about.parts if part.what not in settings]
    if not (around / "config.json").is_file():
        return [Part(what="generator", source=f"{folder.name}, outside of its run", licence=PUBLISHER)]
    experiment = Experiment.model_validate(read_json(around / "config.json"))
    faces = Workspace(experiment).faces
    card = read_card(faces) if (faces / FACES_NAME).is_file() else {}
    return [*face_parts(experiment, card), *generator_parts(experiment)]


def _card(folder: Path, made: str) -> Path | bytes:
    """The folder's own card, or one made now."""
    return folder / CARD_NAME if (folder / CARD_NAME).is_file() else made.encode()
