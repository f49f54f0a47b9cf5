"""`agfas reproduce`: places, ground, rows, work, and what it says about missing data."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from output_folder import write_faces

from oanet.names import DETECTORS, OBJECTIVES
from pipelines.cost.parts import left_of
from pipelines.data.join import join_faces, joined_name
from pipelines.data.records import load_faces, read_card
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.report.contents import Target
from pipelines.reproduce.ground import Ground, Needed, deal, protocol_on, short_name, targets_at
from pipelines.reproduce.papers import read_papers
from pipelines.reproduce.request import Asked, make_recipe
from pipelines.reproduce.rows import plan_rows
from pipelines.reproduce.settings import ProtocolChoice, read_table, table_names
from pipelines.stages import reproduce

CONFIGS = Path(__file__).parents[3] / "configs" / "paper"
TABLES = table_names(CONFIGS)


def asked(table: str, on: tuple[str, ...] = ("synthetic",), **options) -> Asked:
    return Asked(table, on, configs=CONFIGS, **options)


def printed_by(request: Asked, **options) -> str:
    lines: list[str] = []
    reproduce.plan(request, echo=lines.append, **options)
    return "\n".join(lines)


def prepared(folder: Path, *domains: str, live: bool = False) -> str:
    """A tiny face dataset with these domains; only its live faces where asked."""
    write_faces(folder, domains)
    if live:
        faces = load_faces(folder).filter(lambda label: label == 1, input_columns="label")
        faces.save_to_disk(str(folder.with_name(folder.name + "-live")))
        shutil.rmtree(folder)
        folder.with_name(folder.name + "-live").rename(folder)
    write_json(folder / "face_dataset.json", {"fingerprint": f"of {folder.name}", "faces": 1})
    return str(folder)


def test_the_issues_tables_have_a_configuration_each():
    assert list(read_papers().tables) == TABLES


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_planned_on_the_benchmark_or_says_why_not(name, tmp_path):
    recipe = make_recipe(asked(name, output=tmp_path))
    rows = plan_rows(recipe)
    assert [row.label for row in rows if not row.choice.ours] == list(read_papers().tables[name].rows)
    for row in rows:
        # Four capture domains stand for the first four datasets; the fifth has no domain, yet no row is lost.
        assert bool(row.absent) != bool(row.planned)
        assert all(item.experiment.root == tmp_path for item in row.planned)
        assert {item.experiment.seed for item in row.planned} <= {0}
    assert any(row.planned for row in rows)


@pytest.mark.parametrize("name", ["agfas/VI", "agfas/VIII", "kuznetsov/18"])
def test_on_the_papers_own_data_everything_is_missing_and_nothing_is_run(name, tmp_path):
    text = printed_by(asked(name, (), data=tmp_path / "data", output=tmp_path / "out"))
    choice, settings = read_table(name, CONFIGS)
    for short in settings.protocols[choice.protocol].names():
        assert f"needs {short}: missing: {tmp_path / 'data' / settings.datasets[short]}" in text
    assert "Nothing is run" in text
    assert "waits for what is missing" in text
    assert not (tmp_path / "out").exists()
    # What the datasets will cost once they are there.
    assert all(part.assumed for part in reproduce.plan(asked(name, (), data=tmp_path / "data"), echo=lambda _: None))


def test_our_own_row_of_table_1_is_marked_and_small_networks_need_no_downloads(tmp_path):
    text = printed_by(asked("agfas/I", output=tmp_path))
    assert "row AG-FAS on DINOv2-reg (our row, not the paper's): 1 " in text
    small, full = (
        plan_rows(make_recipe(asked("agfas/I", scale=scale, output=tmp_path)))[-1].planned[0].experiment
        for scale in ("small", "full")
    )
    assert small.detector.options() == {"preset": "dinov2_tiny"}
    assert full.detector.options() == {"preset": "dinov2", "pretrained": True}
    assert not small.train.decay_vectors
    assert not full.train.decay_vectors


def test_what_is_there_is_found_and_the_rest_named(tmp_path):
    prepared(tmp_path / "msu_mfsd", "msu_mfsd")
    text = printed_by(asked("agfas/II", (), data=tmp_path))
    assert f"needs M: found at {tmp_path / 'msu_mfsd'}" in text
    assert "agfas prepare SOURCE --importer oulu_npu --domain oulu_npu" in text
    assert "needs ffhq: missing" in text


def test_a_dataset_that_nobody_can_have_does_not_stand_in_the_way(tmp_path):
    for importer in ("threedmad", "csmad", "msspoof", "replay_attack"):
        prepared(tmp_path / importer, importer)
    request = asked("kuznetsov/15", (), data=tmp_path, output=tmp_path / "out")
    recipe = make_recipe(request)
    assert not recipe.ground.missing
    assert recipe.ground.own
    assert recipe.ground.domains == {
        "3DMAD": "threedmad", "CSMAD": "csmad", "MSSpoof": "msspoof", "Replay-Attack": "replay_attack",
    }  # fmt: skip
    (planned, *_) = plan_rows(recipe)[0].planned
    assert planned.experiment.data.path == recipe.joined(recipe.ground.folders)
    assert planned.experiment.data.size == 256
    assert "the rest is run without it" in printed_by(request)


def test_the_papers_lists_are_taken_at_its_own_size_alone(tmp_path):
    lists = {"train_splits": ["train", "test"], "test_splits": ["train", "test"]}
    wanted = {"agfas/I": lists, "agfas/II": lists, "agfas/VIII": {**lists, "test_splits": None}}
    for name, expected in wanted.items():
        full = make_recipe(asked(name, scale="full", output=tmp_path))
        for row in plan_rows(full):
            for item in row.planned:
                assert {key: getattr(item.experiment.protocol, key) for key in lists} == expected
        small = make_recipe(asked(name, output=tmp_path))
        protocols = [item.experiment.protocol for row in plan_rows(small) for item in row.planned]
        assert all((one.train_splits, one.test_splits) == (["train"], None) for one in protocols)


def test_places_are_found_in_every_protocol():
    domains = {"M": "m", "C": "c", "I": "i", "O": "o"}
    loo = ProtocolChoice(protocol={"name": "leave_one_out", "domains": ["M", "C", "I", "O", "X"]})
    assert targets_at(loo, ">M", domains) == [Target("to_m")]
    assert targets_at(loo, ">X", domains) == []
    limited = ProtocolChoice(protocol={"name": "limited", "train": ["M", "I"], "test": ["C", "O"]})
    assert targets_at(limited, ">O", domains) == [Target("m_i_to_o")]
    matrix = ProtocolChoice(protocol={"name": "cross_matrix", "domains": ["M", "C", "I"]})
    assert targets_at(matrix, "M>M", domains) == [Target("from_m", "m")]
    assert targets_at(matrix, "M>others", domains) == [Target("from_m", "c"), Target("from_m", "i")]
    together = ProtocolChoice(protocol={"name": "combined", "domains": ["M", "C"]})
    assert targets_at(together, ">together", domains) == [Target("combined")]
    assert targets_at(together, ">C", domains) == [Target("combined", "c")]
    assert short_name(Target("from_m", "c"), domains) == "C"
    with pytest.raises(AgfasError, match="write SOURCE>TARGET"):
        targets_at(loo, "M", domains)
    with pytest.raises(AgfasError, match=r"one of C, O \(protocol.test\)"):
        protocol_on(limited, {"M": "m", "I": "i"})


def test_other_data_take_places_by_name_by_wish_and_in_order(tmp_path):
    folder = prepared(tmp_path / "three", "nuaa", "replay", "msspoof")
    dealt = make_recipe(asked("kuznetsov/8", (folder,), names=("Replay-Attack=replay",))).ground
    assert dealt.domains == {"3DMAD": "nuaa", "MSSpoof": "msspoof", "Replay-Attack": "replay"}
    assert dealt.title == "msspoof and nuaa and replay"
    assert not dealt.own
    for wrong, match in (
        ("Replay=replay", "no dataset 'Replay'; did you mean 'Replay-Attack'"),
        ("CSMAD=nua", "there is no domain 'nua'; did you mean 'nuaa'"),
        ("CSMAD", "write PLACE=DOMAIN"),
    ):
        with pytest.raises(AgfasError, match=match):
            make_recipe(asked("kuznetsov/8", (folder,), names=(wrong,)))


def test_the_ground_of_other_data_and_of_the_benchmark(tmp_path):
    judged, live = prepared(tmp_path / "judged", "nuaa", "replay"), prepared(tmp_path / "corpus", "faces", live=True)
    assert make_recipe(asked("agfas/III", (judged, live))).ground == Ground(
        "nuaa and replay", False, {"M": "nuaa", "C": "replay"}, ("faces",), (Path(judged), Path(live)), (Path(live),),
    )  # fmt: skip
    assert make_recipe(asked("agfas/III", (live,))).ground == Ground(
        "no domain with both classes", False, {}, ("faces",), (Path(live),), (Path(live),)
    )
    benchmark = make_recipe(asked("agfas/III")).ground
    domains = {"M": "webcam", "C": "phone", "I": "tablet", "O": "kiosk"}
    assert benchmark == Ground("the built-in benchmark", False, domains, ("corpus",))


def test_the_papers_own_ground_has_what_is_there(tmp_path):
    paths = [Path(prepared(tmp_path / name, name, live=name == "ffhq")) for name in ("msu_mfsd", "ffhq")]
    ground = make_recipe(asked("agfas/II", (), data=tmp_path)).ground
    assert (ground.title, ground.own, ground.masks) == ("the paper's own datasets", True, False)
    # The missing ones have the names that they would have.
    assert ground.domains == {"M": "msu_mfsd", "I": "replay_attack", "C": "casia_fasd", "O": "oulu_npu"}
    assert (ground.live, ground.folders, ground.live_folders) == (("ffhq",), tuple(paths), (paths[1],))
    assert [item.name for item in ground.missing] == ["I", "C", "O", "celeba_spoof", "backbone.pth"]
    assert ground.needed[0] == Needed("M", paths[0], True, True, "")
    assert make_recipe(asked("agfas/II", (), data=tmp_path / "none")).ground.live == ("ffhq", "celeba_spoof")


def test_a_dataset_with_several_domains_must_have_one_of_its_own_name(tmp_path):
    write = tmp_path / "msu_mfsd"
    for domains, expected in ((("other",), "other"), (("a", "msu_mfsd"), "msu_mfsd")):
        prepared(write, *domains)
        assert make_recipe(asked("agfas/II", (), data=tmp_path)).ground.domains["M"] == expected
    prepared(write, "a", "b")
    with pytest.raises(AgfasError, match=r"msu_mfsd holds the domains a, b; one must be called 'msu_mfsd'\."):
        make_recipe(asked("agfas/II", (), data=tmp_path))


def test_domains_are_dealt_by_wish_by_name_and_in_order():
    _, settings = read_table("agfas/I", CONFIGS)
    choice = settings.protocols["leave_one_out"]
    known = {"M": "msu_mfsd", "C": "casia_fasd", "I": "replay_attack", "O": "oulu_npu"}
    assert {name: settings.datasets[name] for name in known} == known
    dealt = deal(choice, settings, ["x", "oulu_npu", "C", "y", "z"], {"M": "y"})
    assert dealt == {"M": "y", "C": "C", "I": "x", "O": "oulu_npu"}
    assert list(dealt) == list(known)
    assert deal(choice, settings, ["x"], {}) == {"M": "x"}
    with pytest.raises(AgfasError, match=r"--map assigns the domain 'x' twice\. Assign it once\."):
        deal(choice, settings, ["x", "y"], {"M": "x", "C": "x"})


def test_an_experiment_has_the_rows_settings_then_those_of_the_command_line(tmp_path):
    recipe = make_recipe(asked("agfas/V", output=tmp_path, seeds="3,1,3", overrides=("train.steps=7",)))
    row = next(row for row in plan_rows(recipe) if row.label == "dual-branch")
    assert [(item.title, item.axes) for item in row.planned] == [
        ("agfas/V dual-branch (seed=3)", {"seed": 3}), ("agfas/V dual-branch (seed=1)", {"seed": 1}),
    ]  # fmt: skip
    experiment = row.planned[1].experiment
    assert (experiment.name, experiment.root, experiment.seed, experiment.train.steps) == ("agfas", tmp_path, 1, 7)
    assert experiment.evaluate.rules == recipe.settings.rules.honest == "last/source_dev_eer"
    assert experiment.generator.domains == experiment.identity.domains == ["corpus"]
    several = make_recipe(asked("kuznetsov/17", output=tmp_path))
    labels = {item.label for row in plan_rows(several) for item in row.planned if len(row.choice.method) > 1}
    assert all(label.count(", ") >= 1 for label in labels)


def test_rows_with_a_cue_need_live_faces_of_their_own(tmp_path):
    judged = prepared(tmp_path / "judged", "nuaa", "replay")
    without = {row.label: row for row in plan_rows(make_recipe(asked("agfas/V", (judged,))))}
    assert "needs live faces" in without["OA-Net (Ours)"].absent
    assert without["only image (baseline)"].planned
    live = prepared(tmp_path / "corpus", "faces", live=True)
    recipe = make_recipe(asked("agfas/III", (judged, live), output=tmp_path / "out"))
    with_live = {row.label: row for row in plan_rows(recipe)}
    experiment = with_live["AG-FAS* (Ours)"].planned[0].experiment
    assert experiment.generator.domains == experiment.identity.domains == ["faces"]
    assert with_live["SSDG-R* [21]"].planned[0].experiment.train.extra_live.dataset == live


def test_the_faces_of_a_recipe(tmp_path):
    recipe = make_recipe(asked("agfas/V", output=tmp_path))
    assert recipe.data() == recipe.size.experiment["data"]
    assert recipe.extra_live() == "corpus"
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        prepared(folder, folder.name)
    joined = tmp_path / "faces" / joined_name(folders)
    other = replace(recipe, ground=replace(recipe.ground, folders=folders, live_folders=folders[1:]))
    assert other.data() == {"name": "dataset", "path": str(joined), "size": 64}
    assert other.extra_live() == str(folders[1])
    sized = replace(other, size=other.size.model_copy(update={"experiment": {"data": {"size": 32}}}))
    assert sized.data()["size"] == 32
    needed = Needed("X", tmp_path, False, True, "")
    missing = replace(other, ground=replace(other.ground, needed=(needed,)))
    assert missing.data()["path"] == str(tmp_path / "faces" / "missing")
    assert missing.extra_live() == "corpus"
    assert missing.ground.missing == [needed]
    assert replace(other.ground, needed=(replace(needed, required=False), replace(needed, found=True))).missing == []


def test_a_row_waits_until_its_method_is_registered(monkeypatch):
    def of_row(label: str = "SSDG-M [21]") -> str:
        return next(row.absent for row in plan_rows(make_recipe(asked("agfas/I"))) if row.label == label)

    assert of_row() == ""
    with monkeypatch.context() as patch:
        patch.delitem(DETECTORS.builtin, "ssdg_m")
        assert of_row().startswith("not available: Unknown detector 'ssdg_m'; did you mean")
    with monkeypatch.context() as patch:
        patch.delitem(OBJECTIVES.builtin, "ssan")
        assert of_row("SSAN-R [25]").startswith("not available: Unknown objective 'ssan'; did you mean")
    monkeypatch.setattr("pipelines.reproduce.rows.inference_only", lambda name: f"{name} is closed")
    assert of_row() == "not available: ssdg_m cannot be trained here, ssdg_m is closed"


def test_work_that_rows_share_is_counted_once(tmp_path):
    def work_of(recipe) -> list:
        return reproduce.parts_of_rows(plan_rows(recipe), recipe.ground)

    recipe = make_recipe(asked("agfas/VI", output=tmp_path))
    work = {item.kind: item for item in work_of(recipe)}
    # One generator and one identity for five t; on a grid of ten, 999 takes 11 calls, 801 nine, and so on.
    assert (work["generator"].total, work["identity"].total) == (1, 1)
    faces = 4 * 12 * (2 + 4) * 3
    assert work["restoration"].timesteps == (201, 401, 601, 801, 999)
    assert (work["restoration"].amount, work["restoration"].total) == (faces * (11 + 9 + 7 + 5 + 3), 1)
    detectors = [item for item in work_of(recipe) if item.kind == "detector"]
    assert (sum(item.done for item in detectors), sum(item.total for item in detectors)) == (0, 5 * 4)
    train = recipe.size.experiment["train"]
    assert sum(item.amount for item in detectors) == 5 * 4 * train["steps"] * 2 * train["per_cell"] * 3
    # Five cues of one form: the same detector, which is counted once.
    assert [item.total for item in left_of(detectors)] == [5 * 4]
    tables = [make_recipe(asked(name, output=tmp_path)) for name in ("kuznetsov/7", "kuznetsov/8")]
    counts = [sum(item.total for item in work_of(one)) for one in tables]
    assert counts == [16, 16]  # four models by four domains, whatever the number of rows


def test_several_datasets_become_one(tmp_path):
    one, other = Path(prepared(tmp_path / "one", "a", "b")), Path(prepared(tmp_path / "other", "c"))
    out = join_faces([one, other], tmp_path / "joined")
    faces = load_faces(out)
    assert len(faces) == len(load_faces(one)) + len(load_faces(other))
    assert sorted(faces.unique("domain")) == ["a", "b", "c"]
    assert read_card(out)["fingerprint"] == joined_name([other, one])
    before = read_json(out / "face_dataset.json")
    assert join_faces([one, other], out) == out
    assert read_json(out / "face_dataset.json") == before
    with pytest.raises(AgfasError, match="both hold the domain 'a'"):
        join_faces([one, Path(prepared(tmp_path / "again", "a"))], tmp_path / "bad")


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (asked("agfas/9"), r"Unknown table 'agfas/9'"),
        (asked("agfas/V", only=("only images",)), r"did you mean 'only image \(baseline\)'"),
        (asked("agfas/V", seeds="0,x"), "whole numbers"),
        (asked("agfas/V", scale="tiny"), "--scale tiny: .*Allowed: full, small"),
        (asked("agfas/V", ("synthetic", "faces")), "not both"),
        (asked("agfas/V", (), names=("M=a",)), "give them with --on"),
        (asked("agfas/V", overrides=("train.steps",)), "Write key=value"),
        (asked("agfas/V", ("no/such/folder",)), "No face dataset"),
        (Asked("agfas/V", configs=Path("nowhere")), "holds no table"),
    ],
)
def test_mistakes_are_answered(request_, match):
    with pytest.raises(AgfasError, match=match):
        printed_by(request_)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("papers: running_best", "papers: oracle/target_err", "did you mean 'oracle/target_eer'"),
        ("honest: last/source_dev_eer", "honest: oracle/source_dev_eer", "unknown rule 'oracle/source_dev_eer'"),
        ("honest: last/source_dev_eer", "honest: last/target_eer", "unknown rule 'last/target_eer'"),
    ],
)
def test_a_rule_that_is_none_is_refused(tmp_path, old, new, match):
    for name in ("agfas.yaml", "agfas-V.yaml"):
        shutil.copy(CONFIGS / name, tmp_path / name)
    text = (tmp_path / "agfas.yaml").read_text(encoding="utf-8")
    (tmp_path / "agfas.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(AgfasError, match=match):
        read_table("agfas/V", tmp_path)


def test_a_configuration_that_does_not_fit_its_paper_is_refused(tmp_path):
    for name in ("agfas.yaml", "agfas-V.yaml"):
        shutil.copy(CONFIGS / name, tmp_path / name)
    text = (tmp_path / "agfas-V.yaml").read_text(encoding="utf-8")
    for old, new, match in (
        ("dual-branch", "dual branch", "unknown row 'dual branch'"),
        ("method: dual_branch", "method: two_branch", "unknown method 'two_branch'"),
        ("HTER: hter", "HTR: hter", "unknown metric 'HTR'"),
        ("HTER: hter", "HTER: acer", "unknown metric under running_best 'acer'"),
        ("method: dual_branch", 'method: dual_branch, absent: "no"', "either a method or a reason"),
        ("method: dual_branch", "method: dual_branch, ours: a word", "is the paper's; remove `ours`"),
    ):
        (tmp_path / "agfas-V.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(AgfasError, match=match):
            read_table("agfas/V", tmp_path)
