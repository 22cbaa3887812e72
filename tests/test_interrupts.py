"""Every command ends at Ctrl-C with one line and status 130, whenever it comes: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROBOT = str(Path(__file__).parents[1] / "golden/robot/cpu/asset.glb")
COMMANDS = [
    ("trellis_pipeline", "view", ROBOT, "--no-browser"),
    ("trellis_pipeline", "remake", ROBOT, "-o", "OUT/remade.glb", "-q"),
    ("trellis_regression", "check", ROBOT, "--golden", "robot", "--html", "OUT/report.html"),
    ("trellis_regression", "check", ROBOT, "--golden", "robot", "--device", "cuda"),
    ("trellis_regression", "faults", "--assets", "2", "--jobs", "2", "--sample", "OUT/sample"),
    ("trellis_doctor",),
]
DELAYS = (0.02, 0.05, 0.2, 0.5, 1.0, 2.0)
# As the console script does it. Python answers a signal in its own way until the command's first statement has set its own.
START = """
import importlib, signal, sys
main, plain = importlib.import_module(sys.argv.pop(1) + ".__main__").main, signal.signal
def started(*arguments):
    signal.signal, before = plain, plain(*arguments)
    print("started", flush=True)
    return before
signal.signal = started
sys.exit(main())
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")


def interrupted(command, delay, folder):
    """Status, standard error and how long it took to end, of a command that gets SIGINT, with all that it started."""
    arguments = [a.replace("OUT", str(folder)) for a in command]
    with subprocess.Popen(
        [sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1], start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        asked = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        # Both pipes are read to their ends, so this waits for every process that holds them.
        _, said = process.communicate(timeout=60)
        return process.returncode, said, time.monotonic() - asked


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[:2]) + " " + c[-1].split("/")[-1])
def test_ctrl_c_ends_a_command_with_one_line(command, tmp_path):
    name = {"trellis_pipeline": "trellis", "trellis_regression": "trellis-gate", "trellis_doctor": "trellis-doctor"}
    ended = []
    for delay in DELAYS:
        status, said, seconds = interrupted(command, delay, tmp_path)
        if status != 130:  # it was ready before, on a fast machine or one without a GPU
            assert delay >= 0.5 and "view" not in command and "faults" not in command, (delay, status, said)
            assert status in (0, 1, 2) and "Traceback" not in said and "interrupted" not in said, (delay, status, said)
            continue
        assert said.splitlines()[-1] == f"{name[command[0]]}: interrupted", (delay, said)
        assert "Traceback" not in said and said.count("interrupted") == 1, (delay, said)
        assert seconds < 20, delay
        ended.append(delay)
    assert len(ended) >= 3
    left = [p.name for p in tmp_path.iterdir() if p.name.startswith(".") or p.suffix == ".part"]
    assert not left


def test_a_command_that_starts_with_the_signal_ignored_goes_on():
    """As behind `&` in a shell script."""
    with subprocess.Popen(
        [sys.executable, "-m", "trellis_regression", "list"], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:  # fmt: skip
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "second-run" in out


def test_what_is_being_finished_is_finished_first():
    script = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in what a shell started with `&`
from trellis_regression import interrupt
def command():
    with interrupt.finishing():
        os.kill(os.getpid(), signal.SIGINT)
        print("whole", flush=True)
    print("never")
sys.exit(interrupt.run("name", lambda: command, at_once=lambda: print("ended", flush=True)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "whole\nended\n", "name: interrupted\n")


def test_a_second_ctrl_c_ends_what_is_being_cleared_up():
    script = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from trellis_regression import interrupt
def command():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    finally:
        print("clearing", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
sys.exit(interrupt.run("name", lambda: command))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=8)
    assert (done.returncode, done.stdout, done.stderr) == (130, "clearing\n", "name: interrupted\n")


def test_ctrl_c_while_processes_start_is_not_lost():
    script = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from trellis_regression import interrupt, parallel
from trellis_regression.__main__ import _abandon
class Pool(parallel.ProcessPoolExecutor):
    def submit(self, *arguments):
        begun = super().submit(*arguments)
        os.killpg(0, signal.SIGINT)  # to what has been started as well
        return begun
parallel.ProcessPoolExecutor = Pool
sys.exit(interrupt.run("name", lambda: lambda: list(parallel.spread(time.sleep, [50, 50], 2)), at_once=_abandon))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=40, start_new_session=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "name: interrupted\n")
