"""Making a run fit a budget: which weights stay, which come and go, which stream, and how many tokens there may be.

For each stage, in this order: everything stays on the device; else this stage's model alone is there; else its blocks
stream through two slots; else the run is refused with the stage, what it needs and what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..errors import MemoryPlanError
from .costs import Cost

GIB = 1 << 30
CONTEXT = 600 << 20
"""A CUDA context with cuDNN and cuBLAS, outside torch's allocator: it counts when a whole card is the budget."""
SLACK = 0.06
"""Share of the budget left to the allocator's rounding and fragmentation."""


@dataclass(frozen=True)
class Need:
    """A stage that needs memory.

    Attributes:
        name: of the stage.
        role: of its model.
        cost: of that model.
        typical: tokens of an ordinary object, for which the plan is drawn up.
        held: bytes that the run holds beside the stage, such as image features.
    """

    name: str
    role: str
    cost: Cost
    typical: int
    held: int = 0

    def total(self, mode: str, tokens: int) -> int:
        """Peak bytes of the stage alone."""
        weights = self.cost.streaming if mode == "stream" else self.cost.weights
        return weights + self.cost.activations(tokens) + self.held


@dataclass(frozen=True)
class StagePlan:
    """What was decided for a stage; bytes are for its typical token count.

    Attributes:
        mode: "resident", "swap" or "stream".
        peak: bytes on the device, resident models of other stages included.
        capacity: tokens that the stage can take within the budget, when it must.
    """

    name: str
    role: str
    mode: str
    weights: int
    activations: int
    peak: int
    typical: int
    capacity: int


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
            rows.append((s.name, s.mode, *sizes, f"{s.typical:,}", f"{s.capacity:,}" if s.capacity < _ANY else "any"))
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

    def decide(self, name: str, tokens: int, resident: int) -> tuple[str, bool, int]:
        """How a stage runs with the tokens that it really has.

        Args:
            resident: bytes of other models that are on the device now.

        Returns:
            the mode, whether the others must leave first, and the peak that is expected.

        Raises:
            MemoryPlanError: it does not fit in any mode.
        """
        need = next(n for n in self.needs if n.name == name)
        planned = next(s for s in self.stages if s.name == name)
        for mode, others in ((planned.mode, resident), ("swap", 0), ("stream", 0)):
            total = need.total(mode, tokens) + others
            if total <= self.usable:
                return mode, others < resident, total
        raise _refusal(need, tokens, self.usable)


_ANY = 1 << 24


def _refusal(need: Need, tokens: int, usable: int) -> MemoryPlanError:
    least = need.total("stream", tokens)
    return MemoryPlanError(
        f"stage {need.name} needs {least / GIB:.2f} GiB for {tokens:,} tokens even with streamed weights "
        f"({need.cost.streaming / GIB:.2f} weights, {need.cost.activations(tokens) / GIB:.2f} activations), and "
        f"{usable / GIB:.2f} GiB are usable: give more (--vram-budget), or take a smaller --type"
    )


def _capacity(need: Need, usable: int) -> int:
    """The most tokens that a stage can take when its weights stream; _ANY where tokens do not matter."""
    if need.total("stream", 1) > usable:
        return 0
    low, high = 1, _ANY
    if need.total("stream", high) <= usable:
        return _ANY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need.total("stream", middle) <= usable else (low, middle)
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
        if need.total("stream", need.typical) > usable:
            raise _refusal(need, need.typical, usable)
    weights = {n.role: n.cost.weights for n in needs}
    highest = max(n.total("resident", n.typical) - n.cost.weights for n in needs)
    everything = sum(weights.values()) + highest <= usable
    stages = []
    for need in needs:
        if everything:
            mode, others = "resident", sum(weights.values()) - need.cost.weights
        else:
            mode = "swap" if need.total("swap", need.typical) <= usable else "stream"
            others = 0
        stages.append(
            StagePlan(
                need.name, need.role, mode, need.cost.streaming if mode == "stream" else need.cost.weights,
                need.cost.activations(need.typical), need.total(mode, need.typical) + others, need.typical,
                _capacity(need, usable),
            )
        )  # fmt: skip
    capacity = min((s.capacity for s in stages), default=max_tokens)
    return MemoryPlan(budget, usable, tuple(needs), tuple(stages), min(max_tokens, capacity))
