"""A campaign as it runs: posterior over two knobs, the last field with what was found, what was observed."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from papercore.papers.exfoliation_bo import detector as detection
from papercore.papers.exfoliation_bo import log, optimise, plots
from papercore.papers.exfoliation_bo.campaign import Campaign
from papercore.study.figures import COLOURS, MUTED


def draw(
    campaign: Campaign, detector: detection.Detector, axes: tuple[str, str] = ("temperature", "speed")
) -> tuple[Figure, pd.DataFrame]:
    """The dashboard of a campaign as its log stands: the figure, and a row a told trial."""
    told, space, state = campaign.history, campaign.space, campaign.state
    figure, (one, two, three, four) = plt.subplots(1, 4, figsize=(13.5, 3.3), width_ratios=[1.1, 1.1, 1, 1.3])
    found = optimise.fit(space, told.rows, optimise.target(told.area, told.thin))
    lead = list(np.unravel_index(int(found.mean.argmax()), space.shape))
    down, across = (space.names.index(name) for name in axes)
    for ax, values, title in (
        (one, found.shift + found.spread * found.mean, "mean"),
        (two, found.spread * found.sd, "sd"),
    ):
        where = tuple(slice(None) if i in (down, across) else level for i, level in enumerate(lead))
        plane = values.reshape(space.shape)[where]
        shown = ax.imshow(plane if down < across else plane.T, origin="lower", aspect="auto")
        figure.colorbar(shown, ax=ax, shrink=0.8)
        at = np.array(np.unravel_index(told.rows, space.shape))
        ax.scatter(at[across], at[down], s=14, color="white", edgecolor="black", lw=0.5)
        ax.scatter([lead[across]], [lead[down]], marker="*", s=130, color=COLOURS[1])
        for set_ticks, knob in ((ax.set_xticks, space.knobs[across]), (ax.set_yticks, space.knobs[down])):
            set_ticks(range(len(knob.levels)), [f"{v:g}" for v in knob.levels], fontsize=8)
        ax.set(xlabel=f"{axes[1]}, {space.knobs[across].unit}", ylabel=f"{axes[0]}, {space.knobs[down].unit}")
        ax.set_title(f"posterior {title}", fontsize=10)
        ax.grid(False)
    numbers = [n for n, trial in enumerate(state.trials) if trial["stage"] == "told"]
    best = numbers[int(told.area.argmax())]
    images, exposures = log.images(campaign.folder, f"{best:03d}")
    analysis = detector(images, exposures)
    richest = int(np.argmax([sum(f.area for f in one if f.layers == 1 and not f.rejected) for one in analysis.flakes]))
    plots.outlined(three, images[richest], analysis, richest)
    three.set_title(f"best trial, {best}: {told.area.max():.0f} µm² a field", fontsize=10)
    four.bar(numbers, told.area, color=COLOURS[0])
    lost = [n for n, trial in enumerate(state.trials) if trial["stage"] in ("failed", "voided")]
    four.scatter(lost, [0] * len(lost), marker="x", color=COLOURS[1], zorder=3, label="failed", clip_on=False)
    four.axvline(campaign.config["initial"] - 0.5, color=MUTED, lw=1, ls=":")
    four.set(xlabel="trial", ylabel="area, µm² a field")
    four.set_title(f"{len(told)} of {campaign.config['budget']} trials", fontsize=10)
    if lost:
        four.legend()
    rows = [
        {"trial": n, "area": a, **space.condition(int(r))}
        for n, a, r in zip(numbers, told.area, told.rows, strict=True)
    ]
    return figure, pd.DataFrame(rows)


class Live:
    """Redraws the dashboard in place as trials come in; give it to `Campaign.run` as `each`. Headless, nothing is
    shown.
    """

    def __init__(self, detector: detection.Detector, every: int = 1):
        self.detector, self.every, self.handle = detector, every, None

    def __call__(self, campaign: Campaign, event: str) -> None:
        """Redraw after a told trial; leave nothing when the campaign is over."""
        from IPython.display import HTML, display

        count = len(campaign.state.told)
        if event == "finished" and self.handle is not None:
            self.handle.update(HTML(""))
        if event != "told" or count < 3 or count % self.every:
            return
        figure, _ = draw(campaign, self.detector)
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        plt.close(figure)
