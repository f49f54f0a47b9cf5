"""The capture domains: cameras, light and attacks of each.

Pitches and periods are in pixels of a 64-pixel crop and scale with the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.synthetic.camera import CameraRange, Span


@dataclass(frozen=True)
class PrintRange:
    """Printers and papers: halftone `pitch`, its strength, fading, bending; probability that a border shows."""

    pitch: Span
    dots: Span
    fade: Span
    bend: Span
    border: float


@dataclass(frozen=True)
class ReplayRange:
    """Screens: moiré, pixel grid, brightness bands, veiling light; probability that a border shows."""

    moire_period: Span
    moire: Span
    grid: Span
    bands: Span
    veil: Span
    border: float


@dataclass(frozen=True)
class MaskRange:
    """Worn masks: share of skin texture and relief removed, gloss, dark rims around the eyes, seam along the edge."""

    smooth: Span
    flat: Span
    gloss: Span
    rim: Span
    edge: Span


@dataclass(frozen=True)
class Domain:
    """A capture domain.

    Attributes:
        camera: its cameras.
        side: standard deviation of the horizontal direction of the light.
        key: range of the share of directional light.
        warmth: range of log(red / blue) of the light.
        brightness: range of the reflectance of backgrounds.
        shapes: largest number of shapes in a background.
        turn: standard deviation of the yaw of the head, radians.
        mix: share of each attack type.
        prints, replays, masks: how its attacks are made.
    """

    camera: CameraRange
    side: float
    key: Span
    warmth: Span
    brightness: Span
    shapes: int
    turn: float
    mix: dict[str, float]
    prints: PrintRange
    replays: ReplayRange
    masks: MaskRange


_SILICONE = MaskRange(smooth=(0.0, 0.35), flat=(0.3, 0.7), gloss=(0.1, 0.7), rim=(0.45, 1.0), edge=(0.2, 0.8))
_RESIN = MaskRange(smooth=(0.0, 0.2), flat=(0.55, 0.95), gloss=(0.3, 1.0), rim=(0.5, 1.0), edge=(0.3, 0.9))

PAD_DOMAINS: dict[str, Domain] = {
    "webcam": Domain(
        camera=CameraRange(
            blur=(0.45, 0.95),
            exposure=(-0.35, 0.3),
            warmth=(-0.15, 0.35),
            green=(-0.05, 0.08),
            shot=(0.015, 0.035),
            read=(0.005, 0.013),
            gamma=(1.9, 2.5),
            contrast=(-0.1, 0.35),
            saturation=(0.7, 1.1),
            sharpen=(0.0, 0.5),
            quality=(55, 80),
        ),
        side=0.6,
        key=(0.3, 0.7),
        warmth=(-0.1, 0.45),
        brightness=(0.08, 0.45),
        shapes=3,
        turn=0.16,
        mix={"print": 0.7, "replay": 0.3},
        prints=PrintRange(pitch=(2.4, 5.0), dots=(0.25, 0.8), fade=(0.1, 0.5), bend=(0.0, 0.5), border=0.15),
        replays=ReplayRange(
            moire_period=(5.0, 16.0),
            moire=(0.18, 0.47),
            grid=(0.04, 0.39),
            bands=(0.0, 0.14),
            veil=(0.02, 0.12),
            border=0.15,
        ),
        masks=_RESIN,
    ),
    "phone": Domain(
        camera=CameraRange(
            blur=(0.2, 0.6),
            exposure=(-0.25, 0.3),
            warmth=(-0.3, 0.2),
            green=(-0.06, 0.06),
            shot=(0.006, 0.021),
            read=(0.002, 0.006),
            gamma=(2.0, 2.6),
            contrast=(0.0, 0.5),
            saturation=(0.9, 1.35),
            sharpen=(0.2, 1.1),
            quality=(80, 95),
        ),
        side=0.9,
        key=(0.3, 0.85),
        warmth=(-0.35, 0.35),
        brightness=(0.1, 0.7),
        shapes=4,
        turn=0.2,
        mix={"replay": 0.65, "print": 0.35},
        prints=PrintRange(pitch=(1.5, 2.6), dots=(0.15, 0.5), fade=(0.0, 0.35), bend=(0.1, 0.7), border=0.1),
        replays=ReplayRange(
            moire_period=(2.6, 8.0),
            moire=(0.15, 0.38),
            grid=(0.17, 0.65),
            bands=(0.0, 0.07),
            veil=(0.0, 0.1),
            border=0.1,
        ),
        masks=_SILICONE,
    ),
    "tablet": Domain(
        camera=CameraRange(
            blur=(0.35, 0.8),
            exposure=(-0.4, 0.4),
            warmth=(-0.1, 0.45),
            green=(-0.1, 0.05),
            shot=(0.011, 0.028),
            read=(0.003, 0.008),
            gamma=(1.7, 2.3),
            contrast=(-0.2, 0.3),
            saturation=(0.75, 1.2),
            sharpen=(0.0, 0.8),
            quality=(65, 90),
        ),
        side=0.7,
        key=(0.2, 0.7),
        warmth=(0.0, 0.6),
        brightness=(0.15, 0.75),
        shapes=3,
        turn=0.18,
        mix={"replay": 0.4, "print": 0.25, "mask": 0.35},
        prints=PrintRange(pitch=(2.0, 4.0), dots=(0.2, 0.6), fade=(0.15, 0.6), bend=(0.0, 0.8), border=0.25),
        replays=ReplayRange(
            moire_period=(3.5, 12.0),
            moire=(0.18, 0.44),
            grid=(0.11, 0.52),
            bands=(0.0, 0.12),
            veil=(0.03, 0.2),
            border=0.3,
        ),
        masks=_SILICONE,
    ),
    "kiosk": Domain(
        camera=CameraRange(
            blur=(0.4, 0.9),
            exposure=(-0.5, 0.35),
            warmth=(-0.4, 0.1),
            green=(-0.05, 0.12),
            shot=(0.015, 0.032),
            read=(0.004, 0.01),
            gamma=(1.6, 2.2),
            contrast=(0.0, 0.6),
            saturation=(0.55, 1.0),
            sharpen=(0.1, 1.0),
            quality=(60, 85),
        ),
        side=1.0,
        key=(0.5, 0.95),
        warmth=(-0.4, 0.2),
        brightness=(0.03, 0.5),
        shapes=2,
        turn=0.2,
        mix={"mask": 0.55, "print": 0.3, "replay": 0.15},
        prints=PrintRange(pitch=(1.8, 3.6), dots=(0.2, 0.6), fade=(0.1, 0.5), bend=(0.0, 0.6), border=0.2),
        replays=ReplayRange(
            moire_period=(4.0, 14.0),
            moire=(0.15, 0.41),
            grid=(0.04, 0.52),
            bands=(0.0, 0.18),
            veil=(0.02, 0.15),
            border=0.2,
        ),
        masks=_RESIN,
    ),
}

# Like faces from the internet: a camera and light per picture, from the union of all ranges and beyond. No attacks.
CORPUS_DOMAIN = Domain(
    camera=CameraRange(
        blur=(0.15, 0.95),
        exposure=(-0.5, 0.4),
        warmth=(-0.45, 0.5),
        green=(-0.1, 0.12),
        shot=(0.004, 0.038),
        read=(0.002, 0.013),
        gamma=(1.6, 2.6),
        contrast=(-0.2, 0.6),
        saturation=(0.55, 1.35),
        sharpen=(0.0, 1.1),
        quality=(55, 95),
    ),
    side=0.8,
    key=(0.2, 0.95),
    warmth=(-0.4, 0.6),
    brightness=(0.03, 0.75),
    shapes=4,
    turn=0.2,
    mix={},
    prints=PrintRange((2, 3), (0, 0), (0, 0), (0, 0), 0.0),
    replays=ReplayRange((4, 8), (0, 0), (0, 0), (0, 0), (0, 0), 0.0),
    masks=_SILICONE,
)

# The attacker's picture of the victim is a good one.
SOURCE_CAMERA = CameraRange(
    blur=(0.15, 0.45),
    exposure=(-0.2, 0.2),
    warmth=(-0.15, 0.2),
    green=(-0.04, 0.04),
    shot=(0.005, 0.02),
    read=(0.002, 0.006),
    gamma=(2.0, 2.4),
    contrast=(0.0, 0.4),
    saturation=(0.9, 1.25),
    sharpen=(0.0, 0.7),
    quality=(80, 95),
)
