"""Cameras: from linear light to the 8-bit picture that a capture domain would store.

The order is that of a real camera: lens blur, pixel aperture, exposure and white balance, shot and read noise, tone
curve, saturation, sharpening, JPEG. Sums of shifted copies replace FFT and BLAS, so every machine computes the same
bits.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.streams import uniform

Span = tuple[float, float]
# Lengths in pixels (blur, halftone, moiré) are for a crop of this side and scale with the crop.
REFERENCE_SIDE = 64
# Luma of linear RGB, ITU-R BT.709.
_LUMA = (0.2126, 0.7152, 0.0722)
# Automatic exposure: a scene of level 0.3 is exposed to 0.24 of full scale, which leaves room for highlights.
_SCENE_LEVEL, _EXPOSED_LEVEL = 0.3, 0.24
# Narrower blurs are skipped: the weight of a neighbour is below 0.1 %.
_LEAST_SIGMA = 0.25


@dataclass(frozen=True)
class SimulatedCamera:
    """The settings of a camera for one video.

    Attributes:
        blur: sigma of the lens blur in pixels of a 64-pixel crop.
        exposure: factor on the level that automatic exposure aims at.
        metering: how far exposure adapts to the scene, 0 to 1.
        red, blue: white balance errors, as gains relative to green.
        balance: how far white balance adapts to the mean colour of the scene, 0 to 1.
        shot, read: standard deviation of the noise at full light and in the dark, in units of full scale.
        gamma: the tone curve is x ** (1 / gamma).
        contrast: strength of the S-curve, about -0.3 to 0.6.
        saturation: factor on the colour differences.
        sharpen: strength of the unsharp mask.
        vignette: light lost in the corners, 0 to 1.
        quality: JPEG quality, 1 to 95.
    """

    blur: float
    exposure: float
    metering: float
    red: float
    blue: float
    balance: float
    shot: float
    read: float
    gamma: float
    contrast: float
    saturation: float
    sharpen: float
    vignette: float
    quality: int


@dataclass(frozen=True)
class CameraRange:
    """Ranges from which every video of a domain draws its camera; `exposure`, `warmth` and `green` are log gains."""

    blur: Span
    exposure: Span
    warmth: Span
    green: Span
    shot: Span
    read: Span
    gamma: Span
    contrast: Span
    saturation: Span
    sharpen: Span
    quality: Span
    metering: Span = (0.5, 0.95)
    balance: Span = (0.1, 0.6)
    vignette: Span = (0.0, 0.25)

    def draw(self, rng: np.random.Generator) -> SimulatedCamera:
        """The camera of one video."""
        warm, green = uniform(rng, self.warmth), uniform(rng, self.green)
        return SimulatedCamera(
            blur=uniform(rng, self.blur),
            exposure=float(np.exp(uniform(rng, self.exposure))),
            metering=uniform(rng, self.metering),
            red=float(np.exp(warm / 2 - green)),
            blue=float(np.exp(-warm / 2 - green)),
            balance=uniform(rng, self.balance),
            shot=uniform(rng, self.shot),
            read=uniform(rng, self.read),
            gamma=uniform(rng, self.gamma),
            contrast=uniform(rng, self.contrast),
            saturation=uniform(rng, self.saturation),
            sharpen=uniform(rng, self.sharpen),
            vignette=uniform(rng, self.vignette),
            quality=round(uniform(rng, self.quality)),
        )


def capture(light: np.ndarray, camera: SimulatedCamera, rng: np.random.Generator, size: int) -> np.ndarray:
    """Take a picture.

    Args:
        light: (3, S, S) linear light; S a multiple of `size`.
        camera: settings of the video.
        rng: noise of the frame.
        size: side of the picture in pixels.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    picture = develop(light, camera, rng, size)
    pixels = np.ascontiguousarray((picture * 255.0 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=camera.quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def develop(light: np.ndarray, camera: SimulatedCamera, rng: np.random.Generator, size: int) -> np.ndarray:
    """As `capture`, but without JPEG: (3, size, size) float32 in [0, 1], gamma-encoded."""
    sensor = _expose(light, camera.blur * light.shape[-1] / REFERENCE_SIDE, light.shape[-1] // size)
    sensor *= _gains(sensor, camera) * _falloff(size, camera.vignette)
    noise = rng.standard_normal(sensor.shape, dtype=np.float32)
    # Shot noise has the variance of a photon count, which grows with the light; read noise does not.
    noise *= np.sqrt(np.float32(camera.shot**2) * np.maximum(sensor, 0.0) + np.float32(camera.read**2))
    noise += sensor
    encoded = np.clip(noise, 0.0, 1.0, out=noise) ** np.float32(1.0 / camera.gamma)
    # Contrast adds 4 c x (x - 1/2) (1 - x): an S-curve that fixes black, middle grey and white.
    curve = (encoded - 0.5) * encoded
    curve *= 1.0 - encoded
    curve *= np.float32(4.0 * camera.contrast)
    encoded += curve
    luma = _luma(encoded)
    encoded *= np.float32(camera.saturation)
    encoded += np.float32(1.0 - camera.saturation) * luma
    if camera.sharpen > 0.0:
        encoded += np.float32(camera.sharpen) * (luma - blur(luma[None], size / REFERENCE_SIDE)[0])
    return np.clip(encoded, 0.0, 1.0, out=encoded)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (C, H, W) with repeated edges, cut off at 2.3 sigma."""
    radius = int(np.ceil(2.3 * sigma))
    if sigma < _LEAST_SIGMA or radius == 0:
        return picture
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights = (weights / (weights[0] + 2.0 * weights[1:].sum())).astype(np.float32)
    for axis in (1, 2):
        picture = _convolve(picture, weights, axis)
    return picture


def _convolve(picture: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    radius = len(weights) - 1
    pad = [(0, 0), (0, 0), (0, 0)]
    pad[axis] = (radius, radius)
    padded = np.pad(picture, pad, mode="edge")
    length = picture.shape[axis]

    def shifted(by: int) -> np.ndarray:
        cut = [slice(None)] * 3
        cut[axis] = slice(radius + by, radius + by + length)
        return padded[tuple(cut)]

    out = weights[0] * picture
    for by in range(1, radius + 1):
        out += weights[by] * (shifted(by) + shifted(-by))
    return out


def _expose(light: np.ndarray, sigma: float, factor: int) -> np.ndarray:
    """Lens blur, then pixel aperture; a wide blur prevents aliasing either way and is cheaper after the aperture."""
    if sigma > 0.65 * factor:
        return blur(_pool(light, factor), sigma / factor)
    return _pool(blur(light, sigma), factor)


def _pool(picture: np.ndarray, factor: int) -> np.ndarray:
    """The aperture of a pixel: means of factor x factor squares."""
    if factor == 1:
        return picture.copy()
    rows = picture[:, ::factor].copy()
    for start in range(1, factor):
        rows += picture[:, start::factor]
    out = rows[:, :, ::factor].copy()
    for start in range(1, factor):
        out += rows[:, :, start::factor]
    return out * np.float32(1.0 / (factor * factor))


def _gains(sensor: np.ndarray, camera: SimulatedCamera) -> np.ndarray:
    """(3, 1, 1) gains: automatic exposure and white balance, metered in the centre, with the errors of the camera."""
    side = sensor.shape[-1]
    centre = sensor[:, side // 6 : -side // 6, side // 6 : -side // 6]
    means = np.maximum(centre.mean(axis=(1, 2), dtype=np.float64), 1e-3)
    level = float(np.dot(means, _LUMA))
    exposure = camera.exposure * _EXPOSED_LEVEL * (level**-camera.metering) * _SCENE_LEVEL ** (camera.metering - 1.0)
    balance = (level / means) ** (0.5 * camera.balance)
    return (exposure * balance * np.array([camera.red, 1.0, camera.blue])).astype(np.float32)[:, None, None]


def _falloff(size: int, vignette: float) -> np.ndarray:
    at = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return 1.0 - np.float32(vignette) * 2.0 * (at[:, None] ** 2 + at[None, :] ** 2)


def _luma(picture: np.ndarray) -> np.ndarray:
    red, green, blue_ = (np.float32(weight) for weight in _LUMA)
    return red * picture[0] + green * picture[1] + blue_ * picture[2]
