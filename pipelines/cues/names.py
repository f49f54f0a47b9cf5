"""Names of cue sources, in plain Python: who makes a cue's restorations, and which of them start from a t."""

from __future__ import annotations

from dfg.baselines import BASELINES, BASELINES_WITH_TIMESTEP

MAKERS: dict[str, str] = {"dfg": "dfg", "dfg_no_identity": "dfg", **{name: name for name in BASELINES}}
"""The `generator.name` that each source of restorations needs."""

RESTORING: tuple[str, ...] = tuple(MAKERS)
"""Sources whose cue compares a face with what a model of live faces makes of it."""

CONTROLS: tuple[str, ...] = ("autoencoder", "shuffled", "zero", "noise")

WITHOUT_PICTURES: tuple[str, ...] = ("zero", "noise")
"""Sources that need no restoration."""

WITH_TIMESTEP: tuple[str, ...] = ("dfg", *BASELINES_WITH_TIMESTEP)
"""Makers that noise a face to t."""


def moment(source: str, maker: str, timestep: int) -> int:
    """The t that a cue is restored from; 0 for the control `autoencoder` and for makers without noise.

    Args:
        source: of the cue; one that needs restorations.
        maker: of the restorations, which for `shuffled` its name does not tell.
        timestep: that the settings give.
    """
    return 0 if source == "autoencoder" or maker not in WITH_TIMESTEP else timestep
