"""What the page says of itself: what it takes, what the detector learnt, how it errs, and what becomes of a picture."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.verdict.settings import About, ModelSettings

TITLE = "Live, or a print, a screen, a mask?"
EMPTY = "The verdict will stand here."
NOT_SECURITY = "A demonstration of research, not a security product: do not let it decide who gets in."
PRIVACY = (
    "Your picture is judged on the computer that serves this page. Its file is deleted there seconds after the answer;"
    " nothing is sent elsewhere, counted or shared."
)
_FACE = "the face as the detector sees it."
_RESTORATION = "that face as the generator, which learnt live faces alone, would draw it."
_CUE = "what the restoration changed: the detector's second input. Grey is no change."
_ATTENTION = "where the detector looks in the cue, laid on the face: bright where it looks most."
_OF_A_CONTROL = {
    "restoration": "that face after an autoencoder, which knows nothing of real faces.",
    "cue": "the detector's second input, which is a control's here. Grey is 0.",
}


def what_it_takes(finds_faces: bool) -> str:
    """One sentence on which pictures are answered."""
    if finds_faces:
        return "Give a photo with a face in it, or take one with the webcam. Several faces are judged one by one."
    return (
        "Give a picture that is a square, aligned crop of a face. Whole photographs are answered where the page is"
        " started with a face detector."
    )


def pictures(settings: ModelSettings, names: Sequence[str]) -> dict[str, str]:
    """What a detector's panels show.

    Args:
        settings: of the detector.
        names: of its panels; the parts of a cue are told of once.
    """
    told = {"face": _FACE, "restoration": _RESTORATION, "cue": _CUE, "attention": _ATTENTION}
    if settings.is_control:
        told |= _OF_A_CONTROL
    found = {name.split(",")[0] for name in names}
    return {name: text for name, text in told.items() if name in found}


def limits(settings: ModelSettings, about: About) -> list[str]:
    """Sentences on what a verdict is worth, the gravest first."""
    found = []
    if about.drawn:
        found.append(
            "The detector learnt from faces that a program drew: its verdict on a person's photograph means nothing."
        )
    if settings.is_control:
        found.append("The detector is a control of an experiment, not one to rely on.")
    if not settings.threshold.honest:
        found.append("Threshold or checkpoint was chosen on the very videos that the rates below are of: they flatter.")
    return [*found, _learnt(about), _errs(about), "The score orders faces; it is no probability of being live."]


def _learnt(about: About) -> str:
    faces = sum(count.faces for count in about.counts if count.split == "train")
    kinds = sorted({count.kind for count in about.counts} - {"live"})
    return (
        f"It learnt from {faces:,} faces of {about.dataset} ({_listed(about.train_domains)}): live ones and the attacks"
        f" {_listed(kinds)}. Other attacks, and better ones, may pass."
    )


def _errs(about: About) -> str:
    measured = about.measured
    return (
        f"On {_listed(measured.domains)}, which it did not learn from, it called {_percent(measured.bpcer)} of"
        f" {measured.live_videos} live videos attacks and {_percent(measured.far)} of {measured.attack_videos} attack"
        " videos live. With another camera and light it errs otherwise."
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"
