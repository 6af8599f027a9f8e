"""What a download says on stderr: a bar in a terminal, plain lines in a log, nothing in a notebook. Floor: assets."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from papercore.assets.catalogue import Asset

Report = Callable[[float], None]  # told how much is there: bytes of the asset, or the share (0 to 1) of one download


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, where a word on stderr would land in the notebook's outputs."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def say(line: str) -> None:
    """One line on stderr, outside notebooks."""
    if not in_notebook():
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(asset: Asset) -> Iterator[Report]:
    """Says what is fetched and on which terms; yields a function to call with the bytes there so far."""
    say(f"fetching {asset.name}: {asset.size / 1e6:.0f} MB, {asset.licence}. {asset.note}")
    if in_notebook() or not sys.stderr.isatty():
        yield lambda done: None
    else:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(asset.name, total=asset.size)
            yield lambda done: bar.update(task, completed=done)
    say(f"{asset.name} is in the cache")
