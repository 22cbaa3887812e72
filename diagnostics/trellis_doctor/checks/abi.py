"""Libraries that were built against another torch than the installed one; none of them is loaded."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ..check import Check
from ..context import Context, TorchFacts
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..symbols import Misfit, evidence, linked_libraries, misfit

FAMILY_ID = "torchaudio-conflict"
OTHERS_ID = "abi-mismatch"
CXX11_ID = "cxx11-abi"
_FAMILY = ("torchaudio", "torchvision", "torio", "torchtext", "torchcodec", "torchdata")
_PREFIX = re.compile(r"_Z[A-Z]*(?:3c10|2at|5torch)")
# torch's own error function, once for each std::string.
_CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRK"
_NEW = _CHECK_FAIL + "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_OLD = _CHECK_FAIL + "Ss"


def _torch(context: Context) -> TorchFacts:
    if context.torch is None:
        raise NotApplicableError("torch is not installed")
    if not context.torch.libraries:
        raise NotApplicableError("the installed torch has no libraries")
    return context.torch


def _package(context: Context, path: Path) -> str:
    """The top folder below the package folder: the import name."""
    for folder in context.site.folders:
        if path.is_relative_to(folder):
            return path.relative_to(folder).parts[0].split(".")[0].removesuffix("_libs")
    return path.parent.name


def _misfits(context: Context, torch: TorchFacts, family: bool) -> tuple[dict[str, list[Misfit]], int]:
    found: dict[str, list[Misfit]] = defaultdict(list)
    looked = 0
    for path, facts in linked_libraries(context, torch):
        package = _package(context, path)
        if (package in _FAMILY) != family:
            continue
        looked += 1
        if (item := misfit(context, torch, path, facts)) is not None:
            # torio is a part of the distribution torchaudio.
            found["torchaudio" if package == "torio" else package].append(item)
    return found, looked


def partner(package: str, torch: TorchFacts) -> str | None:
    """The release of `package` for this torch (each torchvision minor is torch's plus 15).

    torchaudio 2.11.0 is its last; it uses torch's stable interface alone, so later torches take it too.
    """
    if len(torch.key) < 3 or torch.key[0] != 2:
        return None
    if package == "torchvision":
        return f"0.{torch.key[1] + 15}.{torch.key[2]}"
    if package == "torchaudio":
        return torch.short if torch.key < (2, 11) else "2.11.0"
    return None


def run_family(context: Context) -> Outcome:
    torch = _torch(context)
    found, looked = _misfits(context, torch, family=True)
    findings: list[Finding] = []
    for package, misfits in found.items():
        installed = context.site.get(package)
        name = installed.text if installed else package
        mate = partner(package, torch)
        remedy = [f"# {package} is not needed for image-to-3D: remove it"] if package == "torchaudio" else []
        if remedy:
            remedy.append(context.pip("uninstall", "-y", package))
        if mate:
            remedy.append(
                f"# {'or take' if remedy else 'take'} the release that goes with this torch, from the index torch came from"
            )
            command = context.pip("install", "--no-deps", "--force-reinstall", f"{package}=={mate}")
            remedy.append(f"# {command}" if package == "torchaudio" else command)
        findings.append(
            context.finding(
                FAMILY_ID,
                "error",
                _summary(name, torch, misfits),
                seen=evidence(context, misfits),
                leads_to="its import fails, or it replaces libraries under torch: wrong numbers, floating triangles",
                remedy=remedy or [context.pip("install", "--upgrade", package)],
            )
        )
    for package in ("torchaudio", "torchvision"):
        installed = context.site.get(package)
        pins = [r.exact for r in installed.requires if r.name == "torch" and r.exact] if installed else []
        if installed and package not in found and pins and pins[0].split("+")[0] != torch.short:
            findings.append(
                context.finding(
                    FAMILY_ID,
                    "warning",
                    f"{installed.text} asks for torch {pins[0]}; {torch.short} is installed",
                    seen=[
                        Evidence(
                            f"Requires-Dist: torch=={pins[0]}", file=str(installed.folder), version=installed.version
                        ),
                        Evidence(
                            "its libraries find every symbol they need" if looked else "it has no library to judge"
                        ),
                    ],
                    leads_to="the next pip call may replace torch by the other version",
                    remedy=[context.pip("install", "--no-deps", f"{package}=={partner(package, torch) or 'RELEASE'}")],
                )
            )
    names = [d.text for d in map(context.site.get, ("torchvision", "torchaudio")) if d]
    if names and not findings:
        names[-1] += ": every symbol found" if looked else ""
    return Outcome(", ".join(names) or "neither is installed", tuple(findings))


def run_others(context: Context) -> Outcome:
    torch = _torch(context)
    found, looked = _misfits(context, torch, family=False)
    findings = []
    for package, misfits in found.items():
        owner = next((d for d in (context.site.owner(m.library) for m in misfits) if d), None)
        name = owner.text if owner else package
        project = owner.name if owner else package
        findings.append(
            context.finding(
                OTHERS_ID,
                "error",
                _summary(name, torch, misfits),
                seen=evidence(context, misfits),
                leads_to="undefined symbol, or a crash, when it is imported",
                remedy=[
                    "# build it again against the installed torch, without pip's isolated copy of torch",
                    context.pip("uninstall", "-y", project),
                    context.pip("install", "--no-build-isolation", "--no-cache-dir", "--no-binary", project, project),
                ],
            )
        )
    count = f"{looked} torch-linked librar{'y' if looked == 1 else 'ies'} beside torch, all symbols looked up"
    return Outcome(count if looked else "no library beside torch's own is linked against it", tuple(findings))


def _summary(name: str, torch: TorchFacts, misfits: Iterable[Misfit]) -> str:
    listed = list(misfits)
    if any(m.wants_cuda_build for m in listed):
        other = any(m.has_other_symbols for m in listed)
        also = ", and another torch than" if other else "; installed is the CPU build of"
        return f"{name} was built for a CUDA build of torch{also} {torch.short}"
    return f"{name} was built against another torch than {torch.short}"


def run_cxx11(context: Context) -> Outcome:
    torch = _torch(context)
    defined = context.defined_in({_NEW, _OLD}, torch.libraries)
    if not defined:
        raise NotApplicableError("torch's libraries do not show which std::string they take")
    torch_is_new = _NEW in defined
    wrong = []
    for path, facts in linked_libraries(context, torch):
        abi = facts.cxx11_abi(_PREFIX)
        if abi is not None and abi != torch_is_new:
            wrong.append((path, abi))
    findings = []
    if wrong:
        words = {True: "the C++11 std::string", False: "the std::string before C++11"}
        projects = sorted({d.name if (d := context.site.owner(p)) else _package(context, p) for p, _ in wrong})
        subject = "1 library passes" if len(wrong) == 1 else f"{len(wrong)} libraries pass"
        findings.append(
            context.finding(
                CXX11_ID,
                "error",
                f"{subject} {words[not torch_is_new]}, torch takes {words[torch_is_new]}",
                seen=[Evidence(f"{context.shown(p)}: {words[abi]}", file=str(p)) for p, abi in wrong],
                leads_to="undefined symbol ...Ss or ...__cxx11... when it is imported",
                remedy=[
                    f"# take the wheel named cxx11abi{str(torch_is_new).upper()}, or build it here",
                    *(
                        context.pip(
                            "install", "--no-build-isolation", "--no-cache-dir", "--force-reinstall", "--no-deps", p
                        )
                        for p in projects
                    ),
                ],
            )
        )
    return Outcome(f"torch takes {'C++11' if torch_is_new else 'pre-C++11'} strings", tuple(findings))


FAMILY = Check(FAMILY_ID, "torchvision, torchaudio", "error", run_family, ("torchaudio-conflict",))
OTHERS = Check(OTHERS_ID, "Symbols against libtorch", "error", run_others, ("abi-mismatch",))
CXX11 = Check(CXX11_ID, "C++ string ABI", "error", run_cxx11, ("abi-mismatch",))
