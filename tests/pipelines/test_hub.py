"""The hub in general: what is a name of it, one commit a push, and each failure in one sentence."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from huggingface_hub import constants
from stand_in_hub import StandInHub, header_errors

from pipelines import hub as asked
from pipelines.errors import AgfasError
from pipelines.hub import Access, Push, Repository, explained, fetch, push, repository, target

CARD = b"---\nlicense: mit\n---\n# A card\n"
PLACE = Repository("me/it")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with StandInHub() as running:
        running.used(monkeypatch, tmp_path / "cache")
        yield running


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("me/it", Repository("me/it")),
        (Path("me/it@v1"), Repository("me/it", "v1")),
        ("me/it@refs/pr/1", Repository("me/it", "refs/pr/1")),
        ("hf://here/it", Repository("here/it")),
        (Path("hf://models/me/it@v1"), Repository("me/it", "v1")),
        *(
            (path, None)
            for path in ("here", "here/it", "here/model", "it", "./me/it", "/me/it", "me/it/", "a/b/c", "~/it")
        ),
    ],
)
def test_what_is_no_path_may_be_a_name(monkeypatch, tmp_path, given, found):
    (tmp_path / "here" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert repository(given) == found


def test_a_revision_is_named_once_and_of_a_repository(tmp_path):
    assert repository("me/it", "v1") == repository("me/it@v1", "v1") == Repository("me/it", "v1")
    assert repository("hf://datasets/me/it", kind="dataset") == Repository("me/it", kind="dataset")
    for given, revision, words in (
        (tmp_path, "v1", "is a path, which has no revision 'v1'"),
        ("me/it@v1", "v2", "names a revision, and 'v2' is another one"),
        ("hf://datasets/me/it", None, "is one of the datasets, but a model is needed here"),
        ("hf://it", None, "names no repository of the hub"),
    ):
        with pytest.raises(AgfasError, match=words):
            repository(given, revision)


def test_a_push_goes_to_the_hub_whatever_lies_here(monkeypatch, tmp_path):
    (tmp_path / "me" / "it").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert target("me/it", "model") == target("hf://me/it", "model") == PLACE
    with pytest.raises(AgfasError, match="names no repository"):
        target("it", "model")


def test_a_push_is_one_commit_that_takes_away_what_is_stale(hub, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    files = {
        "README.md": CARD,
        "w.safetensors": tmp_path / "w.safetensors",
        **{f"{n}.json": b"%d" % n for n in range(9)},
    }
    link = push(PLACE, files, lambda name: False, Push(message="first"), "of a test")
    repo = hub.repos["models", "me/it"]
    assert link == f"{hub.url}/me/it/commit/{repo.refs['main']}"
    assert repo.private
    assert repo.titles == ["initial commit", "first"]
    kept = {".gitattributes": hub.files("me/it")[".gitattributes"], "theirs.txt": b"kept"}
    repo.commit({**hub.files("me/it"), "theirs.txt": b"kept", "old.json": b""}, "theirs")
    push(
        PLACE, {"README.md": CARD, "8.json": b"new"}, lambda name: name.endswith((".json", ".safetensors")), Push(), ""
    )
    assert hub.files("me/it") == {"README.md": CARD, "8.json": b"new", **kept}
    assert len(repo.titles) == 4


def test_a_branch_and_a_pull_request_leave_main_alone(hub):
    hub.make("me/it", {"README.md": b"main"})
    push(Repository("me/it", "try"), {"README.md": CARD}, bool, Push(private=False), "")
    link = push(PLACE, {"README.md": CARD + b"pr"}, lambda name: False, Push(private=False, create_pr=True), "")
    assert link == f"{hub.url}/me/it/discussions/1"
    found = [hub.files("me/it", revision) for revision in ("main", "try", "refs/pr/1")]
    assert [each["README.md"] for each in found] == [b"main", CARD, CARD + b"pr"]
    with pytest.raises(AgfasError, match="'try' cannot be named with it"):
        push(Repository("me/it", "try"), {}, bool, Push(create_pr=True), "")


def test_what_is_public_is_pushed_to_when_that_is_said(hub):
    repo = hub.make("me/it", {})
    with pytest.raises(AgfasError, match=r"is public\. Say that with --public"):
        push(PLACE, {"README.md": CARD}, bool, Push(), "")
    assert len(repo.commits) == 1
    push(PLACE, {"README.md": CARD}, bool, Push(private=False), "")
    assert hub.files("me/it") == {"README.md": CARD}


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        ("me/it", None, "wants a valid token to write to me/it: log in with `hf auth login`, or set HF_TOKEN"),
        ("me/it", "hf_wrong", "wants a valid token"),
        ("you/it", "hf_me", "may not write to you/it"),
        ("me/it", "hf_guest", "may not write to me/it"),
    ],
)
def test_who_may_not_write_is_answered(monkeypatch, hub, name, token, words):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AgfasError, match=re.escape(words)) as caught:
        push(Repository(name), {"README.md": CARD}, bool, Push(token=token), "")
    assert "hf_" not in str(caught.value)
    assert not hub.repos


def test_a_card_that_the_hub_refuses_is_not_pushed(hub):
    with pytest.raises(AgfasError, match=r'me/it is not pushed: Invalid metadata in README.md\. - "license" must be'):
        push(PLACE, {"README.md": b"---\nlicense: mine\n---\n"}, bool, Push(), "")
    assert list(hub.files("me/it")) == [".gitattributes"]
    assert header_errors("no header") == ["the card has no header"]


def test_fetched_is_what_is_named_and_nothing_twice(hub, tmp_path):
    hub.make("you/it", {"a.json": b"1", "b [x].json": b"2", "big.onnx": b"3", "run.py": b"evil()"})
    folder = fetch(Repository("you/it"), ["a.json", "b [x].json", "big.onnx", "absent"], Access())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.json": b"1", "b [x].json": b"2", "big.onnx": b"3",
    }  # fmt: skip
    assert folder.name == hub.repos["models", "you/it"].refs["main"]
    assert not [line for line in hub.asked if "run.py" in line]
    assert {token for line, token in zip(hub.asked, hub.tokens, strict=True) if "/lfs/" in line} == {None}
    hub.asked.clear()
    assert fetch(Repository("you/it", folder.name), ["a.json"], Access()) == folder
    assert hub.asked == []
    assert fetch(Repository("you/it"), ["a.json"], Access(local_files_only=True)) == folder
    assert fetch(Repository("you/it"), ["a.json"], Access(cache_dir=tmp_path / "mine")).is_relative_to(
        tmp_path / "mine"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("you/none", "shows no model you/none: check the name, or, if it is private, log in"),
        ("you/private", "shows no model you/private"),
        ("you/gated", "you/gated is gated. Ask for access at http"),
        ("you/it@v9", "you/it has no revision 'v9'"),
        ("you/-it", "you/-it names no repository of the hub: "),
    ],
)
def test_what_the_hub_does_not_give_is_answered(hub, name, words):
    hub.make("you/it", {"a.json": b"1"})
    hub.make("you/private", {"a.json": b"1"}, private=True)
    hub.make("you/gated", {"a.json": b"1"}, gated=True)
    with pytest.raises(AgfasError, match=words):
        fetch(Repository(*name.split("@")), ["a.json"], Access())


def test_a_private_repository_opens_with_its_owner_s_token(monkeypatch, hub):
    hub.make("me/it", {"a.json": b"1"}, private=True)
    for token in (False, "hf_guest"):
        with pytest.raises(AgfasError, match="shows no model me/it"):
            fetch(PLACE, ["a.json"], Access(token))
    with pytest.raises(AgfasError, match="wants a valid token to read me/it"):
        fetch(PLACE, ["a.json"], Access("hf_wrong"))
    assert (fetch(PLACE, ["a.json"], Access()) / "a.json").read_bytes() == b"1"
    monkeypatch.delenv("HF_TOKEN")
    Path(constants.HF_TOKEN_PATH).write_text("hf_me\n")
    assert fetch(PLACE, ["a.json"], Access()).is_dir()
    assert hub.tokens[-1] == "hf_me"


def test_without_a_hub_the_cache_opens_and_the_rest_is_answered(monkeypatch, hub, tmp_path):
    hub.make("you/it", {"a.json": b"1", "b.json": b"2"})
    folder = fetch(Repository("you/it"), ["a.json"], Access())
    hub.down = True
    assert fetch(Repository("you/it"), ["a.json"], Access()) == folder
    with pytest.raises(AgfasError, match=r"answers 503 for me/it\. Wait a little"):
        fetch(PLACE, ["a.json"], Access())
    with pytest.raises(AgfasError, match=r"is not wholly in the cache\. Open it once with the network"):
        fetch(Repository("you/it"), ["a.json", "b.json"], Access(local_files_only=True))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(Repository("you/it"), ["a.json"], Access()) == folder
    with pytest.raises(AgfasError, match="HF_HUB_OFFLINE forbids"):
        fetch(PLACE, ["a.json"], Access())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch(Repository("you/it"), ["a.json"], Access()) == folder
    with pytest.raises(AgfasError, match=r"http://127.0.0.1:9 cannot be reached for me/it .*opens without it."):
        fetch(PLACE, ["a.json"], Access())
    with pytest.raises(AgfasError, match=r"cannot be reached for me/it \(.*refused\). Check the network, and"):
        push(PLACE, {"README.md": CARD}, bool, Push(), "")


def test_a_cut_download_goes_on_where_it_ended(monkeypatch, hub):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.make("you/it", {"a.onnx": bytes(range(200))})
    hub.cuts["a.onnx"] = 2
    assert (fetch(Repository("you/it"), ["a.onnx"], Access()) / "a.onnx").read_bytes() == bytes(range(200))
    assert hub.cuts["a.onnx"] == 0


def test_a_download_that_never_ends_is_answered_and_begun_again(monkeypatch, hub):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.make("you/it", {"a.onnx": b"", "b.onnx": b"x"})
    hub.cuts["b.onnx"] = 99
    with pytest.raises(AgfasError, match=r"The fetch of you/it broke off \(.*Run it again: what has arrived is kept."):
        fetch(Repository("you/it"), ["b.onnx"], Access())
    hub.cuts.clear()
    assert (fetch(Repository("you/it"), ["b.onnx"], Access()) / "b.onnx").read_bytes() == b"x"


def test_a_fault_of_this_machine_stays_one_and_no_token_is_shown():
    with pytest.raises(OSError, match="No space left"), explained(PLACE, "fetch"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(AgfasError, match=r"b'Bearer \.\.\.\\n'") as caught, explained(PLACE, "fetch"):
        raise RuntimeError(r"Illegal header value b'Bearer hf_secret\n'")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, r"refuses to read me/it \(400: so\)"),
        (403, "may not read me/it"),
        (429, "answers 429"),
        (500, "answers 500"),
    ],
)
def test_every_other_answer_in_words(status, words):
    assert re.search(words, asked._answered(PLACE, "read", status, "so"))
