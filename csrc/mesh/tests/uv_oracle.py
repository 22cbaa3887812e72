"""Independent judges of texture layouts, in NumPy and Python fractions; tests/test_unwrap_measure.py verifies them."""

from __future__ import annotations

import itertools

import numpy as np
import torch

TOLERANCE = 2.0**-22  # of the texture's side: what rounding of coordinates may do


def clipped(polygon: list[np.ndarray], a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """The part of a convex polygon to the left of the line from a to b (Sutherland and Hodgman)."""
    side = [float((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])) for p in polygon]
    result = []
    for (p, sp), (q, sq) in zip(
        zip(polygon, side, strict=True), zip(polygon[1:] + polygon[:1], side[1:] + side[:1], strict=True), strict=True
    ):
        if sp >= 0:
            result.append(p)
        if sp * sq < 0:
            result.append(p + (q - p) * (sp / (sp - sq)))
    return result


def signed_area(p: np.ndarray) -> float:
    return 0.5 * float((p[1, 0] - p[0, 0]) * (p[2, 1] - p[0, 1]) - (p[2, 0] - p[0, 0]) * (p[1, 1] - p[0, 1]))


def common_part(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Corners [N, 2] of what two triangles have in common, from clipping one by the edges of the other."""
    if signed_area(p) == 0 or signed_area(q) == 0:
        return np.zeros((0, 2))
    if signed_area(q) < 0:
        q = q[::-1]
    polygon = list(p)
    for i in range(3):
        polygon = clipped(polygon, q[i], q[(i + 1) % 3])
    return np.array(polygon).reshape(-1, 2)


def area_and_width(polygon: np.ndarray) -> tuple[float, float]:
    """Area of a convex polygon, and its least extent in any direction (which is across one of its edges)."""
    if len(polygon) < 3:
        return 0.0, 0.0
    x, along = polygon, np.roll(polygon, -1, axis=0) - polygon
    area = abs(0.5 * float((x[:, 0] * np.roll(x[:, 1], -1) - x[:, 1] * np.roll(x[:, 0], -1)).sum()))
    widths = []
    for origin, edge in zip(x, along, strict=True):
        if (length := float(np.hypot(*edge))) > 0:
            widths.append(np.abs(edge[0] * (x[:, 1] - origin[1]) - edge[1] * (x[:, 0] - origin[0])).max() / length)
    return area, float(min(widths, default=0.0))


def overlapping_pairs(corners: np.ndarray, width: float = TOLERANCE) -> set[tuple[int, int]]:
    """Pairs of triangles of corners [F, 3, 2] whose common part has an area and is wider than `width`."""
    low, high = corners.min(1), corners.max(1)
    pairs = set()
    for i in range(len(corners)):
        near = np.flatnonzero((low[i + 1 :] < high[i]).all(1) & (high[i + 1 :] > low[i]).all(1)) + i + 1
        for j in near:
            common = area_and_width(common_part(corners[i].astype(np.float64), corners[j].astype(np.float64)))
            if common[0] > 0 and common[1] > width:
                pairs.add((i, int(j)))
    return pairs


def texel_counts(corners: np.ndarray, resolution: int) -> np.ndarray:
    """How many triangles hold the centre of each texel, those exactly on an edge left out; int [R, R]."""
    counts = np.zeros((resolution, resolution), dtype=int)
    scaled = corners.astype(np.float64) * resolution
    for t in scaled:
        if signed_area(t) < 0:
            t = t[::-1]
        x0, y0 = np.maximum(np.floor(t.min(0) - 0.5), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(t.max(0) + 0.5), resolution).astype(int)
        y, x = np.mgrid[y0:y1, x0:x1] + 0.5
        inside = np.ones(x.shape, dtype=bool)
        for k in range(3):
            (ax, ay), (bx, by) = t[k], t[(k + 1) % 3]
            inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0
        counts[y0:y1, x0:x1] += inside
    return counts


def stretch(p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """Singular values, largest first, of the linear map from texture triangle t [3, 2] to surface triangle p [3, 3]."""
    to_surface = np.stack([p[1] - p[0], p[2] - p[0]], 1).astype(np.float64)
    to_texture = np.stack([t[1] - t[0], t[2] - t[0]], 1).astype(np.float64)
    largest, smallest = np.linalg.svd(to_surface @ np.linalg.inv(to_texture), compute_uv=False)
    return float(largest), float(smallest)


def assert_valid_unwrap(
    vertices: torch.Tensor, faces: torch.Tensor, result: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    """The contract of `unwrap_uv` with method "fast", judged without any of its code."""
    v, f, uv, vertex_map = result
    assert v.dtype == uv.dtype == torch.float32
    assert f.dtype == vertex_map.dtype == torch.int32
    assert f.shape == faces.shape and len(uv) == len(v) == len(vertex_map)
    assert torch.equal(v, vertices[vertex_map.long()])
    assert torch.equal(vertex_map[f.long()].long(), faces.long())
    assert sorted(set(f.flatten().tolist())) == list(range(len(v))), "a new vertex that no face names"
    assert bool(uv.isfinite().all()) and bool((uv >= 0).all()) and bool((uv <= 1).all())
    corners = uv.numpy()[f.long().numpy()].astype(np.float64)
    for i, t in enumerate(corners):
        longest = max(np.linalg.norm(a - b) for a, b in itertools.combinations(t, 2))
        assert 2 * signed_area(t) >= -TOLERANCE * longest, f"face {i} is turned over"
    assert not overlapping_pairs(corners)
