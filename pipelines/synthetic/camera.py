"""Cameras: from linear light to the 8-bit picture that a capture domain would store.

Order as in a real one: lens blur, pixel aperture, exposure and white balance, shot and read noise, tone
curve, saturation, sharpening, JPEG (through Pillow).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.streams import uniform

_LUMA = (0.2126, 0.7152, 0.0722)
Span = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """One camera as it was set for one video.

    Attributes:
        blur: deviation of the lens blur in pixels of a 64-pixel crop.
        exposure: factor of the automatic exposure's target.
        metering: how far the exposure follows the scene, 0 to 1.
        red, blue: white balance errors against green.
        balance: how far the white balance follows the scene's mean colour, 0 to 1.
        shot, read: noise deviation at full light, and in the dark, as parts of full scale.
        gamma: exponent of the tone curve is 1 / gamma.
        contrast: strength of the S-curve, about -0.3 to 0.6.
        saturation: factor of the colour differences.
        sharpen: strength of the unsharp mask.
        vignette: loss of light in the corners, 0 to 1.
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
    """Ranges of a domain's cameras; every video draws its own camera from them."""

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

    def draw(self, rng: np.random.Generator) -> Camera:
        """The camera of one video."""
        warm, green = uniform(rng, self.warmth), uniform(rng, self.green)
        return Camera(
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


def capture(light: np.ndarray, camera: Camera, rng: np.random.Generator, size: int) -> np.ndarray:
    """Take a picture.

    Args:
        light: (3, S, S) linear light; S a multiple of `size`.
        camera: the camera.
        rng: the frame's noise.
        size: side of the picture in pixels.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    picture = develop(light, camera, rng, size)
    pixels = np.ascontiguousarray((picture * 255.0 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=camera.quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def develop(light: np.ndarray, camera: Camera, rng: np.random.Generator, size: int) -> np.ndarray:
    """The same without JPEG: (3, size, size) float32 in [0, 1], gamma-encoded."""
    sensor = _expose(light, camera.blur * light.shape[-1] / 64.0, light.shape[-1] // size)
    sensor *= _gains(sensor, camera) * _falloff(size, camera.vignette)
    noise = rng.standard_normal(sensor.shape, dtype=np.float32)
    noise *= np.sqrt(np.float32(camera.shot**2) * np.maximum(sensor, 0.0) + np.float32(camera.read**2))
    noise += sensor
    encoded = np.clip(noise, 0.0, 1.0, out=noise) ** np.float32(1.0 / camera.gamma)
    curve = (encoded - 0.5) * encoded
    curve *= 1.0 - encoded
    curve *= np.float32(4.0 * camera.contrast)
    encoded += curve
    luma = _luma(encoded)
    encoded *= np.float32(camera.saturation)
    encoded += np.float32(1.0 - camera.saturation) * luma
    if camera.sharpen > 0.0:
        encoded += np.float32(camera.sharpen) * (luma - blur(luma[None], 1.0 * size / 64.0)[0])
    return np.clip(encoded, 0.0, 1.0, out=encoded)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (C, H, W) with edges repeated; sums of shifted copies, the same bits everywhere."""
    radius = int(np.ceil(2.3 * sigma))
    if sigma < 0.25 or radius == 0:
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
    """Lens blur and pixel aperture; a wide blur lets nothing alias and may come second, cheaper."""
    if sigma > 0.65 * factor:
        return blur(_pool(light, factor), sigma / factor)
    return _pool(blur(light, sigma), factor)


def _pool(picture: np.ndarray, factor: int) -> np.ndarray:
    """The pixel's aperture: means of factor x factor squares."""
    if factor == 1:
        return picture.copy()
    rows = picture[:, ::factor].copy()
    for start in range(1, factor):
        rows += picture[:, start::factor]
    out = rows[:, :, ::factor].copy()
    for start in range(1, factor):
        out += rows[:, :, start::factor]
    return out * np.float32(1.0 / (factor * factor))


def _gains(sensor: np.ndarray, camera: Camera) -> np.ndarray:
    """(3, 1, 1) factors: automatic exposure and white balance with the camera's errors."""
    side = sensor.shape[-1]
    centre = sensor[:, side // 6 : -side // 6, side // 6 : -side // 6]
    means = np.maximum(centre.mean(axis=(1, 2), dtype=np.float64), 1e-3)
    level = float(np.dot(means, _LUMA))
    exposure = camera.exposure * 0.24 * (level**-camera.metering) * 0.3 ** (camera.metering - 1.0)
    balance = (level / means) ** (0.5 * camera.balance)
    return (exposure * balance * np.array([camera.red, 1.0, camera.blue])).astype(np.float32)[:, None, None]


def _falloff(size: int, vignette: float) -> np.ndarray:
    at = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return 1.0 - np.float32(vignette) * 2.0 * (at[:, None] ** 2 + at[None, :] ** 2)


def _luma(picture: np.ndarray) -> np.ndarray:
    red, green, blue_ = (np.float32(weight) for weight in _LUMA)
    return red * picture[0] + green * picture[1] + blue_ * picture[2]
