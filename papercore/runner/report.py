"""The scoreboard: every committed ledger, recomputed from its samples and set side by side. Floor: runner."""

import json
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from papercore.runner import jobs
from papercore.runner.jobs import PROMOTED, checkout, notebooks, plan
from papercore.study import ledger, rooms
from papercore.study.verdicts import VERDICTS

_BEGIN, _END = "<!-- papers:begin -->", "<!-- papers:end -->"
_NOTE = "Families are not corrected across claims."


def papers() -> list[dict[str, Any]]:
    """All papers by number: those with a room, and from roadmap.yaml those that wait for one."""
    planned = resources.files("papercore.papers") / "roadmap.yaml"
    found = {slug: {**entry, "room": False} for slug, entry in yaml.safe_load(planned.read_text("utf-8")).items()}
    for slug in rooms.slugs():
        paper, path = rooms.claims(slug).paper, rooms.notebook(slug)
        number = int(path.name[:2]) if path else found.get(slug, {}).get("number", 99)
        found[slug] = {"number": number, "arxiv": paper.arxiv, "title": paper.title, "room": True}
    return sorted(({"slug": slug, **entry} for slug, entry in found.items()), key=lambda p: (p["number"], p["slug"]))


def results() -> Iterator[tuple[str, str, Path]]:
    """Slug, profile and folder of every committed result."""
    for slug in rooms.slugs():
        for profile in PROMOTED:
            folder = checkout() / "figures" / slug / profile
            if (folder / "ledger.json").is_file():
                yield slug, profile, folder


def objections() -> list[str]:
    """What in the committed ledgers does not follow from their samples and claims.yaml, a sentence each."""
    return [f"{profile}: {line}" for _, profile, folder in results() for line in ledger.recompute(folder)]


def recompute(slugs: list[str]) -> list[tuple[str, str, str, str, str]]:
    """Rewrite committed ledgers from their samples; (slug, profile, claim, verdict before, after) of every claim."""
    chosen = [result for result in results() if not slugs or result[0] in slugs]
    return [(slug, profile, *change) for slug, profile, folder in chosen for change in ledger.rewrite(folder)]


def board() -> dict[str, Any]:
    """The scoreboard's data: per paper and profile the counts of verdicts, seconds, budget, and whether it is stale."""
    rows = {paper["slug"]: {**paper, "results": {}} for paper in papers()}
    for slug, profile, folder in results():
        found = ledger.read(folder)
        counts = Counter(row["verdict"] for row in found["claims"])
        seconds, budget = found["provenance"]["seconds"], found["parameters"]["budget_seconds"]
        rows[slug]["results"][profile] = {
            "verdicts": {verdict: counts[verdict] for verdict in VERDICTS},
            "judged": counts.total() - counts["untested"],
            "seconds": seconds,
            "budget_seconds": budget,
            "overrun": seconds > budget,
            "stale": slug not in notebooks() or plan(slug, profile).key != found["key"],
        }
    judged = sum(result["judged"] for row in rows.values() for result in row["results"].values())
    return {"judged": judged, "note": _NOTE, "papers": list(rows.values())}


def status(paper: dict[str, Any]) -> str:
    """A paper's state in words: its verdicts by profile, or that there are none yet."""
    counts = {
        profile: ", ".join(f"{n} {verdict}" for verdict, n in result["verdicts"].items() if n)
        for profile, result in paper["results"].items()
    }
    said = "; ".join(f"{profile}: {text}" for profile, text in counts.items())
    return said or ("no result yet" if paper["room"] else "planned")


def write(data: dict[str, Any]) -> None:
    """Write figures/scoreboard.png, .md and .json, and the table of papers in README.md."""
    base, page = checkout() / "figures" / "scoreboard", checkout() / "README.md"
    base.parent.mkdir(exist_ok=True)
    jobs.write(base.with_suffix(".json"), json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    jobs.write(base.with_suffix(".md"), markdown(data))
    _draw(data, base.with_suffix(".png"))
    if page.is_file():
        jobs.write(page, readme(page.read_text(encoding="utf-8"), data))


def markdown(data: dict[str, Any]) -> str:
    """The scoreboard as a Markdown table."""
    lines = [_row("#", "paper", "profile", *VERDICTS, "seconds / budget", ""), _row(*["---"] * (len(VERDICTS) + 5))]
    for paper, profile, result in _results(data):
        if result is None:
            cells = [*[""] * (len(VERDICTS) + 1), status(paper)]
        else:
            notes = ", ".join(name for name in ("overrun", "stale") if result[name])
            time = f"{result['seconds']:.0f} / {result['budget_seconds']:.0f}"
            cells = [*(n or "" for n in result["verdicts"].values()), time, notes]
        lines.append(_row(paper["number"], paper["slug"], profile, *cells))
    return "\n".join(["# Scoreboard", "", *lines, "", f"Claims judged: {data['judged']}. {data['note']}", ""])


def readme(text: str, data: dict[str, Any]) -> str:
    """README's text with the table of papers between its markers made anew; unchanged where there are none."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        return text
    lines = [_row("#", "paper", "notebook", "status"), _row(*["---"] * 4)]
    for paper in data["papers"]:
        title, path = f"[{paper['title']}](https://arxiv.org/abs/{paper['arxiv']})", notebooks().get(paper["slug"])
        link = f"[{paper['slug']}](notebooks/{path.name})" if path else paper["slug"]
        lines.append(_row(paper["number"], title, link, status(paper)))
    return "\n".join([before + begin, *lines, end + after])


def _results(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any] | None]]:
    """Paper, profile and result, a row each; one row without a result for a paper that has none."""
    for paper in data["papers"]:
        for profile, result in paper["results"].items() or [("", None)]:
            yield paper, profile, result


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _draw(data: dict[str, Any], path: Path) -> None:
    """Bars of verdict counts, a row for each paper and profile."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from papercore.study import figures

    figures.use_style()
    # Each bar has its count in it, so that nothing depends on colour alone.
    colours = dict(zip(VERDICTS, [*(figures.COLOURS[i] for i in (2, 1, 4, 7)), "#DDDDDD"], strict=True))
    rows = list(_results(data))
    figure = Figure(figsize=(7.0, 1.2 + 0.3 * len(rows)))
    ax = figure.add_subplot()
    widest = max([sum(r["verdicts"].values()) for *_, r in rows if r] or [1])
    for y, (paper, _, result) in enumerate(rows):
        left, text, colour = 0, status(paper), figures.MUTED
        for verdict, n in result["verdicts"].items() if result else ():
            ax.barh(y, n, left=left, color=colours[verdict], height=0.7)
            ax.text(left + n / 2, y, n or "", ha="center", va="center", fontsize="small")
            left += n
        if result:
            text = f"{result['seconds']:.0f} of {result['budget_seconds']:.0f} s" + ", stale" * result["stale"]
            colour = colours["contradicted"] if result["overrun"] else "black"
        ax.text(left + 0.02 * widest, y, text, va="center", fontsize="small", color=colour)
    # Rows without bars have their place too, and the first stands on top.
    ax.set(
        xlabel="claims",
        xlim=(0, 1.35 * widest),
        ylim=(len(rows) - 0.5, -0.5),
        title=f"Verdicts ({data['judged']} claims judged)",
    )
    ax.set_yticks(range(len(rows)), [f"{p['number']}  {p['slug']}  {profile}" for p, profile, _ in rows])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", visible=False)
    handles = [ax.barh([0], [0], color=colour, label=verdict) for verdict, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    figure.savefig(path, metadata={"Software": None})
