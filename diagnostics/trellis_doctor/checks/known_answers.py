"""Runs one operation of each extension on an input whose answer is known, on the CPU and on the GPU."""

from __future__ import annotations

from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..registry import Check
from .extensions import installed

ID = "known-answer"


def run(context: Context) -> Outcome:
    names = list(installed(context))
    if not names:
        raise NotApplicableError("the trellis extensions are not installed")
    if context.torch is None or not context.python.works:
        raise NotApplicableError("torch or the interpreter does not work")
    if context.probe("torch_state").died or context.probe("torch_state").data.get("failed"):
        raise NotApplicableError("torch cannot be imported")
    findings: list[Finding] = []
    right, absent = 0, []
    together = context.probe("operations", *names)
    for name in names:
        answer = together if name in together.data else context.probe("operations", name)
        if name not in answer.data:  # asked alone, it did not survive
            stage = answer.data.get("stage", "starting")
            findings.append(_failed(context, name, f"did not survive {stage}: {answer.died}", answer.last_words))
            continue
        results = answer.data[name]
        for device, result in results.get("devices", {}).items():
            if result == "right":
                right += 1
            elif result.startswith("NotImplementedError") and device != "cpu":
                absent.append(f"{name} on {device}")
            else:
                findings.append(_failed(context, name, f"on {device}: {result}", ""))
        if failed := results.get("failed"):
            findings.append(_failed(context, name, str(failed), ""))
        if (mixed := results.get("mixed")) and mixed != "refused":
            findings.append(
                context.finding(
                    ID,
                    "error",
                    f"trellis_{name} does not refuse tensors on different devices: {mixed}",
                    seen=[Evidence(str(mixed))],
                    leads_to="a crash, or values read from the wrong memory",
                    remedy=[context.pip("install", "--force-reinstall", "--no-deps", f"trellis-{name}")],
                )
            )
    tail = f"; no kernel yet: {', '.join(absent)}" if absent else ""
    return Outcome(f"{right} operations gave their known answer{tail}", tuple(findings))


def _failed(context: Context, name: str, why: str, words: str) -> Finding:
    return context.finding(
        ID,
        "error",
        f"trellis_{name} {why}",
        seen=[Evidence(why), *([Evidence(words)] if words else [])],
        leads_to="wrong geometry, or a crash in the middle of a run",
        remedy=[
            context.pip("install", "--force-reinstall", "--no-deps", f"trellis-{name}"),
            "# working on the sources: nox -s build",
        ],
    )


CHECK = Check(ID, "Known answers", "error", run, ("device-mismatch", "grid-sample-device", "wrong-arch-wheel"))
