"""NVIDIA driver and GPUs, against what the installed torch was built for."""

from __future__ import annotations

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, Outcome
from ..machine import Gpu

ID = "driver"
OLDEST_GPU = (7, 5)
# In 8 GiB every type of generation ran (docs/memory.md); cards of 8 GiB report somewhat less.
ENOUGH_MEMORY, ENOUGH_FOR_UPSTREAM = 7 << 30, 15 << 30


def run(context: Context) -> Outcome:
    machine, torch = context.machine, context.torch
    driver, libcuda = machine.driver, machine.library("libcuda.so.1")
    wants_cuda = torch is not None and torch.cuda is not None
    if driver is None and libcuda is None:
        if not wants_cuda:
            return Outcome("no NVIDIA driver; nothing here needs one")
        return Outcome("no NVIDIA driver", (_no_driver(context),))
    if driver is not None and driver.problem:
        finding = context.finding(
            ID,
            "error",
            f"the NVIDIA driver does not answer: {driver.problem}",
            seen=[Evidence(driver.problem)],
            leads_to="torch.cuda.is_available() is False, or the first CUDA call hangs",
            remedy=["# restart the machine; if it stays so, install the driver again", "nvidia-smi"],
            verify="nvidia-smi",
        )
        return Outcome("the driver does not answer", (finding,))
    findings: list[Finding] = []
    if libcuda is None:
        findings.append(
            context.finding(
                ID,
                "error",
                "nvidia-smi works, but libcuda.so.1 is in no folder of the loader",
                seen=[Evidence("searched: " + ", ".join(map(str, machine.library_folders)))],
                leads_to="torch.cuda.is_available() is False",
                remedy=[
                    'export LD_LIBRARY_PATH="/usr/lib/wsl/lib:$LD_LIBRARY_PATH"'
                    if machine.is_wsl
                    else "# install the driver's own library package (libcuda1, nvidia-driver-libs), or in a container "
                    "start it with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility"
                ],
            )
        )
    if driver is None:
        return Outcome(f"libcuda.so.1 at {libcuda}, but no nvidia-smi", tuple(findings))
    if torch is not None and torch.cuda is None and driver.gpus:
        findings.append(_cpu_torch(context, driver.gpus[0].text))
    if torch is not None and torch.cuda and driver.cuda and driver.cuda[0] < int(torch.cuda.split(".")[0]):
        supported = ".".join(map(str, driver.cuda))
        findings.append(
            context.finding(
                ID,
                "error",
                f"the driver supports CUDA {supported}; the installed torch needs {torch.cuda}",
                seen=[
                    Evidence(f"driver {driver.version}", version=driver.version),
                    Evidence(torch.text, version=torch.version),
                ],
                leads_to="torch finds no GPU ('The NVIDIA driver on your system is too old')",
                remedy=[f"# install a newer driver, or the build of torch for CUDA {driver.cuda[0]}.x"],
            )
        )
    findings += [f for gpu in driver.gpus if (f := _too_small(context, gpu))]
    cuda = f", CUDA {driver.cuda[0]}.{driver.cuda[1]}" if driver.cuda else ""
    return Outcome(f"driver {driver.version}{cuda}: " + ", ".join(g.text for g in driver.gpus), tuple(findings))


def _too_small(context: Context, gpu: Gpu) -> Finding | None:
    """What a GPU is too old for, or has too little memory for."""
    if gpu.capability < OLDEST_GPU:
        what, leads_to = "is older than capability 7.5", "there are no kernels for it"
        remedy = "# use a GPU of 2018 (RTX 20, T4) or newer, or the CPU"
    elif gpu.memory < ENOUGH_MEMORY:
        what, leads_to = (
            "has less than 8 GiB",
            "`trellis generate` refuses the types that it has no room for; others run out of memory",
        )
        remedy = "# trellis generate --type 512 streams its weights where they do not fit, and prints its plan first"
    elif gpu.memory < ENOUGH_FOR_UPSTREAM and context.site.module("trellis2") is not None:
        what, leads_to = "has less memory than the upstream pipeline here was made for", "it runs out of memory"
        remedy = "# upstream's low-memory mode at 512, or `trellis generate`, which plans what is on the device"
    else:
        return None
    return context.finding(
        ID, "warning", f"{gpu.text} {what}", seen=[Evidence(gpu.text)], leads_to=leads_to, remedy=[remedy]
    )


def _no_driver(context: Context) -> Finding:
    assert context.torch is not None
    machine = context.machine
    if machine.container:
        remedy = "# start the container with --gpus all (the host needs the driver and nvidia-container-toolkit)"
    elif machine.is_wsl:
        remedy = "# install the NVIDIA driver in Windows (never inside WSL2), then: wsl.exe --update"
    else:
        remedy = "# install the NVIDIA driver of the distribution; or accept the CPU, which works and is slow"
    return context.finding(
        ID,
        "warning",
        f"{context.torch.text} is installed, but this machine has no NVIDIA driver",
        seen=[Evidence("no nvidia-smi on PATH and no libcuda.so.1 in the loader's folders")],
        leads_to="everything runs on the CPU; an explicit device='cuda' is an error",
        remedy=[remedy],
        verify="nvidia-smi",
    )


def _cpu_torch(context: Context, gpu: str) -> Finding:
    assert context.torch is not None
    return context.finding(
        ID,
        "error",
        f"this machine has a {gpu}, but the installed torch is the CPU build",
        seen=[
            Evidence(context.torch.text, file=str(context.torch.folder / "version.py"), version=context.torch.version)
        ],
        leads_to="'Torch not compiled with CUDA enabled', or hours on the CPU",
        remedy=[
            context.pip("uninstall", "-y", "torch"),
            "# then the CUDA build of the row for this machine: `nox -s rows` names it, `nox -s dev -- --row NAME` installs it",
        ],
    )


CHECK = Check(ID, "Driver and GPUs", "error", run)
