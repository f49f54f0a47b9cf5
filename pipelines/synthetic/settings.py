"""Settings of what is drawn: the built-in benchmark and simulated attacks. The command line reads them: no torch."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from pipelines.errors import nearest
from pipelines.settings import Strict

DomainName = Literal["webcam", "phone", "tablet", "kiosk"]
DOMAINS: tuple[str, ...] = get_args(DomainName)


class SyntheticSettings(Strict):
    """Size and seed of a benchmark; the same settings give the same bytes."""

    seed: int = Field(default=0, ge=0, description="Seed of subjects, cameras, attacks and noise.")
    size: int = Field(
        default=64,
        ge=32,
        le=512,
        multiple_of=2,
        description="Side of a crop in pixels; rendering time grows with its square.",
    )
    domains: tuple[DomainName, ...] = Field(
        default=("webcam", "phone", "tablet", "kiosk"),
        min_length=1,
        description="Capture domains; leave-one-out protocols need at least two.",
    )
    subjects: int = Field(
        default=30, ge=5, description="Persons per domain, split 60/20/20; fewer persons widen confidence intervals."
    )
    live_videos: int = Field(default=2, ge=1, description="Bona fide videos per subject.")
    attack_videos: int = Field(
        default=4, ge=1, description="Attack videos per subject; their types follow the mix of the domain."
    )
    frames: int = Field(default=3, ge=1, description="Frames per video; scores are averaged over them.")
    corpus_subjects: int = Field(
        default=300,
        ge=0,
        description="Persons in the live corpus for the generator and identity encoder; 0: no corpus.",
    )
    corpus_images: int = Field(
        default=10,
        ge=1,
        description="Pictures per corpus person, each by another camera; the identity encoder needs several.",
    )

    @field_validator("domains")
    @classmethod
    def _no_domain_twice(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(domains)) != len(domains):
            raise ValueError(f"a domain appears twice in {list(domains)}; give each once")
        return domains


AttackName = Literal["print", "replay", "cutout", "mask_paper", "mask_resin", "blend"]
ATTACKS: tuple[str, ...] = get_args(AttackName)
NEED_LANDMARKS: tuple[str, ...] = ("cutout", "mask_paper", "mask_resin", "blend")
"""Attacks that are placed by the five landmarks."""


class SimulationSettings(Strict):
    """Attacks simulated from live faces; the same settings and faces give the same bytes."""

    attacks: tuple[AttackName, ...] | None = Field(
        default=None, min_length=1, description="Kinds of attacks, drawn in equal shares. Default: all that fit."
    )
    cameras: int = Field(
        default=3, ge=1, le=100, description="Cameras; each is a domain of the result, and takes both classes."
    )
    per_face: int = Field(
        default=1, ge=1, le=100, description="Pairs of every face: its live picture and an attack by one camera."
    )
    seed: int = Field(default=0, ge=0, description="Seed of cameras, attacks and noise.")
    size: int | None = Field(
        default=None, ge=32, le=512, description="Side of a crop in pixels. Default: that of the faces."
    )
    domains: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Domains of the live faces. Default: all."
    )

    @field_validator("attacks", mode="before")
    @classmethod
    def _known(cls, names: object) -> object:
        for name in names if isinstance(names, (list, tuple)) else ():
            if name not in ATTACKS:
                raise ValueError(f"there is no attack '{name}': {nearest(str(name), ATTACKS)}")
        return names
