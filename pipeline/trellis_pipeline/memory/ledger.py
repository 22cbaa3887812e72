"""What a run's stages really took: allocated and reserved bytes at each boundary, and the peak between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def resident_set() -> int:
    """Bytes of this process in main memory (Linux; elsewhere 0)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()


def free_workspaces() -> None:
    """Gives back the scratch memory that torch keeps for cuBLAS on every stream that ever used it.

    Each recording of a CUDA graph has a stream of its own, so without this some 33 MiB a recording stay for good.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None and torch.cuda.is_initialized():
        clear()


class Ledger:
    """Collects entries for one device. On CUDA bytes are torch's allocator's; on the CPU only the process is known."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.entries: list[dict[str, Any]] = []
        self.baseline = self.allocated()

    def allocated(self) -> int:
        """Bytes that tensors hold on the device now."""
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0

    @contextmanager
    def stage(self, name: str, planned: int | None = None) -> Iterator[dict[str, Any]]:
        """Measures the body. `planned` is the peak that the plan expects."""
        cuda = self.device.type == "cuda"
        entry: dict[str, Any] = {"stage": name, "planned": planned}
        if cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        entry["before"] = self.allocated()
        try:
            yield entry
        finally:
            if cuda:
                torch.cuda.synchronize(self.device)
                entry["peak"] = torch.cuda.max_memory_allocated(self.device)
                entry["reserved"] = torch.cuda.memory_reserved(self.device)
                entry["peak_reserved"] = torch.cuda.max_memory_reserved(self.device)
                free_workspaces()
            else:
                entry["process"] = resident_set()
            entry["after"] = self.allocated()
            self.entries.append(entry)

    def facts(self) -> dict[str, Any]:
        """For the manifest. `left` is what the run left behind on the device beyond where it began."""
        return {
            "device": str(self.device),
            "baseline": self.baseline,
            "left": self.allocated() - self.baseline,
            "stages": self.entries,
        }
