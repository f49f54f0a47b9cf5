"""Colour as devices have it: eleven RGB spaces, and presses that print cyan, magenta and yellow.

An RGB space is its primaries, its white and its tone curve, as published; colours go through CIE XYZ adapted to D50, as
in an ICC matrix profile. A press is the colours of its eight overprints, mixed by their dots' areas (Neugebauer 1937,
Demichel 1924) after dot gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Point = tuple[float, float]
Lab = tuple[float, float, float]

_D50_XYZ = np.array([0.96422, 1.0, 0.82521])
_D50, _D65, _EQUAL = (0.34567, 0.35850), (0.31271, 0.32902), (1 / 3, 1 / 3)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
# Encoded values are looked up by the root of the light, since the eye's levels are close in the dark.
_ROOTS = 4096


@dataclass(frozen=True)
class RgbSpace:
    """The chromaticities of red, green, blue and white, and the exponent of the tone curve; None for sRGB's curve."""

    red: Point
    green: Point
    blue: Point
    white: Point
    gamma: float | None

    def to_xyz(self) -> np.ndarray:
        """(3, 3): linear RGB in columns -> XYZ under D50."""
        primaries = np.array([_xyz(point) for point in (self.red, self.green, self.blue)]).T
        white = _xyz(self.white)
        cones = np.diag((_BRADFORD @ _D50_XYZ) / (_BRADFORD @ white))
        adapted: np.ndarray = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD
        return adapted @ (primaries * np.linalg.solve(primaries, white))

    def decode(self, value: np.ndarray) -> np.ndarray:
        """Encoded value -> light, both in [0, 1]."""
        if self.gamma is not None:
            return np.asarray(value**self.gamma)
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    def encode(self, light: np.ndarray) -> np.ndarray:
        """Light -> encoded value, both in [0, 1]."""
        if self.gamma is not None:
            return np.asarray(light ** (1 / self.gamma))
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


RGB_SPACES: dict[str, RgbSpace] = {
    "srgb": RgbSpace(*_SRGB, _D65, None),
    "srgb_gamma_2.2": RgbSpace(*_SRGB, _D65, 2.2),
    "adobe_1998": RgbSpace((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65, 2.2),
    "apple": RgbSpace((0.625, 0.34), (0.28, 0.595), (0.155, 0.07), _D65, 1.8),
    "color_match": RgbSpace((0.63, 0.34), (0.295, 0.605), (0.15, 0.075), _D50, 1.8),
    "cie": RgbSpace((0.735, 0.265), (0.274, 0.717), (0.167, 0.009), _EQUAL, 2.2),
    "prophoto": RgbSpace((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), _D50, 1.8),
    "prophoto_d65": RgbSpace((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), _D65, 1.8),
    "don_4": RgbSpace((0.696, 0.3), (0.215, 0.765), (0.13, 0.035), _D50, 2.2),
    "best": RgbSpace((0.7347, 0.2653), (0.215, 0.775), (0.13, 0.035), _D50, 2.2),
    "wide_gamut": RgbSpace((0.735, 0.265), (0.115, 0.826), (0.157, 0.018), _D50, 2.2),
}


@dataclass(frozen=True)
class Inks:
    """Paper and solid overprints under D50 as CIE L*a*b*: near the aims of ISO 12647, in round numbers of ours."""

    paper: Lab
    cyan: Lab
    magenta: Lab
    yellow: Lab
    blue: Lab
    green: Lab
    red: Lab
    black: Lab

    def in_order(self) -> np.ndarray:
        """(8, 3) XYZ relative to the paper; the bits of an index are cyan, magenta, yellow."""
        order = (self.paper, self.yellow, self.magenta, self.red, self.cyan, self.green, self.blue, self.black)
        solids = np.array([_lab_to_xyz(lab) for lab in order])
        return solids / solids[0] * _D50_XYZ


_COATED = Inks(
    (94, 0, -2), (54, -36, -49), (46, 72, -5), (88, -6, 90), (24, 18, -46), (49, -66, 25), (46, 67, 47), (23, 0, 0)
)
_UNCOATED = Inks(
    (93, 0, -3), (58, -25, -43), (54, 58, -2), (86, -4, 75), (38, 9, -30), (53, -42, 13), (52, 53, 25), (33, 0, 0)
)
_WEB = Inks(
    (90, 0, 1), (55, -36, -41), (47, 68, -3), (84, -4, 84), (26, 17, -40), (50, -60, 25), (47, 62, 42), (25, 0, 1)
)
_NEWSPRINT = Inks(
    (82, 0, 3), (57, -24, -27), (54, 44, -1), (78, -3, 58), (41, 7, -22), (53, -33, 17), (52, 41, 25), (40, 0, 2)
)

PRESSES: dict[str, tuple[Inks, float]] = {
    "sheet_coated": (_COATED, 0.13),
    "sheet_uncoated": (_UNCOATED, 0.17),
    "euro_coated": (_COATED, 0.17),
    "euro_uncoated": (_UNCOATED, 0.22),
    "web_coated": (_WEB, 0.19),
    "web_uncoated": (_UNCOATED, 0.26),
    "newspaper": (_NEWSPRINT, 0.26),
}
"""Inks on their paper, and the gain of a dot of half the area."""


def between_spaces(picture: np.ndarray, source: str, target: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 of one space of `RGB_SPACES` in the numbers of another; clipped."""
    light = cv2.LUT(picture, _decoded(source))
    return _encoded(cv2.transform(light, _between(source, target)), target)


def printed(picture: np.ndarray, press: str, target: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 on a press of `PRESSES`: ink is what lacks of red, green and blue; no black ink.

    Args:
        picture: any RGB.
        press: that prints it; the paper becomes white.
        target: the space of `RGB_SPACES` of the result.
    """
    lacking = cv2.split(cv2.LUT(picture, _coverage(press)))  # lacking red is cyan ink, and so on
    products = np.ones((8, *picture.shape[:2]), dtype=np.float32)
    for bit, area in enumerate(reversed(lacking)):
        np.multiply(products[: 2**bit], area, out=products[2**bit : 2 ** (bit + 1)])
    light = products.reshape(8, -1).T @ _mixing(press, target)
    return _encoded(light.reshape(picture.shape), target)


@lru_cache(maxsize=len(RGB_SPACES))
def _decoded(space: str) -> np.ndarray:
    """(256,) float32: the light of each level."""
    return RGB_SPACES[space].decode(np.arange(256) / 255).astype(np.float32)


@lru_cache(maxsize=len(RGB_SPACES))
def _levels(space: str) -> np.ndarray:
    """(4096,) uint8: the level of each root of light."""
    light = (np.arange(_ROOTS) / (_ROOTS - 1)) ** 2
    return np.round(RGB_SPACES[space].encode(light) * 255).astype(np.uint8)


def _encoded(light: np.ndarray, space: str) -> np.ndarray:
    """(H, W, 3) float32 light of a space -> uint8."""
    places = np.clip(light, 0.0, 1.0)
    np.sqrt(places, out=places)
    places *= np.float32(_ROOTS - 1)
    places += np.float32(0.5)
    return _levels(space).take(places.astype(np.int64))


@lru_cache(maxsize=len(RGB_SPACES) ** 2)
def _between(source: str, target: str) -> np.ndarray:
    """(3, 3) float32: linear RGB of one space, in columns -> those of another."""
    return np.linalg.solve(RGB_SPACES[target].to_xyz(), RGB_SPACES[source].to_xyz()).astype(np.float32)


@lru_cache(maxsize=len(PRESSES))
def _coverage(press: str) -> np.ndarray:
    """(256,) float32: the area of a dot on paper, by the level of the colour that its ink takes away."""
    area = 1 - np.arange(256) / 255
    return (area + 4 * PRESSES[press][1] * area * (1 - area)).astype(np.float32)


@lru_cache(maxsize=len(PRESSES) * len(RGB_SPACES))
def _mixing(press: str, target: str) -> np.ndarray:
    """(8, 3) float32: products of the dots' areas -> linear RGB; Demichel's weights, multiplied out."""
    one = np.array([[1.0, 0.0], [-1.0, 1.0]])
    products = np.kron(np.kron(one, one), one)
    xyz = products @ PRESSES[press][0].in_order()
    return np.linalg.solve(RGB_SPACES[target].to_xyz(), xyz.T).T.astype(np.float32)


def _xyz(point: Point) -> np.ndarray:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _lab_to_xyz(lab: Lab) -> np.ndarray:
    lightness = (lab[0] + 16) / 116
    roots = np.array([lightness + lab[1] / 500, lightness, lightness - lab[2] / 200])
    return np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * _D50_XYZ
