"""Every task a person or CI runs. Needs nox alone; what the tasks do is in build/trellis_build.

    nox -s demo                          the whole road on the sample asset, into out/demo/
    nox -s regress                       fixed assets against golden/, into out/regress/report.html
    nox -s tests -- -k dual_grid         every test, or those that pytest's arguments choose
    nox -s build -- --row cu130 --arch sm_90

Environments are made from build/locks/ in out/envs/ and shared by the sessions.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent


def _trellis_build(session: nox.Session, *arguments: str) -> None:
    """Runs `python -m trellis_build` in an environment that holds what build/locks/build.txt says."""
    if sys.version_info < (3, 10):  # noqa: UP036 - nox itself may run on an older one
        session.error(
            f"Python 3.10 or newer is needed, and nox runs on {sys.version.split()[0]}: install nox in a newer one, such as "
            "`python3.12 -m pip install nox`"
        )
    try:
        (ROOT / "out").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=ROOT / "out"):
            pass
    except OSError as error:
        session.error(f"{ROOT / 'out'} cannot be written ({error.strerror}), and everything is built there")
    lock = ROOT / "build" / "locks" / "build.txt"
    # The folder is part of it, as the commands in an environment name the place where it was made.
    key = hashlib.sha256(f"{sys.version} {ROOT}".encode() + lock.read_bytes()).hexdigest()[:12]
    folder = ROOT / "out" / "envs" / f"build-{key}"
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        session.log("making the environment of the build tools (once)")
        # virtualenv comes with nox; python's own venv is missing on a bare Debian.
        session.run(sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(folder), external=True)
        pip = (str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet", "install")
        session.run(*pip, "--no-deps", "--require-hashes", "-r", str(lock), external=True)
        (folder / "complete").touch()
    session.run(
        *(str(python), "-m", "trellis_build", *arguments),
        env={"PYTHONPATH": str(ROOT / "build"), "TRELLIS_CALLER_PYTHON": sys.executable},
        external=True,
    )


@nox.session
def tests(session: nox.Session) -> None:
    """Build what has changed, then every test; arguments after -- go to pytest."""
    _trellis_build(session, "tests", "--", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Take the sample asset through the whole road, into out/demo/."""
    _trellis_build(session, "demo", "--", *session.posargs)


@nox.session
def regress(session: nox.Session) -> None:
    """Fixed assets through the road, gated against golden/, with one report: [--device cuda] [--fault NAME | --every-fault --jobs N]."""
    _trellis_build(session, "regress", "--", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, the validator of build/matrix.toml and its locks."""
    _trellis_build(session, "lint", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Wheels with their provenance in dist/<row>/: [--row NAME | --all] [--arch sm_90] [--system-cuda]."""
    _trellis_build(session, "build", *session.posargs)


@nox.session
def verify(session: nox.Session) -> None:
    """Try a row's wheels in a fresh environment: --row NAME [--without-gpu]."""
    _trellis_build(session, "verify", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Two builds in two folders must give equal bits: [--row NAME] [--arch sm_90]."""
    _trellis_build(session, "reproduce", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve build/locks/ from build/matrix.toml: [--upgrade] [--only NAME]."""
    _trellis_build(session, "lock", *session.posargs)


@nox.session
def rows(session: nox.Session) -> None:
    """List the rows of the matrix and name the one for this machine."""
    _trellis_build(session, "rows", *session.posargs)


@nox.session
def dev(session: nox.Session) -> None:
    """An environment for working on the sources: [--row NAME]."""
    _trellis_build(session, "dev", *session.posargs)


@nox.session
def run(session: nox.Session) -> None:
    """Run a command in the row's environment (TRELLIS_ROW, default cpu), such as -- python benchmarks/..."""
    _trellis_build(session, "run", "--", *session.posargs)


@nox.session
def flash_attn(session: nox.Session) -> None:
    """Build flash-attn from source for a row (optional, hours): --row NAME [--arch sm_90]."""
    _trellis_build(session, "flash-attn", *session.posargs)
