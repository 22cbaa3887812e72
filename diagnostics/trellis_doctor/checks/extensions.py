"""Our own extensions: versions, header against library, and which flavour serves the machine."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ..check import Check
from ..context import Context
from ..elf import ElfError
from ..fatbin import runs_on
from ..finding import Evidence, Finding, NotApplicableError, Outcome

ID = "extensions"
NAMES = ("sparse", "mesh", "voxel", "raster", "shade")
_DECLARED = re.compile(r"^\s*TK_API\b[^;]*?\b(tk_\w+)\s*\(", re.MULTILINE)


def installed(context: Context) -> dict[str, Path]:
    """Folder of each installed extension's header and libraries."""
    override = context.native_folder
    found = {}
    for name in NAMES:
        init = context.site.module(f"trellis_{name}")
        if init is not None and init.name == "__init__.py":
            found[name] = Path(override) / f"trellis_{name}" if override else init.parent
    return found


def run(context: Context) -> Outcome:
    folders = installed(context)
    if not folders:
        raise NotApplicableError("the trellis extensions are not installed")
    findings: list[Finding] = []
    versions = {d.name: d.version for n in ("native", *NAMES) if (d := context.site.get(f"trellis-{n}"))}
    if len(set(versions.values())) > 1:
        findings.append(
            context.finding(
                ID,
                "error",
                "the trellis packages are of different versions",
                seen=[Evidence(f"{n} {v}", version=v) for n, v in versions.items()],
                leads_to="an operator changes its arguments between versions",
                remedy=[context.pip("install", *(f"{n}=={max(versions.values())}" for n in versions))],
            )
        )
    absent = [n for n in NAMES if n not in folders]
    if absent:
        findings.append(
            context.finding(
                ID,
                "warning",
                f"{len(absent)} of the five extensions are not installed: {', '.join(absent)}",
                seen=[Evidence(f"no module named trellis_{n}") for n in absent],
                leads_to="the pipeline stops at its import",
                remedy=["# install the wheels that `nox -s build` made in dist/"],
            )
        )
    chosen: dict[str, str] = {}
    for name, folder in folders.items():
        trouble, flavours = _inspect(context, name, folder)
        if trouble:
            findings.append(
                context.finding(
                    ID,
                    "error",
                    f"trellis_{name} is damaged: {trouble[0].text}",
                    seen=trouble,
                    leads_to=f"`import trellis_{name}` or its first call fails",
                    remedy=[
                        context.pip("install", "--force-reinstall", "--no-deps", f"trellis-{name}"),
                        "# working on the sources: nox -s build",
                    ],
                )
            )
        chosen[name] = _flavour(context, flavours)
    unserved = [n for n, c in chosen.items() if c.startswith("cpu only")]
    if unserved and context.machine.gpus and context.torch and context.torch.cuda:
        findings.append(
            context.finding(
                ID,
                "warning",
                f"no CUDA flavour of {', '.join(unserved)} serves this GPU",
                seen=[Evidence(f"trellis_{n}: {chosen[n]}", file=str(folders[n])) for n in unserved],
                leads_to="a CUDA tensor is refused with an error that says so",
                remedy=["nox -s build -- --row " + (context.row.name if context.row else "ROW")],
            )
        )
    kinds = sorted(set(chosen.values()))
    return Outcome(
        f"{len(folders)} extensions, {kinds[0] if len(kinds) == 1 else '; '.join(f'{n}: {c}' for n, c in chosen.items())}",
        tuple(findings),
    )


def _inspect(context: Context, name: str, folder: Path) -> tuple[list[Evidence], dict[str, tuple[str, ...]]]:
    """What is wrong with an extension, and the architectures of its flavours."""
    header = folder / "include" / f"trellis_{name}.h"
    trouble: list[Evidence] = []
    flavours: dict[str, tuple[str, ...]] = {}
    try:
        text = header.read_bytes()
    except OSError:
        return [Evidence("its header is missing: the native half was not built", file=str(header))], {}
    abi = hashlib.sha256(text).hexdigest()
    declared = set(_DECLARED.findall(text.decode("utf-8", "replace")))
    libraries = sorted((folder / "lib").glob("_*.so"))
    if not any(p.name == "_cpu.so" for p in libraries):
        trouble.append(Evidence("it has no _cpu.so", file=str(folder / "lib")))
    for library in libraries:
        note_file = library.with_suffix(".json")
        try:
            note = json.loads(note_file.read_text(encoding="utf-8"))
            flavours[str(note["flavour"])] = tuple(map(str, note["architectures"]))
        except (OSError, ValueError, KeyError, TypeError):
            trouble.append(Evidence(f"{note_file.name} is missing or damaged", file=str(note_file)))
            continue
        if note.get("abi") != abi:
            trouble.append(
                Evidence(
                    f"{library.name} was built from another header", file=str(library), version=str(note.get("version"))
                )
            )
            continue
        try:
            context.library(library)
        except ElfError as error:
            trouble.append(Evidence(f"{library.name} cannot be read: {error}", file=str(library)))
            continue
        if library.name == "_cpu.so" and (lacking := declared - context.defined_in(declared, [library])):
            trouble += [Evidence(f"{library.name} lacks {s}", file=str(library), symbol=s) for s in sorted(lacking)]
    return trouble, flavours


def _flavour(context: Context, flavours: dict[str, tuple[str, ...]]) -> str:
    """Which flavour the loader will take on this machine's first GPU, by the same rules."""
    gpus, driver = context.machine.gpus, context.machine.driver
    cuda = sorted((f for f in flavours if f.startswith("cuda")), key=lambda f: int(f[4:] or 0), reverse=True)
    if not cuda:
        return "cpu only (built without CUDA)"
    if not gpus or driver is None or driver.cuda is None:
        return f"cpu ({', '.join(cuda)} wait for a GPU)"
    for flavour in cuda:
        if int(flavour[4:]) <= driver.cuda[0] and (code := runs_on(flavours[flavour], gpus[0].capability)):
            return f"{flavour} through {code}"
    return f"cpu only (none of {', '.join(cuda)} runs on {gpus[0].text})"


CHECK = Check(ID, "Trellis extensions", "error", run)
