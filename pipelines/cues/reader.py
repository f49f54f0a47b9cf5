"""From stored 8-bit pictures to the cue, the second input of a detector."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from dfg.noise import noise_for_keys
from oanet.cue import form_cue
from oanet.names import CUE_CHANNELS, CUE_FORMS_WITH_AUTOENCODED, CUE_NORMALIZATIONS
from pipelines.cues.settings import BUILTIN_SOURCES, SOURCES, WITHOUT_PICTURES
from pipelines.errors import AgfasError, nearest
from pipelines.pixels import empty, place_moved, to_unit_face


class Pictures(Protocol):
    """Pictures by index: an array, a mapped file, or `pipelines.cues.store.JoinedCues`."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


class CueReader:
    """Computes the cues of a dataset's faces.

    Kinds, of which the last four are controls:

    * `dfg`, `memae` and the other names of `pipelines.cues.settings.RESTORING`: the face against its restoration
    * `autoencoder`  the face against the autoencoder's reconstruction, t = 0
    * `shuffled`     the cue of a face of another video: right statistics, wrong content
    * `zero`         zeros
    * `noise`        unit Gaussian values, one stream per face

    Args:
        kind: one of these.
        keys: N record keys, `domain/subject/video/frame`.
        videos: N video names, unique within the domain.
        images: (N, H, W, 3) uint8.
        reconstructions: the faces' restorations, (N, H, W, 3) uint8; for `autoencoder` those of t = 0.
        autoencoded: (N, H, W, 3) uint8, the reconstructions of t = 0, for the forms that need them.
        form: of `oanet.names.CUE_FORMS`.
        normalize: `per_face` or `none`.
        seed: decides the donors of `shuffled` and the values of `noise`.
        groups: N names; donors of `shuffled` come from the same group, so that with domain and split as the group no
            test face enters training. Default: one group.
        masks: (N, H, W) uint8, 1 on the face: the cue is zero elsewhere (DFG† of the paper). Default: no mask.

    Attributes:
        channels: C of the cues.

    Raises:
        AgfasError: an unknown name, missing pictures or a wrong number of them, or one video with more than half of the
            faces, so that `shuffled` has no donors.
    """

    def __init__(
        self,
        kind: str,
        keys: Sequence[str],
        videos: Sequence[str],
        images: Pictures,
        reconstructions: Pictures | None = None,
        autoencoded: Pictures | None = None,
        form: str = "residual",
        normalize: str = "per_face",
        seed: int = 0,
        groups: Sequence[str] | None = None,
        masks: Pictures | None = None,
    ) -> None:
        if kind not in BUILTIN_SOURCES and kind not in SOURCES and ":" not in kind:
            _check_name("cue source", kind, BUILTIN_SOURCES)
        _check_name("cue form", form, tuple(CUE_CHANNELS))
        _check_name("cue normalisation", normalize, CUE_NORMALIZATIONS)
        self.kind, self.form, self.normalize, self.seed = kind, form, normalize, seed
        self.keys, self.images = keys, images
        self.reconstructions, self.autoencoded, self.masks = reconstructions, autoencoded, masks
        if kind == "autoencoder":
            given = reconstructions if autoencoded is None else autoencoded
            self.reconstructions = self.autoencoded = given
        self.channels = CUE_CHANNELS[form]
        self._check_pictures()
        self._donors: np.ndarray | None = None
        if kind == "shuffled":
            # Stores of some of the faces say which ones they hold.
            present = getattr(reconstructions, "present", None)
            self._donors = donors_of(keys, videos, seed, groups, present)

    def _check_pictures(self) -> None:
        if self.kind in WITHOUT_PICTURES:
            return
        if self.reconstructions is None:
            raise AgfasError(f"the cue source '{self.kind}' needs reconstructions: run the cue job first.")
        if self.form in CUE_FORMS_WITH_AUTOENCODED and self.autoencoded is None:
            raise AgfasError(
                f"the cue form '{self.form}' needs the reconstructions of t = 0 as `autoencoded`: run the cue"
                " job for t = 0 too, or use the form 'residual'."
            )
        for name in ("images", "reconstructions", "autoencoded", "masks"):
            pictures = getattr(self, name)
            if pictures is not None and len(pictures) != len(self.keys):
                raise AgfasError(f"{len(self.keys)} keys, but {len(pictures)} {name}: join them by key first.")

    def __len__(self) -> int:
        return len(self.keys)

    def batch(
        self,
        indices: np.ndarray,
        image_flips: np.ndarray | None = None,
        cue_flips: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
        faces: np.ndarray | None = None,
        alike: Callable[[int, np.ndarray], np.ndarray] | None = None,
    ) -> torch.Tensor:
        """The cues of the faces at `indices`, (B, C, H, W) float32.

        Args:
            indices: (B,) positions in the dataset.
            image_flips: (B,) bool, faces mirrored left to right before the cue is formed.
            cue_flips: (B,) bool, the same for the restorations. Equal flips give the mirrored cue; unequal
                flips compare a face with its mirror image, as the public code does by mistake.
            offsets: (B, 2) int, rows and columns by which each cue is shifted; see `pipelines.pixels.place_moved`.
            faces: (B, H, W, 3) uint8, changed faces instead of those stored.
            alike: from a face's place in the batch and its restoration to the restoration as changed with the face.
        """
        indices = np.asarray(indices)
        if self.kind == "zero":
            return torch.zeros(len(indices), self.channels, *self._size())
        if self.kind == "noise":
            noise = self._noise(indices)
            masks = self._masks(indices)
            noise = _mirrored(noise if masks is None else noise * torch.from_numpy(masks)[:, None], cue_flips)
            return noise if offsets is None else _moved(noise, offsets)
        # Face by face: the inputs of one cue fit the processor's cache, those of a batch do not.
        stored, restored, autoencoded = self.cues(indices)
        if alike is not None:
            restored = np.stack([alike(place, one) for place, one in enumerate(restored)])
        masks = self._masks(self._givers(indices))
        pictures = (stored if faces is None else faces, restored, autoencoded, masks)
        cues = empty((len(indices), *self._size(), self.channels))
        for place in range(len(indices)):
            cue = self._form(place, *pictures, _at(image_flips, place), _at(cue_flips, place)).permute(1, 2, 0)
            if offsets is None:
                cues[place] = cue
            else:
                place_moved(cues[place], cue, offsets[place])
        return cues.permute(0, 3, 1, 2)

    def _form(
        self,
        place: int,
        image: np.ndarray,
        restored: np.ndarray,
        autoencoded: np.ndarray | None,
        masks: np.ndarray | None,
        image_flip: bool,
        cue_flip: bool,
    ) -> torch.Tensor:
        return form_cue(
            to_unit_face(image[place], image_flip),
            to_unit_face(restored[place], cue_flip),
            None if autoencoded is None else to_unit_face(autoencoded[place], cue_flip),
            form=self.form,
            normalize=self.normalize,
            mask=None if masks is None else _mask(masks[place], image_flip),
        )

    def _givers(self, indices: np.ndarray) -> np.ndarray:
        """The donor of each face."""
        return np.asarray(indices) if self._donors is None else self._donors[np.asarray(indices)]

    def _masks(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self.masks is None else self.masks[indices]

    def cues(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The 8-bit pictures that the cues of `indices` are formed from: face, restoration, reconstruction.

        Each is (B, H, W, 3) uint8; the last is None if the form does not need it. For `shuffled` all are the donor's.

        Raises:
            AgfasError: the source is `zero` or `noise`, or a face is not stored.
        """
        if self.reconstructions is None:
            raise AgfasError(f"the cue source '{self.kind}' is made of no pictures.")
        chosen = self._givers(indices)
        if np.any(chosen < 0):
            raise AgfasError("a face without a stored restoration has no cue: run the cue job over its domain.")
        autoencoded = None
        if self.form in CUE_FORMS_WITH_AUTOENCODED and self.autoencoded is not None:
            autoencoded = self.autoencoded[chosen]
        return self.images[chosen], self.reconstructions[chosen], autoencoded

    def _noise(self, indices: np.ndarray) -> torch.Tensor:
        # Not the key itself: that names the noise that the generator started from.
        names = [f"cue/{self.keys[int(index)]}" for index in indices]
        return noise_for_keys(names, (self.channels, *self._size()), self.seed)

    def _size(self) -> tuple[int, int]:
        height, width = self.images[np.array([0])].shape[1:3]
        return height, width


def donors_of(
    keys: Sequence[str],
    videos: Sequence[str],
    seed: int,
    groups: Sequence[str] | None = None,
    present: np.ndarray | None = None,
) -> np.ndarray:
    """For each face a donor: a face of the same group and another video. Every face is a donor once.

    The faces of a group are ordered by video, in an order that depends on names and seed only; the donor is as many
    places further as the largest video of the group has faces.

    Args:
        keys, videos: N each; a video name is unique within its domain, the first part of the key.
        seed: decides the order.
        groups: N names; donors stay within a group. Default: one group.
        present: (N,) bool, faces that can be donors and need one. Default: all.

    Returns:
        (N,) int64 positions; -1 for faces that are not present.

    Raises:
        AgfasError: one video holds more than half of a group.
    """
    names = [f"{key.split('/', 1)[0]}/{video}" for key, video in zip(keys, videos, strict=True)]
    members: dict[str, list[int]] = {}
    for face in range(len(keys)) if present is None else np.flatnonzero(present).tolist():
        members.setdefault("" if groups is None else groups[face], []).append(face)
    donors = np.full(len(keys), -1, dtype=np.int64)
    for group in members.values():
        line = sorted(group, key=lambda face: (_digest(seed, names[face]), names[face], _digest(seed, keys[face])))
        donors[line] = np.roll(np.array(line), -_longest_video(names, line))
    return donors


def _longest_video(names: list[str], faces: list[int]) -> int:
    video, longest = Counter(names[face] for face in faces).most_common(1)[0]
    if 2 * longest > len(faces):
        raise AgfasError(
            f"'shuffled' gives every face the cue of another video's, but the video {video} holds {longest}"
            f" of the {len(faces)} faces to choose from. Use more videos."
        )
    return longest


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _mask(mask: np.ndarray, mirrored: bool) -> torch.Tensor:
    """(H, W) uint8 -> (1, H, W) float32."""
    return torch.from_numpy(np.array(mask[:, ::-1] if mirrored else mask, dtype=np.float32))[None]


def _at(flips: np.ndarray | None, place: int) -> bool:
    return flips is not None and bool(flips[place])


def _moved(pictures: torch.Tensor, offsets: np.ndarray) -> torch.Tensor:
    """Pictures (B, C, H, W), each shifted by its row of `offsets`."""
    moved = torch.empty_like(pictures)
    for target, source, offset in zip(moved, pictures, offsets, strict=True):
        place_moved(target.permute(1, 2, 0), source.permute(1, 2, 0), offset)
    return moved


def _mirrored(pictures: torch.Tensor, flips: np.ndarray | None) -> torch.Tensor:
    if flips is None or not np.any(flips):
        return pictures
    chosen = np.flatnonzero(flips)
    mirrored = pictures.clone()
    mirrored[chosen] = pictures[chosen].flip(-1)
    return mirrored


def _check_name(what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise AgfasError(f"Unknown {what} '{given}': {nearest(given, allowed)}")
