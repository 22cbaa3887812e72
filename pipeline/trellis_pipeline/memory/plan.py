"""Making a run fit a budget: which weights stay, which come and go, which stream, and how many tokens there may be.

For each stage, in this order: everything stays on the device; else this stage's model alone is there; else, of a
decoder, the finest level is made in parts; else the model's blocks stream through two slots, again whole or in parts;
else the run is refused with the stage, what it needs and what there is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from ..errors import MemoryPlanError
from ..models.replay import MOST_TOKENS
from .costs import PARTS, Cost

GIB = 1 << 30
CONTEXT = 600 << 20
"""A CUDA context with cuDNN and cuBLAS, outside torch's allocator: it counts when a whole card is the budget."""
SLACK = 0.02
"""Share of the budget left to the allocator's rounding."""
PIECES = 0.35
"""Room for what lies in pieces too small to use, as a share of a stage's activations and recordings. Measured, where a limit
was met (`benchmarks/least.py`, docs/memory.md): up to 0.32 of those of the widest stages."""
EXPANDABLE_PIECES = 0.15
"""The same where torch's allocator is told to let its segments grow (up to 0.12)."""
LEAST_ROOM = 200 << 20
"""The least such room: the allocator takes memory in blocks of 20 MiB and more, of which small stages hold several."""


def pieces() -> float:
    """The share that goes for torch's allocator as it is set: by PYTORCH_ALLOC_CONF from torch 2.11 on, or its older name."""
    # torch 2.8 does not know the newer one, and 2.9 passes over what it says of segments on CUDA (pytorch issue 183387).
    heard = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 11)
    names = (*(("PYTORCH_ALLOC_CONF",) if heard else ()), "PYTORCH_CUDA_ALLOC_CONF")
    told = next((value for name in names if (value := os.environ.get(name))), "")
    grows = "expandable_segments:true" in told.replace(" ", "").lower() and sys.platform == "linux"
    return EXPANDABLE_PIECES if grows else PIECES


@dataclass(frozen=True)
class Need:
    """A stage that needs memory.

    Attributes:
        name: of the stage.
        role: of its model; "" if it has none.
        cost: of that model.
        typical: tokens of an ordinary object, for which the plan is drawn up.
        held: bytes that the run holds beside the stage, such as image features.
        loose: share of room for pieces, where it is known not to be `PIECES`.
    """

    name: str
    role: str
    cost: Cost
    typical: int
    held: int = 0
    loose: float | None = None

    @property
    def choices(self) -> tuple[int, ...]:
        """Into how many parts its model can cut its work, least first."""
        return PARTS if self.cost.decoder and self.role else (1,)

    def activations(self, tokens: int, parts: int = 1, voxels: int | None = None) -> int:
        """Bytes of activations. `voxels` is how many a decoder really makes, where that is known."""
        if self.cost.decoder:
            return self.cost.decoder(tokens, parts, voxels)
        return self.cost.activations(tokens)

    def peak(self, mode: str, tokens: int, parts: int = 1, voxels: int | None = None) -> int:
        """Bytes that tensors of the stage alone hold at its widest point."""
        weights = self.cost.streaming if mode == "stream" else self.cost.weights
        return weights + self.activations(tokens, parts, voxels) + self.held

    def total(self, mode: str, tokens: int, parts: int = 1, voxels: int | None = None) -> int:
        """The same with what recordings hold, which the device must have room for too."""
        recorded = 0 if mode == "stream" else self.cost.recorded(tokens)
        return self.peak(mode, tokens, parts, voxels) + recorded

    def room(self, mode: str, tokens: int, parts: int = 1, voxels: int | None = None) -> int:
        """Bytes that the allocator needs for that: between tensors that came and went some lie in pieces (`PIECES`)."""
        weights = self.cost.streaming if mode == "stream" else self.cost.weights
        total = self.total(mode, tokens, parts, voxels)
        share = pieces() if self.loose is None else min(self.loose, pieces())
        return total + max(LEAST_ROOM, int(share * (total - weights - self.held)))


@dataclass(frozen=True)
class StagePlan:
    """What was decided for a stage; bytes are for its typical token count.

    Attributes:
        mode: "resident", "swap" or "stream"; "alone" for a stage without a model, which runs when all models are away.
        parts: in how many parts a decoder makes its finest level.
        peak: bytes on the device, resident models of other stages and recordings included.
        capacity: tokens that the stage can take within the budget, when it must.
    """

    name: str
    role: str
    mode: str
    parts: int
    weights: int
    activations: int
    peak: int
    typical: int
    capacity: int


class Decision(NamedTuple):
    """How a stage runs: mode, whether other models must leave first, the expected peak of tensors, and the parts."""

    mode: str
    alone: bool
    peak: int
    parts: int


@dataclass(frozen=True)
class MemoryPlan:
    """The plan of a run. `usable` is the budget less `SLACK` (and less `CONTEXT`, when a budget was given)."""

    budget: int
    usable: int
    needs: tuple[Need, ...]
    stages: tuple[StagePlan, ...]
    max_tokens: int

    def describe(self) -> str:
        """The plan as a table for people."""
        rows: list[tuple[str, ...]] = [("stage", "weights", "GiB", "activations", "peak", "tokens", "up to")]
        for s in self.stages:
            sizes = (f"{v / GIB:.2f}" for v in (s.weights, s.activations, s.peak))
            mode = s.mode if s.parts == 1 else f"{s.mode}, {s.parts} parts"
            rows.append((s.name, mode, *sizes, f"{s.typical:,}", f"{s.capacity:,}" if s.capacity < _ANY else "any"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        head = f"memory plan for {self.budget / GIB:.1f} GiB, {self.usable / GIB:.1f} usable"
        return "\n".join([f"{head}; at most {self.max_tokens:,} tokens", *lines])

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "budget": self.budget,
            "usable": self.usable,
            "max_tokens": self.max_tokens,
            "stages": [asdict(s) for s in self.stages],
        }

    def decide(self, name: str, tokens: int, resident: int) -> Decision:
        """How a stage runs with the tokens that it really has.

        Args:
            resident: bytes of other models that are on the device now.

        Raises:
            MemoryPlanError: it does not fit in any way.
        """
        need = next(n for n in self.needs if n.name == name)
        planned = next(s for s in self.stages if s.name == name)
        if planned.parts == 1 and need.room(planned.mode, tokens) + resident <= self.usable:
            return Decision(planned.mode, False, need.peak(planned.mode, tokens) + resident, 1)
        for mode, parts in _ways(need):
            if need.room(mode, tokens, parts) <= self.usable:
                return Decision(mode, resident > 0, need.peak(mode, tokens, parts), parts)
        raise _refusal(need, tokens, self.usable)

    def require(self, name: str, voxels: int) -> None:
        """Raises MemoryPlanError where a stage without a model, such as the export, cannot take so many voxels."""
        need = next(n for n in self.needs if n.name == name)
        room = need.room("alone", 1, voxels=voxels)
        if room > self.usable:
            raise MemoryPlanError(
                f"stage {name}: the shape has {voxels:,} voxels, for which {room / GIB:.2f} GiB are needed, and "
                f"{self.usable / GIB:.2f} GiB are usable: give more (--vram-budget), or take a smaller --type"
            )

    def parts(self, name: str, mode: str, resident: int, tokens: int, voxels: int) -> tuple[int, int]:
        """In how many parts a running decoder makes its `voxels`, now that their number is known, and its peak.

        Raises:
            MemoryPlanError: there are too many, in any number of parts.
        """
        need = next(n for n in self.needs if n.name == name)
        for parts in need.choices:
            room = need.room(mode, tokens, parts, voxels) + resident
            if room <= self.usable:
                return parts, need.peak(mode, tokens, parts, voxels) + resident
        raise MemoryPlanError(
            f"stage {name}: the shape has {voxels:,} voxels, for which {room / GIB:.2f} GiB are needed in {parts} parts, "
            f"and {self.usable / GIB:.2f} GiB are usable: give more (--vram-budget), or take a smaller --type"
        )


_ANY = 1 << 24


def _ways(need: Need) -> list[tuple[str, int]]:
    """How a stage can run when its model is alone on the device: the mode and the parts, the fastest first."""
    if not need.role:
        return [("alone", 1)]
    return [(mode, parts) for mode in ("swap", "stream") for parts in need.choices]


def _refusal(need: Need, tokens: int, usable: int) -> MemoryPlanError:
    mode, parts = _ways(need)[-1]
    least = need.room(mode, tokens, parts)
    if not need.role:
        return MemoryPlanError(
            f"stage {need.name} needs {least / GIB:.2f} GiB for the voxels of {tokens:,} tokens, and {usable / GIB:.2f} GiB are "
            "usable: give more (--vram-budget), or take a smaller --type"
        )
    split = f", in {parts} parts" if parts > 1 else ""
    return MemoryPlanError(
        f"stage {need.name} needs {least / GIB:.2f} GiB for {tokens:,} tokens even with streamed weights{split} "
        f"({need.cost.streaming / GIB:.2f} weights, {need.activations(tokens, parts) / GIB:.2f} activations, and room between "
        f"them), and "
        f"{usable / GIB:.2f} GiB are usable: give more (--vram-budget), or take a smaller --type"
    )


def _capacity(need: Need, usable: int) -> int:
    """The most tokens that a stage can take when its weights stream; _ANY where tokens do not matter."""
    mode, parts = _ways(need)[-1]

    def fits(tokens: int) -> bool:
        # The most tokens that still run as pairs can need more than some more would.
        return all(need.room(mode, t, parts) <= usable for t in {tokens, min(tokens, MOST_TOKENS)})

    if not fits(1):
        return 0
    low, high = 1, _ANY
    if fits(high):
        return _ANY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def free_bytes(device: torch.device) -> int:
    """What a run may take on a CUDA device now: what is free there, and what torch's own cache holds unused."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def draw_up(needs: Sequence[Need], budget: int, *, whole_card: bool, max_tokens: int) -> MemoryPlan:
    """The plan for stages within `budget` bytes.

    Args:
        whole_card: the budget is a card's whole memory, so the CUDA context comes out of it.
        max_tokens: limit of a cascade, lowered to what the latent stages can take.

    Raises:
        MemoryPlanError: a stage does not fit for an ordinary object, even with streamed weights.
    """
    usable = int((budget - (CONTEXT if whole_card else 0)) * (1 - SLACK))
    for need in needs:
        if all(need.room(mode, need.typical, parts) > usable for mode, parts in _ways(need)):
            raise _refusal(need, need.typical, usable)
    weights = {n.role: n.cost.weights for n in needs}
    highest = max((n.room("resident", n.typical) - n.cost.weights for n in needs if n.role), default=0)
    everything = sum(weights.values()) + highest <= usable
    stages = []
    for need in needs:
        if everything and need.role:
            mode, parts, others = "resident", 1, sum(weights.values()) - need.cost.weights
        else:
            mode, parts = next((m, p) for m, p in _ways(need) if need.room(m, need.typical, p) <= usable)
            others = 0
        stages.append(
            StagePlan(
                need.name, need.role, mode, parts, need.cost.streaming if mode == "stream" else need.cost.weights,
                need.activations(need.typical, parts), need.total(mode, need.typical, parts) + others, need.typical,
                _capacity(need, usable),
            )
        )  # fmt: skip
    capacity = min((s.capacity for s in stages), default=max_tokens)
    return MemoryPlan(budget, usable, tuple(needs), tuple(stages), min(max_tokens, capacity))
