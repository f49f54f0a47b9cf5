"""The model card row by row, of facts written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from verdict_facts import ABOUT, MEASURED, SETTINGS

from pipelines.experiment.config import CueSettings
from pipelines.experiment.file import build_experiment
from pipelines.licences import licence_of
from pipelines.verdict.card import model_card, parts_of, warnings
from pipelines.verdict.settings import About, LoadedPart, ModelSettings, Part, PublishedFacts, SavedModel

PUBLISHER = "its publisher's; the configuration names none"
OURS = "Apache-2.0, within the terms of the faces it was trained on"
OPTIMISTIC = (
    "The error rates are optimistic: the threshold or the checkpoint was chosen on the same videos that they are"
    " measured on."
)


def card(settings: ModelSettings = SETTINGS, about: About = ABOUT) -> str:
    return model_card(SavedModel(settings=settings, about=about, files={}))


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table's rows, without heads."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("| ---"):
            found.append([])
        elif line.startswith("|") and inside:
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return found


def test_every_table_of_the_card():
    counts, rates, parts, made = tables(card())
    assert counts == [
        ["kiosk", "live", "training", "1,200", "12", "3"],
        ["webcam", "print", "training", "34", "5", "4"],
        ["webcam", "live", "threshold", "7", "6", "2"],
    ]
    assert rates == [
        ["live faces called attacks (BPCER)", "13.0", "7.0 to 22.0"],
        ["attacks called live, all types together (FAR)", "12.0", "6.0 to 21.0"],
        ["attacks called live, mask (APCER)", "30.0", "10.0 to 45.7"],
        ["attacks called live, print (APCER)", "20.0", ""],
        ["mean of FAR and BPCER (HTER)", "11.0", "5.0 to 20.0"],
        ["mean of the worst APCER and BPCER (ACER)", "14.0", "8.0 to 23.0"],
        ["area under the ROC curve (AUC)", "95.0", "90.0 to 99.0"],
    ]
    assert parts == [["this program", "AG-FAS", "Apache-2.0"]]
    assert made == [
        ["detector", "oanet, 1,234,567 parameters"],
        ["objective", "SA-FAS"],
        ["training", "500 steps, seed 3; checkpoint of step 400, rule 'last'"],
        ["threshold", "0.5, rule 'source_dev_eer'"],
        ["crop", "32 x 32 pixels, 8-bit RGB, (pixel - 127.5) / 127.5"],
        ["cue", "dfg, form residual, normalised: per_face"],
        ["versions", "python 3.11, torch 2.0"],
    ]


def test_the_card_in_words():
    text = card()
    head = text.split("---")[1]
    header = yaml.safe_load(head)
    ((model,), tags) = header.pop("model-index"), ["face-anti-spoofing", "presentation-attack-detection"]
    kind, licence = "image-classification", "apache-2.0"
    assert header == {"license": licence, "library_name": "agfas", "tags": tags, "pipeline_tag": kind}
    assert model["name"] == "ours"
    (result,) = model["results"]
    assert result["task"] == {"type": kind, "name": "face anti-spoofing"}
    named = {"name": "the faces of a test, phone", "type": "the-faces-of-a-test", "split": "test"}
    assert result["dataset"] == named
    values = {each["type"]: each["value"] for each in result["metrics"]}
    assert values == {"hter": 0.11, "acer": 0.14, "bpcer": 0.13, "far": 0.12, "auc": 0.95}
    for words in (
        "# Face anti-spoofing: ours, to_phone\n",
        "It finds faces with yunet and aligns them to the template 'arcface'.",
        "If there are several faces, the largest face decides. It compares the face with its restoration by a generator"
        " of live faces, which noises the face to t = 161 and restores it on a grid of 25 steps, the mean of 2"
        " restorations.\n",
        "Faces of the faces of a test (fingerprint `0123`), domains kiosk and webcam.",
        "Left out and kept for the test: phone.",
        "The generator was trained on 2,100 live faces of corpus and on no attack.",
        "It says live where the score is at least 0.5000: EER of 9 held-out source videos (kiosk).",
        "Measured on 8 live and 31 attack videos of phone, at the threshold 0.5000.",
        "Intervals: 1000 bootstrap replicates over videos; exact (Clopper-Pearson) where a class has fewer than 30"
        " videos or a rate counts fewer than 5. **Few test videos: 8 live.",
        "It was trained on the attack types print.",
        "Faces are judged at 32 x 32 pixels",
        "With a face detector the template 'arcface' is taken",
    ):
        assert words in text, words
    assert OPTIMISTIC not in text
    assert "optimistic" in card(changed_threshold(rule="target_eer"))
    other = ABOUT.model_copy(update={"parts": [*ABOUT.parts, Part(what="x", source="y", licence="its own")]})
    assert "license: other" in card(about=other)
    broken = MEASURED.model_copy(update={"auc": float("nan")})
    assert "type: auc" not in card(about=ABOUT.model_copy(update={"measured": broken}))
    bare = card(SETTINGS.model_copy(update={"face_detector": None, "cue": None}))
    assert "Its input is square, aligned face crops" in bare
    assert "It sees the face alone." in bare
    assert ["cue", "dfg, form residual, normalised: per_face"] not in tables(bare)[-1]
    shared = MEASURED.model_copy(update={"domains": ["phone", "webcam"]})
    assert "kinds of attack of webcam were in the training" in card(about=ABOUT.model_copy(update={"measured": shared}))


def changed_threshold(**changes: Any) -> ModelSettings:
    return SETTINGS.model_copy(update={"threshold": SETTINGS.threshold.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("sees", "words"),
    [
        ("picture", "It sees the whole picture, resized and cut as its publisher's program does it. It finds"),
        ("box", "It cuts its own crops out of the whole picture around the face's box, by its publisher's rule. It"),
        ("points", "It cuts its own crop out of the whole picture by the face's five points, by its publisher's rule."),
    ],
)
def test_a_published_network_s_card(sees, words):
    published = PublishedFacts(title="MiniFASNet", trained_on="photos of a publisher")
    about = ABOUT.model_copy(update={"published": published, "measured": None, "counts": [], "generator": None})
    text = card(SETTINGS.model_copy(update={"sees": sees, "cue": None}), about)
    assert words in text
    assert "the weights are those of MiniFASNet, trained on photos of a publisher." in text
    assert "Nothing was measured here." in text
    assert "Which attacks it was trained on is known to its publisher alone." in text
    assert "The dataset does not record" not in text
    assert [row[0] for row in tables(text)[-1]] == ["detector", "threshold", "crop", "versions"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"source": "autoencoder"},
            "Its second input is the error of an autoencoder: it is a control of an experiment.",
        ),
        ({"source": "zero"}, "Its second input is zeros: it is a control of an experiment."),
        ({"source": "noise"}, "Its second input is noise: it is a control of an experiment."),
        ({"source": "shuffled"}, "Its second input is the cue 'shuffled': it is a control of an experiment."),
        ({"samples": 1}, "restores it on a grid of 50 steps."),
        ({"source": "dfg_no_identity"}, "by a generator of live faces, which noises the face to t = 801"),
        ({"source": "memae"}, "by an autoencoder with a memory of live faces (MemAE)."),
        ({"source": "deep_svdd"}, "by an autoencoder of live faces with a narrow bottleneck (Deep SVDD)."),
        ({"source": "anoddpm", "timestep": 200}, "which adds 200 steps of noise and removes it in 200."),
        ({"source": "anoddpm", "timestep": 200, "calls": 9}, "which adds 200 steps of noise and removes it in 9."),
        ({"source": "json:JSONDecoder"}, "by the cue source `json:JSONDecoder`."),
    ],
)
def test_every_cue_in_words(changes, words):
    cue = CueSettings.model_construct(**{**CueSettings().model_dump(), **changes})
    assert words in card(SETTINGS.model_copy(update={"cue": cue}))


def test_warnings_in_their_order():
    drawn = ABOUT.model_copy(update={"drawn": True})
    control = changed_threshold(selection="oracle").model_copy(update={"cue": CueSettings(source="zero")})
    assert warnings(SETTINGS, ABOUT) == []
    assert "simulated from live faces" in warnings(SETTINGS, ABOUT.model_copy(update={"simulated": ["kiosk"]}))[0]
    assert warnings(control, drawn) == [
        "It was trained on computer-drawn faces: its verdict on a photograph of a person means nothing.",
        "It is a control of an experiment. Do not rely on it.",
        OPTIMISTIC,
    ]
    published = drawn.model_copy(update={"published": PublishedFacts(title="x", trained_on="y")})
    assert warnings(SETTINGS, published) == []
    rules = ("published", "source_dev_eer", "target_eer")
    assert [changed_threshold(rule=rule).threshold.honest for rule in rules] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("runwayml/stable-diffusion-v1-5", "CreativeML OpenRAIL-M"),
        ("stabilityai/sd-vae-ft-mse", "MIT"),
        ("timm/vit_base_patch16_224.orig_in21k", "Apache-2.0"),
        ("resnet18.tv_in1k", "BSD-3-Clause"),
        ("vit_small_patch14_dinov2", "Apache-2.0"),
        ("vit_small_patch16_dinov3", "DINOv3 License, of Meta"),
        ("my_net", PUBLISHER),
    ],
)
def test_licences_of_published_weights(name, licence):
    assert licence_of(name) == licence


def parts(changes: dict[str, Any], settings: ModelSettings = SETTINGS, **card: Any) -> list[tuple[str, str, str]]:
    given = build_experiment({"data": {"name": "dataset", "path": "/home/me/my faces"}, **changes}, "the test")
    return [(part.what, part.source, part.licence) for part in parts_of(given, card, settings)]


PROGRAM = ("this program", "AG-FAS", "Apache-2.0")
DETECTOR = ("detector", "oanet, trained by this run", OURS)
FINDER = ("face detector", "yunet", "MIT")


def test_every_part_and_its_licence():
    masked = SETTINGS.model_copy(
        update={
            "cue": CueSettings(mask="face"),
            "face_parser": LoadedPart(name="bisenet", fingerprint={}, licence="its own"),
        }
    )
    faces = ("training faces", "my faces", "the terms of whoever collected them")
    assert parts({}, masked) == [
        PROGRAM,
        faces,
        DETECTOR,
        ("generator", "U-Net of the preset tiny, trained by this run", OURS),
        ("autoencoder", "patch transform, fitted by this run", OURS),
        ("identity encoder", "tiny, trained by this run", OURS),
        FINDER,
        ("face parser", "bisenet", "its own"),
    ]
    plain = SETTINGS.model_copy(update={"cue": None, "face_parser": masked.face_parser})
    assert parts({}, plain, licence="CC BY") == [PROGRAM, (*faces[:2], "CC BY"), DETECTOR, FINDER]
    drawn = ("training faces", "drawn by this program", "Apache-2.0")
    assert parts({}, plain, kind="synthetic")[1] == drawn
    assert parts({"data": {"name": "synthetic"}}, plain)[1] == drawn
    custom = SETTINGS.model_copy(update={"cue": CueSettings(source="json:JSONDecoder")})
    assert parts({}, custom)[3:] == [("cue source", "json:JSONDecoder", PUBLISHER), FINDER]


def test_what_a_generator_was_made_from():
    given = {
        "generator": {
            "preset": "sd15",
            "unet_weights": "runwayml/stable-diffusion-v1-5",
            "autoencoder": {"name": "pretrained", "path": "/home/me/sd-vae-ft-mse"},
        },
        "identity": {"name": "none"},
    }
    assert parts(given)[3:-1] == [
        ("generator", "U-Net of the preset sd15, trained by this run", OURS),
        ("weights that the generator was initialised with", "runwayml/stable-diffusion-v1-5", "CreativeML OpenRAIL-M"),
        ("autoencoder", "sd-vae-ft-mse", "MIT"),
    ]
    tiny = {"name": "taesd", "encoder": "/home/me/enc.pth", "decoder": "/home/me/dec.pth"}
    arcface = {"name": "backbone", "path": "/home/me/backbone.pth"}
    assert parts({"generator": {"autoencoder": tiny}, "identity": arcface})[4:-1] == [
        ("autoencoder", "enc.pth and dec.pth", "MIT if they are madebyollin's, else their publisher's"),
        (
            "identity encoder",
            "backbone.pth",
            "its publisher's; insightface's recognition packs are for non-commercial research alone",
        ),
    ]
    memory = SETTINGS.model_copy(update={"cue": CueSettings(source="memae")})
    given = {"generator": {"name": "memae"}, "cue": {"source": "memae"}}
    assert parts(given, memory)[3:-1] == [("generator", "memae of the preset tiny, trained by this run", OURS)]


def test_a_detector_that_is_not_trained_here():
    published = SETTINGS.model_copy(update={"cue": None, "detector": "liveness_vit"})
    untrained = {"train": {"steps": 0}, "detector": {"name": "liveness_vit", "weights": "/home/me/model.pt"}}
    (_, (what, source, _), *_) = parts(untrained, published)
    assert (what, source) == ("detector", "face-liveness-vit (Affine Institute, 2026)")
    other = SETTINGS.model_copy(update={"cue": None, "detector": "mine"})
    assert parts(untrained, other)[1] == ("detector", "mine", PUBLISHER)
