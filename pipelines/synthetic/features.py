"""Eyes, brows, nose, mouth, hair, beard and glasses, painted on a canvas in head coordinates."""

from __future__ import annotations

import math

import numpy as np

from pipelines.synthetic.canvas import Canvas, Window
from pipelines.synthetic.identity import HEAD_TOP, Identity
from pipelines.synthetic.scene import EYE_DEPTH, MOUTH_DEPTH, NOSE_DEPTH, HeadPose

# Reflectance of lashes and of the rim of the iris.
_DARK = (0.012, 0.008, 0.007)


def foreshorten(pose: HeadPose, side: float) -> float:
    """Factor on the width of a feature of a turned head; `side` is -1, 0 or 1."""
    rest = 0.42 * side  # angle from the front of the head, radians
    return float(np.clip(np.cos(rest + pose.yaw) / np.cos(rest), 0.55, 1.25))


def paint_eye(canvas: Canvas, who: Identity, pose: HeadPose, side: float) -> None:
    """Socket, eyeball behind the lids, lashes and crease of one eye."""
    cu, cv = pose.place(side * who.eye_spacing / 2, 0.0, EYE_DEPTH)
    half = who.eye_half_width * foreshorten(pose, side)
    window = canvas.window(cu, cv, half * 1.9, 0.36)
    if canvas.u[window].size == 0:
        return
    du, y = canvas.u[window] - cu, canvas.v[window] - cv
    _paint_socket(canvas, window, du / (half * 1.9), y / 0.34, who)
    outward = du * side
    y = y + who.eye_tilt * outward
    x = outward / half
    arch = np.maximum(1.0 - x * x, -0.6)
    opening = who.eye_open * (1.0 + 0.25 * pose.brow_raise) * (1.0 - pose.eye_close)
    top, bottom = -opening * arch * (1.08 - 0.12 * x), (0.55 * opening + 0.01) * arch
    eye = canvas.cover(np.maximum(top - y, y - bottom))
    _paint_ball(canvas, window, eye, (du, y, top), who, pose, half)
    reach = np.clip((1.12 - np.abs(x)) * 6.0, 0.0, 1.0)
    lash = canvas.cover(np.abs(y - top) - 0.016 * (1.3 + 0.5 * x), 0.02) * reach
    canvas.paint(window, 0.85 * lash, _DARK)
    crease = canvas.cover(np.abs(y - top + 0.062) - 0.006, 0.035) * reach
    canvas.darken(window, crease, 0.38)
    canvas.darken(window, canvas.cover(np.abs(y - bottom) - 0.004, 0.03) * reach, 0.35)
    bag = canvas.cover(np.abs(y - bottom - 0.085) - 0.01, 0.06) * reach
    canvas.darken(window, bag, 0.10 + 0.20 * who.age)


def _paint_socket(canvas: Canvas, window: Window, x: np.ndarray, y: np.ndarray, who: Identity) -> None:
    depth = np.maximum(1.0 - x * x - y * y, 0.0)
    canvas.darken(window, depth, 0.16 + 0.24 * who.socket)


def _paint_ball(
    canvas: Canvas,
    window: Window,
    eye: np.ndarray,
    where: tuple[np.ndarray, np.ndarray, np.ndarray],
    who: Identity,
    pose: HeadPose,
    half: float,
) -> None:
    """Eyeball, iris and pupil; `where` is u and v from the centre of the eye, and v of the upper lid."""
    du, y, top = where
    shade = np.clip((y - top) / 0.05, 0.45, 1.0) * np.clip(1.25 - np.abs(du) / half * 0.5, 0.5, 1.0)
    canvas.paint(window, eye, np.array([0.50, 0.47, 0.455], dtype=np.float32)[:, None, None] * shade)
    du = du - 0.07 * float(np.clip(pose.gaze_u + 2.0 * pose.yaw, -1.5, 1.5))
    dv = y + 0.012 - 0.03 * pose.gaze_v
    distance = np.sqrt(du * du + dv * dv)
    iris = np.array(who.iris, dtype=np.float32)[:, None, None] * (0.75 + 0.5 * np.clip(dv / who.iris_radius, -0.5, 1.0))
    canvas.paint(window, eye * canvas.cover(distance - who.iris_radius), _DARK)
    canvas.paint(window, eye * canvas.cover(distance - 0.86 * who.iris_radius), iris * np.maximum(shade, 0.6))
    canvas.paint(window, eye * canvas.cover(distance - 0.40 * who.iris_radius), (0.004, 0.004, 0.004))
    glint = np.hypot(du + 0.030, dv + 0.036)
    canvas.paint(window, eye * canvas.cover(glint - 0.016) * 0.8, (0.8, 0.8, 0.8))


def paint_brow(canvas: Canvas, who: Identity, pose: HeadPose, side: float) -> None:
    """One eyebrow: a tapering, arched stroke in the colour of the hair."""
    lift = who.brow_height + 0.07 * pose.brow_raise
    cu, cv = pose.place(side * who.eye_spacing * 0.53, -lift, EYE_DEPTH + 0.06)
    half = who.brow_half_length * foreshorten(pose, side)
    window = canvas.window(cu, cv, half * 1.25, 0.28)
    x = (canvas.u[window] - cu) * side / half
    y = canvas.v[window] - cv - who.brow_arch * (x * x - 0.4) + who.brow_tilt * x
    thick = who.brow_thickness * (1.0 - 0.35 * x - 0.2 * x * x)
    distance = np.maximum(np.abs(y) - thick, (np.abs(x) - 1.0) * half)
    hairs = 0.82 + 0.18 * np.sin(150.0 * canvas.u[window] + 60.0 * side * canvas.v[window])
    mask = canvas.cover(distance, 0.035) * hairs * who.brow_density
    canvas.paint(window, mask, 0.55 * np.array(who.hair) + 0.004)


def paint_nose(canvas: Canvas, who: Identity, pose: HeadPose) -> None:
    """Nostrils, wings and the shadow below the tip; the ridge is relief."""
    cu, cv = pose.place(0.0, who.nose_length, NOSE_DEPTH - 0.12)
    width = who.nose_half_width
    window = canvas.window(cu, cv, width * 1.9, 0.42)
    u, v = canvas.u[window] - cu, canvas.v[window] - cv
    x = np.abs(u)
    under = np.maximum(1.0 - (u / (1.15 * width)) ** 2 - ((v - 0.135) / 0.12) ** 2, 0.0)
    canvas.darken(window, under, 0.40)
    wing = np.sqrt((x - 0.60 * width) ** 2 + (v - 0.02) ** 2) - 0.42 * width
    crease = canvas.cover(np.abs(wing) - 0.006, 0.035) * np.clip((x / width - 0.65) * 4.0, 0.0, 1.0)
    canvas.darken(window, crease * (np.abs(v) < 0.16), 0.42)
    nostril = np.sqrt(((x - 0.46 * width) / 1.5) ** 2 + (v - 0.085 + 0.25 * pose.pitch) ** 2) - 0.030
    canvas.paint(window, 0.85 * canvas.cover(nostril, 0.025), 0.10 * np.array(who.skin))


def paint_mouth(canvas: Canvas, who: Identity, pose: HeadPose) -> None:
    """Lips and the line between them; teeth and dark if the mouth is open."""
    cu, cv = pose.place(0.0, who.mouth_v, MOUTH_DEPTH)
    half = who.mouth_half_width * (1.0 + 0.12 * pose.smile) * foreshorten(pose, 0.0)
    window = canvas.window(cu, cv, half * 1.35, 0.42)
    x = (canvas.u[window] - cu) / half
    y = canvas.v[window] - cv + 0.10 * pose.smile * (x * x - 0.35)
    arch = np.maximum(1.0 - x * x, -0.4)
    gap = 0.13 * min(pose.mouth_open, 1.0) * arch
    cupid = 1.0 - 0.28 * np.maximum(1.0 - (x / 0.22) ** 2, 0.0)
    top, bottom = -gap - who.upper_lip * arch * cupid * 1.15, gap + who.lower_lip * arch
    lips = canvas.cover(np.maximum(top - y, y - bottom), 0.02)
    fold = np.maximum(1.0 - (x / 0.9) ** 2 - ((y - who.lower_lip - 0.10) / 0.09) ** 2, 0.0)
    canvas.darken(window, fold, 0.20)
    tone = np.where(y < 0.0, 0.80, 1.08 - 1.2 * np.abs(y - gap - 0.5 * who.lower_lip)).astype(np.float32)
    canvas.paint(window, lips, np.array(who.lips, dtype=np.float32)[:, None, None] * tone)
    inside = canvas.cover(np.abs(y) - gap) * (arch > 0.0)
    canvas.paint(window, inside, (0.05, 0.012, 0.012))
    teeth = inside * canvas.cover(y + 0.15 * gap - 0.02) * np.clip((gap - 0.025) * 25.0, 0.0, 1.0)
    canvas.paint(window, teeth * 0.9, (0.70, 0.66, 0.58))
    line = canvas.cover(np.abs(np.abs(y) - gap) - 0.007, 0.022) * np.clip((1.06 - np.abs(x)) * 9.0, 0.0, 1.0)
    canvas.paint(window, 0.75 * line, 0.22 * np.array(who.lips))


def paint_folds(canvas: Canvas, who: Identity, pose: HeadPose) -> None:
    """Lines from the nose to the corners of the mouth and across the forehead, deeper with age and a smile."""
    deep = 0.10 + 0.30 * who.age + 0.15 * max(pose.smile, 0.0)
    cu, cv = pose.place(0.0, (who.nose_length + who.mouth_v) / 2, NOSE_DEPTH - 0.25)
    window = canvas.window(cu, cv, 0.75, 0.32)
    x, y = np.abs(canvas.u[window] - cu), canvas.v[window] - cv
    line = np.abs(x - who.nose_half_width - 0.12 - 0.38 * (y + 0.22)) - 0.01
    canvas.darken(window, canvas.cover(line, 0.06) * np.maximum(1.0 - (y / 0.3) ** 2, 0.0), deep)
    if who.age > 0.45:
        cu, cv = pose.place(0.0, -0.62, EYE_DEPTH)
        window = canvas.window(cu, cv, 0.6, 0.2)
        wave = np.cos((canvas.v[window] - cv + 0.06 * canvas.u[window] ** 2) * 48.0)
        fade = np.maximum(1.0 - ((canvas.u[window] - cu) / 0.6) ** 2, 0.0)
        canvas.darken(window, np.clip(wave - 0.55, 0.0, 1.0) * fade, 0.7 * (who.age - 0.4))


def paint_back_hair(canvas: Canvas, who: Identity) -> None:
    """Hair behind the face: an outline around the head, down to the shoulders if long."""
    if who.hair_style in ("bald", "receding"):
        return
    half = who.face_half_width + who.hair_volume * (1.3 if who.hair_style == "curly" else 1.0)
    low = {"long": 3.0, "curly": 0.75, "side_part": 0.35}.get(who.hair_style, 0.15)
    wave = 0.05 * (0.3 + who.hair_wave) * np.sin(9.0 * canvas.v + 2.0) if who.hair_style in ("long", "curly") else 0.0
    below = np.maximum(canvas.v - low, 0.0)
    above = np.minimum(canvas.v - 0.1, 0.0) / (HEAD_TOP - who.hair_volume - 0.1)
    distance = np.sqrt((canvas.u / half) ** 2 + above * above + (below / 0.35) ** 2) - 1.0
    mask = canvas.cover(distance * half + wave, 0.04)
    canvas.paint(canvas.whole, mask, 0.7 * _strands(canvas, who, 0.0))
    canvas.solid[:] = np.maximum(canvas.solid, mask)


def paint_front_hair(canvas: Canvas, who: Identity, pose: HeadPose) -> None:
    """Hair over the forehead, down to the hairline of the style."""
    if who.hair_style == "bald":
        return
    x = canvas.u - 0.35 * float(np.sin(pose.yaw))
    line = who.hairline + 0.9 * np.minimum(np.abs(x) / who.face_half_width, 1.3) ** 4
    lean = 0.0
    if who.hair_style == "fringe":
        line = np.maximum(line, -0.50 + 0.05 * np.sin(14.0 * x + 1.0) + 0.04 * np.sin(31.0 * x))
    elif who.hair_style == "side_part":
        lean = 0.5 if who.texture_seed % 2 else -0.5
        line = line + 0.30 * math.copysign(1.0, lean) * np.clip(
            x + 0.4 * math.copysign(1.0, lean), -0.9, 0.9
        ) ** 2 * np.sign(x)
    elif who.hair_style == "curly":
        line = line + 0.06 * np.sin(11.0 * x + 0.6) + 0.04 * np.sin(23.0 * x)
    elif who.hair_style == "receding":
        line = line - 0.30 - 0.30 * np.maximum(1.0 - ((np.abs(x) - 0.62) / 0.35) ** 2, 0.0)
    elif who.hair_style == "long":
        line = line + 0.75 * np.clip(np.abs(x) - 0.62 * who.face_half_width, 0.0, 0.6)
    rough = 0.012 * np.sin(47.0 * canvas.u + 5.0 * canvas.v)
    mask = canvas.cover(canvas.v - pose.place(0.0, 0.0, 0.7)[1] * 0.5 - line + rough, 0.06) * canvas.solid
    canvas.paint(canvas.whole, mask, _strands(canvas, who, lean))
    canvas.relief += 0.05 * mask


def _strands(canvas: Canvas, who: Identity, lean: float) -> np.ndarray:
    """(3, S, S) hair colour with strands and a band of light."""
    u, v = canvas.u, canvas.v
    phase = np.float32(who.texture_seed % 628) / 100.0
    bend = (2.0 + 4.0 * who.hair_wave) * np.sin(2.4 * v + phase)
    strands = 1.0 + 0.22 * np.sin(31.0 * (u + lean * v) + bend) + 0.14 * np.sin(67.0 * (u - 0.3 * v) - bend)
    band = 0.35 * np.maximum(1.0 - ((v + 0.95) / 0.35) ** 2, 0.0)
    return np.array(who.hair, dtype=np.float32)[:, None, None] * (strands + band)


def paint_beard(canvas: Canvas, who: Identity, pose: HeadPose, face: np.ndarray, grain: np.ndarray) -> None:
    """Stubble, beard, goatee or moustache; `face` is the coverage of the face, `grain` the pigment noise."""
    if who.beard == "none":
        return
    cu, cv = pose.place(0.0, who.mouth_v, MOUTH_DEPTH)
    u, v = (canvas.u - cu), (canvas.v - cv)
    parts = []
    if who.beard in ("stubble", "full"):
        parts.append(np.clip((v + 0.20 + 0.02 / 0.3 - 0.95 * (np.abs(u) - 0.42)) * 4.0, 0.0, 1.0) * (np.abs(u) > 0.1))
        parts[-1] = np.maximum(np.clip((v - 0.16) * 8.0, 0.0, 1.0), parts[-1] * np.clip((np.abs(u) - 0.40) * 8.0, 0, 1))
    if who.beard == "goatee":
        parts.append(canvas.cover(np.hypot(u / 1.1, v - 0.42) - 0.34, 0.10))
    if who.beard != "goatee" or who.beard_density > 0.7:
        parts.append(canvas.cover(np.maximum(np.abs(u) - who.mouth_half_width, np.abs(v + 0.17) - 0.075), 0.07))
    mask = parts[0]
    for part in parts[1:]:
        mask = np.maximum(mask, part)
    strength = (0.34 if who.beard == "stubble" else 0.85) * who.beard_density
    mask = np.clip(mask * face * strength * (1.0 + 2.2 * grain), 0.0, 1.0)
    canvas.paint(canvas.whole, mask, 0.7 * np.array(who.hair) + 0.006)


def paint_glasses(canvas: Canvas, who: Identity, pose: HeadPose, face: np.ndarray) -> None:
    """Rims around both eyes, a bridge, and a faint veil on the lenses."""
    if who.glasses == "none":
        return
    thick = who.glasses_thickness
    for side in (-1.0, 1.0):
        cu, cv = pose.place(side * who.eye_spacing * 0.53, 0.05, EYE_DEPTH + 0.14)
        half_u, half_v = who.glasses_size * foreshorten(pose, side), who.glasses_size * 0.78
        window = canvas.window(cu, cv, half_u * 2.2, half_v * 1.3)
        x, y = np.abs(canvas.u[window] - cu) / half_u, np.abs(canvas.v[window] - cv) / half_v
        power = 2 if who.glasses == "round" else 4
        radius = (x**power + y**power) ** np.float32(1.0 / power)
        distance = (radius - 1.0) * half_v
        lens = canvas.cover(distance)
        streak = np.clip(1.0 - np.abs(x * side + y - 0.7) * 3.0, 0.0, 1.0)
        canvas.paint(window, lens * (0.03 + 0.07 * streak), (0.8, 0.85, 0.9))
        canvas.paint(window, canvas.cover(np.abs(distance) - thick), who.glasses_colour)
        arm = canvas.cover(np.maximum(np.abs(canvas.v[window] - cv + 0.1) - thick, 0.0))
        outer = (canvas.u[window] - cu) * side > half_u
        canvas.paint(window, arm * outer * face[window], who.glasses_colour)
    cu, cv = pose.place(0.0, 0.0, EYE_DEPTH + 0.24)
    gap = max(who.eye_spacing * 0.53 - who.glasses_size, 0.05)
    window = canvas.window(cu, cv, gap, 0.12)
    bar = np.maximum(np.abs(canvas.v[window] - cv) - 0.9 * thick, np.abs(canvas.u[window] - cu) - gap)
    canvas.paint(window, canvas.cover(bar), who.glasses_colour)
