#!/usr/bin/env python
"""How near simulated attacks are to real ones, by cheap statistics of a picture:

    python scripts/realism.py simulated/ faces/nuaa --subjects 0001 0002 0003 0004

The shift of a statistic from live faces to attacks is measured within each dataset, since the two differ in cameras and
persons as well. A simulation is near if each shift has the sign of the real one and lies among those of real persons,
if no statistic alone tells simulated attacks (AUC near 1; no real set is so easy), and if a linear discriminant of
live against simulated faces tells real attacks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.data.records import BONAFIDE
from pipelines.errors import AgfasError
from pipelines.markdown import table

# Bins of a channel for the number of colours, and the share of pixels that they are to hold.
_COLOURS, _MOST = 32, 0.99
_DARK, _BRIGHT = 0.1, 0.85
_LEAST = 1e-3


def brightness(luma: np.ndarray, colour: np.ndarray) -> float:
    """Mean luma."""
    return float(luma.mean())


def contrast(luma: np.ndarray, colour: np.ndarray) -> float:
    """Standard deviation of luma."""
    return float(luma.std())


def saturation(luma: np.ndarray, colour: np.ndarray) -> float:
    """Mean of (max - min) / max over the channels."""
    most = colour.max(axis=2)
    return float(((most - colour.min(axis=2)) / np.maximum(most, _LEAST)).mean())


def warmth(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of mean red over mean blue."""
    red, blue = colour[..., 0].mean(), colour[..., 2].mean()
    return float(np.log((red + _LEAST) / (blue + _LEAST)))


def colours(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of the bins of RGB that hold 99 % of the pixels (diversity of Wen, Han and Jain 2015)."""
    bins = (colour * (_COLOURS - 1e-3)).astype(np.int64) @ (_COLOURS**2, _COLOURS, 1)
    counts = np.sort(np.bincount(bins.ravel()))[::-1]
    return float(np.log(np.searchsorted(np.cumsum(counts), _MOST * bins.size) + 1))


def shadows(luma: np.ndarray, colour: np.ndarray) -> float:
    """Share of dark pixels."""
    return float((luma < _DARK).mean())


def highlights(luma: np.ndarray, colour: np.ndarray) -> float:
    """Share of bright pixels."""
    return float((luma > _BRIGHT).mean())


def shading(luma: np.ndarray, colour: np.ndarray) -> float:
    """Contrast of the picture in 8 x 8 blocks, over its mean: light and shadow without detail."""
    coarse = _blocks(luma, 8)
    return float(coarse.std() / max(float(coarse.mean()), _LEAST))


def fine_detail(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of the detail of a pixel or two, over the contrast."""
    return _band(luma, 0)


def middle_detail(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of the detail of about three pixels, over the contrast."""
    return _band(luma, 1)


def coarse_detail(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of the detail of about six pixels, over the contrast."""
    return _band(luma, 2)


def noise(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of Immerkaer's (1996) estimate of the noise."""
    rows = luma[2:] - 2 * luma[1:-1] + luma[:-2]
    both = rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2]
    return float(np.log(np.sqrt(np.pi / 2) / 6 * np.abs(both).mean() + 1e-5))


def blur(luma: np.ndarray, colour: np.ndarray) -> float:
    """How little a further blur changes, in [0, 1] (Crete et al. 2007); 1 is blurred."""
    return max(_blur(luma), _blur(luma.T))


def colour_detail(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of the fine detail of red minus green, over that of luma."""
    return float(np.log((_fine(colour[..., 0] - colour[..., 1]).std() + 1e-4) / (_fine(luma).std() + 1e-4)))


def regularity(luma: np.ndarray, colour: np.ndarray) -> float:
    """Correlation of fine detail with itself two pixels on; the larger of rows and columns."""
    fine = _fine(luma)
    power = float((fine * fine).mean()) + 1e-9
    return float(max((fine[2:] * fine[:-2]).mean(), (fine[:, 2:] * fine[:, :-2]).mean()) / power)


def peak(luma: np.ndarray, colour: np.ndarray) -> float:
    """Log of the largest wave of fine detail over the median one: dots and moire are narrow peaks."""
    window = np.hanning(len(luma))[:, None] * np.hanning(luma.shape[1])
    power = np.abs(np.fft.rfft2(_fine(luma) * window))
    quick = np.abs(np.fft.fftfreq(len(luma)))[:, None] + np.fft.rfftfreq(luma.shape[1])[None] > 0.2
    return float(np.log((power[quick].max() + 1e-6) / (np.median(power[quick]) + 1e-6)))


STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    function.__name__: function
    for function in (
        *(brightness, contrast, saturation, warmth, colours, shadows, highlights, shading),
        *(fine_detail, middle_detail, coarse_detail, noise, blur, colour_detail, regularity, peak),
    )
}
"""Each takes luma (H, W) and RGB (H, W, 3), float64 in [0, 1]."""


def measured(pictures: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(n, S) float64: every statistic of pictures (H, W, 3) uint8."""
    rows = []
    for picture in pictures:
        colour = np.asarray(picture, dtype=np.float64) / 255.0
        luma = colour @ (0.299, 0.587, 0.114)
        rows.append([statistic(luma, colour) for statistic in STATISTICS.values()])
    return np.array(rows)


def shift(live: np.ndarray, attack: np.ndarray) -> np.ndarray:
    """Cohen's d of every column from live faces (n, S) to attacks (m, S); positive: attacks have more."""
    pooled = np.sqrt((live.var(axis=0) + attack.var(axis=0)) / 2)
    return np.asarray((attack.mean(axis=0) - live.mean(axis=0)) / np.maximum(pooled, 1e-9))


def area(live: np.ndarray, attack: np.ndarray) -> float:
    """AUC of scores that are to be higher for live faces."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([live, attack]))[: len(live)]
    return float((ranks.sum() - len(live) * (len(live) + 1) / 2) / (len(live) * len(attack)))


@dataclass(frozen=True)
class Measured:
    """Statistics (n, S), labels (n,), attack types (n,), and the owner of each face (n,)."""

    values: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    owners: np.ndarray

    @property
    def live(self) -> np.ndarray:
        """(n,) bool."""
        return self.labels == BONAFIDE

    def shift(self, kind: str | None = None) -> np.ndarray:
        """`shift` from live faces to attacks of a kind, or to all."""
        chosen = ~self.live if kind is None else self.kinds == kind
        return shift(self.values[self.live], self.values[chosen])

    def shifts_by_owner(self) -> np.ndarray:
        """(p, S): the shift of every owner who has both classes, ten faces each at least."""
        own = [self.owners == name for name in np.unique(self.owners)]
        both = [rows for rows in own if min((rows & self.live).sum(), (rows & ~self.live).sum()) >= 10]
        return np.array([shift(self.values[rows & self.live], self.values[rows & ~self.live]) for rows in both])


def transfer(learned: Measured, judged: Measured, kind: str | None = None) -> float:
    """AUC on one set of a linear discriminant that was fitted to another and knows no face of this one."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    chosen = learned.live | ((learned.kinds == kind) if kind else ~learned.live)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    live = learned.values[learned.live]
    mean, deviation = live.mean(axis=0), np.maximum(live.std(axis=0), 1e-9)
    model.fit((learned.values[chosen] - mean) / deviation, learned.labels[chosen])
    scores = model.decision_function((judged.values - mean) / deviation)
    return area(scores[judged.live], scores[~judged.live])


def compared(simulated: Measured, real: Measured, kind: str | None = None) -> list[dict[str, Any]]:
    """A row per statistic: the real shift with its range over persons, the simulated one, and its AUC alone."""
    by_owner, truth, found = real.shifts_by_owner(), real.shift(), simulated.shift(kind)
    attacks = ~simulated.live if kind is None else simulated.kinds == kind
    rows = []
    for place, name in enumerate(STATISTICS):
        column = simulated.values[:, place]
        alone = area(column[simulated.live], column[attacks])
        spread = (float(by_owner[:, place].min()), float(by_owner[:, place].max())) if len(by_owner) else None
        rows.append(
            {
                "statistic": name,
                "real": round(float(truth[place]), 2),
                "persons": f"{spread[0]:.2f} to {spread[1]:.2f}" if spread else "–",
                "simulated": round(float(found[place]), 2),
                "sign": "same" if truth[place] * found[place] > 0 else "other",
                "among persons": ("yes" if spread[0] <= found[place] <= spread[1] else "no") if spread else "–",
                "AUC alone": round(max(alone, 1 - alone), 2),
            }
        )
    return rows


def read(folder: Path, size: int, subjects: Sequence[str] = (), most: int = 4000) -> Measured:
    """Measure the faces of a dataset at `size`, of some subjects or of all, `most` evenly spaced ones at most."""
    from pipelines.data.faces import open_faces

    faces = open_faces(folder, size)
    rows = np.flatnonzero(np.isin(faces.subjects, subjects)) if subjects else np.arange(len(faces))
    if not len(rows):
        raise AgfasError(
            f"{folder} has no face of the subjects {', '.join(subjects)}. `agfas show` lists who is there."
        )
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return Measured(measured(faces.images[rows]), faces.labels[rows], faces.attack_types[rows], faces.subjects[rows])


def main() -> None:
    """Print the table of every kind of attack together, and what a discriminant of each kind is worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("simulated", type=Path, help="a face dataset of `agfas simulate`")
    parser.add_argument("real", type=Path, help="a face dataset with real attacks")
    parser.add_argument("--subjects", nargs="*", default=[], help="persons of REAL; default: all")
    parser.add_argument("--kind", help="simulated attack to compare; default: all of them")
    parser.add_argument("--size", type=int, default=96, help="side in pixels at which both are measured")
    chosen = parser.parse_args()
    simulated = read(chosen.simulated, chosen.size)
    real = read(chosen.real, chosen.size, chosen.subjects)
    rows = compared(simulated, real, chosen.kind)
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    same, among = (
        sum(row[name] == good for row in rows) for name, good in (("sign", "same"), ("among persons", "yes"))
    )
    print(f"\nof {len(rows)}: sign {same}, among persons {among}")
    for kind in [None, *sorted(set(simulated.kinds[~simulated.live]))]:
        print(f"discriminant of live against {kind or 'all attacks'}: AUC {transfer(simulated, real, kind):.3f}")


def _fine(luma: np.ndarray) -> np.ndarray:
    return luma - _mean(luma, 1)


def _band(luma: np.ndarray, octave: int) -> float:
    band = _mean(luma, 2**octave // 2) - _mean(luma, 2**octave)
    return float(np.log((band.std() + 1e-4) / (luma.std() + 1e-4)))


def _mean(luma: np.ndarray, reach: int) -> np.ndarray:
    """Mean of a square of 2 reach + 1 pixels, edges repeated."""
    import cv2

    side = 2 * reach + 1
    return np.asarray(cv2.blur(luma, (side, side), borderType=cv2.BORDER_REPLICATE))


def _blur(luma: np.ndarray) -> float:
    padded = np.pad(luma, ((4, 4), (0, 0)), mode="edge")
    soft = sum((padded[at : at + len(luma)] for at in range(9)), np.zeros_like(luma)) / 9
    sharp, less = np.abs(np.diff(luma, axis=0)), np.abs(np.diff(soft, axis=0))
    return float(1 - np.maximum(sharp - less, 0).sum() / max(float(sharp.sum()), 1e-9))


def _blocks(luma: np.ndarray, count: int) -> np.ndarray:
    height, width = (side // count for side in luma.shape)
    return luma[: height * count, : width * count].reshape(count, height, count, width).mean(axis=(1, 3))


if __name__ == "__main__":
    main()
