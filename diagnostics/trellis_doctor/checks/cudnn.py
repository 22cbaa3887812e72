"""The cuDNN that torch was built with, the one installed, and the one loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import version_key

ID = "cudnn-mismatch"


def run(context: Context) -> Outcome:
    torch = context.torch
    if torch is None:
        raise NotApplicableError("torch is not installed")
    if torch.cuda is None:
        raise NotApplicableError("the installed torch is the CPU build")
    pins = (
        [r for r in torch.distribution.requires if r.name.startswith("nvidia-cudnn") and r.exact]
        if torch.distribution
        else []
    )
    findings: list[Finding] = []
    expected = None
    for pin in pins:
        expected = pin.exact
        installed = context.site.get(pin.name)
        # Metadata may pin one version for each platform: any of them is right.
        if installed is not None and installed.version in {p.exact for p in pins if p.name == pin.name}:
            expected = installed.version
            continue
        seen = [Evidence(f"torch {torch.version} asks for {pin.name}=={pin.exact}", version=pin.exact)]
        if installed is None:
            seen.append(Evidence(f"{pin.name} is not installed"))
        else:
            seen.append(Evidence(installed.text, file=str(installed.folder), version=installed.version))
        have = f"{installed.text} is installed" if installed else "it is missing"
        findings.append(_finding(context, f"torch was built with cuDNN {pin.exact}; {have}", seen, pin.name, pin.exact))
        if installed is not None and _is_later_minor(installed.version, str(pin.exact)):
            findings[-1] = replace(findings[-1], severity="warning")  # cuDNN keeps its interface within a major version
    answer = context.probe("torch_state").data if context.python.works else {}
    if error := answer.get("cudnn_error"):
        findings.append(
            _finding(
                context,
                f"torch refuses the cuDNN it loaded: {error}",
                [Evidence(str(error))],
                pins[0].name if pins else None,
                expected,
            )
        )
    loaded = _from_number(answer.get("cudnn"))
    if expected and loaded and not findings and loaded[:2] != version_key(expected)[:2]:
        text = ".".join(map(str, loaded))
        seen = [
            Evidence(f"loaded: cuDNN {text}", version=text),
            *(Evidence(p, file=p) for p in answer.get("mapped", []) if "libcudnn" in p),
        ]
        findings.append(
            _finding(
                context, f"torch was built with cuDNN {expected}, but {text} is loaded", seen, pins[0].name, expected
            )
        )
    if not findings and (stray := _stray(context)):
        findings.append(stray)
    return Outcome(f"cuDNN {expected or (loaded and '.'.join(map(str, loaded))) or 'inside torch'}", tuple(findings))


def _stray(context: Context) -> Finding | None:
    """A copy that LD_LIBRARY_PATH puts before torch's."""
    for folder in context.machine.env.get("LD_LIBRARY_PATH", "").split(":"):
        if not folder or any(folder.startswith(str(f)) for f in context.site.folders):
            continue
        found = sorted(Path(folder).glob("libcudnn.so.*"))
        if found:
            return context.finding(
                ID,
                "warning",
                f"LD_LIBRARY_PATH offers another cuDNN in {folder}",
                seen=[Evidence(str(f), file=str(f)) for f in found],
                leads_to="CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH where its parts are mixed with torch's",
                remedy=["unset LD_LIBRARY_PATH"],
            )
    return None


def _finding(context: Context, summary: str, seen: list[Evidence], package: str | None, version: str | None) -> Finding:
    remedy = [context.pip("install", "--no-deps", f"{package}=={version}")] if package and version else []
    return context.finding(
        ID,
        "error",
        summary,
        seen=seen,
        leads_to="CUDNN_STATUS errors at the first convolution, or a slower and less exact kernel",
        remedy=remedy or ["unset LD_LIBRARY_PATH"],
    )


def _is_later_minor(have: str, expected: str) -> bool:
    return version_key(have)[:1] == version_key(expected)[:1] and version_key(have) > version_key(expected)


def _from_number(number: object) -> tuple[int, ...] | None:
    """91002 -> (9, 10, 2); 8902 -> (8, 9, 2)."""
    if not isinstance(number, int):
        return None
    major = number // 10000 if number >= 90000 else number // 1000
    rest = number % (10000 if number >= 90000 else 1000)
    return major, rest // 100, rest % 100


CHECK = Check(ID, "cuDNN", "error", run, ("cudnn-mismatch",))
