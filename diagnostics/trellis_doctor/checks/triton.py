"""Triton: what it needs to compile at run time, one real kernel, and the interface its users were written for."""

from __future__ import annotations

import ast
from pathlib import Path

from .. import calls
from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import Distribution

COMPILER_ID = "triton-no-compiler"
AUTOTUNE_ID = "triton-autotune-api"
_DISTRIBUTIONS = ("triton", "pytorch-triton", "triton-windows")


def _triton(context: Context) -> tuple[Path, Distribution | None]:
    init = context.site.module("triton")
    if init is None or init.name != "__init__.py":
        raise NotApplicableError("Triton is not installed")
    return init.parent, next((d for d in map(context.site.get, _DISTRIBUTIONS) if d), None)


def run_compiler(context: Context) -> Outcome:
    folder, distribution = _triton(context)
    machine = context.machine
    findings: list[Finding] = []
    asked = machine.env.get("CC")
    compiler = (
        machine.which(asked) if asked else next((c for c in map(machine.which, ("cc", "gcc", "clang")) if c), None)
    )
    header = context.python.include / "Python.h" if context.python.include else None
    lacking: list[Evidence] = []
    remedy: list[str] = []
    if compiler is None:
        lacking.append(Evidence(f"CC={asked} cannot be run" if asked else "no cc, gcc or clang on PATH"))
        remedy.append("unset CC" if asked else "sudo apt-get install gcc libc6-dev")
    if header is not None and not header.is_file():
        lacking.append(Evidence("Python.h is missing", file=str(header)))
        version = ".".join(map(str, (context.python.version or (3, 11))[:2]))
        remedy.append(f"sudo apt-get install python{version}-dev")
    has_gpu_toolchain = context.torch is not None and context.torch.cuda is not None
    ptxas = machine.env.get("TRITON_PTXAS_PATH")
    bundled = [
        folder / "backends" / "nvidia" / "bin" / "ptxas",
        folder / "common" / ".." / "third_party" / "cuda" / "bin" / "ptxas",
    ]
    if has_gpu_toolchain and not (
        Path(ptxas).is_file() if ptxas else any(p.is_file() for p in bundled) or machine.which("ptxas")
    ):
        lacking.append(Evidence("no ptxas", file=ptxas or str(bundled[0])))
        remedy.append(
            "unset TRITON_PTXAS_PATH"
            if ptxas
            else context.pip(
                "install",
                "--force-reinstall",
                "--no-deps",
                distribution.text.replace(" ", "==") if distribution else "triton",
            )
        )
    name = distribution.text if distribution else "triton"
    if lacking:
        findings.append(
            context.finding(
                COMPILER_ID,
                "error" if machine.gpus else "warning",
                f"{name} cannot compile its launcher: {'; '.join(e.text for e in lacking)}",
                seen=lacking,
                leads_to="'Failed to find C compiler' or 'Python.h: No such file' at the first sparse convolution",
                remedy=remedy,
            )
        )
    elif has_gpu_toolchain and machine.gpus and context.python.works:
        answer = context.probe("triton_kernel")
        trouble = answer.died or answer.data.get("failed") or (None if answer.data.get("right") else "wrong values")
        if trouble:
            findings.append(
                context.finding(
                    COMPILER_ID,
                    "error",
                    f"{name} did not compile and run a kernel: {trouble}",
                    seen=[Evidence(str(trouble)), *([Evidence(answer.last_words)] if answer.last_words else [])],
                    leads_to="the first sparse convolution fails the same way",
                    remedy=[
                        "rm -rf ~/.triton/cache",
                        context.pip("install", "--force-reinstall", "--no-deps", _pinned(context) or "triton"),
                    ],
                )
            )
        else:
            return Outcome(f"{name} compiled and ran a kernel in {answer.seconds:.1f} s")
    return Outcome(
        f"{name}: compiler {compiler or 'missing'}" + ("" if machine.gpus else "; no GPU to run a kernel on"),
        tuple(findings),
    )


def _pinned(context: Context) -> str | None:
    if context.torch is None or context.torch.distribution is None:
        return None
    for requirement in context.torch.distribution.requires:
        if requirement.name in ("triton", "pytorch-triton") and requirement.exact:
            return f"{requirement.name}=={requirement.exact}"
    return None


def run_autotune(context: Context) -> Outcome:
    folder, distribution = _triton(context)
    findings: list[Finding] = []
    pinned = _pinned(context)
    have = distribution.version if distribution else None
    remedy = (
        [context.pip("install", "--no-deps", pinned)]
        if pinned
        else ["# install the Triton that torch's metadata asks for"]
    )
    seen = _wrong_calls(context, folder)
    if seen:
        findings.append(
            context.finding(
                AUTOTUNE_ID,
                "error",
                f"FlexGEMM was written for another Triton than {have or 'the installed one'}",
                seen=seen,
                leads_to="TypeError in the autotuner at the first sparse convolution",
                remedy=remedy,
            )
        )
    if (
        pinned
        and have
        and pinned.split("==")[1] != have.split("+")[0].split(".post")[0]
        and pinned.split("==")[1] != have
    ):
        findings.append(
            context.finding(
                AUTOTUNE_ID,
                "error",
                f"torch {context.torch.short if context.torch else ''} was made with {pinned}; {have} is installed",
                seen=[Evidence(f"Requires-Dist: {pinned}"), Evidence(f"triton {have}", file=str(folder), version=have)],
                leads_to="torch.compile and Triton kernels fail inside the autotuner or the launcher",
                remedy=remedy,
            )
        )
    return Outcome(
        f"Triton {have or 'of unknown version'}" + (f", as torch asks ({pinned})" if pinned and not findings else ""),
        tuple(findings),
    )


def _wrong_calls(context: Context, triton: Path) -> list[Evidence]:
    """Calls in FlexGEMM's autotuner that the installed Triton does not take."""
    init = context.site.module("flex_gemm")
    if init is None:
        return []
    autotuner = calls.signature(triton / "runtime" / "autotuner.py", "__init__", inside="Autotuner")
    do_bench = calls.signature(triton / "testing.py", "do_bench")
    seen = []
    for file in sorted((init.parent / "utils").glob("*.py")):
        tree = calls.parse(file)
        for node in ast.walk(tree) if tree else []:
            if (
                isinstance(node, ast.ClassDef)
                and any(ast.unparse(b).endswith("Autotuner") for b in node.bases)
                and autotuner
            ):
                for call in (
                    n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == "super().__init__"
                ):
                    if why := calls.misfit(call, autotuner):
                        seen.append(
                            Evidence(
                                f"triton.runtime.Autotuner.__init__: {why} (line {call.lineno})",
                                file=str(file),
                                symbol="Autotuner.__init__",
                            )
                        )
            is_bench = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("testing.do_bench")
            if isinstance(node, ast.Call) and is_bench and do_bench and (why := calls.misfit(node, do_bench)):
                seen.append(
                    Evidence(f"triton.testing.do_bench: {why} (line {node.lineno})", file=str(file), symbol="do_bench")
                )
    return seen


COMPILER = Check(COMPILER_ID, "Triton compiles", "error", run_compiler, ("triton-no-compiler", "triton-autotune-api"))
AUTOTUNE = Check(AUTOTUNE_ID, "Triton's interface", "error", run_autotune, ("triton-autotune-api",))
