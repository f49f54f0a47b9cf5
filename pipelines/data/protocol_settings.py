"""The protocols by name, as an experiment writes them; plain pydantic, so that reading one costs nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LeaveOneOut(_Settings):
    """Every domain is the target once, the others are the sources."""

    name: Literal["leave_one_out"] = "leave_one_out"
    domains: list[str] | None = Field(
        default=None,
        min_length=2,
        description="The domains that take turns; where not given, all of the dataset but `corpus`.",
    )


class Limited(_Settings):
    """Few sources, as in M&I to C: one detector per target."""

    name: Literal["limited"] = "limited"
    train: list[str] = Field(min_length=1, description="Source domains; the detector sees no other.")
    test: list[str] = Field(min_length=1, description="Target domains; each is one split.")


class OneAgainstOthers(_Settings):
    """Every domain is the only source once; all the others are tested together."""

    name: Literal["one_against_others"] = "one_against_others"
    domains: list[str] | None = Field(
        default=None,
        min_length=2,
        description="The domains that take turns; where not given, all but `corpus`.",
    )


ProtocolSettings = Annotated[LeaveOneOut | Limited | OneAgainstOthers, Field(discriminator="name")]
