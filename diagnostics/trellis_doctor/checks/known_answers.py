"""Runs every operation of our extensions on an input whose answer is known, on the CPU and on the GPU."""

from __future__ import annotations

from typing import Any

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..process import Answer
from .extensions import installed

ID = "known-answer"
_CRASHES = 4
"""After so many, the operations that are left are told as not tried."""


def run(context: Context) -> Outcome:
    names = list(installed(context))
    if not names:
        raise NotApplicableError("the trellis extensions are not installed")
    if context.torch is None or not context.python.works:
        raise NotApplicableError("torch or the interpreter does not work")
    if context.probe("torch_state").died or context.probe("torch_state").data.get("failed"):
        raise NotApplicableError("torch cannot be imported")
    asked = _Asked(context, names)
    findings = asked.imports + asked.crashes
    absent: dict[str, dict[str, list[str]]] = {}
    wrong: dict[str, list[str]] = {}
    mixed: dict[str, list[str]] = {}
    rows: list[str] = []
    right = 0
    for id_, result in asked.results.items():
        package = id_.split(".")[0]
        words = []
        for device, said in result["devices"].items():
            right += said == "right"
            words.append(f"{said} on {device}")
            if said.startswith("absent"):
                absent.setdefault(said.removeprefix("absent: "), {}).setdefault(id_, []).append(device)
            elif said != "right":
                wrong.setdefault(package, []).append(f"{id_} on {device}: {said}")
        if (said := result.get("mixed")) and said != "refused":
            mixed.setdefault(package, []).append(f"{id_} with tensors on two devices: {said}")
        rows.append(f"{id_}: {', '.join(words)}" + (", two devices refused" if said == "refused" else ""))
    findings += [_wrong(context, package, seen) for package, seen in wrong.items()]
    for package, seen in mixed.items():
        findings.append(
            context.finding(
                ID,
                "error",
                f"{seen[0].split(' ')[0]} does not refuse tensors on different devices",
                seen=[Evidence(s) for s in seen],
                leads_to="a crash, or values read from the wrong memory",
                remedy=_again(context, package),
            )
        )
    where = " and ".join(asked.devices) or "no device"
    text = f"{right} known answers of {len(asked.results)} operations on {where}"
    if absent:
        listed = []
        for why, operations in absent.items():
            which = ", ".join(f"{name} on {' and '.join(on)}" for name, on in sorted(operations.items()))
            listed.append(f"{which} ({why})")
        text += "; not there: " + "; ".join(listed)
    return Outcome(text, tuple(findings), tuple(rows))


class _Asked:
    """What the probe said, asked again for the rest after each operation that it did not survive."""

    def __init__(self, context: Context, names: list[str]) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.devices: list[str] = []
        self.imports: list[Finding] = []
        self.crashes: list[Finding] = []
        left, without = names, set[str]()
        for attempt in range(_CRASHES + 1):
            answer = context.probe("operations", *left)
            data = answer.data
            self.devices = data.get("devices", self.devices)
            for name in names:
                if (failed := data.get(f"import {name}")) and name not in without:
                    without.add(name)
                    self.imports.append(_not_imported(context, name, failed))
            order = [o for o in data.get("order", left) if o.split(".")[0] not in without]
            self.results |= {o: data[o] for o in order if o in data}
            left = [o for o in order if o not in data]
            if not left or data.get("stage") == "done":
                break
            stage = str(data.get("stage", "starting"))
            if answer.died is None or answer.died != "it ended with status 3":  # 3: ended by itself, having told why
                culprit = next((o for o in left if f"{o} " in f"{stage} "), None)
                package = stage.split(".")[0] if culprit else stage.removeprefix("importing trellis_")
                self.crashes.append(_crashed(context, package, stage, answer))
                if culprit is None and package not in names:
                    break  # torch itself: other checks say more
                without |= set() if culprit else {package}
                left = [o for o in left if o != culprit and (culprit or o.split(".")[0] != package)]
            if not left:
                break
            if attempt == _CRASHES:
                self.crashes.append(
                    context.finding(
                        ID,
                        "error",
                        f"{len(left)} operations were not tried after {_CRASHES} that ended their process",
                        seen=[Evidence(o) for o in left],
                        leads_to="it is not known whether they work",
                        remedy=["# mend the others, then look again"],
                    )
                )


def _again(context: Context, package: str) -> list[str]:
    if folder := context.native_folder:
        return [
            f"# TRELLIS_NATIVE_DIR is {folder}: build it anew from the sources that are imported",
            f"tests/from_source.sh {package} -- true",
        ]
    return [
        context.pip("install", "--force-reinstall", "--no-deps", f"trellis-{package}"),
        "# working on the sources: nox -s build",
    ]


def _wrong(context: Context, package: str, seen: list[str]) -> Finding:
    more = f", and {len(seen) - 1} more" if len(seen) > 1 else ""
    return context.finding(
        ID,
        "error",
        f"trellis_{seen[0]}{more}",
        seen=[Evidence(s) for s in seen],
        leads_to="wrong geometry, or a crash in the middle of a run",
        remedy=_again(context, package),
    )


def _crashed(context: Context, package: str, stage: str, answer: Answer) -> Finding:
    return context.finding(
        ID,
        "error",
        f"trellis_{package} did not survive {stage}: {answer.died}",
        seen=[Evidence(f"{stage}: {answer.died}"), *([Evidence(answer.last_words)] if answer.last_words else [])],
        leads_to="wrong geometry, or a crash in the middle of a run",
        remedy=_again(context, package),
    )


def _not_imported(context: Context, name: str, failed: dict[str, str | None]) -> Finding:
    """Its import fails: for want of another package, which is then what to install, or of its own."""
    other = (failed.get("module") or "").split(".")[0]
    if other and other != f"trellis_{name}":
        distribution = f"trellis-{other[8:]}" if other.startswith("trellis_") else _DISTRIBUTIONS.get(other, other)
        return context.finding(
            ID,
            "error",
            f"trellis_{name} cannot be imported: the package {distribution} is missing",
            seen=[Evidence(str(failed["failed"]), symbol=other)],
            leads_to=f"`import trellis_{name}` fails, and the pipeline with it",
            remedy=[context.pip("install", distribution)],
        )
    return context.finding(
        ID,
        "error",
        f"trellis_{name} cannot be imported: {failed['failed']}",
        seen=[Evidence(str(failed["failed"]))],
        leads_to=f"`import trellis_{name}` fails, and the pipeline with it",
        remedy=_again(context, name),
    )


_DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "OpenImageIO": "openimageio", "yaml": "pyyaml"}
"""Import names that are not those of their packages."""

CHECK = Check(ID, "Known answers", "error", run, ("device-mismatch", "grid-sample-device", "wrong-arch-wheel"))
