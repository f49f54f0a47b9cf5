"""README.md of a saved folder: a model card in plain words, made from the settings alone."""

from __future__ import annotations

from collections.abc import Sequence

from dfg.baselines import BASELINES
from pipelines.cues.settings import RESTORING
from pipelines.experiment.config import CueSettings
from pipelines.verdict.answers import RULE
from pipelines.verdict.settings import About, Measured, ModelSettings, SavedModel

_OPEN = "Apache-2.0"


def model_card(saved: SavedModel) -> str:
    """Markdown with a front matter as model hubs read it."""
    settings, about = saved.settings, saved.about
    sections = [
        _front_matter(about),
        f"# Face anti-spoofing: {settings.label}, {settings.fold}",
        _what_it_is(settings),
        "## How to use it",
        _USE,
        "## What it was trained on",
        _trained_on(settings, about),
        "## How often it errs",
        _errors(settings, about.measured),
        "## Limits",
        _listed(_limits(settings, about)),
        "## Licences",
        _table(("part", "what", "licence"), [(part.what, part.source, part.licence) for part in about.parts]),
        "## How it was made",
        _made(settings, about),
    ]
    return "\n\n".join(sections) + "\n"


_USE = """\
```python
from pipelines.verdict import FaceAntiSpoofing
detector = FaceAntiSpoofing.from_pretrained("this folder")
print(detector("photo.jpg"))
```

or `agfas detect photo.jpg video.mp4 folder/ --model "this folder"`. Loading checks the hash of every file and unpickles
nothing."""


def _front_matter(about: About) -> str:
    licence = "apache-2.0" if all(part.licence.startswith(_OPEN) for part in about.parts) else "other"
    tags = ("face-anti-spoofing", "presentation-attack-detection")
    return "\n".join(
        ["---", f"license: {licence}", "library_name: agfas", "tags:", *(f"- {tag}" for tag in tags), "---"]
    )


def _what_it_is(settings: ModelSettings) -> str:
    found = settings.face_detector
    how = (
        f"It finds faces with {found.name} and aligns them to the template '{settings.face.template}'"
        if found
        else "It takes square, aligned face crops; for whole photographs, name a face detector"
    )
    return (
        "It answers whether the face in a picture or video is live or a presentation attack (a print, a screen, a"
        f" mask). {how}. Where there are several faces, {RULE}. {_cue_words(settings)}"
    )


def _cue_words(settings: ModelSettings) -> str:
    cue = settings.cue
    if cue is None:
        return "It looks at the face alone."
    if cue.source in BASELINES:
        return _baseline_words(cue)
    if cue.source in RESTORING:
        averaged = f", the mean of {cue.samples} restorations" if cue.samples > 1 else ""
        return (
            "It looks at the face and at how a generator of live faces would change it: the face is noised to"
            f" t = {cue.timestep} and restored on a grid of {cue.num_inference_steps} steps{averaged}."
        )
    kinds = {"autoencoder": "the error of an autoencoder", "zero": "zeros", "noise": "noise"}
    return f"Beside the face it is given {kinds[cue.source]}: it is a control of an experiment."


def _baseline_words(cue: CueSettings) -> str:
    words = {
        "memae": "how an autoencoder with a memory of live faces (MemAE) would change it",
        "deep_svdd": "how an autoencoder of live faces with a narrow bottleneck (that of Deep SVDD) would change it",
        "anoddpm": f"how a diffusion model of live faces (AnoDDPM) would change it: noised by {cue.timestep} steps and"
        f" restored in {cue.calls or cue.timestep}",
    }
    return f"It looks at the face and at {words[cue.source]}."


def _trained_on(settings: ModelSettings, about: About) -> str:
    text = (
        f"Faces of {about.dataset} (fingerprint `{about.dataset_fingerprint}`), domains {_and(about.train_domains)}."
        f" {_kept_apart(about)}"
    )
    if about.generator is not None:
        text += (
            f" The generator learnt from {about.generator.live_faces:,} live faces of"
            f" {_and(about.generator.domains)} and never saw an attack."
        )
    rows = [
        (count.domain, count.kind, _SPLITS[count.split], f"{count.faces:,}", str(count.videos), str(count.subjects))
        for count in about.counts
    ]
    table = _table(("domain", "kind", "for", "faces", "videos", "persons"), rows)
    return f"{text}\n\n{table}"


def _kept_apart(about: About) -> str:
    """How the test differs from the training: other domains, or other persons of the same ones."""
    judged = about.measured.domains
    shared = [domain for domain in judged if domain in about.train_domains]
    if not shared:
        return f"Left out and kept for the test: {_and(judged)}."
    return (
        f"Judged on the test split of {_and(judged)}: persons of whom nothing was trained on (videos, where no person"
        f" is known), but cameras and kinds of attack of {_and(shared)} were in the training."
    )


_SPLITS = {"train": "training", "dev": "threshold"}


def _errors(settings: ModelSettings, measured: Measured) -> str:
    threshold = settings.threshold
    intro = (
        f"Measured on {measured.live_videos} live and {measured.attack_videos} attack videos of"
        f" {_and(measured.domains)}, at the saved threshold {threshold.value:.4f}, which is the {threshold.origin}."
    )
    warning = "" if threshold.honest else f"\n\n**{_NOT_HONEST}**"
    rows = [
        ("live faces called attacks (BPCER)", _percent(measured.bpcer), _interval(measured, "bpcer")),
        ("attacks called live, all kinds together (FAR)", _percent(measured.far), _interval(measured, "far")),
        *(
            (f"attacks called live, {kind} (APCER)", _percent(rate), _interval(measured, f"apcer {kind}"))
            for kind, rate in sorted(measured.apcer_per_type.items())
        ),
        ("mean of FAR and BPCER (HTER)", _percent(measured.hter), _interval(measured, "hter")),
        ("mean of the worst APCER and BPCER (ACER)", _percent(measured.acer), _interval(measured, "acer")),
        ("area under the ROC curve (AUC)", _percent(measured.auc), _interval(measured, "auc")),
    ]
    table = _table(("rate", "%", "95 % interval"), rows)
    how = f"Intervals: {measured.replicates} bootstrap replicates over videos.{_without_width(measured)}"
    return f"{intro}{warning}\n\n{table}\n\n{how}"


def _without_width(measured: Measured) -> str:
    """What an interval of no width hides: n videos without an exception bear a rate of 1 - 0.05^(1 / n) too."""
    rates = [(measured.bpcer, measured.live_videos, "live")]
    rates += [(rate, measured.videos_per_type[kind], kind) for kind, rate in sorted(measured.apcer_per_type.items())]
    said = []
    for rate, count, what in rates:
        if rate in (0, 1):
            hidden = 100 * (1 - 0.05 ** (1 / count))
            away = f"up to {hidden:.0f}" if rate == 0 else f"down to {100 - hidden:.0f}"
            said.append(f" All {count} {what} videos fell alike; a true rate of {away} % could still give that.")
    return "".join(said)


_NOT_HONEST = (
    "These rates flatter: the threshold or the checkpoint was chosen on the very videos that they are measured on."
)


def _limits(settings: ModelSettings, about: About) -> list[str]:
    kinds = sorted({count.kind for count in about.counts} - {"live"})
    limits = [
        f"It learnt the attack kinds {_and(kinds)}. Others, and better ones, may pass.",
        "The error rates are those of the domain named above. With another camera, light or kind of attack they are"
        " others; measure on your own recordings before you rely on it.",
        "The score orders faces and is no probability of being live.",
        "It does not say who a person is, and it was not tested for equal error rates over age, sex or skin colour.",
        f"Faces are judged at {settings.face.size} x {settings.face.size} pixels; smaller ones are enlarged and less"
        " certain.",
        "A video's score is the mean over frames that are uniform in time; it does not follow motion.",
    ]
    if about.drawn:
        limits.insert(0, "It was trained on faces that a program drew, so it is of no use on photographs of persons.")
    if settings.is_control:
        limits.insert(0, "It is a control of an experiment, not a detector to rely on.")
    if not settings.threshold.honest:
        limits.insert(0, _NOT_HONEST)
    if not settings.face.template_known:
        limits.append(
            "How the training's crops were aligned is not recorded. With a face detector the template"
            f" '{settings.face.template}' is taken, and scores are off where that was another."
        )
    return limits


def _made(settings: ModelSettings, about: About) -> str:
    threshold = settings.threshold
    rows = [
        ("detector", f"{settings.detector}, {about.parameters:,} parameters"),
        ("objective", about.objective),
        ("training", f"{about.steps} steps, seed {about.seed}; checkpoint of step {threshold.step}, rule"
         f" '{threshold.selection}'"),
        ("threshold", f"{threshold.value!r}, rule '{threshold.rule}'"),
        ("crop", f"{settings.face.size} x {settings.face.size} pixels, 8-bit RGB, (pixel - 127.5) / 127.5"),
        *([("cue", f"{settings.cue.source}, form {settings.cue.form}, normalised: {settings.cue.normalize}")]
          if settings.cue else []),
        ("versions", ", ".join(f"{name} {number}" for name, number in sorted(about.versions.items()))),
    ]  # fmt: skip
    return _table(("what", "how"), rows)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _interval(measured: Measured, name: str) -> str:
    ends = measured.intervals.get(name)
    return f"{_percent(ends[0])} to {_percent(ends[1])}" if ends else ""


def _listed(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
