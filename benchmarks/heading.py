"""What stands over figures: when and where they were taken, and by which command."""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from pathlib import Path

import torch


def where(device: torch.device) -> str:
    """The name of a GPU, or that of the processor and the cores that this process may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{next(names, platform.processor() or platform.machine())}, {cores} cores"


def heading(device: torch.device, *more: str) -> str:
    """Date, device, torch, the command, and what else there is to say of the figures below."""
    command = f"python {' '.join(sys.argv)}"
    return f"{date.today()}, {where(device)}, torch {torch.__version__}: " + "; ".join([command, *more])
