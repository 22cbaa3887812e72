"""Rasterisation by the definition, one pixel and one face at a time: slow, in exact integers, sharing no code with the
library. The top-left rule is put in another way here: a centre is moved by an infinitesimal to the right and a far
smaller one towards growing rows, after which it lies on no edge."""

from __future__ import annotations

import numpy as np


def sign_at_moved_point(ax: int, ay: int, bx: int, by: int, px: int, py: int) -> int:
    """On which side of the line a -> b the point p + (e, e^2) lies, e being infinitesimal; 0 only if a = b."""
    dx, dy = bx - ax, by - ay
    for value in (dx * (py - ay) - dy * (px - ax), -dy, dx):
        if value != 0:
            return 1 if value > 0 else -1
    return 0


def covers(points: list[tuple[int, int]], px: int, py: int) -> bool:
    (ax, ay), (bx, by), (cx, cy) = points
    signs = {
        sign_at_moved_point(ax, ay, bx, by, px, py),
        sign_at_moved_point(bx, by, cx, cy, px, py),
        sign_at_moved_point(cx, cy, ax, ay, px, py),
    }
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    return area != 0 and len(signs) == 1


def rasterize(
    clip: np.ndarray, faces: np.ndarray, height: int, width: int, bits: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For faces wholly within the view volume: (face + 1 or 0, perspective-correct weights [H, W, 3] not clamped,
    z/w of the nearest, gap to the depth of the second nearest)."""
    clip = clip.astype(np.float64)
    face_of = np.zeros((height, width), np.int64)
    weights = np.zeros((height, width, 3))
    depth = np.full((height, width, 2), np.inf)
    unit = 1 << bits
    for f, face in enumerate(faces):
        v = clip[face]
        screen = (v[:, :2] / v[:, 3:] + 1) / 2 * [width, height]
        points = [(int(np.rint(x * unit)), int(np.rint(y * unit))) for x, y in screen]
        for j in range(height):
            for i in range(width):
                if not covers(points, i * unit + unit // 2, j * unit + unit // 2):
                    continue
                affine = np.linalg.solve(np.vstack([screen.T, np.ones(3)]), [i + 0.5, j + 0.5, 1])
                z = affine @ (v[:, 2] / v[:, 3])
                if z < depth[j, i, 0]:
                    depth[j, i, 1] = depth[j, i, 0]
                    depth[j, i, 0] = z
                    face_of[j, i] = f + 1
                    weights[j, i] = affine / v[:, 3] / (affine / v[:, 3]).sum()
                else:
                    depth[j, i, 1] = min(depth[j, i, 1], z)
    return face_of, weights, depth
