"""What a run needs, and what of it this machine lacks, known before a kernel starts. Floor: runner."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from papercore.assets import cache_dir, cache_entries, catalogue, hub, machine, models_table, packages
from papercore.runner.jobs import Job
from papercore.study import parameters, rooms
from papercore.study.claims import Cost


@dataclass(frozen=True)
class Item:
    """A model or data set that a run reads."""

    name: str
    licence: str  # empty: not known here
    left: int | None  # bytes to download; None: nobody says
    access: str  # cached, reachable, gated, missing, unreachable
    why: str = ""  # it cannot be had, in one sentence

    def __str__(self) -> str:
        size = "size unknown" if self.left is None else f"{gb(self.left)} to download"
        return ", ".join(filter(None, [f"{self.name}: {self.access}", self.licence, size * (self.access != "cached")]))


def refusal(job: Job) -> str | None:
    """One sentence why the run cannot work here, or None; cheap, asks no network, and torch only of a GPU's profile."""
    if reasons := _reasons(job):
        return (
            f"{job.name} cannot run here at profile {job.profile}: {'; '.join(reasons)}; "
            f"mend that, or choose another profile (`papercore doctor {job.name}` says which)"
        )
    return None


def lacking(job: Job) -> list[str]:
    """Every reason why the run cannot work here, those included that only the network tells of."""
    return [*_reasons(job), *(item.why for item in items(job) if item.why)]


def cost(job: Job) -> Cost | None:
    """What claims.yaml declares for the job; None where that does not speak of it: altered parameters, or no room."""
    return None if job.slug is None or job.altered else rooms.claims(job.slug).cost.get(job.profile)


def items(job: Job) -> list[Item]:
    """The models and data sets of a job; asks the hub, or pip's places, about what is not cached."""
    return [_catalogued(name) if name in catalogue() else _on_hub(name) for name in _names(job)]


def summary(job: Job) -> list[str]:
    """Lines that say what the job needs."""
    line, declared = "needs: nothing is declared for these parameters", cost(job)
    if declared:
        gpu = f", a GPU with {declared.gpu_gb:g} GB" if declared.gpu_gb else ""
        line = f"needs: {declared.minutes:g} min, {declared.memory_gb:g} GB of memory{gpu}, "
        line += f"{declared.disk_gb:g} GB of disk"
        line += f" ({declared.note})" if declared.note else ""
    return [line, *(f"  {item}" for item in items(job))]


def gb(size: float) -> str:
    """Bytes for a reader."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _reasons(job: Job) -> list[str]:
    return [] if job.slug is None else [*_absent(job), *_scarce(job)]


def _absent(job: Job) -> Iterator[str]:
    """Files and folders that parameters name, and that a kernel in notebooks/ would not find."""
    values = _values(job)
    for parameter, name in parameters.named(values, "file"):
        if not (path := _path(job, name)) or not path.is_file():
            yield f"{parameter} = {name!r}: no such file, as seen from the notebook's folder"
    for parameter, name in parameters.named(values, "model"):
        if _is_local(job, name) and (not (path := _path(job, name)) or not path.is_dir()):
            yield f"{parameter} = {name!r}: no such folder, as seen from the notebook's folder"


def _scarce(job: Job) -> Iterator[str]:
    """What the profile declares and this machine does not have."""
    declared = cost(job)
    if declared is None:
        return
    memory, device = machine.memory().total, job.parameters["device"]
    if memory < declared.memory_gb * 1e9:
        yield f"it needs {declared.memory_gb:g} GB of memory, and this machine has {gb(memory)}"
    if declared.gpu_gb and device != "cpu":
        from papercore.models.memory import gpu

        found, wants = gpu(device), f"it is made for a GPU with {declared.gpu_gb:g} GB"
        if found is None:
            yield f"{wants}, and this machine has none"
        elif found[1] < declared.gpu_gb * 1e9:
            yield f"{wants}, and {found[0]} has {gb(found[1])}"
    disk, more = machine.free_disk(cache_dir()), declared.disk_gb * 1e9
    if disk < more:
        more -= _held(job)
    if disk < more:
        yield f"it needs {gb(more)} more on the disk of the cache, {cache_dir()}, and {gb(disk)} are free there"


def _held(job: Job) -> int:
    """Bytes that the cache holds already of what the job would put there."""
    names = _names(job)
    held = [size for kind, name, _, size in cache_entries() if kind == "activations" or name.startswith(tuple(names))]
    folders = [folder for name in names if name not in catalogue() and (folder := hub.cached(name))]
    return sum(held) + sum(path.stat().st_size for folder in folders for path in folder.iterdir() if path.is_file())


def _names(job: Job) -> list[str]:
    """The models and data sets that the job fetches: catalogue names and hub names."""
    known = catalogue()
    if job.slug is None:
        return list(job.inputs["assets"])
    declared = cost(job)
    sets = [
        name for name in (declared.models if declared else []) if name in known and known[name].kind != "language_model"
    ]
    models = dict.fromkeys(name for _, name in parameters.named(_values(job), "model"))
    return [*(name for name in models if name in known or not _is_local(job, name)), *sets]


def _values(job: Job) -> parameters.BaseParameters:
    return parameters.check(job.slug, job.parameters)


def _path(job: Job, name: str) -> Path | None:
    """Where a kernel beside the notebook would look, or None for the home of nobody."""
    try:
        return job.notebook.parent / Path(name).expanduser()
    except RuntimeError:
        return None


def _is_local(job: Job, name: str) -> bool:
    """Whether a model's name is, or is meant to be, a folder here."""
    path = _path(job, name)
    return Path(name).is_absolute() or name.startswith((".", "~")) or (path is not None and path.is_dir())


def _catalogued(name: str) -> Item:
    asset = catalogue()[name]
    if {row[0]: row[4] for row in models_table()}[name]:
        return Item(name, asset.licence, 0, "cached")
    if why := _refusals(name):
        why = f"{name} is not cached and cannot be fetched ({why}): check the network and pip's settings"
    return Item(name, asset.licence, asset.size, "unreachable" if why else "reachable", why)


@cache
def _on_hub(name: str) -> Item:
    found = hub.access(name)
    return Item(name, found.licence, found.left, found.state, found.why)


@cache
def _refusals(name: str) -> str:
    return packages.refusals(catalogue()[name].sources) if catalogue()[name].sources else ""
