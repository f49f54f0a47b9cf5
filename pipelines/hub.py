"""The Hugging Face hub: names of repositories, what is fetched from them and pushed to them, and why that fails.

An existing path is always itself; only what is no path and reads like USER/NAME, with @REVISION behind it or not, is a
repository. `hf://USER/NAME` is one whatever lies here. Nothing is imported of the hub's library, and no request made,
before a repository is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Literal

from pipelines import __version__
from pipelines.errors import AgfasError, in_short

Kind = Literal["model", "dataset"]

_NAMED = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@\s]+))?")
# A `Path` makes one slash of two.
_SCHEME = re.compile(r"hf:/{1,2}(?:(?P<kind>models|datasets)/)?(?P<rest>.+)")
_LIBRARY: dict[str, Any] = {"library_name": "agfas", "library_version": __version__}
_SECRET = re.compile(r"(Bearer |hf_)[^\s'\"\\]+")
# Of the hub's HTTP client, which has had several names.
_UNREACHED = ("ConnectError", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    Attributes:
        name: `USER/NAME`.
        revision: a branch, a tag or a commit; None: `main`.
        kind: whether it holds a model or a dataset.
    """

    name: str
    revision: str | None = None
    kind: Kind = "model"

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def url(self) -> str:
        """Its page."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


@dataclass(frozen=True)
class Access:
    """How the hub is asked.

    Attributes:
        token: None: HF_TOKEN, or that of `hf auth login`; False: none.
        cache_dir: of downloads; None: the library's, see HF_HOME.
        local_files_only: make no request: take what is in the cache.
    """

    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


ANYHOW = Access()


def endpoint() -> str:
    """Address of the hub; HF_ENDPOINT names another one."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def repository(given: str | Path, revision: str | None = None, kind: Kind = "model") -> Repository | None:
    """The repository that a text names; None if it names a path.

    A name whose first part is a folder here is a path too, so that a mistyped one is not looked for on the hub.

    Raises:
        AgfasError: a revision of a path, two revisions, or another kind of repository.
    """
    text = given if isinstance(given, str) else given.as_posix()
    scheme = _SCHEME.fullmatch(text)
    named = _NAMED.fullmatch(scheme["rest"] if scheme else text)
    is_path = not scheme and (Path(text).exists() or named is None or Path(text).parent.is_dir())
    if is_path:
        if revision is not None:
            raise AgfasError(
                f"{text} is a path, which has no revision '{revision}'. Name a repository as hf://USER/NAME."
            )
        return None
    if named is None:
        raise AgfasError(f"{text} names no repository of the hub. Give hf://USER/NAME, or hf://USER/NAME@REVISION.")
    if revision is not None and named["revision"] not in (None, revision):
        raise AgfasError(f"{text} names a revision, and '{revision}' is another one. Give one of them.")
    if scheme and scheme["kind"] not in (None, f"{kind}s"):
        raise AgfasError(f"{text} is one of the {scheme['kind']}, but a {kind} is needed here.")
    return Repository(named["repo"], revision or named["revision"], kind)


def target(given: str, kind: Kind, revision: str | None = None) -> Repository:
    """The repository to push to, whatever lies here under its name.

    Raises:
        AgfasError: no such name.
    """
    found = repository(given if given.startswith("hf:") else f"hf://{given}", revision, kind)
    assert found is not None
    return found


def fetch(place: Repository, names: Iterable[str], access: Access) -> Path:
    """A folder of the cache with those of the named files that the repository has.

    Its name is the commit. Files that are there already are not asked for again.

    Raises:
        AgfasError: no such repository or revision, no access, no network and not in the cache, or a broken download.
    """
    from huggingface_hub import snapshot_download

    with explained(place, "fetch"):
        return Path(
            snapshot_download(
                place.name,
                repo_type=place.kind,
                revision=place.revision,
                allow_patterns=[escape(name) for name in names],
                token=access.token,
                cache_dir=access.cache_dir,
                local_files_only=access.local_files_only,
                **_LIBRARY,
            )
        )


@dataclass(frozen=True)
class Push:
    """How to push.

    Attributes:
        private: of a new repository. One that is public is pushed to only if this is False.
        token: see `Access`.
        message: of the commit, its first line.
        create_pr: propose the commit instead of making it.
    """

    private: bool = True
    token: str | bool | None = None
    message: str = "Upload by agfas"
    create_pr: bool = False


def push(
    place: Repository, files: Mapping[str, Path | bytes], stale: Callable[[str], bool], how: Push, note: str
) -> str:
    """Make one commit of files, so that nobody ever reads a half of them; returns its address.

    huggingface_hub's `upload_folder`, which its mixins push with, makes several commits of many files.

    Args:
        place: made if it is new, as is a branch that it names.
        files: what the commit holds; equal files of the repository are not sent again.
        stale: whether a file of the repository that is not among `files` is removed.
        how: see `Push`.
        note: the commit's description.

    Raises:
        AgfasError: no token, one that may not write, a public repository, a card that the hub refuses, no network.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    if how.create_pr and place.revision not in (None, "main"):
        raise AgfasError(f"A pull request changes the branch 'main'; '{place.revision}' cannot be named with it.")
    api = HfApi(token=how.token, **_LIBRARY)
    where: dict[str, Any] = {"repo_id": place.name, "repo_type": place.kind}
    with explained(place, "push"):
        api.create_repo(**where, private=how.private, exist_ok=True)
        if how.private and not api.repo_info(**where).private:
            raise AgfasError(f"{place.url} is public. Say that with --public (private=False), or push to another name.")
        if place.revision not in (None, "main"):
            api.create_branch(**where, branch=str(place.revision), exist_ok=True)
        present = api.list_repo_files(**where, revision=place.revision)
        commit = api.create_commit(
            **where,
            operations=[
                *(CommitOperationDelete(name) for name in sorted(present) if name not in files and stale(name)),
                *(CommitOperationAdd(name, content) for name, content in sorted(files.items())),
            ],
            commit_message=how.message,
            commit_description=note,
            revision=place.revision,
            create_pr=how.create_pr,
        )
    return str(commit.pr_url or commit.commit_url)


def exists(place: Repository, access: Access) -> bool:
    """Whether the hub shows the repository."""
    from huggingface_hub import HfApi

    try:
        return not access.local_files_only and HfApi(token=access.token).repo_exists(place.name, repo_type=place.kind)
    except Exception:  # asked only to explain another failure
        return False


@contextmanager
def explained(place: Repository, what: Literal["fetch", "push"]) -> Iterator[None]:
    """Tell in one sentence why the hub did not do it.

    Raises:
        AgfasError: the body failed.
    """
    try:
        yield
    except AgfasError:
        raise
    except Exception as error:  # those of the hub, of its HTTP client and of Xet share no base class
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # of this machine, such as a full disk
        raise AgfasError(_SECRET.sub(r"\1...", _why(place, what, error))) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _why(place: Repository, what: str, error: Exception) -> str:
    from huggingface_hub import errors

    hub, verb = endpoint(), "read" if what == "fetch" else "write to"
    if isinstance(error, errors.GatedRepoError):
        return f"{place.name} is gated. Ask for access at {place.url}, then {_LOG_IN}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{hub} shows no {place.kind} {place.name}: check the name, or, if it is private, {_LOG_IN} with a token"
            f" that may {verb} it."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{place.name} has no revision '{place.revision}'. Its branches and tags are at {place.url}/tree/main."
    if isinstance(error, errors.HFValidationError):
        return f"{place} names no repository of the hub: {in_short(error)}"
    if what == "push" and isinstance(error, ValueError) and not isinstance(error, errors.HfHubHTTPError):
        return f"{place} is not pushed: {in_short(error)}"
    for each in _chain(error):
        if isinstance(each, errors.HfHubHTTPError):
            return _answered(place, verb, each.response.status_code, each.server_message or "")
    if any(isinstance(each, errors.OfflineModeIsEnabled) for each in _chain(error)):
        return f"{place} is not wholly in the cache, and HF_HUB_OFFLINE forbids to fetch it. Unset it once."
    if any(isinstance(each, ConnectionError) or type(each).__name__ in _UNREACHED for each in _chain(error)):
        kept = " What was opened before opens without it." if what == "fetch" else ""
        return f"{hub} cannot be reached for {place} ({_root(error)}). Check the network, and HF_ENDPOINT if set.{kept}"
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is None:
        return f"{place} is not wholly in the cache. Open it once with the network and without local_files_only."
    return f"The {what} of {place} broke off ({_root(error)}). Run it again: what has arrived is kept."


def _answered(place: Repository, verb: str, status: int, reason: str) -> str:
    """In words, an answer of the hub that is a refusal."""
    if status == 401:
        return f"{endpoint()} wants a valid token to {verb} {place.name}: {_LOG_IN}."
    if status == 403:
        return f"The token may not {verb} {place.name}: use one with that right, or a name of your own."
    if status == 429 or status >= 500:
        return f"{endpoint()} answers {status} for {place}. Wait a little, then run it again."
    return f"{endpoint()} refuses to {verb} {place} ({status}{f': {reason.strip()[:200]}' if reason else ''})."


def _root(error: Exception) -> str:
    """What was raised first, in short."""
    first = list(_chain(error))[-1]
    return in_short(first) if isinstance(first, Exception) else type(first).__name__
