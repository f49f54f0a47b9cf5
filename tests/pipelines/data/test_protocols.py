"""Protocols: domains and splits of training, threshold and test; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pipelines.data.protocol_settings import (
    AllToUnseen,
    Combined,
    CrossMatrix,
    LeaveOneOut,
    Limited,
    OneAgainstOthers,
    ProtocolSettings,
    Within,
)
from pipelines.data.protocols import (
    Fold,
    all_to_unseen,
    build_folds,
    combined,
    cross_matrix,
    indices,
    leave_one_out,
    limited,
    one_against_others,
    protocol_folds,
    within,
)
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace


def faces(domains: str = "ABCD", corpus: bool = True) -> dict[str, np.ndarray]:
    """Six subjects a domain, two for each split, with one live and one attack video of two frames."""
    rows = []
    for domain in domains:
        for person in range(6):
            split = ("train", "dev", "test")[person // 2]
            rows += [(label, domain, f"s{person}", f"s{person}-{label}", split) for label in (0, 0, 1, 1)]
    if corpus:
        rows += [(1, "corpus", f"c{i}", f"c{i}", "train") for i in range(5)]
    names = ("label", "domain", "subject", "video", "split")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def test_folds_of_long_domains_have_names_that_a_folder_can_have(tmp_path):
    names = [f"{'phone' * 50}{number}" for number in range(3)]
    folds = [*leave_one_out(names), *limited(names[:2], names[2:])]
    assert len({fold.name for fold in folds}) == 4
    for fold in folds:
        (tmp_path / f".{fold.name}.lock").mkdir()
    assert folds[0].test_domains == (names[0],)


def test_leave_one_out_turns_through_the_domains():
    folds = leave_one_out(["M", "C", "I"])
    assert folds == (
        Fold("to_M", ("C", "I"), ("C", "I"), ("M",)),
        Fold("to_C", ("I", "M"), ("I", "M"), ("C",)),
        Fold("to_I", ("C", "M"), ("C", "M"), ("I",)),
    )


def test_domains_are_named_in_either_form_of_unicode():
    typed, kept = "Jose\u0301", "Jos\u00e9"
    assert LeaveOneOut(domains=[typed, "B"]).domains == [kept, "B"]
    assert Limited(train=[typed], test=["B"]).train == [kept]


def test_limited_has_a_fold_for_each_target():
    assert limited(["M", "I"], ["C", "O"]) == (
        Fold("M_I_to_C", ("I", "M"), ("I", "M"), ("C",)),
        Fold("M_I_to_O", ("I", "M"), ("I", "M"), ("O",)),
    )


def test_one_against_others_trains_on_each_alone():
    assert one_against_others(["M", "C", "I"])[1] == Fold("from_C", ("C",), ("C",), ("I", "M"))


def test_within_matrix_combined_and_unseen():
    assert within(["M", "C"]) == (
        Fold("within_M", ("M",), ("M",), ("M",)),
        Fold("within_C", ("C",), ("C",), ("C",)),
    )
    assert cross_matrix(["M", "C", "I"])[1] == Fold("from_C", ("C",), ("C",), ("C", "I", "M"))
    assert combined(["M", "C"]) == (Fold("combined", ("C", "M"), ("C", "M"), ("C", "M")),)
    assert all_to_unseen(["M", "C"], ["W", "I"]) == (Fold("all_to_unseen", ("C", "M"), ("C", "M"), ("I", "W")),)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Within(), ["within_A", "within_B", "within_C", "within_D"]),
        (CrossMatrix(domains=["A", "C"]), ["from_A", "from_C"]),
        (Combined(), ["combined"]),
        (AllToUnseen(test=["A"]), ["all_to_unseen"]),
        (AllToUnseen(train=["A", "B"]), ["all_to_unseen"]),
        (AllToUnseen(train=["A"], test=["C"]), ["all_to_unseen"]),
    ],
)
def test_every_protocol_keeps_training_and_test_apart(settings, names):
    columns = faces()
    folds = protocol_folds(settings, columns)
    assert [fold.name for fold in folds] == names
    for fold in folds:
        rows = indices(columns, fold)
        who = {part: set(zip(columns["domain"][r], columns["subject"][r], strict=True)) for part, r in rows.items()}
        assert not (who["train"] | who["dev"]) & who["test"]
        assert not who["train"] & who["dev"]
        tested = set(columns["domain"][rows["test"]])
        assert tested == set(fold.test_domains)
        assert "corpus" not in tested
        for domain in tested:
            seen = set(columns["split"][rows["test"]][columns["domain"][rows["test"]] == domain])
            assert seen == ({"test"} if domain in fold.train_domains else {"train", "dev", "test"})


def test_unseen_takes_the_rest_where_a_list_is_missing():
    columns = faces()
    (fold,) = protocol_folds(AllToUnseen(test=["D"]), columns)
    assert (fold.train_domains, fold.test_domains) == (("A", "B", "C"), ("D",))
    (fold,) = protocol_folds(AllToUnseen(train=["A", "B"]), columns)
    assert (fold.train_domains, fold.test_domains) == (("A", "B"), ("C", "D"))
    with pytest.raises(AgfasError, match="at least one source"):
        protocol_folds(AllToUnseen(train=["A", "B", "C", "D"]), columns)
    with pytest.raises(ValidationError, match=r"which domains are unseen"):
        AllToUnseen()


def test_a_domain_without_test_records_says_what_is_missing():
    columns = faces()
    drop = (columns["domain"] == "B") & (columns["split"] == "test")
    kept = {name: values[~drop] for name, values in columns.items()}
    indices(kept, within("A")[0])
    with pytest.raises(AgfasError, match=r"'combined' .* domain 'B' .* has none \(only dev, train\). Prepare it again"):
        indices(kept, combined("AB")[0])


def test_the_corpus_takes_no_turn():
    columns = faces()
    folds = protocol_folds(LeaveOneOut(), columns)
    assert [fold.name for fold in folds] == ["to_A", "to_B", "to_C", "to_D"]
    assert all("corpus" not in fold.train_domains for fold in folds)
    assert len(protocol_folds(LeaveOneOut(domains=["A", "B", "C"]), columns)) == 3
    assert protocol_folds(Limited(train=["A"], test=["B", "C"]), columns)[0].name == "A_to_B"
    assert len(protocol_folds(OneAgainstOthers(), columns)) == 4


def test_indices_follow_the_fields_rule():
    columns = faces()
    rows = indices(columns, leave_one_out("ABCD")[0])
    train, dev, test = ({name: columns[name][rows[part]] for name in columns} for part in ("train", "dev", "test"))
    assert set(train["domain"]) == set(dev["domain"]) == {"B", "C", "D"}
    assert (set(train["split"]), set(dev["split"])) == ({"train"}, {"dev"})
    assert set(test["domain"]) == {"A"}
    assert set(test["split"]) == {"train", "dev", "test"}
    np.testing.assert_array_equal(rows["test"], np.flatnonzero(columns["domain"] == "A"))


ACROSS = [
    LeaveOneOut(train_splits=["test", "train"], test_splits=["test", "train"]),
    Limited(train=["A", "B"], test=["C", "D"], train_splits=["train", "test"], test_splits=["train", "test"]),
    OneAgainstOthers(train_splits=["train", "test"], test_splits=["train", "test"]),
    AllToUnseen(test=["D"], train_splits=["train", "test"], test_splits=["train", "test"]),
]


@pytest.mark.parametrize("settings", ACROSS)
def test_the_papers_lists_leave_dev_to_the_threshold(settings):
    columns = faces()
    assert settings.train_splits == ["train", "test"]
    for fold in protocol_folds(settings, columns):
        rows = indices(columns, fold)
        seen = {part: set(columns["split"][chosen]) for part, chosen in rows.items()}
        assert seen == {"train": {"train", "test"}, "dev": {"dev"}, "test": {"train", "test"}}
        assert set(columns["domain"][rows["train"]]) == set(columns["domain"][rows["dev"]]) == set(fold.train_domains)
        who = {part: set(zip(columns["domain"][r], columns["subject"][r], strict=True)) for part, r in rows.items()}
        assert not who["train"] & who["dev"]
        assert not (who["train"] | who["dev"]) & who["test"]
        # Training uses four of the six persons of every source; four of every target are tested.
        assert len(who["train"]) == 4 * len(fold.train_domains)
        assert len(who["test"]) == 4 * len(fold.test_domains)


def test_the_lists_enter_the_name_of_a_detector(monkeypatch):
    monkeypatch.setattr("pipelines.experiment.workspace.read_card", lambda folder: {"fingerprint": "0"})

    def key(**protocol):
        return Workspace(Experiment(protocol=LeaveOneOut(domains=["A", "B"], **protocol))).detector_key()["protocol"]

    default = {"name": "leave_one_out", "domains": ["A", "B"], "train_splits": ["train"], "test_splits": None}
    assert key() == key(train_splits=["train"], test_splits=None) == default
    assert key(train_splits=["test", "train"]) == {**default, "train_splits": ["train", "test"]}
    assert key(test_splits=["test"]) == {**default, "test_splits": ["test"]}
    assert key(frames="all") == default  # as before there was a choice
    assert key(frames="released") == {**default, "frames": "released"}


def test_who_is_tested_is_not_trained_on_even_if_a_fold_says_so():
    columns = faces()
    with pytest.raises(
        AgfasError, match=r"subjects are in both train and test, the first is subject 's4' of domain 'A'"
    ):
        indices(columns, Fold("x", ("A", "B"), ("A", "B"), ("A",), train_splits=("train", "test")))


def test_test_splits_that_a_target_lacks_are_named():
    columns = faces()
    drop = (columns["domain"] == "A") & (columns["split"] == "test")
    kept = {name: values[~drop] for name, values in columns.items()}
    (fold, *_) = protocol_folds(LeaveOneOut(test_splits=["test"]), kept)
    with pytest.raises(AgfasError, match=r"'to_A' has 0 test records of A .* in protocol\.test_splits"):
        indices(kept, fold)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "leave_one_out", "train_splits": ["train", "dev"]},
        {"name": "leave_one_out", "train_splits": []},
        {"name": "leave_one_out", "test_splits": []},
        {"name": "combined", "train_splits": ["train", "test"]},
        {"name": "cross_matrix", "test_splits": ["test"]},
    ],
)
def test_dev_and_the_tested_are_never_trained_on(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(ProtocolSettings).validate_python(wrong)


def test_lists_serve_as_columns():
    columns = faces()
    fold = leave_one_out("ABCD")[0]
    from_lists = indices({name: values.tolist() for name, values in columns.items()}, fold)
    for part, rows in indices(columns, fold).items():
        np.testing.assert_array_equal(from_lists[part], rows)


def test_unknown_domains_name_the_nearest():
    columns = faces()
    with pytest.raises(AgfasError, match="no domain 'corpsu': did you mean 'corpus'"):
        protocol_folds(LeaveOneOut(domains=["A", "corpsu"]), columns)
    with pytest.raises(AgfasError, match="no domain 'Z'"):
        protocol_folds(Limited(train=["A"], test=["Z"]), columns)
    with pytest.raises(AgfasError, match="no domain 'Z'"):
        indices(columns, Fold("x", ("A",), ("A",), ("Z",)))


def test_a_domain_cannot_be_source_and_target():
    with pytest.raises(AgfasError, match="'A' is named twice"):
        limited(["A", "B"], ["A"])
    with pytest.raises(AgfasError, match="'A' is named twice"):
        leave_one_out(["A", "A"])


@pytest.mark.parametrize("build", [leave_one_out, one_against_others, cross_matrix, combined])
def test_a_protocol_across_domains_needs_two(build):
    with pytest.raises(AgfasError, match=r"at least 2, but has 1 \(A\)"):
        build(["A"])
    assert len(build(["A", "B"])) in (1, 2)
    with pytest.raises(AgfasError, match="'A' is named twice"):
        build(["A", "B", "A"])


def test_a_domain_by_itself_is_enough_for_within():
    assert [fold.name for fold in within(["A"])] == ["within_A"]
    with pytest.raises(AgfasError, match=r"at least 1, but has 0 \(\)"):
        within([])
    with pytest.raises(AgfasError, match="'A' is named twice"):
        within(["A", "A"])
    for sources, targets in ((["A", "B"], []), ([], ["A", "B"])):
        with pytest.raises(AgfasError, match=f"but has {len(sources)} and {len(targets)}"):
            limited(sources, targets)
        with pytest.raises(AgfasError, match="all_to_unseen needs at least one source"):
            all_to_unseen(sources, targets)


def test_one_domain_is_too_few():
    with pytest.raises(AgfasError, match="at least 2, but has 1"):
        build_folds(LeaveOneOut(), ["A", "corpus"])
    with pytest.raises(AgfasError, match="one source"):
        limited([], ["A", "B"])


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("train", {"split": "train", "domain": "BCD"}),
        ("dev", {"split": "dev", "domain": "BCD"}),
        ("test", {"domain": "A"}),
    ],
)
@pytest.mark.parametrize(("label", "missing"), [(0, "attack"), (1, "bona fide")])
def test_a_part_without_a_class_is_refused(part, where, label, missing):
    columns = faces()
    drop = (columns["label"] == label) & np.isin(columns["domain"], list(where["domain"]))
    if "split" in where:
        drop &= columns["split"] == where["split"]
    kept = {name: values[~drop] for name, values in columns.items()}
    with pytest.raises(AgfasError, match=f"'to_A' has .* {part} records of .* no {missing}"):
        indices(kept, leave_one_out("ABCD")[0])


def test_a_subject_in_train_and_dev_is_refused():
    columns = faces()
    columns["subject"] = np.where(columns["subject"] == "s2", "s1", columns["subject"])
    with pytest.raises(AgfasError, match=r"subjects are in both train and dev.*'s1' of domain 'B'"):
        indices(columns, leave_one_out("ABCD")[0])


def test_a_video_in_train_and_dev_is_refused():
    columns = faces()
    columns["video"] = np.where(columns["video"] == "s2-1", "s1-1", columns["video"])
    with pytest.raises(AgfasError, match=r"videos are in both train and dev.*'s1-1' of domain 'B'"):
        indices(columns, leave_one_out("ABCD")[0])


def test_the_same_name_in_two_domains_is_two_people():
    indices(faces(), leave_one_out("ABCD")[0])


def test_an_unknown_split_is_refused():
    columns = faces()
    columns["split"] = np.where(columns["split"] == "dev", "devel", columns["split"])
    with pytest.raises(AgfasError, match="'devel': did you mean 'dev'"):
        indices(columns, leave_one_out("ABCD")[0])


def test_settings_are_chosen_by_name():
    adapter = TypeAdapter(ProtocolSettings)
    assert adapter.validate_python({"name": "limited", "train": ["M"], "test": ["C"]}) == Limited(
        train=["M"], test=["C"]
    )
    assert isinstance(adapter.validate_python({"name": "one_against_others"}), OneAgainstOthers)
    for wrong in (
        {"name": "leave_two_out"},
        {"name": "leave_one_out", "domain": ["A"]},
        {"name": "limited", "train": []},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
