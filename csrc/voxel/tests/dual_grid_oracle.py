"""What a dual grid of a triangle soup is, by exact arithmetic: unit box, float32 vertices away from all lattice planes."""

from fractions import Fraction
from itertools import product

import numpy as np


def orientation(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def exact_crossings(vertices, faces, size):
    """(x, y, z, axis, position) for each face and inner lattice line that meet, exactly; and whether any is a tie."""
    found, tie = [], False
    for face in faces:
        corners = [[Fraction(float(x)) for x in vertices[i]] for i in face]
        hits = []
        for w in range(3):
            u, v = (w + 1) % 3, (w + 2) % 3
            flat = [(p[u], p[v]) for p in corners]
            for i, j in product(range(1, size), repeat=2):
                line = (Fraction(i, size), Fraction(j, size))
                weights = [
                    orientation(flat[1], flat[2], line),
                    orientation(flat[2], flat[0], line),
                    orientation(flat[0], flat[1], line),
                ]
                total = sum(weights)
                if any(x * total < 0 for x in weights) or (total == 0 and any(weights)):
                    continue
                if any(x == 0 for x in weights):
                    tie = True  # the line meets the face's border
                    continue
                depth = sum(x * p[w] for x, p in zip(weights, corners, strict=True)) / total
                tie = tie or (depth * size).denominator == 1
                layer = int(depth * size) if depth >= 0 else -1
                if not 0 <= layer < size:
                    continue
                cell, at = [0, 0, 0], [0.0, 0.0, 0.0]
                cell[u], cell[v], cell[w] = i - 1, j - 1, layer
                at[u], at[v], at[w] = i / size, j / size, float(depth)
                hits.append((*cell, w, np.array(at)))
        found.append(hits)
    return found, tie


def clip(polygon, axis, bound, sign):
    """The part of a convex polygon on one side of an axis-aligned plane."""
    kept = []
    for p, q in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        dp, dq = sign * (p[axis] - bound), sign * (q[axis] - bound)
        if dp >= 0:
            kept.append(p)
        if (dp > 0 > dq) or (dp < 0 < dq):
            kept.append(p + (q - p) * (dp / (dp - dq)))
    return kept


def overlaps(points, low, high):
    """Whether a triangle or segment meets a box."""
    polygon = [np.asarray(p, float) for p in points]
    for axis in range(3):
        polygon = clip(polygon, axis, low[axis], 1)
        polygon = clip(polygon, axis, high[axis], -1) if polygon else []
    return bool(polygon)


def least_in_box(A, b, low, high):
    """The minimum of x'Ax - 2b'x over a box, by trying each set of tight bounds."""
    best = None
    for sides in product((0, 1, 2), repeat=3):
        free = [k for k in range(3) if sides[k] == 0]
        x = np.where(np.array(sides) == 1, low, high).astype(float)
        if free:
            fixed = [k for k in range(3) if sides[k]]
            x[free] = np.linalg.solve(A[np.ix_(free, free)], b[free] - A[np.ix_(free, fixed)] @ x[fixed])
        if (x >= low - 1e-12).all() and (x <= high + 1e-12).all():
            error = x @ A @ x - 2 * b @ x
            if best is None or error < best[0]:
                best = (error, x)
    return best[1]


def oracle(vertices, faces, size, use_faces, boundary_weight, regularization_weight):
    """Dual vertices by voxel (None where something only touches the voxel), flags, and whether a crossing is a tie."""
    crossings, tie = exact_crossings(vertices, faces, size)
    around, flags = {}, set()
    for number, hits in enumerate(crossings):
        for *cell, w, at in hits:
            flags.add((*cell, w))
            for du, dv in product((0, 1), repeat=2):
                voxel = list(cell)
                voxel[(w + 1) % 3] += du
                voxel[(w + 2) % 3] += dv
                around.setdefault(tuple(voxel), []).append((number, at))
    sides = [tuple(sorted((f[k], f[(k + 1) % 3]))) for f in faces for k in range(3)]
    boundary = [s for s in set(sides) if sides.count(s) == 1]
    v = np.asarray(vertices, float)
    duals = {}
    for voxel, hits in around.items():
        low, high = np.array(voxel) / size, (np.array(voxel) + 1) / size
        numbers = [n for n, _ in hits]
        touches = False

        def meets(points, low=low, high=high):
            nonlocal touches
            inside = overlaps(points, low + 1e-5, high - 1e-5)
            touches = touches or inside != overlaps(points, low - 1e-5, high + 1e-5)
            return inside

        if use_faces:
            numbers += [n for n, f in enumerate(faces) if meets(v[list(f)])]
        mean = np.mean([at for _, at in hits], axis=0)
        pull = regularization_weight * len(hits)
        A, b = pull * np.eye(3), pull * mean
        for n in numbers:
            p = v[list(faces[n])]
            normal = np.cross(p[1] - p[0], p[2] - p[0])
            normal /= np.linalg.norm(normal)
            A = A + np.outer(normal, normal)
            b = b + normal * (normal @ p[0])
        for i, j in boundary:
            if boundary_weight and meets([v[i], v[j]]):
                d = (v[j] - v[i]) / np.linalg.norm(v[j] - v[i])
                P = boundary_weight * (np.eye(3) - np.outer(d, d))
                A, b = A + P, b + P @ v[i]
        duals[voxel] = None if touches else least_in_box(A, b, low, high)
    return duals, flags, tie
