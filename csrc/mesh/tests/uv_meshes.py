"""Meshes that unwrapping is tried on: plain ones, and ones of every bad habit."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

Mesh = tuple[torch.Tensor, torch.Tensor]


def as_mesh(mesh: trimesh.Trimesh) -> Mesh:
    return torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32), torch.tensor(np.asarray(mesh.faces))


def moebius(segments: int) -> Mesh:
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    rims = []
    for side in (0.4, -0.4):
        radius = 1 + side * np.cos(angle / 2)
        rims.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), side * np.sin(angle / 2)], 1))
    faces = []
    for i in range(segments):
        a, b = i, segments + i
        c, d = (i + 1, segments + i + 1) if i + 1 < segments else (segments, 0)
        faces += [(a, b, c), (b, d, c)]
    return torch.tensor(np.concatenate(rims), dtype=torch.float32), torch.tensor(faces)


def height_field(heights: np.ndarray) -> Mesh:
    h, w = heights.shape
    y, x = np.mgrid[:h, :w]
    i = np.arange(h * w).reshape(h, w)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, :-1].ravel(), i[1:, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    return torch.tensor(np.stack([x, y, heights], -1).reshape(-1, 3), dtype=torch.float32), torch.tensor(faces)


def spiral(turns: float, steps: int) -> Mesh:
    """A flat ring-shaped ramp that passes over itself: each face looks up, but a projection would overlap."""
    angle = np.linspace(0, turns * 2 * np.pi, steps)
    rims = [np.stack([r * np.cos(angle), r * np.sin(angle), 0.02 * angle], 1) for r in (0.5, 1.0)]
    faces = [q for i in range(steps - 1) for q in ((i, steps + i, steps + i + 1), (i, steps + i + 1, i + 1))]
    return torch.tensor(np.concatenate(rims), dtype=torch.float32), torch.tensor(faces)


BOX = as_mesh(trimesh.creation.box())
ONE = (torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
NAMED: dict[str, Mesh] = {
    "box": BOX,
    "one triangle": ONE,
    "sphere": as_mesh(trimesh.creation.icosphere(subdivisions=2)),
    "torus": as_mesh(trimesh.creation.torus(1, 0.4, major_sections=24, minor_sections=12)),
    "annulus": as_mesh(trimesh.creation.annulus(0.3, 1, 0.2)),
    "moebius": moebius(16),
    "spiral": spiral(2.5, 80),
    "rough": height_field(np.random.default_rng(3).standard_normal((16, 16)) * 2),
    "two faces back to back": (ONE[0], torch.tensor([[0, 1, 2], [0, 2, 1]])),
    "a face twice": (ONE[0], torch.tensor([[0, 1, 2], [0, 1, 2]])),
    "three faces on an edge": (
        torch.tensor([[0.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, 0]]),
        torch.tensor([[0, 1, 2], [0, 1, 3], [1, 0, 4]]),
    ),
    "bow tie": (
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]),
        torch.tensor([[0, 1, 2], [0, 3, 4]]),
    ),
}


def random_mesh(seed: int) -> Mesh:
    """Meshes of every bad habit: soups, duplicates, conflicts of winding, holes, slivers, collapsed faces."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4)
    if kind == 0:
        count = int(rng.integers(3, 20))
        v, f = rng.standard_normal((count, 3)), rng.integers(0, count, (rng.integers(0, 30), 3))
    elif kind == 1:  # few positions, so that much coincides
        count = int(rng.integers(3, 20))
        v, f = rng.integers(0, 3, (count, 3)).astype(float), rng.integers(0, count, (rng.integers(0, 30), 3))
    elif kind == 2:
        v, f = (
            t.numpy()
            for t in height_field(rng.standard_normal((int(rng.integers(2, 9)),) * 2) * rng.choice([0, 0.2, 5]))
        )
    else:
        named = list(NAMED.values())[int(rng.integers(0, len(NAMED)))]
        v, f = (t.numpy() for t in named)
        v, f = v + rng.standard_normal(v.shape) * rng.choice([0, 0.01, 0.3]), f.copy()
    if len(f):
        f = f[rng.random(len(f)) < rng.choice([1, 0.8])]
    if len(f):
        pick = rng.integers(0, len(f), 3)
        bad = rng.integers(0, 5)
        if bad == 0:
            f[pick] = f[pick][:, ::-1]
        elif bad == 1:
            f = np.concatenate([f, f[pick]])
        elif bad == 2:
            f[pick, 1] = f[pick, 0]
        elif bad == 3:
            v = v * np.exp(rng.standard_normal(3) * 3)
    v = v * 10.0 ** rng.choice([0, 0, -12, 12])
    return torch.tensor(v, dtype=torch.float32), torch.tensor(np.asarray(f, dtype=np.int64).reshape(-1, 3))
