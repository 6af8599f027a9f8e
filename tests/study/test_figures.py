"""A figure is kept with its numbers, and the same drawing gives the same bytes."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from papercore.study import figures
from papercore.study.show import show


def draw():
    figures.use_style()
    figure, ax = plt.subplots()
    figures.band(ax, [1, 2], [1, 2], [0, 1], [2, 3])
    plt.close(figure)
    return figure


def test_png_and_csv_are_the_same_each_time(tmp_path):
    data = pd.DataFrame({"x": [1, 2], "y": [1 / 3, 2]})
    found = []
    for _ in range(2):
        figures.save(draw(), tmp_path, "line", data)
        found.append([(tmp_path / f"line.{kind}").read_bytes() for kind in ("png", "csv")])
    assert found[0] == found[1]
    assert pd.read_csv(tmp_path / "line.csv")["y"][0] == pytest.approx(1 / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "data"), [("Bad name", pd.DataFrame({"x": [1]})), ("good", None), ("good", pd.DataFrame())]
)
def test_a_figure_without_a_name_or_numbers_is_refused(tmp_path, name, data):
    with pytest.raises(ValueError, match="figure"):
        figures.save(draw(), tmp_path, name, data)
    assert list(tmp_path.iterdir()) == []


def test_show_prints_the_real_source():
    assert "def show(function" in show(show).data
    with pytest.raises(TypeError, match="Python function"):
        show(3)
