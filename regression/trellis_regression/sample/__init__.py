"""The clean sample: varied assets, to learn what sound assets look like and to hold gates against.

Most are made by formula, the others by people (`people`).

They are sources; what gates are calibrated on is what an export road makes of them (see `matrix.Road`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from . import geometry as g
from . import paint as p
from . import people

Source = Callable[[], bytes]


def _spiral(turns: float, rise: float, n: int = 160) -> g.Points:
    t = np.linspace(0, 1, n)
    a = 2 * np.pi * turns * t
    return np.stack([0.7 * np.cos(a), rise * (t - 0.5), 0.7 * np.sin(a)], 1)


def _knot(n: int = 160) -> g.Points:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return 0.35 * np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], 1)


def _rough_ball(seed: int, amount: float, scale: float = 2.0) -> g.Mesh:
    return g.bent(g.ball(detail=4), lambda v: v * (1 + amount * g.noise(v, seed, scale))[:, None])


def _spiky() -> g.Mesh:
    directions = trimesh.creation.icosphere(subdivisions=1).vertices
    spikes = []
    for d in directions:
        cone = trimesh.creation.cone(radius=0.14, height=0.55, sections=12)
        spikes.append(cone.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], d)).apply_translation(0.55 * d))
    return g.together(g.ball(0.65), *spikes)


def _robot() -> g.Mesh:
    legs = [g.box(0.25, 0.6, 0.3, at=(x, -0.75, 0)) for x in (-0.25, 0.25)]
    arms = [g.rod(0.1, 0.8, at=(x, 0.0, 0)) for x in (-0.62, 0.62)]
    head = [g.ball(0.28, (0, 0.75, 0)), g.rod(0.03, 0.3, (0, 1.1, 0))]
    return g.together(g.box(0.9, 0.95, 0.5), *legs, *arms, *head)


def _chair() -> g.Mesh:
    legs = [g.box(0.1, 0.8, 0.1, at=(x, -0.5, z)) for x in (-0.4, 0.4) for z in (-0.4, 0.4)]
    return g.together(g.box(1, 0.12, 1, at=(0, -0.05, 0)), g.box(1, 1, 0.1, at=(0, 0.5, -0.45)), *legs)


def _tree() -> g.Mesh:
    crown = g.bent(g.ball(0.7, detail=4), lambda v: v * (1 + 0.25 * g.noise(v, 5, 5.0))[:, None] + [0, 0.4, 0])
    return g.together(g.rod(0.13, 1.0, (0, -0.5, 0)), crown)


def _stairs() -> g.Mesh:
    return g.together(*(g.box(1, 0.2 * (k + 1), 0.3, at=(0, 0.1 * (k + 1) - 0.6, 0.3 * k - 0.75)) for k in range(6)))


def _city() -> g.Mesh:
    random = np.random.default_rng(9)
    towers = [
        g.box(0.3, h, 0.3, at=(x, h / 2 - 0.5, z))
        for x in np.linspace(-0.8, 0.8, 4) for z in np.linspace(-0.8, 0.8, 4) for h in [random.uniform(0.3, 1.3)]
    ]  # fmt: skip
    return g.together(g.box(2.1, 0.1, 2.1, at=(0, -0.5, 0)), *towers)


def _car() -> g.Mesh:
    wheels = [g.rod(0.22, 0.15, (x, -0.35, z), axis=2) for x in (-0.55, 0.55) for z in (-0.42, 0.42)]
    return g.together(g.box(1.9, 0.4, 0.8), g.box(0.9, 0.35, 0.7, at=(-0.1, 0.35, 0)), *wheels)


def _chain() -> g.Mesh:
    return g.together(*(g.ring(0.3, 0.08, (0.42 * k - 0.84, 0, 0), axis=1 + k % 2) for k in range(5)))


def _snowman() -> g.Mesh:
    nose = trimesh.creation.cone(radius=0.06, height=0.3, sections=16).apply_translation((0, 0.75, 0.22))
    return g.together(g.ball(0.6, (0, -0.5, 0)), g.ball(0.42, (0, 0.25, 0)), g.ball(0.28, (0, 0.75, 0)), nose)


def _sword() -> g.Mesh:
    blade = g.bent(
        g.box(0.22, 1.5, 0.06, detail=3),
        lambda v: v * np.stack([1 - 0.35 * (v[:, 1] + 0.75), 1 + 0 * v[:, 0], 1 + 0 * v[:, 0]], 1),
    )
    return g.together(
        blade.apply_translation((0, 0.45, 0)),
        g.box(0.6, 0.1, 0.14, at=(0, -0.35, 0)),
        g.rod(0.06, 0.45, (0, -0.6, 0)),
        g.ball(0.11, (0, -0.85, 0)),
    )


CUP = [(0.0, -0.8), (0.45, -0.8), (0.6, 0.6), (0.5, 0.6), (0.38, -0.65), (0.0, -0.65)]
VASE = [
    (0.0, -1.0),
    (0.4, -1.0),
    (0.65, -0.4),
    (0.3, 0.3),
    (0.4, 0.9),
    (0.32, 0.9),
    (0.2, 0.3),
    (0.5, -0.4),
    (0.0, -0.85),
]
BOTTLE = [(0.0, -1.0), (0.4, -1.0), (0.4, 0.2), (0.14, 0.6), (0.14, 1.0), (0.0, 1.0)]
PAWN = [
    (0.0, -0.8),
    (0.5, -0.8),
    (0.5, -0.65),
    (0.2, -0.4),
    (0.15, 0.2),
    (0.3, 0.25),
    (0.3, 0.32),
    (0.1, 0.35),
    (0.28, 0.6),
    (0.0, 0.9),
]
LAMP = [(0.0, -1.0), (0.5, -1.0), (0.5, -0.92), (0.06, -0.88), (0.06, 0.3), (0.55, 0.35), (0.3, 0.95), (0.0, 0.95)]


def _piano() -> g.Mesh:
    return g.together(g.box(1.8, 0.3, 1.2), g.box(1.8, 0.5, 0.1, at=(0, 0.4, -0.55)), g.rod(0.1, 0.6, (0, -0.4, 0)))


def _balloons() -> g.Mesh:
    balls = [g.ball(0.35, c, 3) for c in ((-0.6, 0.4, 0), (0.6, 0.3, 0.2), (0, 0.7, -0.4))]
    return g.together(*balls, g.box(0.3, 0.2, 0.3, at=(0, -0.8, 0)))


def _hills(x: g.Points, z: g.Points) -> g.Points:
    return np.asarray(0.3 * np.sin(3 * x) * np.cos(2 * z))


def _leaf(x: g.Points, z: g.Points) -> g.Points:
    return np.asarray(0.3 * np.sin(1.5 * x) + 0.1 * z * z)


_S: dict[str, tuple[Callable[[], g.Mesh], p.Paint]] = {
    "blob": (lambda: _rough_ball(1, 0.3), p.marbled((0.8, 0.3, 0.2), (0.95, 0.85, 0.5), 1)),
    "asteroid": (lambda: _rough_ball(2, 0.45, 3.5), p.speckled((0.6, 0.5, 0.42), 2)),
    "planet": (lambda: g.ball(detail=4), p.marbled((0.1, 0.25, 0.7), (0.3, 0.6, 0.25), 3, 4.0)),
    "donut": (lambda: g.ring(0.7, 0.3), p.graded((0.55, 0.35, 0.2), (0.95, 0.55, 0.7))),
    "crate": (lambda: g.box(1.4, 1.4, 1.4, detail=3), p.banded((0.55, 0.38, 0.2), (0.45, 0.3, 0.15), 1, 0.35)),
    "tilted crate": (
        lambda: g.box(1.3, 1.0, 1.6, detail=3).apply_transform(trimesh.transformations.rotation_matrix(0.6, (1, 2, 0.5))),
        p.by_direction(4),
    ),
    "robot": (_robot, p.by_direction(5)),
    "chair": (_chair, p.speckled((0.7, 0.5, 0.3), 6)),
    "tree": (_tree, p.graded((0.35, 0.22, 0.1), (0.2, 0.65, 0.2))),
    "cup": (lambda: g.lathe(CUP), p.banded((0.9, 0.9, 0.88), (0.2, 0.35, 0.7), 1, 0.4)),
    "vase": (lambda: g.lathe(VASE), p.rainbow(7)),
    "pawn": (lambda: g.lathe(PAWN), p.plain(0.85, 0.8, 0.7)),
    "gear": (g.gear, p.plain(0.6, 0.6, 0.63, rough=0.3, metal=1.0)),
    "spring": (lambda: g.tube(_spiral(4, 1.6), 0.1), p.graded((0.3, 0.3, 0.35), (0.8, 0.8, 0.85), metal=1.0)),
    "knot": (lambda: g.tube(_knot(), 0.16, closed=True), p.rainbow(8)),
    "spiky": (_spiky, p.marbled((0.4, 0.7, 0.3), (0.85, 0.8, 0.3), 9)),
    "stairs": (_stairs, p.speckled((0.65, 0.63, 0.6), 10)),
    "city": (_city, p.by_direction(11)),
    "car": (_car, p.graded((0.1, 0.1, 0.12), (0.8, 0.12, 0.1))),
    "chain": (_chain, p.plain(0.75, 0.65, 0.3, rough=0.35, metal=1.0)),
    "snowman": (_snowman, p.graded((0.92, 0.94, 0.97), (0.98, 0.95, 0.9))),
    "sword": (_sword, p.graded((0.3, 0.2, 0.1), (0.75, 0.78, 0.8), metal=0.5)),
    "terrain": (lambda: g.sheet(_hills, thickness=0.3), p.marbled((0.3, 0.5, 0.2), (0.6, 0.5, 0.4), 12)),
    "cloth": (lambda: g.sheet(lambda x, z: 0.15 * np.sin(4 * x + z)), p.checked((0.8, 0.2, 0.2), (0.95, 0.95, 0.9), 0.33)),
    "plate": (lambda: g.sheet(lambda x, z: 0.2 * (x * x + z * z), thickness=0.07), p.plain(0.9, 0.9, 0.92, rough=0.2)),
    "tiles": (lambda: g.box(1.8, 0.4, 1.8, detail=4), p.checked((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.45)),
    "zebra": (lambda: _rough_ball(13, 0.2), p.banded((0.02, 0.02, 0.02), (0.95, 0.95, 0.95), 0, 0.2)),
    "tyre": (lambda: g.ring(0.7, 0.28, axis=2), p.plain(0.09, 0.09, 0.1, rough=0.9)),
    "piano": (_piano, p.plain(0.12, 0.12, 0.13, rough=0.2)),
    "swarm": (lambda: g.random_balls(14, 14), p.rainbow(15)),
    "balloons": (_balloons, p.rainbow(16)),
    "leaf": (lambda: g.sheet(_leaf), p.cut_out(p.graded((0.15, 0.45, 0.12), (0.45, 0.7, 0.2), 0), 17)),
    "lattice": (lambda: _rough_ball(18, 0.1), p.cut_out(p.marbled((0.5, 0.5, 0.55), (0.7, 0.6, 0.4), 18), 19)),
    "bottle": (lambda: g.lathe(BOTTLE), p.glass(p.plain(0.3, 0.6, 0.4, rough=0.1), 0.45, -0.3)),
    "ghost": (lambda: _rough_ball(20, 0.15), p.fading(p.plain(0.85, 0.9, 0.95))),
    "lamp": (lambda: g.lathe(LAMP), p.glass(p.graded((0.3, 0.25, 0.2), (0.95, 0.9, 0.7)), 0.7, 0.3)),
    "dusty torus": (lambda: g.with_dust(g.ring(0.7, 0.2), 1, 22), p.marbled((0.7, 0.6, 0.3), (0.3, 0.5, 0.6), 22)),
    "dusty robot": (lambda: g.with_dust(_robot(), 2, 23), p.by_direction(23)),
    "dusty tree": (lambda: g.with_dust(_tree(), 2, 24), p.graded((0.35, 0.25, 0.1), (0.3, 0.6, 0.25))),
}  # fmt: skip

BY_FORMULA, BY_PEOPLE = tuple(_S), tuple(people.catalogue())
NAMES = BY_FORMULA + BY_PEOPLE
"""The assets of the sample, in a fixed order."""
CALIBRATION = BY_FORMULA[::3] + BY_FORMULA[1::3] + BY_PEOPLE[::3] + BY_PEOPLE[1::3]
HELD_OUT = BY_FORMULA[2::3] + BY_PEOPLE[2::3]
"""Two thirds of each kind set the thresholds; the rest are controls that no threshold has seen."""
FEW = ("robot", "vase", "leaf")
"""For quick tests: hard edges and parts, a thin wall, an open sheet with cut-outs."""


def build(name: str) -> bytes:
    """The source GLB of one asset of the sample."""
    if name in BY_PEOPLE:
        return people.build(name)
    make, paint = _S[name]
    return p.painted(make(), paint)
