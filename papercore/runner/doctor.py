"""What this machine is, what it reaches, and which papers it can run at which size. Floor: runner."""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from papercore.assets import cache_dir, catalogue, hub, machine, models_table, packages
from papercore.runner import needs
from papercore.runner.jobs import Job
from papercore.runner.needs import gb
from papercore.study import parameters, rooms
from papercore.study.claims import Cost


@dataclass(frozen=True)
class Finding:
    """Whether one paper can run here at one profile: what that takes, and every reason why not."""

    slug: str
    profile: str
    cost: Cost
    download: str
    reasons: list[str]

    @property
    def row(self) -> tuple[str, ...]:
        """paper, profile, minutes, memory, GPU, still to download, disk, here."""
        cost, gpu = self.cost, f"{self.cost.gpu_gb:g} GB" if self.cost.gpu_gb else "-"
        sizes = f"{cost.minutes:g}", f"{cost.memory_gb:g} GB", gpu, self.download, f"{cost.disk_gb:g} GB"
        return self.slug, self.profile, *sizes, "no" if self.reasons else "yes"


def facts() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Sections of (what, how it is): the machine, what answers on the network, what is cached of the catalogue."""
    from papercore.models.memory import gpu

    memory, card, cache = machine.memory(), gpu(), cache_dir()
    yield (
        "machine",
        [
            ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
            ("cores", str(machine.cores())),
            ("memory", f"{gb(memory.total)}, {gb(memory.free)} free"),
            ("GPU", f"{card[0]}, {gb(card[1])}" if card else "none that torch can use"),
            ("cache", f"{cache}, {gb(machine.free_disk(cache))} free"),
        ],
    )
    # Any package of ours shows whether a place answers.
    places = packages.silences(next(iter(catalogue().values())).sources[0][0].package)
    found = [(name, _answer(why)) for name, why in places] or [("package indexes", packages.NOWHERE)]
    login = "logged in" if hub.logged_in() else "not logged in"
    yield "network", [*found, ("model hub", f"{_answer(hub.silence())}; {login}")]
    models = [(name, "cached" if here else f"not cached, {gb(size)}") for name, _, size, _, here, _ in models_table()]
    yield "catalogue", models


def findings(slugs: Iterable[str]) -> Iterator[Finding]:
    """Every profile of the named papers, of all of them if none is named; works without a repository too."""
    for slug in list(slugs) or rooms.slugs():
        for profile, cost in rooms.claims(slug).cost.items():
            job = _job(slug, profile)
            sizes = [item.left for item in needs.items(job)]
            download = "unknown" if None in sizes else gb(sum(sizes)) if any(sizes) else "-"
            yield Finding(slug, profile, cost, download, needs.lacking(job))


def _answer(why: str) -> str:
    return f"does not answer: {why}" if why else "answers"


def _job(slug: str, profile: str) -> Job:
    """A job that is only asked what it needs; its notebook need not exist."""
    values = parameters.resolve(slug, profile).model_dump(mode="json")
    notebook = rooms.notebook(slug) or Path.cwd() / f"{slug}.ipynb"
    return Job(slug, notebook, profile, slug, parameters=values, altered=False, inputs={})
