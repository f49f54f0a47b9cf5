"""What a cue is: how the face and its restoration become the detector's second input.

The forms, with x the face, r its restoration and a the autoencoder's own reconstruction (t = 0):

* `residual`     x - r: the paper's anomalous cue (AG-FAS, Sec. III-B), signed, RGB.
* `compensated`  a - r: what restoring changed beyond what coding alone changes.
* `two_part`     (x - a, a - r): both, six channels; their sum is the residual.
"""

from __future__ import annotations

import torch

from oanet.names import CUE_FORMS, CUE_FORMS_WITH_AUTOENCODED, CUE_NORMALIZATIONS, check_name

_EPSILON = 1e-8

# One changed 8-bit value among the 196,608 of a 256x256 face gives a deviation of 2e-5, and the rounding of a
# constant difference at most 3e-7: below this, the difference holds no picture, only rounding.
_CONSTANT = 1e-6


def form_cue(
    image: torch.Tensor,
    restored: torch.Tensor,
    autoencoded: torch.Tensor | None = None,
    form: str = "residual",
    normalize: str = "per_face",
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The cue of each face.

    Args:
        image: (..., 3, H, W) floating point in [-1, 1], RGB.
        restored: the same shape and range: the face's "real" version.
        autoencoded: the same shape and range: the autoencoder's reconstruction; only `compensated` and
            `two_part` read it.
        form: one of `oanet.names.CUE_FORMS`.
        normalize: `per_face` subtracts one mean and divides by one unbiased standard deviation + 1e-8 over
            all values of the face; `two_part` normalises each of its parts by itself, since the two differ in
            magnitude by several times and the smaller would vanish beside the larger. `none` keeps the
            magnitude, in [-2, 2]. A difference that is constant over the face has no pattern to keep: its
            normalised cue is all zeros, not amplified rounding.
        mask: (..., 1, H, W), 1 on the face and 0 beside it. The cue is zero outside, and mean and deviation are those
            of the values inside. DFG† of the paper (Table IV) masks the cue by face parsing and does not say which of
            the two comes first; statistics of a background that is thrown away would scale the face by its clutter.

    Returns:
        (..., 3, H, W), or (..., 6, H, W) for `two_part`.

    Raises:
        ValueError: for an unknown name, integer pictures, unequal shapes or a missing `autoencoded`.
    """
    check_name("cue form", form, CUE_FORMS)
    check_name("cue normalisation", normalize, CUE_NORMALIZATIONS)
    _check_pictures(form, image=image, restored=restored, autoencoded=autoencoded)
    _check_mask(mask, image)
    parts = _differences(image, restored, autoencoded, form)
    if normalize == "per_face":
        parts = [_standardize(part, mask) for part in parts]
    elif mask is not None:
        parts = [part * mask for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-3)


def _differences(
    image: torch.Tensor, restored: torch.Tensor, autoencoded: torch.Tensor | None, form: str
) -> list[torch.Tensor]:
    if form == "residual" or autoencoded is None:
        return [image - restored]
    if form == "compensated":
        return [autoencoded - restored]
    return [image - autoencoded, autoencoded - restored]


def _standardize(part: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    # Sum, centre, norm: on a CPU several times faster than torch.var_mean, whose one pass is not vectorised.
    # The dimensions are reduced as they lie, so that a channels-last picture is not copied first.
    picture = (-3, -2, -1)
    if mask is None:
        count = torch.tensor(float(part.shape[-3:].numel()), device=part.device)
        centred = part - part.mean(picture, keepdim=True)
    else:
        count = part.shape[-3] * mask.sum(picture, keepdim=True)
        centred = (part - (part * mask).sum(picture, keepdim=True) / count.clamp_min(1)) * mask
    deviation = torch.linalg.vector_norm(centred, dim=picture, keepdim=True) / (count - 1).clamp_min(1).sqrt()
    scale = torch.where(deviation < _CONSTANT, torch.zeros_like(deviation), 1 / (deviation + _EPSILON))
    return centred * scale


def _check_pictures(form: str, **pictures: torch.Tensor | None) -> None:
    if form in CUE_FORMS_WITH_AUTOENCODED and pictures["autoencoded"] is None:
        raise ValueError(
            f"The cue form {form!r} needs `autoencoded`, the autoencoder's own reconstruction (t = 0) of the "
            "face; store that source too, or use the form 'residual'."
        )
    given = {name: picture for name, picture in pictures.items() if picture is not None}
    for name, picture in given.items():
        if not picture.is_floating_point():
            raise ValueError(f"`{name}` is {picture.dtype}; convert pixels first: value / 127.5 - 1.")
        if picture.ndim < 3 or picture.shape[-3] != 3:
            raise ValueError(f"`{name}` has the shape {tuple(picture.shape)}; a cue needs (..., 3, H, W).")
    if len({tuple(picture.shape) for picture in given.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(picture.shape)}" for name, picture in given.items())
        raise ValueError(f"The pictures of a cue must have one shape, but: {shapes}.")


def _check_mask(mask: torch.Tensor | None, image: torch.Tensor) -> None:
    wanted = (*image.shape[:-3], 1, *image.shape[-2:])
    if mask is not None and tuple(mask.shape) != wanted:
        raise ValueError(f"`mask` has the shape {tuple(mask.shape)}; these faces need {wanted}.")
