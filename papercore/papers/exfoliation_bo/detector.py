"""From images to monolayer area: flat field, self-calibrated oxide, contrast Gaussians, rim rejection.

Nothing but images, pixel size, exposure and one picture of bare silicon comes in. What the classes look like follows
from thin-film optics at the oxide that the background's own colour tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

from papercore.papers.exfoliation_bo import optics

VERSION = 1  # of the method; a log keeps which one analysed an image
THIN = 5  # layers up to which a flake counts as thin
MOST = 60  # layers that are told from each other or from nothing
GATE = 5.0  # Mahalanobis distance within which a pixel belongs to a class
SPREAD = 0.02  # of a class's contrast, beside the camera's noise: model, oxide, uneven light
LEAST_AREA = 10.0  # um2
LEAST_WIDTH = 1.5  # pixels from a flake's middle to its edge; blur alone leaves less of the rim of a thick flake
THICK_BORDER = 0.5  # share of a component's border that may touch thicker material


class DetectorError(ValueError):
    """An image or calibration that cannot be read."""


@dataclass(frozen=True)
class Found:
    """One flake: layers, area in um2, where its pixels are, why it was rejected (empty: it counts)."""

    layers: int
    area: float
    pixels: tuple[np.ndarray, np.ndarray]
    rejected: str = ""


@dataclass(frozen=True)
class Analysis:
    """What the images of one trial show: area, um2 a field of monolayers; thin, of 1 to THIN layers; oxides, nm."""

    area: float
    thin: float
    oxides: list[float]
    flakes: list[list[Found]] = field(repr=False)


def checked(image: np.ndarray) -> np.ndarray:
    """The image as float; raises DetectorError where it is none: (height, width, 3), uint8, neither dark nor burnt."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        raise DetectorError(f"an image is (height, width, 3), not {getattr(image, 'shape', type(image).__name__)}")
    if image.dtype != np.uint8:
        raise DetectorError(f"an image has 8-bit counts (uint8), not {image.dtype}")
    if min(image.shape[:2]) < 32:
        raise DetectorError(f"an image has 32 pixels a side at least, not {image.shape[0]} x {image.shape[1]}")
    some = image[::4, ::4]  # enough to tell
    if (dark := np.median(some, axis=(0, 1))).max() < 5:
        raise DetectorError(f"the image is dark: medians of r, g, b are {', '.join(f'{v:g}' for v in dark)} of 255")
    if (some == 255).any(axis=2).mean() > 0.5:
        raise DetectorError("the image is saturated: more than half of its pixels are at 255")
    return image.astype(np.float32)


@lru_cache(maxsize=8)
def _basis(height: int, width: int, every: int = 1) -> np.ndarray:
    y, x = np.mgrid[0:height:every, 0:width:every]
    x, y = (2 * (x.ravel() / width) - 1).astype(np.float32), (2 * (y.ravel() / height) - 1).astype(np.float32)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def flat_field(image: np.ndarray, every: int = 4, rounds: int = 6) -> np.ndarray:
    """Background of an image, (height, width, 3): a surface of second order through the pixels that are near it.

    Flakes and residue are thrown out round by round: what is further than three robust deviations in any channel.
    """
    height, width, _ = image.shape
    basis, counts = _basis(height, width, every), image[::every, ::every].reshape(-1, 3)
    middle = np.median(counts, axis=0)
    keep = (np.abs(counts - middle) < 0.25 * middle).all(axis=1)
    for _ in range(rounds):
        if keep.sum() < 4 * basis.shape[1]:
            raise DetectorError("the image has no background to measure against: flakes or residue cover it")
        fit = np.linalg.lstsq(basis[keep], counts[keep], rcond=None)[0]
        off = counts - basis @ fit
        sd = 1.4826 * np.median(np.abs(off[keep]), axis=0) + 0.3  # counts are whole
        keep = (np.abs(off) < 3 * sd).all(axis=1)
    return (_basis(height, width) @ fit).reshape(height, width, 3)


class Detector:
    """Finds monolayers in images of one microscope.

    pixel: um a pixel. reference: a picture of bare silicon and its exposure, which gives the camera's white balance;
    without one, the oxide has to be given. oxide: nm, in place of what the background's colour tells. strict: False
    takes every pixel for what it is nearest to, with no gate and nothing rejected: a control.
    """

    def __init__(
        self,
        pixel: float,
        reference: tuple[np.ndarray, float] | None = None,
        oxide: float | None = None,
        *,
        strict: bool = True,
    ):
        if not isinstance(pixel, int | float) or not np.isfinite(pixel) or pixel <= 0:
            raise DetectorError(f"pixel = {pixel!r}: the size of a pixel is needed, in um")
        if oxide is not None and not optics.OXIDES[0] <= oxide <= optics.OXIDES[1]:
            raise DetectorError(f"oxide = {oxide:g} nm is outside {optics.OXIDES[0]:g} to {optics.OXIDES[1]:g} nm")
        if reference is None and oxide is None:
            raise DetectorError("a detector needs a picture of bare silicon or the thickness of the oxide, nm")
        self.pixel, self.oxide, self.strict = float(pixel), oxide, strict
        self.gains = None
        if reference is not None:
            # In the middle, where vignetting is least; counts for a light of 1.
            image = checked(reference[0])
            self.gains = _centre(image) / (_exposure(reference[1]) * optics.mirror())

    def __call__(self, images: Sequence[np.ndarray], exposures: Sequence[float]) -> Analysis:
        """Monolayer area of the images of a trial, um2 a field. Raises DetectorError for images that cannot be read."""
        if len(images) == 0 or len(images) != len(exposures):
            raise DetectorError(f"{len(images)} images and {len(exposures)} exposures: give one or more, and one each")
        found, oxides = [], []
        for image, exposure in zip(images, exposures, strict=True):
            flakes, oxide = self.field(image, exposure)
            found.append(flakes)
            oxides.append(oxide)
        areas = [[f.area for f in one if not f.rejected and f.layers <= most] for most in (1, THIN) for one in found]
        sums = np.array([sum(one) for one in areas]).reshape(2, len(images)).mean(axis=1)
        return Analysis(float(sums[0]), float(sums[1]), oxides, found)

    def field(self, image: np.ndarray, exposure: float) -> tuple[list[Found], float]:
        """The flakes of one image, and the oxide in nm that its classes were made for."""
        counts = checked(image)
        background = flat_field(counts)
        height, width, _ = counts.shape
        oxide = self.oxide or self.colour(background[height // 2, width // 2], exposure)
        contrast = counts / background - 1
        quiet = np.einsum("hwc,hwc->hw", contrast, contrast) < 0.1**2
        noise = np.cov(contrast[quiet].T) if quiet.sum() > 100 else np.eye(3) * 0.02**2
        return self._components(contrast, noise, oxide), oxide

    def colour(self, counts: np.ndarray, exposure: float) -> float:
        """The oxide whose substrate has this colour, counts (3,) in the middle of an image; nm, to 0.1."""
        light = np.log(counts / (_exposure(exposure) * self.gains))
        grid, table = _substrates()
        return float(grid[((table - light) ** 2).sum(axis=1).argmin()])

    def _components(self, contrast: np.ndarray, noise: np.ndarray, oxide: float) -> list[Found]:
        # Whitened, so that Mahalanobis distances are Euclidean ones.
        white = np.linalg.cholesky(np.linalg.inv(noise + SPREAD**2 * np.eye(3))).astype(np.float32)
        classes = (optics.contrasts(round(oxide, 1), MOST) @ white).astype(np.float32)
        smooth = ndimage.uniform_filter(contrast, (3, 3, 1)) @ white
        other = np.einsum("hwc,hwc->hw", smooth, smooth) > 3.0**2
        layers = np.zeros(other.shape, dtype=int)
        points = smooth[other]
        if not len(points):
            return []
        distance = cdist(points, classes[1:])
        nearest = distance.argmin(axis=1) + 1
        if not self.strict:
            layers[other] = nearest
            return [
                Found(n, float((layers == n).sum() * self.pixel**2), np.nonzero(layers == n))
                for n in range(1, THIN + 1)
            ]
        inside = distance.min(axis=1) < GATE
        # What is off the background and like no class is still something thick, dirty or blurred.
        layers[other] = np.where(inside & (nearest <= THIN), nearest, -1)
        found = []
        for wanted in range(1, THIN + 1):
            if not (mask := layers == wanted).any():
                continue
            labels, _ = ndimage.label(ndimage.binary_opening(mask))
            for number, box in enumerate(ndimage.find_objects(labels), start=1):
                found.append(self._one(labels, number, box, layers, wanted, smooth, classes[wanted]))
        return found

    def _one(self, labels, number, box, layers, wanted, contrast, mean) -> Found:
        """One component of the class `wanted`: its area, and whether it is more than a rim."""
        grown = tuple(slice(max(0, s.start - 5), s.stop + 5) for s in box)
        own, around = labels[grown] == number, contrast[grown]
        near = ndimage.binary_dilation(own, iterations=3)
        ring = near & ~own
        # A free edge is a mixture of flake and substrate; what lies off that line is other material.
        share = around @ mean / (mean @ mean)
        foreign = ((around - np.clip(share, 0, 1)[..., None] * mean) ** 2).sum(axis=2) > GATE**2
        foreign &= ~own
        width = float(ndimage.distance_transform_edt(np.pad(own, 1)).max())
        # Blur moves as much light out of an edge as into it, so the shares of the pixels around add up to the area.
        taken = near & ~foreign
        area = float(np.where(ndimage.binary_erosion(own, iterations=2), 1, np.clip(share, 0, 1))[taken].sum())
        area *= self.pixel**2
        why = ""
        if width < LEAST_WIDTH:
            why = "narrower than blur"
        elif foreign[ring].mean() > THICK_BORDER:
            why = "rim of something thicker"
        elif area < LEAST_AREA:
            why = "small"
        y, x = np.nonzero(own | (taken & (share > 0.5)))
        return Found(wanted, area, (y + grown[0].start, x + grown[1].start), why)


def _centre(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    return flat_field(image)[height // 2, width // 2]


def _exposure(value: float) -> float:
    if not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        raise DetectorError(f"exposure = {value!r} must be a number above 0")
    return float(value)


@lru_cache(maxsize=1)
def _substrates() -> tuple[np.ndarray, np.ndarray]:
    """Oxides of 20 to 400 nm in steps of 0.1, and the log of their light in each channel, (n, 3)."""
    grid = np.round(np.arange(optics.OXIDES[0], optics.OXIDES[1] + 0.05, 0.1), 1)
    coarse = np.arange(optics.OXIDES[0], optics.OXIDES[1] + 0.5, 1.0)
    rows = np.log([optics.signals(d, 0)[0] for d in coarse])
    return grid, np.stack([np.interp(grid, coarse, column) for column in rows.T], axis=1)
