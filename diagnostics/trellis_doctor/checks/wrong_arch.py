"""GPU code in the libraries against the GPUs of the machine."""

from __future__ import annotations

from collections import defaultdict

from ..check import Check
from ..context import Context
from ..fatbin import runs_on
from ..finding import Evidence, NotApplicableError, Outcome

ID = "wrong-arch"


def run(context: Context) -> Outcome:
    holders = [
        (p, f)
        for p, f in context.readable()
        if (f.architectures or f.gpu_code_damaged) and not _is_nvidia(context, str(p))
    ]
    if not holders:
        raise NotApplicableError("no library here holds GPU code")
    gpus = context.machine.gpus
    if not gpus:
        raise NotApplicableError(f"{len(holders)} libraries hold GPU code, but there is no GPU to compare with")
    findings = []
    wrong: dict[str, list[Evidence]] = defaultdict(list)
    compiled: list[Evidence] = []
    for path, facts in holders:
        if facts.gpu_code_damaged:
            wrong[_name(context, str(path))].append(
                Evidence(f"{context.shown(path)}: {facts.gpu_code_damaged}", file=str(path))
            )
            continue
        for gpu in gpus:
            code = runs_on(facts.architectures, gpu.capability)
            have = ", ".join(facts.architectures)
            if code is None:
                wrong[_name(context, str(path))].append(
                    Evidence(f"{context.shown(path)} holds {have}; nothing of it runs on a {gpu.text}", file=str(path))
                )
            elif code.startswith("compute"):
                compiled.append(
                    Evidence(f"{context.shown(path)}: the driver compiles {code} for a {gpu.text}", file=str(path))
                )
    for name, seen in wrong.items():
        findings.append(
            context.finding(
                ID,
                "error",
                f"{name} has no code for this GPU",
                seen=seen,
                leads_to="'no kernel image is available for execution on the device', or wrong values",
                remedy=_remedy(context, name),
            )
        )
    if compiled and not wrong:
        findings.append(
            context.finding(
                ID,
                "note",
                f"{len(compiled)} libraries run on this GPU only through PTX",
                seen=compiled[:10],
                leads_to="the first run takes minutes while the driver compiles; later runs use its cache",
                remedy=["# nothing is needed; a build with machine code for this GPU starts faster"],
            )
        )
    return Outcome(f"{len(holders)} libraries with GPU code for {', '.join(g.name for g in gpus)}", tuple(findings))


def _remedy(context: Context, name: str) -> list[str]:
    numbers = sorted({f"{g.capability[0]}.{g.capability[1]}" for g in context.machine.gpus})
    if name == "torch":
        return [
            f"# take a torch built for capability {', '.join(numbers)}: `nox -s rows` names the row for this machine"
        ]
    if name.startswith("trellis_"):
        return ["nox -s build -- " + " ".join(f"--arch sm_{n.replace('.', '')}" for n in numbers[:1])]
    return [
        f'export TORCH_CUDA_ARCH_LIST="{";".join(numbers)}"',
        f"# then build {name} from source here, or take a wheel for this GPU",
        context.pip("install", "--no-build-isolation", "--no-cache-dir", "--force-reinstall", "--no-deps", name),
    ]


def _is_nvidia(context: Context, path: str) -> bool:
    """NVIDIA's own libraries choose their kernels themselves and hold parts for single architectures."""
    return "/nvidia/" in path


def _name(context: Context, path: str) -> str:
    for folder in context.site.folders:
        if path.startswith(f"{folder}/"):
            return path[len(str(folder)) + 1 :].split("/")[0].split(".")[0]
    return path


CHECK = Check(ID, "GPU code", "error", run, ("wrong-arch-wheel",))
