"""What the built-in benchmark is made of. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from pipelines.settings import Strict

DomainName = Literal["webcam", "phone", "tablet", "kiosk"]
DOMAINS: tuple[str, ...] = get_args(DomainName)
CORPUS = "corpus"


class SyntheticSettings(Strict):
    """Size and seed of a benchmark; the same settings give the same bytes."""

    seed: int = Field(default=0, ge=0, description="Another seed gives other subjects, cameras, attacks and noise.")
    size: int = Field(
        default=64,
        ge=32,
        le=512,
        multiple_of=2,
        description="Side of a crop in pixels; time grows with its square.",
    )
    domains: tuple[DomainName, ...] = Field(
        default=("webcam", "phone", "tablet", "kiosk"),
        min_length=1,
        description="Capture domains to make; leaving one out needs at least two.",
    )
    subjects: int = Field(
        default=30, ge=5, description="Persons in each domain, split 60/20/20; fewer widen every interval."
    )
    live_videos: int = Field(default=2, ge=1, description="Bona fide videos of each subject; they are the live class.")
    attack_videos: int = Field(
        default=4, ge=1, description="Attack videos of each subject, of the domain's mix of kinds."
    )
    frames: int = Field(default=3, ge=1, description="Frames of each video; scores are averaged over them.")
    corpus_subjects: int = Field(
        default=300,
        ge=0,
        description="Persons in the live corpus of the generator and identity encoder; 0 leaves it out.",
    )
    corpus_images: int = Field(
        default=10,
        ge=1,
        description="Pictures of each corpus person, each by its own camera; few teach identity badly.",
    )

    @field_validator("domains")
    @classmethod
    def _no_domain_twice(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(domains)) != len(domains):
            raise ValueError(f"a domain is named twice in {list(domains)}; name each once")
        return domains
