"""Environments from locks: which of two builds of one version is installed, and when they are made anew."""

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trellis_build import builder, environments, locks, sessions, shell, wheels
from trellis_build.__main__ import main
from trellis_build.environments import Environment
from trellis_build.errors import BuildError
from trellis_build.layout import Checkout


def _wheel(folder: Path, version: str) -> Path:
    name = wheels.Wheel("thing", version, "py3-none-any")
    contents = {
        f"{name.info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name.info}/METADATA": f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n".encode(),
        "thing.py": f"version = {version!r}\n".encode(),
    }
    return wheels.pack({k: (v, False) for k, v in contents.items()}, name, folder, epoch=1767225600)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """This test's own environment, with pip looking into one local folder only."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return Environment(Path(sys.prefix))


def test_processes_of_an_environment_keep_what_they_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = Environment(Path(sys.prefix))
    command = [environment.python, "-c", "import sys; print(sys.dont_write_bytecode)"]
    assert sessions.shell.run(command, env=environment.variables()).strip() == "False"


def _lock(tmp_path: Path, *files: Path) -> Path:
    hashes = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
    lock = tmp_path / "row.txt"
    lock.write_text("thing==1.0 \\\n" + " \\\n".join(f"    --hash=sha256:{h}" for h in hashes) + "\n")
    return lock


def test_pips_own_choice_is_taken_when_the_lock_accepts_it(tmp_path: Path, here: Environment) -> None:
    plain, local = _wheel(tmp_path / "links", "1.0"), _wheel(tmp_path / "links", "1.0+cpu")
    lock = _lock(tmp_path, plain, local)
    folder = tmp_path / "work"
    folder.mkdir()
    text = environments.prefer_pips_choice(here, lock, ["thing"], folder).read_text()
    assert text.startswith("thing @ file://") and "1.0%2Bcpu" in text
    assert hashlib.sha256(local.read_bytes()).hexdigest() in text


def test_a_file_that_the_lock_does_not_know_is_left_to_pips_hash_check(tmp_path: Path, here: Environment) -> None:
    plain, _ = _wheel(tmp_path / "links", "1.0"), _wheel(tmp_path / "links", "1.0+cpu")
    lock = _lock(tmp_path, plain)
    original = lock.read_text()
    folder = tmp_path / "work"
    folder.mkdir()
    assert environments.prefer_pips_choice(here, lock, ["thing"], folder).read_text() == original
    assert environments.prefer_pips_choice(here, lock, [], folder).read_text() == original


def test_another_python_is_refused(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", type("V", (), {"major": 3, "minor": 9})())
    with pytest.raises(BuildError, match=r"row cpu is for Python 3\.10, 3\.11, 3\.12, 3\.13; nox runs on Python 3\.9"):
        environments.for_row(checkout, checkout.matrix.row("cpu"))


def test_an_environment_is_kept_until_its_lock_changes(tiny: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    row = tiny.matrix.row("cu130")
    made: list[Path] = []

    def create(folder: Path) -> Environment:
        folder.mkdir(parents=True, exist_ok=True)
        made.append(folder)
        return Environment(folder)

    monkeypatch.setattr(environments, "create", create)
    monkeypatch.setattr(environments, "install_lock", lambda environment, lock, logs: None)
    monkeypatch.setattr(Environment, "pip", lambda self, *arguments, log=None, what: "")
    monkeypatch.setattr(sys, "version_info", type("V", (), {"major": 3, "minor": 11})())
    environments.for_row(tiny, row)
    environments.for_row(tiny, row)
    assert len(made) == 1
    lock = tiny.locks / "cu130.txt"
    lock.write_text(lock.read_text() + "# another\n")
    environments.for_row(tiny, row)
    assert len(made) == 2
    environments.for_row(tiny, row, fresh=True)
    assert len(made) == 3
    # Its commands name the folder that it was made in, so a checkout that was moved makes it anew.
    Environment(tiny.out / "envs" / "cu130").note(folder="/elsewhere/out/envs/cu130")
    environments.for_row(tiny, row)
    assert len(made) == 4


@pytest.mark.parametrize(("given", "taken"), [([], sessions.EVERY_TEST), (["csrc", "-x"], ("csrc", "-x"))])
def test_every_test_is_run_on_all_processors_and_chosen_ones_as_asked(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, given: list[str], taken: tuple[str, ...]
) -> None:
    environment = Environment(Path(sys.prefix))
    monkeypatch.setattr(sessions, "ready", lambda *_: environment)
    monkeypatch.setattr(sessions, "_with_validator", lambda *_: {"PATH": "here"})
    seen: list[object] = []

    def run(command: list[str], *, cwd: Path, env: dict[str, str]) -> int:
        seen.extend((command, cwd, env["PATH"]))
        return 5

    monkeypatch.setattr(sessions.shell, "passthrough", run)
    assert sessions.tests(tiny, tiny.matrix.row("cpu"), given) == 5
    assert seen == [[str(environment.python), "-m", "pytest", *taken], tiny.root, "here"]


def test_what_cannot_succeed_is_refused_before_anything_is_compiled(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = checkout.matrix.row("cpu")
    monkeypatch.setattr(Environment, "holds", lambda self: {})

    def build_row(*_: object, **__: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(builder, "build_row", build_row)
    for start in (sessions.ready, sessions.develop):
        with monkeypatch.context() as patch, pytest.raises(BuildError, match=r"nox runs on Python 3\.9"):
            patch.setattr(sys, "version_info", type("V", (), {"major": 3, "minor": 9})())
            start(checkout, row)
        with (
            monkeypatch.context() as patch,
            pytest.raises(BuildError, match=r"at least 2 GB of disk, and 1\.5 GB are free"),
        ):
            patch.setattr(shutil, "disk_usage", lambda _: type("U", (), {"free": 1_500_000_000})())
            start(checkout, row)
        with pytest.raises(AssertionError, match="compiled"):
            start(checkout, row)


def test_wheels_whose_installation_was_interrupted_are_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = _wheel(tmp_path / "links", "1.0"), _wheel(tmp_path / "links", "2.0")
    environment, installed = Environment(tmp_path), []

    def pip(_: Environment, *arguments: str, log: Path | None = None, what: str) -> str:
        installed.append(arguments[-1])
        if arguments[-1] == str(new):
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(Environment, "pip", pip)
    environments.install_wheels(environment, [old], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        environments.install_wheels(environment, [new], tmp_path)
    environments.install_wheels(environment, [old], tmp_path)  # half of the new ones may lie there
    environments.install_wheels(environment, [old], tmp_path)
    assert installed == [str(old), str(new), str(old)]


def test_a_place_that_cannot_be_written_is_one_line(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build_row(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(tiny.out))

    monkeypatch.chdir(tiny.root)
    monkeypatch.setattr(builder, "build_row", build_row)
    assert main(["build", "--row", "cpu"]) == 2
    assert capsys.readouterr().err == f"trellis-build: error: {tiny.out}: Read-only file system\n"


def test_the_cuda_half_is_installed_when_torch_asks_for_it(tiny: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    row = tiny.matrix.row("cpu")
    monkeypatch.setattr(environments, "create", lambda folder: (folder.mkdir(parents=True), Environment(folder))[1])
    monkeypatch.setattr(environments, "prefer_pips_choice", lambda environment, lock, packages, folder: lock)
    monkeypatch.setattr(Environment, "pip", lambda self, *arguments, log=None, what: "")
    monkeypatch.setattr(sys, "version_info", type("V", (), {"major": 3, "minor": 11})())
    for needs, expected in ((False, ["cpu.txt"]), (True, ["cpu.txt", locks.extra_name("cpu")])):
        installed: list[str] = []
        monkeypatch.setattr(
            environments, "install_lock", lambda environment, lock, logs, to=installed: to.append(lock.name)
        )
        monkeypatch.setattr(environments, "environment_needs_cuda", lambda environment, answer=needs: answer)
        environments.for_row(tiny, row, name=f"x{needs}")
        assert installed == expected


def test_nox_says_what_it_cannot_work_with(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nox")
    spec = importlib.util.spec_from_file_location("noxfile_under_test", checkout.root / "noxfile.py")
    assert spec and spec.loader
    noxfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(noxfile)

    class SaidError(Exception):
        pass

    class Session:
        def error(self, text: str) -> None:
            raise SaidError(text)

        def log(self, text: str) -> None:
            raise SaidError(text)

    with (
        monkeypatch.context() as patch,
        pytest.raises(SaidError, match=r"Python 3\.10 or newer is needed, and nox runs on"),
    ):
        patch.setattr(noxfile.sys, "version_info", (3, 9, 18))
        noxfile._trellis_build(Session(), "rows")
    monkeypatch.setattr(noxfile, "ROOT", tmp_path)
    (tmp_path / "build" / "locks").mkdir(parents=True)
    (tmp_path / "build" / "locks" / "build.txt").write_text("")
    with pytest.raises(SaidError, match="making the environment"):
        noxfile._trellis_build(Session(), "rows")
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("no folder")
    with pytest.raises(SaidError, match=r"out cannot be written \(File exists\), and everything is built there"):
        noxfile._trellis_build(Session(), "rows")


def test_an_interrupt_ends_what_a_command_has_started(tmp_path: Path) -> None:
    """SIGTERM, as CI sends it, to a build whose compiler has children of its own."""
    inner = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    code = (
        "import signal; from trellis_build import shell\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"with shell.step('compiling'): shell.run(['sh', '-c', {f'sh -c {shlex.quote(inner)}; true'!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        pid = tmp_path / "pid"
        while not (pid.exists() and pid.read_text().strip()):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert re.search(rb"compiling ... interrupted after", said)
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    until = time.monotonic() + 20
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX" and time.monotonic() < until:
        time.sleep(0.01)
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_an_interrupt_while_a_command_is_being_started_ends_it(tmp_path: Path) -> None:
    """The signal comes when the process is there, and its starter does not know of it yet."""
    code = (
        "import os, signal, subprocess; from trellis_build import shell\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "class Starting(subprocess.Popen):\n"
        "    def __init__(self, *a, **k):\n"
        "        super().__init__(*a, **k)\n"
        "        print(self.pid, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "subprocess.Popen = Starting\n"
        "try:\n"
        "    shell.run(['sleep', '600'])\n"
        "except KeyboardInterrupt:\n"
        "    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler\n"
        "    print('interrupted')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid, said = done.stdout.split()
    assert said == "interrupted" and not Path(f"/proc/{pid}").exists(), done.stderr


def test_an_interrupt_while_a_command_cannot_be_started_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next command would begin."""

    def failing(*_arguments: object, **_options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(subprocess, "Popen", failing)
    with pytest.raises(KeyboardInterrupt):
        shell.run(["compiler"])


def test_two_builds_in_one_checkout_take_turns(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from trellis_build import shell\nwith shell.alone(Path({str(tmp_path)!r})): "
        "print('in', flush=True); input(); print('out', flush=True)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen([sys.executable, "-c", code], **pipes)  # type: ignore[call-overload]
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen([sys.executable, "-c", code], **pipes)  # type: ignore[call-overload]
    assert second.stdout.readline() == "another process builds in this checkout; waiting for it\n"
    assert first.communicate("\n")[0] == "out\n"
    assert second.communicate("\n")[0] == "in\nout\n"
