"""The cue, a detector's second input, from a face and its restoration.

Its forms, with x the face, r its restoration and a the autoencoder's reconstruction (t = 0):

* `residual`     x - r: the paper's anomalous cue (AG-FAS, Sec. III-B), signed, RGB.
* `compensated`  a - r: without the autoencoder's own error.
* `two_part`     (x - a, a - r): six channels; their sum is the residual.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oanet.checks import check_name
from oanet.names import CUE_FORMS, CUE_FORMS_WITH_AUTOENCODED, CUE_NORMALIZATIONS

_EPSILON = 1e-8

# Below this deviation, a difference holds only rounding: one changed 8-bit value among the 196,608 of a 256x256 face
# gives 2e-5, the rounding of a constant difference at most 3e-7.
_CONSTANT = 1e-6


def form_cue(
    image: Tensor,
    restored: Tensor,
    autoencoded: Tensor | None = None,
    form: str = "residual",
    normalize: str = "per_face",
    mask: Tensor | None = None,
) -> Tensor:
    """The cue of each face.

    Args:
        image: (..., 3, H, W) floating point in [-1, 1], RGB.
        restored: the face's "real" version, of the same shape and range.
        autoencoded: the autoencoder's reconstruction, of the same shape and range; only for `compensated` and
            `two_part`.
        form: one of `oanet.names.CUE_FORMS`.
        normalize: `per_face` subtracts one mean and divides by one unbiased standard deviation + 1e-8 over all values
            of the face. The parts of `two_part` are normalised separately, since their magnitudes differ by several
            times. A constant difference gives zeros, not amplified rounding. `none` keeps the values, in [-2, 2].
        mask: (..., 1, H, W), 1 on the face and 0 elsewhere. The cue is zero outside, and mean and deviation are of
            the values inside. DFG† of the paper (Table IV) masks the cue by face parsing, without saying whether before
            or after normalising; statistics that include a discarded background would scale the face by its clutter.

    Returns:
        (..., 3, H, W), or (..., 6, H, W) for `two_part`.

    Raises:
        ValueError: unknown name, integer images, unequal shapes, or missing `autoencoded`.
    """
    check_name("cue form", form, CUE_FORMS)
    check_name("cue normalisation", normalize, CUE_NORMALIZATIONS)
    _check_images(form, image=image, restored=restored, autoencoded=autoencoded)
    _check_mask(mask, image)
    parts = _differences(image, restored, autoencoded, form)
    if normalize == "per_face":
        parts = [_standardize(part, mask) for part in parts]
    elif mask is not None:
        parts = [part * mask for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-3)


def _differences(image: Tensor, restored: Tensor, autoencoded: Tensor | None, form: str) -> list[Tensor]:
    if form == "residual" or autoencoded is None:
        return [image - restored]
    if form == "compensated":
        return [autoencoded - restored]
    return [image - autoencoded, autoencoded - restored]


def _standardize(part: Tensor, mask: Tensor | None) -> Tensor:
    # Sum, centre, norm: several times faster on a CPU than torch.var_mean, whose single pass is not vectorised.
    # Reducing three dimensions at once avoids the copy that flattening a channels-last image needs.
    pixels = (-3, -2, -1)
    if mask is None:
        count = torch.full((), float(part.shape[-3:].numel()), device=part.device)
        centred = part - part.mean(pixels, keepdim=True)
    else:
        count = part.shape[-3] * mask.sum(pixels, keepdim=True)
        centred = (part - (part * mask).sum(pixels, keepdim=True) / count.clamp_min(1)) * mask
    deviation = torch.linalg.vector_norm(centred, dim=pixels, keepdim=True) / (count - 1).clamp_min(1).sqrt()
    scale = torch.where(deviation < _CONSTANT, torch.zeros_like(deviation), 1 / (deviation + _EPSILON))
    return centred * scale


def _check_images(form: str, **images: Tensor | None) -> None:
    if form in CUE_FORMS_WITH_AUTOENCODED and images["autoencoded"] is None:
        raise ValueError(
            f"The cue form {form!r} needs `autoencoded`, the autoencoder's reconstruction (t = 0) of the face; store"
            " that source too, or use the form 'residual'."
        )
    given = {name: image for name, image in images.items() if image is not None}
    for name, image in given.items():
        if not image.is_floating_point():
            raise ValueError(f"`{name}` is {image.dtype}; convert pixels first: value / 127.5 - 1.")
        if image.ndim < 3 or image.shape[-3] != 3:
            raise ValueError(f"`{name}` has the shape {tuple(image.shape)}; a cue needs (..., 3, H, W).")
    if len({tuple(map(int, image.shape)) for image in given.values()}) > 1:  # of a traced image they are tensors
        shapes = ", ".join(f"{name} {tuple(image.shape)}" for name, image in given.items())
        raise ValueError(f"The images of a cue must have one shape, but: {shapes}.")


def _check_mask(mask: Tensor | None, image: Tensor) -> None:
    wanted = (*image.shape[:-3], 1, *image.shape[-2:])
    if mask is not None and tuple(mask.shape) != wanted:
        raise ValueError(f"`mask` has the shape {tuple(mask.shape)}; these faces need {wanted}.")
