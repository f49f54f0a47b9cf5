"""The model card of a saved model, and the licence of every part that it lists."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oanet.published import publication, published_names
from pipelines.cues.settings import CONTROLS, OWN, TRAINED, CueSettings
from pipelines.data.records import licence_of_faces
from pipelines.evaluation.exact import HOW, few_videos
from pipelines.experiment.config import Experiment
from pipelines.experiment.generator import (
    BaselineSettings,
    NoIdentity,
    OneCallSettings,
    PatchSettings,
    TaesdSettings,
    TrainedIdentity,
)
from pipelines.experiment.workspace import teacher_of
from pipelines.licences import PUBLISHER, Licence, known_licence, licence_of, of_all
from pipelines.markdown import join_names
from pipelines.templates import render_card
from pipelines.verdict.answers import RULE
from pipelines.verdict.settings import About, Measured, ModelSettings, Part, SavedModel

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TEMPLATE = Path(__file__).with_name("card.md.j2")

_TAGS = ["face-anti-spoofing", "presentation-attack-detection"]
_SIMULATED = (
    "It was trained on attacks simulated from live faces: only rates measured on real attacks say what it makes"
    " of those."
)
_OPTIMISTIC = (
    "The error rates are optimistic: the threshold or the checkpoint was chosen on the same videos that they are"
    " measured on."
)


SIGHTS = {
    "picture": "It sees the whole picture, resized and cut as its publisher's program does it.",
    "box": "It cuts its own crops out of the whole picture around the face's box, by its publisher's rule.",
    "points": "It cuts its own crop out of the whole picture by the face's five points, by its publisher's rule.",
}
"""What a network sees that does not judge the aligned crop, by `ModelSettings.sees`."""


def model_card(saved: SavedModel, exported: str = "") -> str:
    """README.md of a saved model, made from its settings alone; of an exported one also how its graph is called."""
    settings, about, measured = saved.settings, saved.about, saved.about.measured
    return render_card(
        TEMPLATE,
        _metadata(settings, about),
        settings=settings,
        threshold=settings.threshold,
        about=about,
        exported=exported,
        measured=measured,
        calibration=settings.calibration,
        rule=RULE,
        sight=SIGHTS.get(settings.sees, ""),
        cue=_cue_words(settings.cue),
        shared=[domain for domain in measured.domains if domain in about.train_domains] if measured else [],
        counts=_count_rows(about),
        optimistic=_OPTIMISTIC,
        warnings=warnings(settings, about),
        rates=_rate_rows(measured) if measured else [],
        few_videos=few_videos({"": (measured.live_videos, measured.attack_videos)}) if measured else "",
        how_exact=HOW,
        parts=licence_rows(about.parts),
        carried=carried_licences(about.parts),
        made=_made_rows(settings, about),
    )


def _metadata(settings: ModelSettings, about: About) -> ModelCardData:
    """The header of the card, by which the hub lists a model and shows its error rates."""
    from huggingface_hub import ModelCardData

    results = _eval_results(about)
    return ModelCardData(
        **licence_header(about.parts),
        library_name="agfas",
        pipeline_tag="image-classification",
        tags=_TAGS,
        model_name=settings.label if results else None,
        eval_results=results or None,
    )


def licence_header(parts: Sequence[Part]) -> dict[str, Any]:
    """The licence of a whole in the hub's metadata."""
    licence = of_all([part.licence for part in parts])
    return {"license": licence.hub, **({"license_name": "that-of-each-part"} if licence.hub == "other" else {})}


def licence_rows(parts: Sequence[Part]) -> list[tuple[str, str, str]]:
    """What each part is, and its licence."""
    return [(part.what, part.source, part.licence) for part in parts]


def carried_licences(parts: Sequence[Part]) -> list[Licence]:
    """Licences whose terms must go with every copy."""
    known = [known_licence(part.licence) for part in parts]
    return list(dict.fromkeys(licence for licence in known if licence.share == "with its terms"))


def _eval_results(about: About) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    if (measured := about.measured) is None:
        return []
    domains = join_names(measured.domains)
    return [
        EvalResult(
            task_type="image-classification",
            task_name="face anti-spoofing",
            dataset_type="-".join(re.findall(r"[a-z0-9]+", about.dataset.lower())) or "faces",
            dataset_name=f"{about.dataset}, {domains}",
            dataset_split="test",
            metric_type=name,
            metric_name=f"{name.upper()} at the model's threshold" if name != "auc" else "AUC",
            metric_value=round(value, 6),
        )
        for name in ("hter", "acer", "bpcer", "far", "auc")
        if math.isfinite(value := getattr(measured, name))
    ]


def warnings(settings: ModelSettings, about: About) -> list[str]:
    """Reasons not to rely on a verdict, the most serious first; the demo shows them too."""
    reasons = {
        "It was trained on computer-drawn faces: its verdict on a photograph of a person means nothing.": about.drawn
        and about.published is None,
        _SIMULATED: bool(about.simulated),
        "It is a control of an experiment. Do not rely on it.": settings.is_control,
        _OPTIMISTIC: not settings.threshold.honest,
    }
    return [reason for reason, applies in reasons.items() if applies]


def _cue_words(cue: CueSettings | None) -> str:
    if cue is None:
        return "It sees the face alone."
    if cue.source in CONTROLS:
        kinds = {"autoencoder": "the error of an autoencoder", "zero": "zeros", "noise": "noise"}
        what = kinds.get(cue.source, f"the cue '{cue.source}'")
        return f"Its second input is {what}: it is a control of an experiment."
    averaged = f", the mean of {cue.samples} restorations" if cue.samples > 1 else ""
    generator = (
        f"a generator of live faces, which noises the face to t = {cue.timestep} and restores it on a grid of"
        f" {cue.num_inference_steps} steps{averaged}"
    )
    makers = {
        "dfg": generator,
        "dfg_no_identity": generator,
        "memae": "an autoencoder with a memory of live faces (MemAE)",
        "deep_svdd": "an autoencoder of live faces with a narrow bottleneck (Deep SVDD)",
        "anoddpm": f"a diffusion model of live faces (AnoDDPM), which adds {cue.timestep} steps of noise and removes it"
        f" in {cue.calls or cue.timestep}",
        "one_call": "a network that learned the mean of many restorations by a generator of live faces, in one call",
    }
    maker = makers.get(cue.source, f"the cue source `{cue.source}`")
    return f"It compares the face with its restoration by {maker}."


def _count_rows(about: About) -> list[tuple[str, ...]]:
    use = {"train": "training", "dev": "threshold"}
    return [
        (count.domain, count.kind, use[count.split], f"{count.faces:,}", str(count.videos), str(count.subjects))
        for count in about.counts
    ]


def _rate_rows(measured: Measured) -> list[tuple[str, str, str]]:
    """Title, percentage and interval of every rate."""
    rates = [
        ("live faces called attacks (BPCER)", measured.bpcer, "bpcer"),
        ("attacks called live, all types together (FAR)", measured.far, "far"),
        *(
            (f"attacks called live, {kind} (APCER)", rate, f"apcer {kind}")
            for kind, rate in sorted(measured.apcer_per_type.items())
        ),
        ("mean of FAR and BPCER (HTER)", measured.hter, "hter"),
        ("mean of the worst APCER and BPCER (ACER)", measured.acer, "acer"),
        ("area under the ROC curve (AUC)", measured.auc, "auc"),
    ]
    return [(title, _percent(rate), _interval(measured, name)) for title, rate, name in rates]


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _interval(measured: Measured, name: str) -> str:
    ends = measured.intervals.get(name)
    return f"{_percent(ends[0])} to {_percent(ends[1])}" if ends else ""


def _made_rows(settings: ModelSettings, about: About) -> list[tuple[str, str]]:
    threshold, size, cue = settings.threshold, settings.face.size, settings.cue
    checkpoint = f"checkpoint of step {threshold.step}, rule '{threshold.selection}'"
    return [
        ("detector", f"{settings.detector}, {about.parameters:,} parameters"),
        *(
            []
            if about.published
            else [("objective", about.objective), ("training", f"{about.steps} steps, seed {about.seed}; {checkpoint}")]
        ),
        ("threshold", f"{threshold.value!r}, rule '{threshold.rule}'"),
        ("crop", f"{size} x {size} pixels, 8-bit RGB, (pixel - 127.5) / 127.5"),
        *([("cue", f"{cue.source}, form {cue.form}, normalised: {cue.normalize}")] if cue else []),
        ("versions", ", ".join(f"{name} {number}" for name, number in sorted(about.versions.items()))),
    ]


OURS = "Apache-2.0, within the terms of the faces it was trained on"
_TAESD = "MIT if they are madebyollin's, else their publisher's"


def parts_of(experiment: Experiment, card: dict[str, Any], settings: ModelSettings) -> list[Part]:
    """Every part that the folder holds or was made from, with its licence.

    Args:
        experiment: the run's configuration.
        card: of its face dataset.
        settings: of the model to save.
    """
    parts = [
        Part(what="this program", source="AG-FAS", licence="Apache-2.0"),
        *_detector(experiment, card, settings),
        *_backbone(experiment),
    ]
    if settings.needs_generator:
        parts += [*generator_parts(experiment), *_autoencoder_of_cue(experiment)]
    if settings.cue is not None and settings.cue.is_custom:
        parts.append(Part(what="cue source", source=settings.cue.source, licence=PUBLISHER))
    if settings.face_detector is not None:
        found = settings.face_detector
        parts.append(Part(what="face detector", source=found.name, licence=found.licence))
    if settings.needs_mask and settings.face_parser is not None:
        parser = settings.face_parser
        parts.append(Part(what="face parser", source=parser.name, licence=parser.licence))
    return parts


def _detector(experiment: Experiment, card: dict[str, Any], settings: ModelSettings) -> list[Part]:
    """The detector with the faces that it was trained on, or as published."""
    if experiment.train.steps:
        trained = Part(what="detector", source=f"{settings.detector}, trained by this run", licence=OURS)
        return [*face_parts(experiment, card), trained]
    if settings.detector in published_names():
        known = publication(settings.detector)
        return [Part(what="detector", source=known.title, licence=known.licence)]
    return [Part(what="detector", source=settings.detector, licence=PUBLISHER)]


def face_parts(experiment: Experiment, card: dict[str, Any]) -> list[Part]:
    """The datasets, under the terms that their importers state."""
    data = experiment.data
    if data.name == "synthetic" or card.get("kind") == "synthetic":
        source, card = "drawn by this program", {"kind": "synthetic"}
    else:
        source = data.title
    return [Part(what="training faces", source=source, licence=licence_of_faces(card))]


def _backbone(experiment: Experiment) -> list[Part]:
    """Pretrained weights that the detector was initialised with."""
    options = experiment.detector.options()
    if not options.get("pretrained"):
        return []
    from oanet.presets import detector_preset
    from oanet.sources import is_source

    preset = detector_preset(experiment.detector.name, options.get("preset", "base"))
    names = [options.get(key, preset.get(key)) for key in ("backbone", "cue_backbone")]
    return [
        _loaded("pretrained weights of the detector", name.partition(":")[2] or name)
        if is_source(name)
        else Part(what="pretrained weights of the detector", source=f"timm/{name}", licence=licence_of(name))
        for name in names
        if name
    ]


def generator_parts(experiment: Experiment) -> list[Part]:
    """The generator of a run and what it was made from, without the faces."""
    generator = experiment.generator
    if isinstance(generator, OneCallSettings):
        student = _trained("generator", f"{generator.name} of the preset {generator.preset}")
        teacher = generator_parts(teacher_of(experiment))
        return [student, *(part.model_copy(update={"what": f"{part.what} of its teacher"}) for part in teacher)]
    if isinstance(generator, BaselineSettings):
        return [_trained("generator", f"{generator.name} of the preset {generator.preset}")]
    parts = [_trained("generator", f"U-Net of the preset {generator.preset}")]
    if generator.unet_weights:
        parts.append(_loaded("weights that the generator was initialised with", generator.unet_weights))
    autoencoder = generator.autoencoder
    if isinstance(autoencoder, PatchSettings):
        parts.append(Part(what="autoencoder", source="patch transform, fitted by this run", licence=OURS))
    elif isinstance(autoencoder, TaesdSettings):
        source = f"{autoencoder.encoder.name} and {autoencoder.decoder.name}"
        parts.append(Part(what="autoencoder", source=source, licence=_TAESD))
    else:
        parts.append(_loaded("autoencoder", autoencoder.path))
    return parts + _identity(experiment)


def _autoencoder_of_cue(experiment: Experiment) -> list[Part]:
    """What the folder holds in place of the generator's own autoencoder."""
    what, name = "autoencoder of the cue", experiment.cue.autoencoder
    if name == OWN:
        return []
    return [_trained(what, "AutoencoderTiny") if name == TRAINED else _loaded(what, name)]


def _identity(experiment: Experiment) -> list[Part]:
    identity = experiment.identity
    if isinstance(identity, NoIdentity):
        return []
    if isinstance(identity, TrainedIdentity):
        return [_trained("identity encoder", identity.preset)]
    licence = "its publisher's; insightface's recognition packs are for non-commercial research alone"
    return [Part(what="identity encoder", source=Path(identity.path).name, licence=licence)]


def _trained(what: str, source: str) -> Part:
    return Part(what=what, source=f"{source}, trained by this run", licence=OURS)


def _loaded(what: str, place: str) -> Part:
    """Weights from elsewhere, by the last part of their name, so that no folder of this machine is published."""
    hub = not Path(place).exists() and place.count("/") == 1
    return Part(what=what, source=place if hub else Path(place).name, licence=licence_of(place))
