"""Which row a machine gets, and how much memory it has."""

from pathlib import Path

import pytest
from trellis_build.errors import BuildError
from trellis_build.layout import Checkout
from trellis_build.machine import Machine, choose_row, memory_available

H100, ADA = (9, 0), (8, 9)


@pytest.mark.parametrize(
    ("machine", "torch", "row", "because"),
    [
        (Machine(None, ()), None, "cpu", "no NVIDIA driver"),
        (Machine((13, 0), ()), None, "cpu", "GPUs of capability none"),
        (Machine((13, 0), (H100,)), None, "cu130", "driver for CUDA 13.0"),
        (Machine((13, 5), (H100, H100)), None, "cu130", "capability 9.0, 9.0"),
        (Machine((12, 8), (ADA,)), None, "cu128", "driver for CUDA 12.8"),
        (Machine((12, 6), (ADA,)), None, "cu124", "driver for CUDA 12.6"),
        # A driver runs every minor version of its major, so an old 12.x still gets a row.
        (Machine((12, 2), (ADA,)), None, "cu124", "driver for CUDA 12.2"),
        (Machine((11, 8), (ADA,)), None, "cpu", "no CUDA row fits"),
        (Machine((12, 8), (ADA,)), "2.5.1+cu124", "cu124-seed", "torch 2.5.1+cu124 is installed"),
        (Machine((13, 0), (ADA,)), "2.15.0", "cu13-latest", "torch 2.15.0 is installed"),
        (Machine((13, 0), (ADA,)), "2.9.9", "cu130", "driver for CUDA 13.0"),
        # torch of a newer CUDA major than the driver's would not run.
        (Machine((12, 8), (ADA,)), "2.15.0", "cu128", "driver for CUDA 12.8"),
        (Machine(None, ()), "2.11.0", "cpu", "no NVIDIA driver"),
    ],
)
def test_row_for_a_machine(checkout: Checkout, machine: Machine, torch: str | None, row: str, because: str) -> None:
    chosen, why = choose_row(checkout.matrix, machine, torch)
    assert chosen.name == row
    assert because in why


def test_memory_is_what_the_container_leaves(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:    64 kB\n")
    assert memory_available(meminfo, tmp_path / "none") == 64 * 1024
    (tmp_path / "memory.max").write_text("40960\n")
    (tmp_path / "memory.current").write_text("10000\n")
    assert memory_available(meminfo, tmp_path) == 30960
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_available(meminfo, tmp_path) == 64 * 1024
    with pytest.raises(BuildError, match="how much memory"):
        memory_available(tmp_path / "missing")
