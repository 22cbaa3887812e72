"""A process that makes pictures and may crash, hang or be killed, as its parent sees it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

WORKER = (sys.executable, "-m", "trellis_pipeline.batch.worker")
_PATIENCE = 10.0


class WorkerDiedError(Exception):
    """The process ended, or was ended as it took too long; the message says how."""


class Worker:
    """Starts the process on construction and speaks with it in lines of JSON: it reads them from its standard input and
    answers on a pipe of its own (``--answers FD``), so that nothing a library prints can be taken for an answer.

    In a session of its own: Ctrl-C at the terminal reaches the parent alone, which then ends it.
    """

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        answers, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, "--answers", str(theirs), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(theirs,), start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(theirs)
        self._answers, self._rest = answers, b""

    def ask(self, question: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Sends a question and waits for its answer.

        Args:
            timeout: seconds, after which the process is killed.

        Raises:
            WorkerDiedError: there will be no answer.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerDiedError(self._end()) from None
        line = self._line(None if timeout is None else time.monotonic() + timeout)
        if line is None:
            self.kill()
            raise WorkerDiedError(f"it was stopped after {timeout or 0:,.0f} s without a result (--timeout)")
        if not line:
            raise WorkerDiedError(self._end())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _line(self, until: float | None) -> bytes | None:
        """The next line; b"" at the end of the process, None when time is over."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = None if until is None else until - time.monotonic()
                if left is not None and (left <= 0 or not ready.select(left)):
                    return None
                part = os.read(self._answers, 65536)
                if not part:
                    return b""
                self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _end(self) -> str:
        """Waits for the process and says how it ended."""
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return "its process closed its answers and went on"
        if status >= 0:
            return f"its process ended with exit status {status}"
        name = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
        hint = " (out of main memory, perhaps: see the kernel's log)" if -status == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"

    def kill(self) -> None:
        """Ends the process and whatever it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Ends the process, wherever it is, and gives back what was needed to speak with it."""
        if self._process.poll() is None:
            self.kill()
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        os.close(self._answers)
