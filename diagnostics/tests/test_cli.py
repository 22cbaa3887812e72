"""The command: its arguments, its exit status, and its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from trellis_doctor import cli, examine
from trellis_doctor.check import Check
from trellis_doctor.checks import ALL
from trellis_doctor.finding import Evidence, Finding, Outcome
from trellis_doctor.selftest.bench import Bench

PACKAGE = Path(cli.__file__).parent
SCHEMA = json.loads((PACKAGE / "facts" / "report.schema.json").read_text())


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The doctor as a command. The package is found by the working folder and not by PYTHONPATH, which the inspected
    interpreter would inherit: this environment's packages would then seem to be its own."""
    return subprocess.run(
        [sys.executable, "-m", "trellis_doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        cwd=PACKAGE.parent,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--python", "/nowhere/python"], "no such file or command"),
        (["--python", "/etc/passwd"], "not an executable"),
        (["--only", "nonsense"], "no such check"),
        (["--row", "nonsense"], "no such row"),
        (["--models", "/nowhere"], "no such folder"),
        (["--timeout", "0"], "must be more than 0"),
        (["--timeout", "nan"], "must be more than 0"),
        (["--json", "/dev/null/x/report.json", "--only", "memory-settings"], "/dev/null is no folder"),
        (["--json", "/tmp", "--only", "memory-settings"], "expected the name of a file"),
        (["--json", "", "--only", "memory-settings"], "expected the name of a file"),
        (["--bogus"], "unrecognized arguments"),
    ],
)
def test_misuse_is_one_clear_line_and_status_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("trellis-doctor: error: ") and says in error and error.count("\n") == 1


def test_a_bare_environment_gives_status_1_and_json_of_the_schema(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    bench.interpreter()
    done = _run("--python", str(bench.prefix), "--json", "-")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert report["torch"] is None and report["exit_status"] == 1
    by_id = {c["id"]: c for c in report["checks"]}
    assert list(by_id) == [c.id for c in ALL]
    finding = by_id["missing-module"]["findings"][0]
    assert "torch is not installed" in finding["summary"]
    # The environment has no pip: it comes first, unless uv stands in for it.
    assert any("pip install" in line and "torch" in line for line in finding["remedy"][:2])
    assert "\033[" not in done.stderr  # no colour in a pipe
    assert "Traceback" not in done.stderr


def test_the_callers_own_packages_are_not_taken_for_those_of_another_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "bench")
    bench.interpreter()
    (tmp_path / "mine" / "trimesh").mkdir(parents=True)
    (tmp_path / "mine" / "trimesh" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"))
    report = tmp_path / "report.json"
    seen = {}
    for name, more in (("without", []), ("with", ["--keep-environment"])):
        cli.main(
            ["--python", str(bench.prefix), "--only", "missing-module", "--json", str(report), "--no-cache", *more]
        )
        seen[name] = "no module named trimesh" in report.read_text()
    assert seen == {"without": True, "with": False}


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_an_interpreter_that_cannot_start_is_a_finding(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    done = _run("--python", str(script))
    assert done.returncode == 1 and "ended with status 7" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("broken: 1 error")
    assert "Traceback" not in done.stdout + done.stderr
    assert "--clear" not in done.stdout  # only what is surely a virtual environment may be cleared


def test_a_file_that_is_no_program_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("remember the milk\n")
    text.chmod(0o755)
    assert cli.main(["--python", str(text)]) == 2
    assert "not a program" in capsys.readouterr().err


def test_list_and_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(ALL) and listed[0].startswith("python ")
    assert cli.main(["--only", "python", "memory-settings", "--no-cache"]) == 0
    out = capsys.readouterr().out
    assert out.count("[") == 2 and out.splitlines()[-1].startswith("nothing is broken")


def test_fix_shows_applies_and_checks_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path / "bench")
    bench.interpreter()
    leftover = bench.site / "~orch with space"
    leftover.mkdir()
    (leftover / "file").write_text("")
    report = tmp_path / "not there yet" / "report.json"
    arguments = ["--python", str(bench.prefix), "--only", "broken-metadata", "--json", str(report)]
    assert cli.main(arguments) == 0
    assert leftover.exists()
    assert json.loads(report.read_text())["checks"][0]["status"] == "warning"
    assert cli.main([*arguments, "--fix"]) == 0
    assert not leftover.exists()
    out = capsys.readouterr().out
    assert out.index("will be applied") < out.index("$ rm -r", out.index("will be applied"))
    assert json.loads(report.read_text())["checks"][0]["status"] == "ok"
    assert cli.main([*arguments, "--fix"]) == 0
    assert "no remedy here is safe" in capsys.readouterr().out


def test_a_remedy_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trellis_doctor.fix import apply
    from trellis_doctor.machine import Machine

    def finding(*commands: str) -> Finding:
        return Finding("x", "error", "", (Evidence(""),), "", commands, "", safe_fix=True)

    lines: list[str] = []
    assert apply([finding("false", "never-reached"), finding("/nowhere/command")], Machine(), lines.append) == [
        "x",
        "x",
    ]
    assert [line.split(":")[0].strip() for line in lines] == [
        "$ false",
        "failed with status 1",
        "$ /nowhere/command",
        "could not be run",
    ]


def test_a_check_that_fails_itself_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(context: object) -> Outcome:
        raise RuntimeError("a mistake of ours")

    good = ALL[0]
    monkeypatch.setattr(cli, "ALL", (Check("broken", "Broken", "error", broken), good))
    assert cli.main(["--no-cache"]) == 2
    out = capsys.readouterr().out
    assert "a mistake of ours" in out and "[✓] Python" in out and "Traceback" not in out
    assert cli.main(["--no-cache", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().out


def test_exit_status() -> None:
    def result(status: examine.Status) -> examine.Result:
        return examine.Result(ALL[0], status, "")

    assert examine.exit_status([result("ok"), result("warning"), result("skipped"), result("note")]) == 0
    assert examine.exit_status([result("ok"), result("error")]) == 1
    assert examine.exit_status([result("failed"), result("error")]) == 2


def test_self_test_fails_when_a_check_is_blind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check that sees nothing, and one that sees ghosts, must both show in the table."""
    import trellis_doctor.selftest as selftest

    few = [e for e in selftest.ENVIRONMENTS if e.name in ("glibc 2.17", "control: a linker script named .so")]
    monkeypatch.setattr(selftest, "ENVIRONMENTS", few)
    platform = next(c for c in ALL if c.id == "platform")

    def ghost(context: object) -> Outcome:
        return Outcome("", (Finding("platform", "error", "ghost", (Evidence(""),), "", ("#",), ""),))

    for run, says in (
        (platform.run, None),
        (lambda context: Outcome(""), "MISSED by platform"),
        (ghost, "FALSE ALARM of platform"),
    ):
        check = Check("platform", "Platform", "error", run)
        monkeypatch.setattr(selftest, "ALL", (check,))
        status = cli.main(["--self-test"])
        out = capsys.readouterr().out
        assert (status == 0) if says is None else (status != 0 and says in out)
