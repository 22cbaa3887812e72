"""Which injector re-creates which fault, at which strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import look, shape
from .model import Model

Change = Callable[[Model, float, np.random.Generator], Model]
_AXES = {"zyx": 40, "yxz": 16, "-xyz": 4}


@dataclass(frozen=True)
class Injector:
    """A fault at its strengths.

    Attributes:
        strengths: label -> (function, number).
        historic: the label at which the devlog or the public report saw it.
        applies: whether the fault can be put into this model at all.
        loses_stages: the kept stages after cleaning shrink by the strength as well.
        simplifies: what another fault had put there may be simplified away.
        second: the injected file is the second run of the job, beside the sound first.
    """

    name: str
    strengths: dict[str, tuple[Change, float]]
    historic: str
    applies: Callable[[Model], bool] = lambda model: True
    loses_stages: bool = False
    simplifies: bool = False
    second: bool = False


@dataclass(frozen=True)
class Injected:
    """A GLB with a fault in it."""

    fault: str
    strength: str
    data: bytes
    historic: bool


def _opaque(model: Model) -> bool:
    return model.opaque


ALL: tuple[Injector, ...] = (
    Injector("empty", {"collapsed": (shape.nothing_left, 0), "no mesh": (shape.nothing_left, 1)}, "no mesh"),
    Injector(
        "dummy-primitive", {f"{n} faces": (shape.primitive, n) for n in (320, 192, 48, 12)}, "12 faces",
    ),
    Injector(
        "over-cleaned", {f"{s:.0%}": (shape.parts_removed, s) for s in (0.01, 0.1, 0.3, 0.6, 1.0)}, "100%", loses_stages=True,
    ),
    Injector("spconv-confetti", {f"{s:.0%}": (shape.confetti, s) for s in (0.1, 0.3, 1.0)}, "100%"),
    Injector("floaters", {f"{n}": (shape.floating_triangles, n) for n in (10, 40, 200)}, "40"),
    Injector("blocky", {f"{n} cells": (shape.voxel_stairs, n) for n in (64, 32, 16)}, "32 cells"),
    Injector("double-shell", {f"{s:.0%}": (shape.inner_shell, s) for s in (0.3, 0.6, 1.0)}, "100%"),
    Injector("flipped-winding", {f"{s:.0%}": (shape.turned_faces, s) for s in (0.03, 0.1, 0.5, 1.0)}, "10%"),
    Injector("fp16-threshold", {f"{s:.0%}": (shape.stray_quads, s) for s in (0.01, 0.03, 0.1)}, "3%"),
    Injector("over-decimated", {f"{n}x": (shape.few_faces, n) for n in (10, 60, 115)}, "60x", simplifies=True),
    Injector("axis-swap", {k: (look.swapped_axes, i) for k, i in _AXES.items()}, "zyx"),
    Injector("black-texture", {f"{s:.0%}": (look.black, s) for s in (0.5, 0.8, 1.0)}, "100%"),
    Injector(
        "edge-of-grid", {f"{s:.1%}": (look.black_at_the_border, s) for s in (0.005, 0.015, 0.04)}, "1.5%",
    ),
    Injector(
        "transparent",
        {"half": (look.invisible, 0.5), "mask": (look.invisible_mask, 1.0), "all": (look.invisible, 1.0)}, "all",
        applies=_opaque,
    ),
    Injector(
        "alpha-lost", {"kept": (look.opaque_forced, 0), "dropped": (look.opaque_forced, 1)}, "dropped",
        applies=lambda m: not _opaque(m),
    ),
    Injector("alpha-holes", {"blend": (look.blend_forced, 1)}, "blend", applies=_opaque),
    Injector("unnormalised-trilinear", {f"{n}": (look.unnormalised, n) for n in (128, 64, 32)}, "64", applies=_opaque),
    Injector(
        "black-texel-bleed",
        {"half": (look.background_left, 0.5), "white": (look.background_left, 2), "black": (look.background_left, 1)},
        "black",
    ),
    Injector("sliver-charts", {f"{s:.0%}": (look.slivers, s) for s in (0.4, 0.66, 0.9)}, "66%"),
    Injector(
        "second-run", {"one bit": (look.second_run, 0), "30%": (look.second_run, 0.3)}, "30%", second=True,
    ),
)  # fmt: skip

BY_NAME = {i.name: i for i in ALL}


def inject(model: Model, name: str, strength: str, *, seed: int = 1) -> Injected:
    """A sound model with one fault in it, as a GLB."""
    injector = BY_NAME[name]
    change, number = injector.strengths[strength]
    made = change(model, number, np.random.default_rng(seed))
    return Injected(name, strength, made.write(), strength == injector.historic)
