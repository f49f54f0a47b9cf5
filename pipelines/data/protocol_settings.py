"""Settings of the protocols. Imports nothing heavy: the command line reads them.

| name | trained | tested |
| --- | --- | --- |
| leave_one_out | once per domain, on all others | the domain left out |
| limited | once per target, on the same few domains | the target |
| one_against_others | once per domain, on it alone | all others together |
| within | once per domain, on it alone | its own `test` records |
| cross_matrix | once per domain, on it alone | every domain; itself by its `test` records |
| combined | once, on all | the `test` records of each |
| all_to_unseen | once, on a list | domains that are not in it |

Every fold that tests several domains is also evaluated on each of them. In protocols whose targets are never sources,
`train_splits` and `test_splits` choose the records of a domain that are trained on and tested. `frames` chooses
the frames of a video.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipelines.settings import Added, Strict
from pipelines.spelling import one_form

CORPUS = "corpus"
"""Domain of live faces for the generator; by default it is neither source nor target of a protocol."""


def _in_order(names: list[str]) -> list[str]:
    """Each once and in a fixed order, so that equal choices give equal fingerprints."""
    return [name for name in ("train", "dev", "test") if name in names]


def _in_one_form(names: list[str]) -> list[str]:
    return [one_form(name) for name in names]


Domains = Annotated[list[str], AfterValidator(_in_one_form)]
"""Names of domains, in the form of Unicode that datasets keep."""


def _domains(least: int, what: str) -> Any:
    return Field(default=None, min_length=least, description=f"{what}; default: all except `corpus`.")


class _OfVideos(Strict):
    """What every protocol takes of a video."""

    frames: Annotated[Literal["all", "uniform", "released"], Added()] = Field(
        default="all",
        description="Frames of each video: all that the dataset stores; the uniform ones; or as the public code lists"
        " them, one of a training video and two of a dev or test video.",
    )


class _AcrossDomains(_OfVideos):
    """Targets are never sources, so `test` persons of a source are not tested and may be trained on."""

    train_splits: Annotated[list[Literal["train", "test"]], AfterValidator(_in_order)] = Field(
        default=["train"],
        min_length=1,
        description="Splits of the sources to train on; never `dev`, which sets the threshold.",
    )
    test_splits: Annotated[list[Literal["train", "dev", "test"]], AfterValidator(_in_order)] | None = Field(
        default=None, min_length=1, description="Splits of the targets to test; default: all."
    )


class LeaveOneOut(_AcrossDomains):
    """Every domain is the target once, the others are the sources."""

    name: Literal["leave_one_out"] = "leave_one_out"
    domains: Domains | None = _domains(2, "Domains that take turns")


class Limited(_AcrossDomains):
    """Few sources, for example M&I to C: one detector per target."""

    name: Literal["limited"] = "limited"
    train: Domains = Field(min_length=1, description="Source domains.")
    test: Domains = Field(min_length=1, description="Target domains; each is one fold.")


class OneAgainstOthers(_AcrossDomains):
    """Every domain is the only source once; all others are tested together."""

    name: Literal["one_against_others"] = "one_against_others"
    domains: Domains | None = _domains(2, "Domains that take turns")


class Within(_OfVideos):
    """Every domain by itself: trained on its `train` records, tested on its `test` records."""

    name: Literal["within"] = "within"
    domains: Domains | None = _domains(1, "One detector each")


class CrossMatrix(_OfVideos):
    """Every domain is the only source once and all are tested, itself on its `test` records."""

    name: Literal["cross_matrix"] = "cross_matrix"
    domains: Domains | None = _domains(2, "Rows and columns of the matrix")


class Combined(_OfVideos):
    """One detector for the `train` records of all domains, tested on the `test` records of each."""

    name: Literal["combined"] = "combined"
    domains: Domains | None = _domains(2, "Trained on together")


class AllToUnseen(_AcrossDomains):
    """One detector for a list of domains, tested on others; if one list is missing, it is all other domains."""

    name: Literal["all_to_unseen"] = "all_to_unseen"
    train: Domains | None = Field(
        default=None, min_length=1, description="Source domains; default: all except `corpus` and `test`."
    )
    test: Domains | None = Field(
        default=None, min_length=1, description="Targets; default: all except `corpus` and `train`."
    )

    @model_validator(mode="after")
    def _one_given(self) -> AllToUnseen:
        if self.train is None and self.test is None:
            raise ValueError("all_to_unseen needs protocol.train, protocol.test, or both: which domains are unseen?")
        return self


AnyProtocol = LeaveOneOut | Limited | OneAgainstOthers | Within | CrossMatrix | Combined | AllToUnseen
ProtocolSettings = Annotated[AnyProtocol, Field(discriminator="name")]
