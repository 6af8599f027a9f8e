"""A simulated exfoliator: from a condition to flakes to images. Only images and a status leave it.

The law of a field: the number of flakes is Poisson, each is a monolayer with some chance, its area is lognormal. So the
monolayer area of a field is compound Poisson: many exact zeros, and a variance that grows with the mean. How rate,
chance and size depend on the condition is `Landscape`; its constants are named in protocol.yaml. It is a plausible
landscape, not the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml
from scipy.ndimage import gaussian_filter

from papercore.papers.exfoliation_bo import optics
from papercore.papers.exfoliation_bo.space import Space

PROTOCOL = yaml.safe_load((resources.files(__package__) / "protocol.yaml").read_text(encoding="utf-8"))
BOLTZMANN = 8.617333e-5  # eV/K
ZERO_C = 273.15
MOST_LAYERS = 60
FIELD = 160.0**2  # um2, the field that protocol.yaml counts flakes and blobs by


def _logistic(x):
    return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class Landscape:
    """Rates at each condition of a space: flakes a field, chance of one layer, mean area in um2, residue blobs a field.

    Each is (n_conditions,). mean is the monolayer area expected of a field, um2: the truth that campaigns are scored by
    and never see.
    """

    flakes: np.ndarray
    single: np.ndarray
    area: np.ndarray
    residue: np.ndarray
    sigma: float
    thicker: float

    @property
    def mean(self) -> np.ndarray:
        """Expected monolayer area of a field at each condition, um2, (n_conditions,)."""
        return self.flakes * self.single * self.area

    @property
    def zeros(self) -> np.ndarray:
        """Chance that a field has no monolayer, (n_conditions,)."""
        return np.exp(-self.flakes * self.single)

    @property
    def relative_variance(self) -> np.ndarray:
        """Variance of a field's monolayer area over the square of its mean, (n_conditions,)."""
        return np.exp(self.sigma**2) / (self.flakes * self.single)


def constants(difficulty: str, seed: int | None = None) -> dict[str, float]:
    """Constants of a landscape; with a seed, of that seed's own crystal and tape. Raises ValueError."""
    if difficulty not in PROTOCOL["difficulties"]:
        raise ValueError(f"difficulty = {difficulty!r} is none of {', '.join(PROTOCOL['difficulties'])}")
    found = {**PROTOCOL["landscape"], **PROTOCOL["difficulties"][difficulty]}
    if seed is not None:
        draw = np.random.default_rng([seed, 7])
        found |= {name: found[name] * np.exp(PROTOCOL["spread"] * draw.standard_normal()) for name in PROTOCOL["vary"]}
    return found


def landscape(space: Space, c: Mapping[str, float], fields: float = 1.0) -> Landscape:
    """The rates at every condition of a space with the protocol's five knobs, from named constants; in images that are
    `fields` times as large as FIELD.
    """
    temperature, dwell, force, speed, angle = (space.values[:, space.names.index(name)] for name in PROTOCOL["space"])
    kelvin = temperature + ZERO_C

    def arrhenius(energy: float, reference: float) -> np.ndarray:
        return np.exp(energy / BOLTZMANN * (1 / kelvin - 1 / (reference + ZERO_C)))

    time = c["contact_s"] * arrhenius(c["contact_eV"], 100)
    contact = 1 - np.exp(
        -((dwell / time) ** c["contact_dwell_power"]) * (force / c["force_N"]) ** c["contact_force_power"]
    )
    substrate = c["substrate"] * contact * (1 + c["mode_mixity"] * np.cos(np.deg2rad(angle) / 2) ** 2)
    # A hot tape relaxes: it peels as a cold one does at lower speed.
    tape = c["tape"] * (1 + (speed * arrhenius(c["tape_eV"], 25)) ** c["tape_power"])
    firm = _logistic((c["soft_C"] - temperature) / c["soft_width_C"])
    holds = _logistic((tape - c["tape_least"]) / c["tape_width"]) * firm
    transfers = _logistic((substrate - c["interlayer"]) / c["transfer_width"])
    ratio, width = substrate / c["interlayer"], c["ratio_width"]
    thin = _logistic((ratio - c["ratio_least"]) / width) * _logistic((c["ratio_most"] - ratio) / width)
    whole = np.exp(-((tape / c["tear"]) ** 2) - force / c["crush_N"] - ((angle - 90) / c["angle_deg"]) ** 2)
    whole *= np.exp(-dwell / (c["creep_s"] * arrhenius(c["tape_eV"], 50)))
    residue = c["residue"] * np.exp((temperature - c["residue_C"]) / c["residue_width_C"])
    residue += c["residue_slow"] * speed ** -c["residue_power"]
    return Landscape(
        fields * c["flakes"] * transfers * holds,
        c["monolayers"] * thin,
        c["area_um2"] * whole,
        fields * residue,
        c["area_sigma"],
        c["thicker"],
    )


@dataclass(frozen=True)
class Optics:
    """Microscope and camera: pixels on a side, um a pixel, blur in pixels, oxide and its scatter in nm."""

    pixels: int = 160
    pixel: float = 1.0
    blur: float = 0.9
    oxide: float = 90.0
    oxide_sd: float = 0.5
    vignette: float = 0.15
    noise: float = 0.035  # variance of shot noise, counts of 255 a count
    exposed: float = 110.0  # counts that auto-exposure gives the substrate in its brightest channel

    @property
    def field(self) -> float:
        """Area of a field, um2."""
        return (self.pixels * self.pixel) ** 2


@dataclass(frozen=True)
class Flake:
    """A convex flake: layers, corners in pixels, (n, 2), area in um2; a line across, beyond which it is thinner."""

    layers: int
    corners: np.ndarray
    area: float
    step: tuple[float, float, int] | None = None


def flakes(at: Landscape, row: int, draw: np.random.Generator, camera: Optics) -> list[Flake]:
    """The flakes of one field at condition `row`, placed where they do not overlap, if there is room."""
    found: list[Flake] = []
    circles: list[tuple[np.ndarray, float]] = []
    for _ in range(draw.poisson(at.flakes[row])):
        single = draw.random() < at.single[row]
        layers = 1 if single else min(1 + int(draw.geometric(at.thicker)), MOST_LAYERS)
        area = at.area[row] * np.exp(at.sigma * draw.standard_normal() - at.sigma**2 / 2)
        shape = _shape(draw)
        shape *= np.sqrt(area / _polygon_area(shape)) / camera.pixel
        radius = float(np.linalg.norm(shape, axis=1).max())
        edge = min(radius + 3, camera.pixels / 2)
        for _ in range(20):
            centre = draw.uniform(edge, camera.pixels - edge, 2)
            if all(np.linalg.norm(centre - other) > radius + r + 4 for other, r in circles):
                break
        circles.append((centre, radius))
        step = None
        if layers > 4 and draw.random() < 0.5:
            step = (float(draw.uniform(0, 2 * np.pi)), float(draw.uniform(0, 0.6)) * radius, int(draw.integers(2, 5)))
        found.append(Flake(layers, shape + centre, float(area), step))
    return found


def law(at: Landscape, row: int, draw: np.random.Generator, fields: int = 1) -> tuple[float, float]:
    """Monolayer area and area of flakes of at most five layers, um2 a field, drawn from the law itself: no image."""
    count = draw.poisson(at.flakes[row] * fields)
    single = draw.random(count) < at.single[row]
    layers = np.where(single, 1, 1 + draw.geometric(at.thicker, count))
    areas = at.area[row] * np.exp(at.sigma * draw.standard_normal(count) - at.sigma**2 / 2)
    return float(areas[single].sum() / fields), float(areas[layers <= 5].sum() / fields)


def _shape(draw: np.random.Generator) -> np.ndarray:
    """Corners of a random convex polygon around 0: points on an ellipse."""
    corners = int(draw.integers(4, 8))
    turn = 2 * np.pi * (np.arange(corners) + draw.uniform(-0.35, 0.35, corners)) / corners
    stretched = np.stack([np.cos(turn), np.sin(turn) * draw.uniform(0.45, 1.0)], axis=1)
    angle = draw.uniform(0, np.pi)
    return stretched @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _polygon_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def _covered(corners: np.ndarray, pixels: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The patch of an image that a convex polygon touches, and how much of each of its pixels it covers."""
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, pixels)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, pixels)
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
    inside = np.full(x.shape, np.inf)
    centre = corners.mean(0)
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        normal = np.array([other[1] - one[1], one[0] - other[0]])
        normal = normal / np.linalg.norm(normal) * (1 if (centre - one) @ normal > 0 else -1)
        inside = np.minimum(inside, (x - one[0]) * normal[0] + (y - one[1]) * normal[1])
    return (slice(low[1], high[1]), slice(low[0], high[0])), np.clip(inside + 0.5, 0, 1)


def mask(seen: list[Flake], camera: Optics, least: float = 0.0) -> np.ndarray:
    """Which pixels are monolayer, bool (pixels, pixels): more than half covered by one of `least` um2 or more. Truth,
    for scoring a detector.
    """
    found = np.zeros((camera.pixels, camera.pixels), dtype=bool)
    for flake in seen:  # a later flake lies on the earlier ones
        patch, cover = _covered(flake.corners, camera.pixels)
        found[patch] = np.where(cover > 0.5, flake.layers == 1 and flake.area >= least, found[patch])
    return found


def render(
    seen: list[Flake], blobs: int, gains: np.ndarray, draw: np.random.Generator, camera: Optics
) -> tuple[np.ndarray, float]:
    """A field as the camera gives it, uint8 (pixels, pixels, 3) in linear counts, and its relative exposure.

    gains, (3,): the camera's white balance. Residue is a thin organic film; its index is near silica's, so it looks
    like more oxide.
    """
    oxide = round(camera.oxide + camera.oxide_sd * float(draw.standard_normal()), 1)
    table = optics.signals(oxide, MOST_LAYERS)
    light = np.empty((camera.pixels, camera.pixels, 3))
    light[:] = table[0]
    for _ in range(blobs):
        shape = _shape(draw) * draw.uniform(3, 15)
        patch, cover = _covered(shape + draw.uniform(0, camera.pixels, 2), camera.pixels)
        thicker = optics.signals(oxide + round(float(draw.uniform(5, 60))), 0)[0]
        light[patch] += cover[..., None] * (thicker - light[patch])
    for flake in seen:
        patch, cover = _covered(flake.corners, camera.pixels)
        light[patch] += cover[..., None] * (table[flake.layers] - light[patch])
        if flake.step:
            angle, offset, layers = flake.step
            y, x = np.mgrid[patch] + 0.5
            cx, cy = flake.corners.mean(0)
            beyond = np.clip((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle) - offset + 0.5, 0, 1)
            light[patch] += (cover * beyond)[..., None] * (table[layers] - light[patch])
    light = gaussian_filter(light, (camera.blur, camera.blur, 0))
    exposure = camera.exposed / (table[0] * gains).max() * float(np.exp(0.05 * draw.standard_normal()))
    return photograph(light, exposure * gains, draw, camera), exposure


def photograph(light: np.ndarray, gain: np.ndarray, draw: np.random.Generator, camera: Optics) -> np.ndarray:
    """Light (pixels, pixels, 3) as 8-bit counts: vignetting, shot noise, clipping at 255."""
    y, x = np.mgrid[: camera.pixels, : camera.pixels] / camera.pixels - 0.5 + draw.uniform(-0.05, 0.05, (2, 1, 1))
    counts = light * gain * (1 - camera.vignette * 2 * (x**2 + y**2))[..., None]
    counts += np.sqrt(camera.noise * counts + 0.25) * draw.standard_normal(counts.shape, dtype=np.float32)
    return np.clip(np.rint(counts), 0, 255).astype(np.uint8)
