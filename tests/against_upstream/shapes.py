"""Random meshes of every kind that the road meets: closed, open, many parts, soups, damaged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from harness import Setting

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


def _ball(setting: Setting, subdivisions: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    waves = setting.random.normal(size=(4, 3)) * 3
    bumps = 1 + 0.15 * np.sin(ball.vertices @ waves.T + setting.random.normal(size=4)).sum(1) / 2
    return ball.vertices * bumps[:, None], ball.faces


def _primitive(setting: Setting) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    import trimesh

    kind = setting.one_of("ball", "ball", "box", "torus", "capsule", "tetrahedron")
    if kind == "ball":
        return _ball(setting, int(setting.random.integers(1, 5)))
    if kind == "box":
        made = trimesh.creation.box(setting.random.uniform(0.3, 2, 3))
    elif kind == "torus":
        made = trimesh.creation.torus(1.0, float(setting.random.uniform(0.1, 0.5)))
    elif kind == "capsule":
        made = trimesh.creation.capsule(float(setting.random.uniform(0.5, 2)), 0.4)
    else:
        return setting.random.normal(size=(4, 3)), np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [0, 2, 3]])
    return np.asarray(made.vertices), np.asarray(made.faces)


def _turned(setting: Setting, vertices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    q, _ = np.linalg.qr(setting.random.normal(size=(3, 3)))
    return vertices @ q.T * setting.random.uniform(0.2, 1) + setting.random.normal(size=3) * 0.5


def surface(setting: Setting, damaged: bool = True) -> tuple[str, Floats, Ints]:
    """A description, vertices in no particular box and faces."""
    kind = setting.one_of("closed", "open", "parts", "soup", "strip")
    if kind == "soup":
        count = int(setting.random.integers(1, 60))
        corners = setting.random.normal(size=(count, 1, 3)) * 0.5 + setting.random.normal(size=(count, 3, 3)) * 0.3
        vertices, faces = corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)
    elif kind == "strip":
        u, v = np.meshgrid(np.linspace(0, 1, 12), np.linspace(0, 1, 9), indexing="ij")
        vertices = np.stack([u, v, 0.3 * np.sin(4 * u + 3 * v + setting.random.normal())], -1).reshape(-1, 3)
        at = np.arange(108).reshape(12, 9)
        a, b, c, d = (x.reshape(-1) for x in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
        faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
        vertices = _turned(setting, vertices)
    else:
        held = [_primitive(setting) for _ in range(1 if kind != "parts" else int(setting.random.integers(2, 5)))]
        offsets = np.cumsum([0] + [len(v) for v, _ in held])
        vertices = np.concatenate([_turned(setting, v) for v, _ in held])
        faces = np.concatenate([f + o for (_, f), o in zip(held, offsets, strict=False)])
        if kind == "open":
            faces = faces[setting.random.random(len(faces)) > setting.random.uniform(0, 0.3)]
            faces = faces if len(faces) else np.array([[0, 1, 2]])
    said = kind
    if damaged and setting.chance(0.4):
        said += " damaged"
        again = setting.random.integers(len(faces), size=3)
        faces = np.concatenate([faces, faces[again[:1]], faces[again[1:2]][:, ::-1], faces[again[2:]][:, [0, 1, 1]]])
        faces = faces[setting.random.permutation(len(faces))]
    return said, vertices.astype(np.float32), faces.astype(np.int32)


def in_box(vertices: Floats, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], fill: float) -> Floats:
    """Moved and scaled uniformly into the middle of a box, of whose narrowest fit it takes a part."""
    least, most = vertices.min(0), vertices.max(0)
    scale = fill * ((high - low) / np.maximum(most - least, 1e-6)).min()
    return ((vertices - (least + most) / 2) * scale + (low + high) / 2).astype(np.float32)
