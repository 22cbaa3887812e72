"""Libraries that cannot be read, and those that ask more of the system than it has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..check import Check
from ..context import Context
from ..elf import ElfError
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import version_key

# Text files may be called .so too: linker scripts. They are no libraries and nobody loads them.
_LINKER_SCRIPT = re.compile(rb"(/\*|GROUP|INPUT|OUTPUT_FORMAT)")


def run_unreadable(context: Context) -> Outcome:
    bad: list[tuple[Path, str]] = []
    for path in context.site.libraries:
        try:
            context.library(path)
        except ElfError as error:
            if not _is_text_or_foreign(path):
                bad.append((path, str(error)))
    findings: list[Finding] = []
    if bad:
        owners = {d.name: d for d in (context.site.owner(p) for p, _ in bad) if d}
        again = [
            context.pip("install", "--force-reinstall", "--no-deps", f"{d.name}=={d.version}") for d in owners.values()
        ]
        findings.append(
            context.finding(
                "unreadable-library",
                "error",
                f"{len(bad)} librar{'y' if len(bad) == 1 else 'ies'} cannot be read",
                seen=[Evidence(f"{context.shown(p)}: {why}", file=str(p)) for p, why in bad],
                leads_to="the import fails or dies of a bus error",
                remedy=again or ["# install the package that holds the file again"],
            )
        )
    return Outcome(f"{len(context.site.libraries) - len(bad)} shared libraries read", tuple(findings))


def _is_text_or_foreign(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    other_machine = head[:4] == b"\x7fELF" and head[4:6] not in (b"\x02\x01", b"") and len(head) == 64
    return other_machine or bool(_LINKER_SCRIPT.match(head)) or (head[:4] == b"\x7fELF" and head[16:18] == b"\x02\x00")


def run_system(context: Context) -> Outcome:
    name, version = context.machine.libc
    if name != "glibc":
        raise NotApplicableError("the C library is not glibc")
    have_glibc = version_key(version)
    libstdcxx = next(
        (
            f / "libstdc++.so.6"
            for f in [context.python.prefix / "lib", *context.machine.library_folders]
            if (f / "libstdc++.so.6").exists()
        ),
        None,
    )
    have_cxx: set[str] = set()
    if libstdcxx:
        try:
            have_cxx = set(context.library(libstdcxx).versions_defined)
        except ElfError:
            libstdcxx = None
    seen_c: list[Evidence] = []
    seen_cxx: list[Evidence] = []
    for path, facts in context.readable():
        too_new = [
            v for v in facts.versions_needed if re.fullmatch(r"GLIBC_[\d.]+", v) and version_key(v[6:]) > have_glibc
        ]
        if too_new:
            newest = max(too_new, key=lambda v: version_key(v[6:]))
            seen_c.append(Evidence(f"{context.shown(path)} needs {newest}", file=str(path), symbol=newest))
        lacking = [v for v in facts.versions_needed if v.startswith(("GLIBCXX_", "CXXABI_")) and v not in have_cxx]
        if have_cxx and lacking:
            seen_cxx.append(
                Evidence(f"{context.shown(path)} needs {', '.join(lacking)}", file=str(path), symbol=lacking[-1])
            )
    findings = []
    if seen_c:
        findings.append(
            context.finding(
                "system-libraries",
                "error",
                f"{len(seen_c)} of the libraries need a newer C library than glibc {version}",
                seen=_first(seen_c),
                leads_to="their import fails: version `GLIBC_...' not found",
                remedy=["# build or install them on this system, or use a newer distribution"],
            )
        )
    if seen_cxx:
        findings.append(
            context.finding(
                "system-libraries",
                "error",
                f"{len(seen_cxx)} of the libraries need a newer C++ library than {libstdcxx}",
                seen=_first(seen_cxx),
                leads_to="their import fails: version `GLIBCXX_...' not found",
                remedy=[
                    "# conda: a newer libstdcxx-ng; else the distribution's newer libstdc++6; remove an older copy from LD_LIBRARY_PATH",
                    "conda install -c conda-forge 'libstdcxx-ng>=12'"
                    if libstdcxx and libstdcxx.is_relative_to(context.python.prefix)
                    else "sudo apt-get install --only-upgrade libstdc++6",
                ],
            )
        )
    return Outcome(f"glibc {version}, {libstdcxx or 'no libstdc++.so.6 found'}", tuple(findings))


def _first(seen: Iterable[Evidence], limit: int = 20) -> list[Evidence]:
    listed = list(seen)
    rest = [Evidence(f"and {len(listed) - limit} more")] if len(listed) > limit else []
    return listed[:limit] + rest


UNREADABLE = Check("unreadable-library", "Shared libraries", "error", run_unreadable)
SYSTEM = Check("system-libraries", "C and C++ libraries", "error", run_system)
