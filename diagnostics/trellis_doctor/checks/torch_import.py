"""Imports torch in a process of the inspected interpreter, and uses the GPU once."""

from __future__ import annotations

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome

ID = "torch-import"


def run(context: Context) -> Outcome:
    torch = context.torch
    if torch is None:
        raise NotApplicableError("torch is not installed")
    if not context.python.works:
        raise NotApplicableError("the interpreter cannot start")
    answer = context.probe("torch_state")
    findings: list[Finding] = []
    if (hiding := _hiding(context)) is not None:
        findings.append(hiding)
    reinstall = context.pip("install", "--force-reinstall", f"torch=={torch.short}")
    if answer.died:
        stage = answer.data.get("stage", "starting")
        findings.append(
            context.finding(
                ID,
                "error",
                f"{stage}: the process did not survive; {answer.died}",
                seen=[Evidence(answer.died), *([Evidence(answer.last_words)] if answer.last_words else [])],
                leads_to="every program that imports torch dies the same way",
                remedy=["# mend what the other checks found first; then", reinstall],
            )
        )
    elif failed := answer.data.get("failed"):
        findings.append(
            context.finding(
                ID,
                "error",
                f"torch cannot be imported: {failed}",
                seen=[Evidence(str(failed), file=str(torch.folder))],
                leads_to="nothing of the pipeline can start",
                remedy=["# mend what the other checks found first; then", reinstall],
            )
        )
    elif error := answer.data.get("gpu_error"):
        findings.append(
            context.finding(
                ID,
                "error",
                f"torch imports, but its first use of the GPU failed: {error}",
                seen=[Evidence(str(error))],
                leads_to="the pipeline stops at its first tensor",
                remedy=["# see the checks driver, wrong-arch and cudnn-mismatch", reinstall],
            )
        )
    elif "convolution" in answer.data and answer.data["convolution"] != 72.0:
        findings.append(
            context.finding(
                ID,
                "error",
                f"a convolution of ones on the GPU gave {answer.data['convolution']}, not 72",
                seen=[Evidence("conv2d of ones, 8 channels, 3 x 3")],
                leads_to="wrong geometry without an error",
                remedy=[reinstall],
            )
        )
    elif torch.cuda and context.machine.gpus and not answer.data.get("available"):
        hidden = context.machine.env.get("CUDA_VISIBLE_DEVICES")
        findings.append(
            context.finding(
                ID,
                "error",
                "nvidia-smi sees a GPU, torch does not",
                seen=[
                    Evidence(
                        f"CUDA_VISIBLE_DEVICES={hidden}" if hidden is not None else "torch.cuda.is_available() is False"
                    )
                ],
                leads_to="everything runs on the CPU",
                remedy=[
                    "unset CUDA_VISIBLE_DEVICES"
                    if hidden is not None
                    else "# see the checks driver and duplicate-cudart"
                ],
            )
        )
    devices = ", ".join(d[0] for d in answer.data.get("devices", [])) or "no CUDA device"
    return Outcome(
        f"{torch.text} imported in {answer.seconds:.1f} s, {devices}" if not findings else torch.text, tuple(findings)
    )


def _hiding(context: Context) -> Finding | None:
    """A torch from outside of the environment before the environment's own, as PYTHONPATH and a user's folder bring it."""
    torch, prefix = context.torch, context.python.prefix
    own = next((folder for folder in context.hidden_torches if folder.is_relative_to(prefix)), None)
    if torch is None or own is None or torch.folder.is_relative_to(prefix):
        return None
    return context.finding(
        ID,
        "error",
        f"torch {torch.version} in {torch.folder.parent} hides the environment's own",
        seen=[Evidence(str(torch.folder), version=torch.version), Evidence(f"hidden: {own}", file=str(own))],
        leads_to="libraries of one torch meet another: undefined symbols, wrong numbers",
        remedy=[
            f"# take {torch.folder.parent} out of PYTHONPATH, or remove that torch (a user's folder: export PYTHONNOUSERSITE=1)"
        ],
    )


CHECK = Check(ID, "torch", "error", run)
