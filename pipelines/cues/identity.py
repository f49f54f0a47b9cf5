"""The identity of a cue: everything that decides its bytes, computed from settings without loading a model.

    stored restorations   maker, its weights, the settings that it reads at this t, the faces, their size
    detector's input      the same for each t, and form, normalisation and mask

Which settings a maker reads is the class of settings that belongs to it: see `pipelines.cues.settings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.cues.custom import open_source
from pipelines.cues.settings import (
    AUTOENCODER,
    MAKERS,
    OWN,
    WITH_TIMESTEP,
    AncestralSettings,
    AutoencodedSettings,
    CueSettings,
    RestorationSettings,
)
from pipelines.settings import Strict, enters_names

KIND, SCHEMA = "cues", 2

SEED_RULE = "torch CPU generator of the first 63 bits of sha256('{seed}:{key}'), one per face"
"""How noise follows from seed and key; another rule would make other bytes. Where several numbers are drawn from one
stream (AnoDDPM), the noise up to t comes first, then that of every step down. A sample of the autoencoder's posterior
is drawn under the key `posterior/{key}`."""


def settings_read(maker: str, timestep: int) -> type[Strict]:
    """The class of settings that a generator or baseline reads to restore from `timestep`."""
    if maker == "dfg":
        return AutoencodedSettings if timestep == AUTOENCODER else RestorationSettings
    return AncestralSettings if maker in WITH_TIMESTEP else Strict


def restoration_identity(
    settings: Strict, maker: str, weights: str, timestep: int, autoencoder: str = "", **options: Any
) -> dict[str, Any]:
    """Everything that decides a restoration beside the face, in JSON's types.

    Args:
        settings: a `CueSettings`, or the class of settings that the maker reads.
        maker: `dfg` or the name of a baseline.
        weights: names what restores: the hash of its files. They hold the noise schedule too.
        timestep: 0 for the autoencoder alone and for baselines without noise.
        autoencoder: names what encodes and decodes for `dfg`, the generator's own or `cue.autoencoder`: the hash of its
            files alone. Default: `weights`.
        options: further facts that decide the bytes.
    """
    # `cue.autoencoder` says where the weights lie; they enter by what they hold.
    names = [name for name in settings_read(maker, timestep).model_fields if name != "autoencoder"]
    read = {name: getattr(settings, name) for name in names if enters_names(settings, name)}
    noised = {"timestep": timestep, "seed_rule": SEED_RULE} if timestep else {}
    if maker == "dfg" and timestep == AUTOENCODER:
        return {"name": "autoencoder", "weights": autoencoder or weights, **read, **options}
    replaced = maker == "dfg" and getattr(settings, "autoencoder", OWN) != OWN
    smaller = {"autoencoder": autoencoder} if replaced else {}
    return {"name": maker, "weights": weights, **read, **noised, **smaller, **options}


def cue_restoration(cue: CueSettings, maker: str, weights: str, timestep: int, autoencoder: str = "") -> dict[str, Any]:
    """Everything that decides the restorations of a cue; of a custom source, what it says of itself.

    Arguments as of `restoration_identity`.
    """
    if cue.is_custom:
        return open_source(cue).fingerprint()
    return restoration_identity(cue, maker, weights, timestep, autoencoder)


def store_identity(restoration: dict[str, Any], dataset: str, image_size: Sequence[int]) -> dict[str, Any]:
    """Everything that decides a cue store's bytes; its fingerprint is the folder's name.

    Args:
        restoration: of `restoration_identity`, or the fingerprint of another `CueSource`.
        dataset: fingerprint of the faces' content.
        image_size: height and width in pixels.
    """
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "source": restoration,
        "dataset": dataset,
        "image_size": [int(side) for side in image_size],
    }


def input_identity(cue: CueSettings, maker: str, generator: str, autoencoder: str = "") -> dict[str, Any]:
    """Everything that decides the cues that a detector is given, beside the faces.

    Args:
        cue: the settings.
        maker: `generator.name`.
        generator: names the generator and its training, as its folder does; so a detector has its name before the
            generator's weights exist.
        autoencoder: names `cue.autoencoder` in the same way. Default: it is the generator's own.
    """
    return {
        # `dfg_no_identity` is the source `dfg`; the generator's own name says whether it has an identity.
        "source": MAKERS.get(cue.source, cue.source),
        "form": cue.form,
        "normalize": cue.normalize,
        "mask": cue.mask,
        "seed": cue.seed,
        "restorations": [cue_restoration(cue, maker, generator, t, autoencoder) for t in cue.timesteps_by(maker)],
    }
