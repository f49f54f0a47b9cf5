"""Models of the hub: fetched by the files that they list, never code, and opened like any other folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from dfg.known import CODE, INDEX_NAME
from pipelines.errors import AgfasError
from pipelines.files import read_json
from pipelines.hub import Access, Repository, exists, fetch, repository
from pipelines.verdict.exported import SETTINGS_NAME as EXPORTED_NAME
from pipelines.verdict.folder import CARD_NAME
from pipelines.verdict.folder import SETTINGS_NAME as SAVED_NAME


def local_model(
    given: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a model: the given one, or that of the cache for a name of the hub, `USER/NAME` or
    `USER/NAME@REVISION`, after what it lacks was fetched.

    Its files are checked where it is opened, as those of any folder.

    Args:
        given: an existing path always wins; `hf://USER/NAME` never is one.
        revision: a branch, a tag or a commit.
        token: None: HF_TOKEN, or that of `hf auth login`; False: none.
        cache_dir: of downloads; None: the hub's own, see HF_HOME.
        local_files_only: make no request.

    Raises:
        AgfasError: the hub does not give it, or the repository holds something else.
    """
    place = repository(given, revision)
    if place is None:
        return Path(given)
    access = Access(token, cache_dir, local_files_only)
    folder = _first(place, access)
    return fetch(replace(place, revision=folder.name), _listed(place, folder), access)


def _first(place: Repository, access: Access) -> Path:
    """What says which files the model has."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return fetch(place, (SAVED_NAME, EXPORTED_NAME, CARD_NAME, INDEX_NAME), access)
    except AgfasError as error:
        cause = error.__cause__
        missing = isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError)
        if missing and exists(replace(place, kind="dataset"), access):
            raise AgfasError(
                f"{place.name} is a dataset of the hub, not a model. Cues are brought by `agfas import-cues`."
            ) from None
        raise


def _listed(place: Repository, folder: Path) -> list[str]:
    """The files that the model's settings list."""
    path = next((folder / name for name in (SAVED_NAME, EXPORTED_NAME) if (folder / name).is_file()), None)
    content = read_json(path) if path is not None else None
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        what = "is a generator alone, without a detector: open it with DeFakePipeline.from_pretrained"
        other = f"holds no model of this program: neither {SAVED_NAME} nor the {EXPORTED_NAME} of an exported one"
        raise AgfasError(f"{place} of the hub {what if (folder / INDEX_NAME).is_file() else other}.")
    for name in files:
        if PurePosixPath(name).suffix.lower().endswith(CODE):
            raise AgfasError(f"{place} of the hub lists {name}, which might be run. It is not fetched.")
    return list(files)
