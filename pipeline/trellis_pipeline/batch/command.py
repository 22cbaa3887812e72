"""The loop of ``trellis batch``: what is made already, what is set aside, and the rest one after another."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..arguments import require_writable
from ..generate import GenerateOptions
from ..store import alone
from .jobs import Job, find, is_made, leftovers
from .journal import NAME, Journal
from .supervise import Worker, WorkerDiedError
from .worker import FULL

LEFT = 64 << 20
"""Bytes of the device that a run may leave allocated, for libraries' own needs, before a new process goes on."""

IN_A_ROW = 5
"""So many pictures whose runs crash one after the other are taken for a fault of the machine."""


def run(
    sources: Sequence[Path], out: Path, options: GenerateOptions, *, retries: int = 1, timeout: float | None = None,
    retry_failed: bool = False, start: Callable[[], Worker] = Worker,
) -> int:  # fmt: skip
    """Makes all pictures that are not made yet, each to a GLB and a manifest in `out`. Returns the exit status.

    Args:
        retries: how often a run that crashed is tried again, in a new process.
        timeout: seconds for one picture.
        retry_failed: try what an earlier batch set aside.
        start: makes the process that does the work.

    Raises:
        ValueError: nothing can be made: a source or the models are not there, the disk is full, or the machine fails.
    """
    if Path(options.weights).is_dir():
        options = replace(options, weights=str(Path(options.weights).resolve()))
    jobs, others = find(sources, out)
    require_writable("--out", out, folder=True)
    with alone(out, "--out", "batch"), _terminated(), _Batch(out, options, retries, timeout, start) as batch:
        batch.journal.require_own(jobs)
        _clear(jobs)
        if others:
            print(f"{others} files in the folders are no pictures", flush=True)
        try:
            for index, job in enumerate(jobs, 1):
                batch.take(f"[{index}/{len(jobs)}] {job.picture}", job, retry_failed=retry_failed)
        except BaseException as error:
            batch.stop()
            _clear(jobs)
            if isinstance(error, KeyboardInterrupt):
                print(f"{batch.so_far()}; the same command goes on from here", flush=True)
            if isinstance(error, OSError) and error.errno in FULL:
                raise batch.no_room(str(error.strerror)) from None
            raise
        return batch.summary()


class _Batch:
    """The state of a running batch."""

    def __init__(
        self, out: Path, options: GenerateOptions, retries: int, timeout: float | None, start: Callable[[], Worker]
    ) -> None:
        self.out, self.options, self.retries, self.timeout, self.start = out, asdict(options), retries, timeout, start
        self.journal = Journal(out)
        self.worker: Worker | None = None
        self.counts = {"made": 0, "made before": 0, "failed": 0, "set aside before": 0}
        self.crashed: list[Job] = []
        self.begun = time.monotonic()

    def __enter__(self) -> _Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def take(self, label: str, job: Job, *, retry_failed: bool) -> None:
        """One picture."""
        if is_made(job, self.options):
            self._count(label, "made before")
        elif not retry_failed and (why := self.journal.set_aside(job, self.options)):
            self._count(label, "set aside before", why)
        else:
            self._make(label, job)

    def _make(self, label: str, job: Job) -> None:
        for attempt in range(1, self.retries + 2):
            kind, answer = self._attempt(job)
            if kind != "crash":
                break
            self.stop()
            if attempt <= self.retries:
                print(f"{label}: {answer['error']}; again, in a new process", flush=True)
        if kind == "disk":
            raise self.no_room(answer["error"])
        if kind == "made":
            self.crashed.clear()
            self.journal.add(job, "made", self.options, **answer)
            self._count(label, "made", f"{answer['faces']:,} faces, {answer['seconds']:.1f} s")
            if answer["left"] > LEFT:  # the next run is to have all of the card
                print(f"  {answer['left']:,} bytes of the device were left behind; a new process goes on", flush=True)
                self.stop()
            return
        self.journal.add(job, "failed", self.options, kind=kind, error=answer["error"], attempts=attempt)
        self._count(label, "failed", answer["error"] + (f" ({job.log})" if job.log.is_file() else ""))
        self.crashed = [*self.crashed, job] if kind == "crash" else []
        if len(self.crashed) == IN_A_ROW:
            for one in self.crashed:
                self.journal.add(one, "given back", self.options)
            raise ValueError(
                f"{IN_A_ROW} pictures in a row crashed, the last by: {answer['error']}. That is the machine rather than "
                f"the pictures, so none of them is set aside: {self.so_far()}. `trellis-doctor` may say more"
            )

    def _attempt(self, job: Job) -> tuple[str, dict[str, Any]]:
        """One try: ("made", facts), or the kind of failure and its `error`."""
        if self.worker is None:
            self.worker = self.start()
            try:
                opened = self.worker.ask(self.options)
            except WorkerDiedError as died:
                raise ValueError(f"the models cannot be opened: {died}: {self.so_far()}") from None
            if "error" in opened:
                raise ValueError(opened["error"])
            self.journal.begin()
        job.glb.parent.mkdir(parents=True, exist_ok=True)
        files = {"picture": job.picture, "glb": job.glb, "manifest": job.manifest, "log": job.log}
        try:
            answer = self.worker.ask({k: str(v) for k, v in files.items()}, self.timeout)
        except WorkerDiedError as died:
            return "crash", {"error": str(died)}
        if "facts" in answer:
            return "made", answer["facts"]
        return answer["kind"], {"error": answer["error"].removeprefix(f"{job.picture}: ")}  # the line names it already

    def _count(self, label: str, what: str, more: str = "") -> None:
        self.counts[what] += 1
        said = more if what == "made" else f"{what}{': ' if more else ''}{more}"
        print(f"{label}: {said}", flush=True)

    def no_room(self, what: str) -> ValueError:
        """For a disk that is full or cannot be written, on which no picture would fare better."""
        return ValueError(f"{what}: {self.so_far()}. Make room in {self.out}; the same command goes on from here")

    def so_far(self) -> str:
        shown = {k: v for k, v in self.counts.items() if v}
        return ", ".join(f"{count} {what}" for what, count in shown.items()) or "nothing was made"

    def summary(self) -> int:
        """Prints the last line; returns the exit status."""
        failed = self.counts["failed"] + self.counts["set aside before"]
        hint = f"; {self.out / NAME} says why, --retry-failed tries them again" if failed else ""
        print(f"{self.so_far()} ({time.monotonic() - self.begun:,.0f} s){hint}", flush=True)
        return 1 if failed else 0

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def _clear(jobs: Sequence[Job]) -> None:
    """Removes what killed processes left half-written."""
    for path in leftovers(jobs):
        path.unlink(missing_ok=True)


@contextmanager
def _terminated() -> Iterator[None]:
    """What a service manager or a shutdown sends ends the batch as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
