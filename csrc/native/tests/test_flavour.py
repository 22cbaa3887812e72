"""The choice of a flavour on machines of every kind, none of which needs to exist."""

import json
from pathlib import Path

import pytest
from trellis_native import Flavour, choose_cuda, find_flavours, runs_on

CUDA12 = Flavour("cuda12", Path("_cuda12.so"), ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "compute_90"), "", "", "")
CUDA13 = Flavour(
    "cuda13", Path("_cuda13.so"), ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"), "", "", ""
)
CPU = Flavour("cpu", Path("_cpu.so"), ("x86_64",), "", "", "")


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        (("sm_80",), (8, 0), "sm_80"),
        (("sm_80",), (8, 6), "sm_80"),  # machine code serves later minor versions of its major
        (("sm_86",), (8, 0), None),  # but not earlier ones
        (("sm_80",), (9, 0), None),  # nor another major
        (("sm_80", "sm_86"), (8, 9), "sm_86"),
        (("compute_80",), (9, 0), "compute_80"),  # PTX goes forward
        (("compute_90",), (8, 6), None),  # never back
        (("sm_80", "compute_80"), (8, 6), "sm_80"),  # machine code first
        (("sm_90a",), (9, 0), "sm_90a"),
        (("sm_90a",), (10, 0), None),
        (("compute_90a",), (10, 0), None),  # architecture-specific PTX does not go forward
        (("sm_100",), (12, 0), None),
        (("x86_64",), (9, 0), None),
        ((), (9, 0), None),
    ],
)
def test_which_code_runs_on_a_device(architectures, capability, expected):
    assert runs_on(architectures, capability) == expected


@pytest.mark.parametrize(
    ("driver", "capability", "name", "says"),
    [
        (13000, (9, 0), "cuda13", "runs sm_90"),
        (13010, (12, 0), "cuda13", "runs sm_120"),
        (12040, (8, 6), "cuda12", "cuda13 needs a driver for CUDA 13, this one supports 12.4"),
        (12080, (10, 0), "cuda12", "runs compute_90"),
        (13000, (7, 0), None, "none of which runs on a device of capability 7.0"),
        (11080, (8, 6), None, "cuda12 needs a driver for CUDA 12"),
        (None, (8, 6), None, "no NVIDIA driver"),
    ],
)
def test_the_newest_flavour_that_driver_and_device_can_run(driver, capability, name, says):
    choice = choose_cuda([CPU, CUDA12, CUDA13], driver, capability)
    assert (choice.flavour.name if choice.flavour else None) == name
    assert says in choice.reason


def test_an_older_flavour_serves_when_the_newer_one_lacks_the_architecture():
    newer = Flavour("cuda13", Path(), ("sm_90",), "", "", "")
    choice = choose_cuda([newer, CUDA12], 13000, (8, 6))
    assert choice.flavour == CUDA12
    assert "cuda13 holds sm_90" in choice.reason


def test_without_cuda_flavours_the_reason_says_so():
    assert choose_cuda([CPU], 13000, (9, 0)).reason == "this installation was built without a CUDA flavour"


def test_find_flavours_reads_notes_and_refuses_a_library_without_one(tmp_path):
    (tmp_path / "_cpu.so").touch()
    note = {"flavour": "cpu", "architectures": ["x86_64"], "abi": "a", "version": "1", "compiler": "c"}
    (tmp_path / "_cpu.json").write_text(json.dumps(note))
    assert find_flavours(tmp_path) == [Flavour("cpu", tmp_path / "_cpu.so", ("x86_64",), "a", "1", "c")]
    (tmp_path / "_cuda13.so").touch()
    with pytest.raises(RuntimeError, match=r"_cuda13\.so has no _cuda13\.json beside it"):
        find_flavours(tmp_path)
