"""The export road as the gates' harness sees it: it makes the clean sample, and can be broken on purpose.

Nothing here is reached from the road itself: faults are put in by replacing functions for the length of a `with` block
in a test process. `trellis-gate faults` and `nox -s regress` are what use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from trellis_regression import sample

from ..remake import RemakeOptions, remake
from .faults import FAULTS, broken

VARIANTS = (
    RemakeOptions(resolution=64, faces=4000, texture=256, min_fraction=1e-4),
    RemakeOptions(resolution=66, faces=3700, texture=256, min_fraction=1e-4),
)
"""The golden's options and the candidate's: as far apart as two builds of one release may be, and more."""


@dataclass(frozen=True)
class RemakeRoad:
    """`trellis remake` at a small size.

    Attributes:
        source: the GLB to remake, by name.
    """

    source: Callable[[str], bytes] = sample.build

    def make(self, name: str, out: Path, stages: Path, *, variant: int = 0) -> None:
        """Takes the asset of that name through the road."""
        source = out.with_name(f"{out.stem}-source.glb")
        source.write_bytes(self.source(name))
        remake(source, out, VARIANTS[variant], keep_stages=stages, quiet=True)

    def faults(self) -> Sequence[str]:
        """What `broken` knows."""
        return FAULTS

    def broken(self, fault: str) -> AbstractContextManager[None]:
        """The road with a fault in one of its stages."""
        return broken(fault)


def road() -> RemakeRoad:
    """What `trellis-gate --road` asks for."""
    return RemakeRoad()
