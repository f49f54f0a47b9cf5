"""What is worn before a face, put there by its landmarks: cut-outs with holes, paper masks and resin masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pipelines.streams import uniform
from pipelines.synthetic.attacks import draw_mask, strength
from pipelines.synthetic.camera import REFERENCE_SIDE, blur
from pipelines.synthetic.canvas import Canvas
from pipelines.synthetic.domains import MaskRange
from pipelines.synthetic.identity import Identity, draw_identity
from pipelines.synthetic.recapture import View, backdrop_light, moved_onto, printed_light
from pipelines.synthetic.render import face_cover, paint_mask_cuts, raise_relief, shade
from pipelines.synthetic.scene import EYE_DEPTH, NOSE_DEPTH, HeadPose, draw_light, head_landmarks

RESIN = MaskRange(smooth=(0.1, 0.6), flat=(0.3, 0.9), gloss=(0.05, 0.5), rim=(0.3, 0.9), edge=(0.1, 0.6))
# Proportions that a head may have, in interpupillary units; landmarks beyond them are put at the bound.
_NOSE, _MOUTH, _HALF_MOUTH = (0.45, 1.0), (0.85, 1.5), (0.25, 0.55)
_MOST_YAW = 0.45
# Of the texture that a mask may lose: sigma in pixels of a 64-pixel crop.
_SMOOTHED = 1.2


@dataclass(frozen=True)
class Head:
    """A head with the proportions of a face, on a canvas of its picture.

    Attributes:
        canvas: in head coordinates; nothing is painted yet.
        who: its proportions; what five landmarks do not say is drawn.
        pose: turned as the nose says.
    """

    canvas: Canvas
    who: Identity
    pose: HeadPose

    def face(self) -> np.ndarray:
        """(G, G) coverage of the face, from the hairline to the chin."""
        return face_cover(self.canvas, self.who) * self.canvas.cover(self.who.hairline - self.canvas.v, 0.05)

    def holes(self, eyes: float, mouth: float) -> np.ndarray:
        """(G, G) coverage of holes for the eyes, and for the mouth; factors on their size, 0 for none."""
        holes = np.zeros_like(self.canvas.u)
        for turn in (-1.0, 1.0) if eyes else ():
            u, v = self.pose.place(turn * self.who.eye_spacing / 2, 0.0, EYE_DEPTH)
            holes = np.maximum(holes, self._ellipse(u, v, 1.3 * eyes * self.who.eye_half_width, 0.17 * eyes))
        if mouth:
            u, v = self.pose.place(0.0, self.who.mouth_v, 0.88)
            holes = np.maximum(holes, self._ellipse(u, v, mouth * self.who.mouth_half_width, 0.16 * mouth))
        return holes

    def _ellipse(self, u: float, v: float, half_u: float, half_v: float) -> np.ndarray:
        radius = np.hypot((self.canvas.u - u) / half_u, (self.canvas.v - v) / half_v)
        return self.canvas.cover((radius - 1.0) * min(half_u, half_v), 0.01)


def fitted_head(view: View, rng: np.random.Generator) -> Head:
    """The head of a face with landmarks."""
    assert view.landmarks is not None
    points = view.landmarks
    left, right = points[:2]
    across = right - left
    unit = float(np.hypot(*across))
    along = across / unit
    down = np.array([-along[1], along[0]])
    from_eyes = (points[2:] - (left + right) / 2) / unit
    nose, mouth = from_eyes[0], from_eyes[1:].mean(axis=0)
    drawn = draw_identity(rng)
    turned = float(nose @ along) / (NOSE_DEPTH - EYE_DEPTH)
    yaw = math.asin(min(max(turned, -math.sin(_MOST_YAW)), math.sin(_MOST_YAW)))
    at = min(max(float(mouth @ down), _MOUTH[0]), _MOUTH[1])
    who = replace(
        drawn,
        eye_spacing=1.0,
        nose_length=min(max(float(nose @ down), _NOSE[0]), _NOSE[1]),
        mouth_v=at,
        mouth_half_width=min(max(float(np.hypot(*(points[4] - points[3]))) / unit / 2, _HALF_MOUTH[0]), _HALF_MOUTH[1]),
        chin=drawn.chin * at / drawn.mouth_v,
    )
    pose = HeadPose(yaw=yaw)
    to_crop = moved_onto(head_landmarks(who, pose), points)
    return Head(Canvas(to_crop, view.side), who, pose)


def cutout_light(view: View, wearer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light from a print with holes for the eyes, sometimes for the mouth, half of them cut out along the face.

    Args:
        view: the print's face, held aslant.
        wearer: (3, G, G) linear light of who looks through the holes.
        rng: of the video.
    """
    head = fitted_head(view, rng)
    eyes, mouth = uniform(rng, (0.8, 1.2)), uniform(rng, (0.7, 1.1)) if rng.random() < 0.4 else 0.0
    holes = head.holes(eyes, mouth)
    light = _through(printed_light(view, rng), holes, np.float32(uniform(rng, (0.5, 0.9))) * wearer, rng)
    if rng.random() < 0.5:
        paper = np.asarray(head.face())
        room = backdrop_light(view.side, rng)
        light = room + paper * (light - room)
    return light


def paper_mask_light(view: View, rng: np.random.Generator) -> np.ndarray:
    """Light from a printed face worn before the head: bent around it, with holes for the eyes and a lifted edge."""
    head = fitted_head(view, rng)
    paper, face = printed_light(view, rng), head.face()
    # Paper bends one way: bright where it faces the light, dark where it turns away.
    bend = 1.0 - uniform(rng, (0.05, 0.35)) * np.clip(head.canvas.u - uniform(rng, (-0.6, 0.6)), -1.2, 1.2) ** 2
    light = _through(view.light, face, paper * bend, rng)
    return _through(light, head.holes(uniform(rng, (0.7, 1.1)), 0.0), view.light, rng)


def resin_mask_light(view: View, rng: np.random.Generator) -> np.ndarray:
    """Light from a worn mask of resin or silicone: smooth, flat, glossy, dyed, with cuts around the wearer's eyes."""
    head, light = fitted_head(view, rng), view.light
    made_of = draw_mask(rng, RESIN, strength(rng))
    lamp = draw_light(rng, 0.7, (0.3, 0.8), (-0.1, 0.1))
    face, canvas = head.face(), head.canvas
    smooth = blur(light, _SMOOTHED * view.side / REFERENCE_SIDE)
    albedo = smooth + np.float32(made_of.texture) * (light - smooth)
    # Its shading is the mask's own: as much of the picture's shading goes as the mask is flat.
    wide = np.maximum(blur(smooth, 0.12 * view.side).mean(axis=0), 1e-3)
    albedo *= (wide.mean() / wide) ** np.float32(1.0 - made_of.relief)
    canvas.albedo[:] = albedo * np.array(made_of.dye, dtype=np.float32)[:, None, None]
    canvas.solid[:] = face
    raise_relief(canvas, head.who, head.pose)
    paint_mask_cuts(canvas, head.who, head.pose, face, made_of)
    lit = shade(canvas, lamp, face, replace(made_of, relief=1.0 - made_of.relief))
    lit *= np.float32((light * face).sum() / max(float((lit * face).sum()), 1e-6))
    worn = light + face * (lit - light)
    return worn + head.holes(0.8, 0.0) * (light - worn)


def _through(before: np.ndarray, holes: np.ndarray, behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is behind seen through holes, whose edge throws a soft shadow."""
    soft = blur(holes[None].astype(np.float32), uniform(rng, (0.4, 1.2)) * len(holes) / REFERENCE_SIDE)[0]
    edge = np.clip(1.0 - uniform(rng, (0.1, 0.6)) * 4.0 * soft * (1.0 - soft), 0.0, 1.0)
    return np.asarray((before + holes.astype(np.float32) * (behind - before)) * edge)
