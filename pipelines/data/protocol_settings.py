"""The protocols by name, as an experiment writes them; plain pydantic, so that reading one costs nothing.

| name | trained | tested |
| --- | --- | --- |
| leave_one_out | once per domain, on all others | the domain that was left out |
| limited | once per target, on the same few domains | the target |
| one_against_others | once per domain, on it alone | all others together |
| within | once per domain, on it alone | its own `test` records |
| cross_matrix | once per domain, on it alone | every domain; itself by its `test` records |
| combined | once, on all | each one's `test` records |
| all_to_unseen | once, on a list | domains that are not in it |

Every test of several domains is also told for each of them. Where targets are never sources, `train_splits` and
`test_splits` change which of a domain's records are learnt from and tested.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pipelines.settings import Strict


def _in_order(names: list[str]) -> list[str]:
    """Each once and in the order of the splits, so that equal choices name equal artefacts."""
    return [name for name in ("train", "dev", "test") if name in names]


class _AcrossDomains(Strict):
    """Targets are never sources, so that a source's `test` persons judge nothing and may be learnt from."""

    train_splits: Annotated[list[Literal["train", "test"]], AfterValidator(_in_order)] = Field(
        default=["train"],
        min_length=1,
        description="Records of the sources that are learnt from; `dev` never is, for it sets the threshold.",
    )
    test_splits: Annotated[list[Literal["train", "dev", "test"]], AfterValidator(_in_order)] | None = Field(
        default=None, min_length=1, description="Records of the targets that are tested; where not given, all."
    )


class LeaveOneOut(_AcrossDomains):
    """Every domain is the target once, the others are the sources."""

    name: Literal["leave_one_out"] = "leave_one_out"
    domains: list[str] | None = Field(
        default=None,
        min_length=2,
        description="The domains that take turns; where not given, all of the dataset but `corpus`.",
    )


class Limited(_AcrossDomains):
    """Few sources, as in M&I to C: one detector per target."""

    name: Literal["limited"] = "limited"
    train: list[str] = Field(min_length=1, description="Source domains; the detector sees no other.")
    test: list[str] = Field(min_length=1, description="Target domains; each is one fold.")


class OneAgainstOthers(_AcrossDomains):
    """Every domain is the only source once; all the others are tested together."""

    name: Literal["one_against_others"] = "one_against_others"
    domains: list[str] | None = Field(
        default=None,
        min_length=2,
        description="The domains that take turns; where not given, all but `corpus`.",
    )


class Within(Strict):
    """Every domain by itself: learnt from its `train` records, judged by its `test` records."""

    name: Literal["within"] = "within"
    domains: list[str] | None = Field(
        default=None, min_length=1, description="One detector each; where not given, all but `corpus`."
    )


class CrossMatrix(Strict):
    """Every domain is the only source once and all are tested: a matrix with the within-tests on its diagonal."""

    name: Literal["cross_matrix"] = "cross_matrix"
    domains: list[str] | None = Field(
        default=None, min_length=2, description="Rows and columns of the matrix; where not given, all but `corpus`."
    )


class Combined(Strict):
    """One detector of all domains' `train` records, judged by each one's `test` records."""

    name: Literal["combined"] = "combined"
    domains: list[str] | None = Field(
        default=None, min_length=2, description="Trained on together; where not given, all but `corpus`."
    )


class AllToUnseen(_AcrossDomains):
    """One detector of a list of domains, judged by others; one list may be left out and is then all the rest."""

    name: Literal["all_to_unseen"] = "all_to_unseen"
    train: list[str] | None = Field(
        default=None, min_length=1, description="Source domains; where not given, all but `corpus` and those of `test`."
    )
    test: list[str] | None = Field(
        default=None, min_length=1, description="Targets; where not given, all but `corpus` and those of `train`."
    )

    @model_validator(mode="after")
    def _one_given(self) -> AllToUnseen:
        if self.train is None and self.test is None:
            raise ValueError("all_to_unseen needs protocol.train, protocol.test, or both: which domains are unseen?")
        return self


AnyProtocol = LeaveOneOut | Limited | OneAgainstOthers | Within | CrossMatrix | Combined | AllToUnseen
ProtocolSettings = Annotated[AnyProtocol, Field(discriminator="name")]
