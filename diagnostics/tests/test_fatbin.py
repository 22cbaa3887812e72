"""Which GPU runs which code, and the reader of embedded code."""

from __future__ import annotations

import pytest
from trellis_doctor.fatbin import FatbinError, architectures, runs_on
from trellis_doctor.selftest.elf_writer import gpu_code


@pytest.mark.parametrize(
    ("have", "capability", "runs"),
    [
        (["sm_86"], (8, 6), "sm_86"),
        (["sm_80"], (8, 6), "sm_80"),  # same major version, lower minor
        (["sm_80", "sm_86", "compute_80"], (8, 9), "sm_86"),  # machine code before PTX, the nearest first
        (["sm_89"], (8, 6), None),  # higher minor
        (["sm_80"], (9, 0), None),  # another major version
        (["sm_90"], (8, 0), None),
        (["compute_70"], (9, 0), "compute_70"),  # PTX forward
        (["compute_70", "compute_80"], (12, 0), "compute_80"),
        (["compute_90"], (8, 9), None),  # PTX is not compiled backward
        (["sm_90a"], (9, 0), "sm_90a"),
        (["sm_90", "sm_90a"], (9, 0), "sm_90a"),  # as in trellis_sparse, whose wgmma kernels are bound to Hopper
        (["sm_90a"], (9, 1), None),
        (["sm_90a", "compute_90a"], (10, 0), None),
        (["sm_90a", "compute_90"], (12, 0), "compute_90"),
        (["sm_100f"], (10, 3), "sm_100f"),  # bound to a family
        (["sm_103f"], (10, 0), None),
        (["compute_100f"], (12, 0), None),
        (["sm_100a"], (10, 3), None),  # bound to one GPU
        (["compute_90a"], (10, 0), None),
        (["sm_100"], (10, 3), "sm_100"),
        (["sm_120"], (12, 0), "sm_120"),
        (["sm_100"], (12, 0), None),  # 10.x and 12.x are different major versions
        ([], (8, 6), None),
        (["nonsense"], (8, 6), None),
    ],
)
def test_runs_on(have: list[str], capability: tuple[int, int], runs: str | None) -> None:
    assert runs_on(have, capability) == runs


def test_several_containers_with_padding_are_all_read() -> None:
    data = gpu_code(["sm_80", "compute_80"]) + b"\0" * 24 + gpu_code(["sm_90", "sm_80"]) + b"\0" * 5
    assert architectures(data, 0, len(data)) == ("sm_80", "sm_90", "compute_80")
    assert architectures(b"\0" * 100, 0, 100) == ()
    assert architectures(b"", 0, 0) == ()


def test_code_for_one_gpu_or_one_family_is_told_from_the_rest() -> None:
    names = ["sm_90", "sm_90a", "sm_100f", "compute_90", "compute_90a"]
    data = gpu_code(names)
    assert architectures(data, 0, len(data)) == tuple(names)
    # Headers as nvcc 13.0 writes them for -gencode arch=compute_90a,code=[sm_90a,compute_90a], their code left out.
    container = "50ed55ba 0100 1000 %s00000000000000"
    head = "0101 %s000000 0000000000000000 00000000 00000000 0000 0000 5a000000 00000000 00000000"
    machine = f"0200 {head % 40} 1100100000000000 {'00' * 16}"
    ptx = f"0100 {head % 50} 1180100000000000 {'00' * 32}"
    both = bytes.fromhex(f"{container % 90} {machine} {ptx}")
    assert len(both) == 16 + 64 + 80 and architectures(both, 0, len(both)) == ("sm_90a", "compute_90a")
    plain = bytes.fromhex(f"{container % 40} {machine.replace('11001000', '11000000')}")
    assert architectures(plain, 0, len(plain)) == ("sm_90",)


def test_damage_is_told() -> None:
    data = gpu_code(["sm_80"])
    with pytest.raises(FatbinError, match="reaches past"):
        architectures(data[:-1], 0, len(data) - 1)
    broken = data[:20] + b"\0\0\0\0" + data[24:]  # an entry's header of no bytes would go on for ever
    with pytest.raises(FatbinError, match="header of 0 bytes"):
        architectures(broken, 0, len(broken))
