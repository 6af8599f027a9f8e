"""One look for every figure, and a figure is kept with the numbers behind it. Floor: study."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

# Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
MUTED = "#8a8a8a"


def use_style() -> None:
    """Set seaborn's style for half-page figures: readable text, light grid, colour-blind safe."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid", palette=COLOURS)
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 4.0),
            "figure.dpi": 90,
            "savefig.dpi": 130,
            "figure.constrained_layout.use": True,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.alpha": 0.5,
            "legend.frameon": False,
            "legend.fontsize": "small",
            "image.cmap": "viridis",
        }
    )


def band(ax, x, y, lo, hi, **style):
    """Draw a line with its interval as a band; returns the line."""
    (line,) = ax.plot(x, y, **style)
    ax.fill_between(x, lo, hi, color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def save(figure, folder: Path, name: str, data: pd.DataFrame) -> None:
    """Write NAME.png and NAME.csv, the numbers behind it, to 6 significant digits; raises ValueError on a bad name."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"figure name {name!r} must be lower-case letters, digits and _")
    if not isinstance(data, pd.DataFrame) or data.empty:
        raise ValueError(f"figure {name!r} needs data=, a table of the numbers that it draws")
    drawn, table = (folder / f"{name}.{kind}.part" for kind in ("png", "csv"))
    # No software tag: the same drawing gives the same bytes.
    figure.savefig(drawn, format="png", metadata={"Software": None})
    data.to_csv(table, index=False, float_format="%.6g")
    for part in (drawn, table):
        part.replace(part.with_suffix(""))
