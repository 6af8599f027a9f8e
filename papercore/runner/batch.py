"""Several runs at once: one that fails does not stop the others. Floor: runner."""

import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from papercore.runner import execute
from papercore.runner.display import Display
from papercore.runner.execute import Outcome
from papercore.runner.jobs import Job


def run(jobs: Iterable[Job], display: Display, *, workers: int = 1, force=False, cell_timeout=None) -> list[Outcome]:
    """Run the jobs, `workers` kernels at a time; the outcomes in the jobs' order.

    Ctrl-C, or a scheduler's SIGTERM, ends every kernel and gives the outcomes so far, the rest as "stopped"; no
    half-done run is marked finished.
    """
    jobs, stop = list(jobs), threading.Event()
    execute.tidy()

    def one(job: Job) -> Outcome:
        if stop.is_set():
            return Outcome(job, "stopped")
        try:
            tell = display.follow(job)
            outcome = execute.run(job, tell, stop, force, cell_timeout)
        except Exception as err:  # of the runner, not of the notebook: a full disk, say
            outcome = Outcome(job, "failed", error=execute.sentence(err))
        display.end(outcome)
        return outcome

    with display, _polite(), ThreadPoolExecutor(max_workers=workers) as pool:
        futures: list[Future[Outcome]] = []
        try:
            futures += (pool.submit(one, job) for job in jobs)
            wait(futures)
        except KeyboardInterrupt:
            stop.set()
            wait(futures)
    done = [future.result() for future in futures]
    return done + [Outcome(job, "stopped") for job in jobs[len(done) :]]


@contextmanager
def _polite() -> Iterator[None]:
    """SIGTERM as if it were Ctrl-C; Python lets only its main thread listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
