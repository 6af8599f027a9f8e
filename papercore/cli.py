"""The command `papercore`: parses, asks the floors below, prints, sets the exit code. Floor: cli, above all others.

Heavy modules are imported inside the commands, so that `papercore --help` is quick. Exit codes: 0 all well, 1 a
notebook failed or a result does not hold, 2 wrong use, 130 stopped by the user.
"""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

_HELP = "Ten papers as ten notebooks; every claim ends as a row with a computed verdict."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
cache_app = typer.Typer(no_args_is_help=True, help="Show or empty the cache of downloads.")
app.add_typer(cache_app, name="cache")

Papers = Annotated[list[str] | None, typer.Argument(metavar="[PAPER]...", help="Names such as gcs.")]
Paper = Annotated[str, typer.Argument(metavar="PAPER", help="A name such as gcs.")]
Force = Annotated[bool, typer.Option("--force", help="Run again what is finished.")]


def main() -> None:
    """Entry point; what a user can mend is one sentence on stderr."""
    # Idle threads of one notebook would otherwise spin while another one works.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except Exception as err:
        if not type(err).__module__.startswith("papercore."):  # the package's own errors are worded for users
            raise
        typer.echo(f"papercore: {err}", err=True)
        raise SystemExit(getattr(err, "exit_code", 2)) from None


@app.command()
def run(
    papers: Papers = None,
    every: Annotated[bool, typer.Option("--all", help="Every notebook.")] = False,
    profile: Annotated[str, typer.Option(help="smoke, cpu or paper.")] = "cpu",
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Kernels at a time.")] = 1,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and start nothing.")] = False,
    cell_timeout: Annotated[float | None, typer.Option(min=0, help="Seconds a cell may take, 0 for any.")] = None,
) -> None:
    """Run notebooks: `papercore run gcs`, `papercore run --all --profile smoke`."""
    from papercore.runner import batch, display, execute, needs
    from papercore.runner import jobs as planning

    if bool(papers) == every:
        raise planning.UsageError("name one or more papers, or say --all")
    names, overrides, console = planning.notebooks() if every else papers, _values(parameter or []), _console()
    todo = [planning.plan(name, profile, overrides) for name in dict.fromkeys(names)]
    todo.sort(key=lambda job: job.slug is None)  # a notebook without a room reads what the others leave
    if dry_run:
        for job in todo:
            state = "finished" if execute.finished(job) else "to run"
            typer.echo(f"{job.name}: {job.profile}, key {job.key[:8]}, {state}")
            for name, value in job.parameters.items():
                typer.echo(f"  {name} = {value!r}")
            reasons = [f"not here: {reason}" for reason in needs.lacking(job)]
            for line in [*needs.summary(job), *(reasons or ["here: can run"])]:
                typer.echo(f"  {line}")
        return
    shown = display.Display(console, max(map(len, names), default=0))
    outcomes = batch.run(todo, shown, workers=jobs, force=force, cell_timeout=cell_timeout)
    display.summary(console, outcomes)
    states = {outcome.state for outcome in outcomes}
    nothing = states == {"untested"}  # one asset that cannot be had keeps no other paper from its result
    raise typer.Exit(1 if "failed" in states or nothing else 130 if "stopped" in states else 0)


@app.command()
def doctor(papers: Papers = None) -> None:
    """Say what this machine has and reaches, and which papers it can run at which size, or why not."""
    from papercore.runner import doctor as diagnosis

    for title, lines in diagnosis.facts():
        typer.echo(title)
        width = max((len(name) for name, _ in lines), default=0)
        typer.echo("\n".join(f"  {name:{width}}  {said}" for name, said in lines) + "\n")
    findings = list(diagnosis.findings(dict.fromkeys(papers or [])))
    head = ("paper", "profile", "minutes", "memory", "GPU", "to download", "disk", "here")
    _table(head, [finding.row for finding in findings])
    lame = [finding for finding in findings if finding.reasons]
    for finding in lame:
        typer.echo(f"\n{finding.slug} cannot run here at profile {finding.profile}:")
        typer.echo("\n".join(f"  {reason}" for reason in finding.reasons))
    raise typer.Exit(1 if any(finding.profile == "cpu" for finding in lame) else 0)


@app.command("list")
def list_papers(
    executed: Annotated[str, typer.Option(metavar="PROFILE", help="Only paths of finished notebooks.")] = "",
) -> None:
    """List the papers with their verdicts so far."""
    from papercore.runner import execute, jobs, report

    if executed:
        finished = filter(execute.finished, (jobs.plan(name, executed) for name in jobs.notebooks()))
        typer.echo("\n".join(str(job.executed.relative_to(jobs.checkout())) for job in finished))
        return
    rows = []
    for paper in report.board()["papers"]:
        stale = any(result["stale"] for result in paper["results"].values())
        rows.append((paper["number"], paper["slug"], report.status(paper) + " (stale)" * stale, paper["title"]))
    _table(("#", "paper", "status", "title"), rows)


@app.command()
def report(
    papers: Papers = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="First rewrite ledgers from their samples.")] = False,
) -> None:
    """Recompute the committed ledgers from their samples, and write figures/scoreboard.*."""
    from papercore.runner import jobs
    from papercore.runner import report as scores

    if papers and not recompute:
        raise jobs.UsageError("the scoreboard is of all papers; name papers with --recompute only")
    if recompute:
        _table(("paper", "profile", "claim", "before", "after"), scores.recompute(papers or []))
    if problems := scores.objections():
        typer.echo("\n".join(f"objection: {problem}" for problem in problems), err=True)
        raise typer.Exit(1)
    scores.write(data := scores.board())
    typer.echo(f"claims judged: {data['judged']}; see figures/scoreboard.png, .md and .json")


@app.command()
def bake(paper: Paper, force: Force = False) -> None:
    """Put the outputs of a paper's finished cpu run into its notebook; runs it first if need be."""
    from papercore.runner import bake as baking
    from papercore.runner import batch, display, jobs

    job, console = jobs.plan(paper), _console()
    outcomes = batch.run([job], display.Display(console), force=force)
    display.summary(console, outcomes)
    if outcomes[0].state not in ("finished", "found"):
        raise typer.Exit(1)
    path = baking.bake(job)
    typer.echo(f"baked notebooks/{path.name}, {path.stat().st_size / 1e6:.2f} MB")


@app.command()
def new(paper: Paper) -> None:
    """Make a room, a notebook and a test for a paper: a small demo without a model, to write over."""
    from papercore.runner import jobs
    from papercore.runner import new as making

    for path in making.make(paper):
        typer.echo(f"  {path.relative_to(jobs.checkout())}")
    typer.echo(f"try it: papercore run {paper} --profile smoke")


@app.command()
def lab() -> None:
    """Open JupyterLab in the notebooks folder."""
    from papercore.runner import jobs

    if importlib.util.find_spec("jupyterlab") is None:
        raise jobs.UsageError('JupyterLab is not installed: pip install -c constraints.txt -e ".[lab]"')
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", str(jobs.checkout() / "notebooks")]))


@app.command()
def train(paper: Paper) -> None:
    """Train what a paper's room ships, if it ships anything that is trained: its train.py's main()."""
    from papercore.runner import jobs
    from papercore.study import rooms

    rooms.room(paper)
    name = f"papercore.papers.{paper}.train"
    if importlib.util.find_spec(name) is None:
        raise jobs.UsageError(f"{paper} ships nothing that is trained: there is no papers/{paper}/train.py")
    importlib.import_module(name).main()


@app.command()
def models() -> None:
    """List the models and data sets of the catalogue."""
    from papercore.assets import models_table

    rows = [(*row, _mb(size), terms, "yes" if here else "no", note) for *row, size, terms, here, note in models_table()]
    _table(("name", "kind", "size", "licence", "cached", "note"), rows)


@cache_app.command("list")
def cache_list() -> None:
    """Show what the cache holds."""
    from papercore.assets import cache_dir, cache_entries

    typer.echo(str(cache_dir()))
    _table(("kind", "name", "files", "size"), [(*row, _mb(size)) for *row, size in cache_entries()])


@cache_app.command("clear")
def cache_clear(kind: Annotated[str, typer.Argument(help="As `cache list` names it, or all.")] = "all") -> None:
    """Delete cached files; everything comes back when it is needed."""
    from papercore.assets import clear_cache

    typer.echo(f"freed {_mb(clear_cache(kind))}")


def _values(pairs: Sequence[str]) -> dict[str, object]:
    """`name=value` pairs with values typed as in YAML."""
    import yaml

    from papercore.runner.jobs import UsageError

    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            value = ""
        if not (name and value):
            raise UsageError(f"-p takes NAME=VALUE with a value as in YAML, not {pair!r}")
    return found


def _console():
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 1000)  # elsewhere nothing is wrapped for a terminal's sake


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.table import Table

    console = _console()
    table = Table(box=None, pad_edge=False, header_style="bold", expand=console.is_terminal)
    for name in head:
        # On a terminal the last column takes what room is left, and is cut rather than wrapped.
        justify, ratio = "right" if name in ("#", "files", "size") else "left", 1 if name == head[-1] else None
        table.add_column(name, justify=justify, no_wrap=True, ratio=ratio)
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


if __name__ == "__main__":
    main()
