"""What a user sees of runs: a live line each on a terminal, plain lines elsewhere, and a summary. Floor: runner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from papercore.runner.execute import Outcome
from papercore.runner.jobs import Job, checkout

MARKS = {
    "finished": "[green]✔[/]",
    "found": "[green]✔[/]",
    "untested": "[yellow]–[/]",
    "failed": "[red]✘[/]",
    "stopped": "[yellow]■[/]",
}
_WAITS = "waits for another run of this key"


class _Left(ProgressColumn):
    """Time left of the budget; nothing once that is used up."""

    def render(self, task: Task) -> Text:
        if task.fields["waits"]:
            return Text(_WAITS)
        rest = task.fields["expected"] - (task.elapsed or 0)
        return Text(f"{rest / 60:.0f} min left" if rest > 90 else f"{rest:.0f} s left" if rest > 0 else "")


class Display(AbstractContextManager):
    """Follows runs on a console; safe to call from several threads."""

    def __init__(self, console: Console, width: int = 0):
        self._console, self._width = console, width
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), _Left())
        self._progress = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def follow(self, job: Job) -> Callable[[str, int, int], None]:
        """A listener for one run's progress."""
        said, name = set(), f"{job.name:{self._width}}"
        task = self._progress.add_task(name, total=None, expected=job.budget or 0, waits=False)
        self._tasks[job.key] = task

        def tell(state: str, done: int, cells: int) -> None:
            waits = state == "waiting"
            self._progress.update(task, completed=done, total=cells, waits=waits)
            if state not in said and not self._console.is_terminal:
                said.add(state)
                self._line(f"  {name}  {job.profile}: {_WAITS if waits else f'{cells} cells, key {job.key[:8]}'}")

        return tell

    def end(self, outcome: Outcome) -> None:
        """Take a run off the live lines, and say in one line what became of it."""
        job, state, seconds = outcome.job, outcome.state, f"{outcome.seconds:.0f} s"
        self._progress.remove_task(self._tasks.pop(job.key))
        if state == "found":
            text = f"{job.name}: finished run found (key {job.key[:8]}), {seconds}; --force runs again"
        else:
            text = f"{job.name:{self._width}}  {state} in {seconds}"
            text += f" of {job.budget:.0f} s" if job.budget else ""
            text += f", {outcome.peak / 1e9:.1f} GB" if outcome.peak else ""
        text += f": {escape(outcome.error)}" if state == "untested" else ""
        if state == "finished" and job.promotes_to:
            text += f" → {job.promotes_to.relative_to(checkout())}"
        self._line(f"{MARKS[state]} {text}")

    def _line(self, markup: str) -> None:
        self._console.print(markup, highlight=False, soft_wrap=True)


def summary(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The failures with file, cell and error, and how many runs ended how."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        table = Table("notebook", "cell", "error", box=None, pad_edge=False, header_style="bold")
        for outcome in failed:
            table.add_row(outcome.job.notebook.name, str(outcome.cell or "-"), Text(outcome.error[:400]))
        console.print("", table)
    for outcome in failed:
        if outcome.job.executed.is_file():
            where = outcome.job.executed.relative_to(checkout())
            console.print(f"traceback: {where}", style="dim", highlight=False, soft_wrap=True)
    if len(outcomes) > 1:
        counts = Counter(outcome.state for outcome in outcomes)
        console.print(", ".join(f"{counts[state]} {state}" for state in MARKS if counts[state]), highlight=False)
