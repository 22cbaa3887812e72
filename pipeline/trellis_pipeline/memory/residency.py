"""Where a model's weights are: in the file's pages, whole on the device, or streaming through it block by block.

A model whose weights are away holds meta tensors, so any use of them is an error rather than a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_STAGING = 64 << 20
_ALIGN = 256
# Methods of a streamed block that use its weights.
_ENTRIES = ("forward", "keys_values", "grow", "in_parts")


def stream_units(module: nn.Module) -> list[nn.Module]:
    """The blocks of a model in the order in which they run: what streams one after the other."""
    blocks = getattr(module, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        return []
    units: list[nn.Module] = []
    for block in blocks:
        units += list(block) if isinstance(block, nn.ModuleList) else [block]
    return units


def tensor_bytes(tensors: dict[str, torch.Tensor]) -> int:
    """Bytes of tensors by name."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


class Weights:
    """A model and the host copy of its tensors.

    Args:
        name: for messages.
        module: on the meta device, in the dtypes that it computes in.
        host: its tensors by key, as stored; those of another dtype are converted on their way to the device.
    """

    def __init__(self, name: str, module: nn.Module, host: dict[str, torch.Tensor]) -> None:
        self.name, self.module, self._host = name, module, host
        self._meta = {k: t for k, t in _tensors(module).items() if k in host}
        stray = [k for k, t in _tensors(module).items() if t.is_meta and k not in host]
        if stray:
            raise ValueError(f"{name}: no values for {', '.join(stray[:3])}")
        self.placed = False

    @classmethod
    def of_module(cls, name: str, module: nn.Module) -> Weights:
        """Takes over a module that has its values, on the CPU; buffers that no checkpoint stores come along."""
        host = _tensors(module)
        for key, tensor in host.items():
            _assign(module, key, torch.empty_like(tensor, device="meta"))
        return cls(name, module, host)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole model takes on a device."""
        return tensor_bytes(self._meta)

    @property
    def streaming_bytes(self) -> int:
        """Bytes that it takes while streaming: what lies outside the blocks, and two slots of the largest block."""
        names = self._units()
        inside = {k for unit in names for k in unit}
        stem = tensor_bytes({k: t for k, t in self._meta.items() if k not in inside})
        return stem + 2 * max((self._slot_bytes(unit) for unit in names), default=0)

    def place(self, device: torch.device) -> None:
        """Puts the whole model on `device`."""
        if not self.placed:
            self._put(self._meta.keys(), device)
            self.placed = True

    def release(self) -> None:
        """Gives the device's memory back."""
        for key, tensor in self._meta.items():
            _assign(self.module, key, tensor)
        self.placed = False

    @contextmanager
    def on(self, device: torch.device, mode: str) -> Iterator[nn.Module]:
        """The model ready to run: mode "resident" leaves it placed, "swap" releases it after, "stream" streams it."""
        if mode == "stream" and not self.placed and self._units():
            stream = _Stream(self, device)
            try:
                yield self.module
            finally:
                stream.close()
                self.release()
            return
        was_placed = self.placed
        self.place(device)
        try:
            yield self.module
        finally:
            if mode != "resident" and not was_placed:
                self.release()

    def _units(self) -> list[list[str]]:
        prefix = {id(m): name for name, m in self.module.named_modules()}
        units = [prefix[id(unit)] + "." for unit in stream_units(self.module)]
        return [[k for k in self._meta if k.startswith(unit)] for unit in units]

    def _slot_bytes(self, keys: list[str]) -> int:
        return sum(_aligned(self._meta[k].numel() * self._meta[k].element_size()) for k in keys)

    def _put(self, keys: Any, device: torch.device) -> None:
        staging = _Staging() if device.type == "cuda" else None
        for key in keys:
            host, dtype = self._host[key], self._meta[key].dtype
            value = host.to(device=device, dtype=dtype) if staging is None else staging.upload(host, device).to(dtype)
            _assign(self.module, key, value)
        if staging is not None:
            staging.finish()


class _Staging:
    """Two pinned buffers through which mapped pages go to the device at the speed of the bus."""

    def __init__(self) -> None:
        self._buffers = [torch.empty(_STAGING, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._events: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def upload(self, host: torch.Tensor, device: torch.device) -> torch.Tensor:
        out = torch.empty(host.shape, dtype=host.dtype, device=device)
        source, target = host.contiguous().view(-1).view(torch.uint8), out.view(-1).view(torch.uint8)
        for start in range(0, len(source), _STAGING):
            part = source[start : start + _STAGING]
            buffer = self._buffers[self._turn][: len(part)]
            before = self._events[self._turn]
            if before is not None:
                before.synchronize()
            buffer.copy_(part)
            target[start : start + len(part)].copy_(buffer, non_blocking=True)
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            self._events[self._turn] = event
            self._turn ^= 1
        return out

    def finish(self) -> None:
        for event in self._events:
            if event is not None:
                event.synchronize()


class _Stream:
    """Runs a model whose blocks take turns in two slots of device memory.

    While one block computes, the next one's weights arrive in the other slot on a stream of their own. Slots are
    allocated once, so the allocator sees no traffic and the memory is what the plan says.
    """

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._weights, self._device = weights, device
        self._keys = weights._units()
        inside = {k for unit in self._keys for k in unit}
        weights._put([k for k in weights._meta if k not in inside], device)
        self._host = [self._prepare(keys) for keys in self._keys]
        size = max(weights._slot_bytes(keys) for keys in self._keys)
        self._slots = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2)]
        self._holds: list[int | None] = [None, None]
        self._last = 1
        cuda = device.type == "cuda"
        self._copy_stream = torch.cuda.Stream(device) if cuda else None
        self._arrived: list[torch.cuda.Event | None] = [None, None]
        self._done: list[torch.cuda.Event | None] = [None, None]
        self._wrapped: list[tuple[nn.Module, str]] = []
        weights.module.streams = True  # type: ignore[assignment]
        for i, unit in enumerate(stream_units(weights.module)):
            for entry in _ENTRIES:
                if hasattr(unit, entry):
                    setattr(unit, entry, self._wrap(i, getattr(unit, entry)))
                    self._wrapped.append((unit, entry))

    def _prepare(self, keys: list[str]) -> list[torch.Tensor]:
        """A block's tensors as the device wants them, in pinned memory so that they arrive while it computes."""
        tensors = [self._weights._host[k].to(self._weights._meta[k].dtype).contiguous() for k in keys]
        return [t.pin_memory() for t in tensors] if self._device.type == "cuda" else tensors

    def _wrap(self, index: int, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            slot = self._enter(index)
            try:
                return method(*args, **kwargs)
            finally:
                self._exit(slot)

        return run

    def _enter(self, index: int) -> int:
        if index not in self._holds:
            self._load(index, 1 - self._last)
        slot = self._holds.index(index)
        self._last = slot
        arrived = self._arrived[slot]
        if arrived is not None:
            torch.cuda.current_stream(self._device).wait_event(arrived)
        following = (index + 1) % len(self._keys)
        if following not in self._holds:
            self._load(following, 1 - slot)
        return slot

    def _load(self, index: int, slot: int) -> None:
        old = self._holds[slot]
        if old is not None:
            for key in self._keys[old]:
                _assign(self._weights.module, key, self._weights._meta[key])
        if self._copy_stream is None:
            self._fill(index, slot)
        else:
            with torch.cuda.stream(self._copy_stream):
                done = self._done[slot]
                if done is not None:
                    self._copy_stream.wait_event(done)
                else:  # the slot's memory may still be in use by what the allocator gave it to before
                    self._copy_stream.wait_stream(torch.cuda.default_stream(self._device))
                self._fill(index, slot)
                event = torch.cuda.Event()
                event.record(self._copy_stream)
                self._arrived[slot] = event
        self._holds[slot] = index

    def _fill(self, index: int, slot: int) -> None:
        offset = 0
        for key, host in zip(self._keys[index], self._host[index], strict=True):
            size = host.numel() * host.element_size()
            target = self._slots[slot][offset : offset + size].view(host.dtype).view(host.shape)
            target.copy_(host, non_blocking=True)
            _assign(self._weights.module, key, target)
            offset += _aligned(size)

    def _exit(self, slot: int) -> None:
        if self._copy_stream is not None:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self._device))
            self._done[slot] = event

    def close(self) -> None:
        del self._weights.module.streams
        for unit, entry in self._wrapped:
            delattr(unit, entry)  # the class's own method is seen again
        if self._copy_stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._copy_stream)
            torch.cuda.current_stream(self._device).synchronize()


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _assign(module: nn.Module, key: str, value: torch.Tensor) -> None:
    path, _, leaf = key.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        owner._parameters[leaf] = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
    else:
        owner._buffers[leaf] = value
