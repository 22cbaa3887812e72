"""A pytest plugin: the CUDA tests on another device than the current one.

    tests/from_source.sh -- env PYTHONPATH=tests python3 -m pytest -p other_device -m cuda csrc

Whatever a test asks of "cuda" is asked of the last device of the machine, while device 0 stays the current one; streams
that a test makes are that device's. What the packages themselves do is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

COUNT = torch.cuda.device_count()
OTHER = torch.device("cuda", int(os.environ.get("TRELLIS_TEST_DEVICE", COUNT - 1)))


def meant(value: Any) -> Any:
    """What a test's device stands for."""
    if isinstance(value, str) and value == "cuda":
        return str(OTHER)
    return OTHER if isinstance(value, torch.device) and value == torch.device("cuda") else value


class Redirected(TorchFunctionMode):
    """Calls of torch that name "cuda" without an index, or that mean it by `.cuda()`."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: meant(value) for name, value in (kwargs or {}).items()}
        name = getattr(function, "__name__", "")
        if name == "cuda" and len(args) == 1 and not kwargs.get("device"):
            kwargs["device"] = OTHER
        if function is torch.device and len(args) + len(kwargs) == 2:
            return function(*args, **kwargs)  # with an index of its own
        return function(*(meant(a) for a in args), **kwargs)


@pytest.fixture(autouse=True)
def other_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if COUNT < 2:
        pytest.skip("one CUDA device")
    torch.cuda.set_device(0)
    for name in ("current_stream", "synchronize", "memory_allocated", "max_memory_allocated", "memory_reserved",
                 "reset_peak_memory_stats", "get_device_properties", "set_per_process_memory_fraction"):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, _there(getattr(torch.cuda, name)))
    monkeypatch.setattr(
        torch.cuda, "Stream", lambda device=None, **k: _STREAM(OTHER if device is None else device, **k)
    )
    with Redirected():
        yield
    assert torch.cuda.current_device() == 0


def pytest_terminal_summary(terminalreporter: Any) -> None:
    peaks = {f"cuda:{i}": torch.cuda.memory_stats(i).get("allocation.all.allocated", 0) for i in range(COUNT)}
    terminalreporter.write_line(f"pieces of memory asked for: {peaks}")


_STREAM = torch.cuda.Stream


def _there(function: Any) -> Any:
    """`function` of the other device where a test names none."""

    def call(*args: Any, **kwargs: Any) -> Any:
        device = kwargs.pop("device", None)
        if function.__name__ == "set_per_process_memory_fraction":
            return function(args[0], OTHER if len(args) < 2 and device is None else meant(device or args[1]))
        return function(meant(device if device is not None else args[0] if args else OTHER))

    return call
