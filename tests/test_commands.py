"""What every command of this repository owes its caller."""

import os
import subprocess
import sys

import pytest

COMMANDS = [
    ("trellis_doctor", "--list"),
    ("trellis_doctor", "--help"),
    ("trellis_doctor", "--json", "-", "--only", "python"),
    ("trellis_regression", "list"),
    ("trellis_regression", "check", "--help"),
    ("trellis_pipeline.cli", "--help"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_pipe_ends_a_command_quietly(command):
    # Where every line is written at once, argparse itself passes over a help that cannot be.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment
        )
    finally:
        os.close(writer)
    # The report of `--json -` goes to the pipe, the text beside it to standard error.
    assert "Traceback" not in done.stderr and "roken pipe" not in done.stderr, done.stderr
    assert done.returncode == 141
