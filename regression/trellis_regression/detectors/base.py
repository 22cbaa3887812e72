"""What a detector is: a figure, larger when worse, and the words that go with it. It knows no thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..profile import Evidence

Figure = Callable[[Evidence], float | None]


@dataclass(frozen=True)
class Detector:
    """A named gate.

    Attributes:
        name: the fault's name in the catalogue.
        cause: one sentence: what went wrong when this fires. `{value}` and `{limit}` are filled in.
        remedy: what to do.
        alone: the figure of an asset by itself; gives None where it cannot be judged.
        golden: the figure against a golden; None when the detector does not use one.
        needs: what must be given for it to judge, for the message when nothing was.
        unit: "share", "count" or "ratio"; shares are at most 1, which bounds their threshold.
        floor: the least distance between clean assets and the threshold, in the figure's unit: what measuring can
            resolve.
        floor_alone: the same for the figure of its own, where sound assets from elsewhere differ more than two builds do.
        fixed: a threshold by definition ("any"), for figures that are 0 on every sound asset; None to derive it.
        historic: whether the devlog or a public report has it (a fault), or it is a general guard.
        note: what is to be added to the cause, for an asset; "" for nothing.
    """

    name: str
    cause: str
    remedy: str
    alone: Figure | None = None
    golden: Figure | None = None
    needs: str = ""
    unit: str = "share"
    floor: float = 0.02
    floor_alone: float | None = None
    fixed: float | None = None
    historic: bool = True
    note: Callable[[Evidence], str] | None = None

    def floor_of(self, kind: str) -> float:
        """The floor of a kind of figure, "alone" or "golden"."""
        return self.floor_alone if kind == "alone" and self.floor_alone is not None else self.floor
