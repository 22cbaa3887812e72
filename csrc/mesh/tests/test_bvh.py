"""Closest points and rays against brute force, in exact arithmetic where ties decide."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_mesh import Bvh
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

FEW = settings(deadline=None, max_examples=60)


def as_mesh(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32), torch.tensor(np.asarray(mesh.faces))


def soup(triangles: object) -> tuple[torch.Tensor, torch.Tensor]:
    corners = torch.as_tensor(np.asarray(triangles), dtype=torch.float32).reshape(-1, 3)
    return corners, torch.arange(len(corners)).view(-1, 3)


# ---- oracles ------------------------------------------------------------------------------------------------------


def brute_distance(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[P, F] distances in extended precision: the best of three clamped edges and, where it lies inside, the plane's foot.

    The foot is found by least squares in the triangle's own plane, an orthonormal frame from Gram and Schmidt.
    """
    t, p = triangles.astype(np.longdouble), points.astype(np.longdouble)
    best = np.full((len(p), len(t)), np.inf, dtype=np.longdouble)
    for i in range(3):
        a, b = t[:, i], t[:, (i + 1) % 3]
        e = b - a
        ee = (e * e).sum(-1)
        along = ((p[:, None] - a) * e).sum(-1)
        s = np.clip(np.divide(along, ee, out=np.zeros_like(along), where=ee > 0), 0, 1)
        best = np.minimum(best, np.linalg.norm((a + s[..., None] * e - p[:, None]).astype(np.longdouble), axis=-1))
    x = t[:, 1] - t[:, 0]
    lx = np.sqrt((x * x).sum(-1))
    x = np.divide(x, lx[:, None], out=np.zeros_like(x), where=lx[:, None] > 0)
    y = t[:, 2] - t[:, 0]
    skew = (y * x).sum(-1)
    y = y - skew[:, None] * x
    ly = np.sqrt((y * y).sum(-1))
    solid = (lx > 0) & (ly > 1e-12 * np.maximum(lx, np.abs(skew)))
    y = np.divide(y, ly[:, None], out=np.zeros_like(y), where=solid[:, None])
    d = p[:, None] - t[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        w = (d * y).sum(-1) / ly
        v = ((d * x).sum(-1) - w * skew) / lx
        inside = solid & (v >= 0) & (w >= 0) & (v + w <= 1)
    height = np.abs((d * np.cross(x, y)).sum(-1))
    return np.where(inside, np.minimum(best, height), best).astype(np.float64)


def exact_distance2(triangle: list[tuple[int, ...]], point: tuple[int, ...]) -> Fraction:
    """Squared distance between integer points and triangles as a fraction: no rounding, so that ties are ties."""

    def sub(a, b):
        return tuple(x - y for x, y in zip(a, b, strict=True))

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    best: Fraction | None = None
    for a, b in itertools.combinations(triangle, 2):
        e, d = sub(b, a), sub(point, a)
        s = Fraction(dot(d, e), dot(e, e)) if dot(e, e) else Fraction(0)
        s = min(max(s, Fraction(0)), Fraction(1))
        q = tuple(Fraction(x) - s * y for x, y in zip(d, e, strict=True))
        best = dot(q, q) if best is None else min(best, dot(q, q))
    assert best is not None
    a, b, c = triangle
    x, y, d = sub(b, a), sub(c, a), sub(point, a)
    xx, xy, yy, dx, dy = dot(x, x), dot(x, y), dot(y, y), dot(d, x), dot(d, y)
    det = xx * yy - xy * xy
    if det:
        v, w = Fraction(yy * dx - xy * dy, det), Fraction(xx * dy - xy * dx, det)
        if v >= 0 and w >= 0 and v + w <= 1:
            q = tuple(Fraction(k) - v * i - w * j for k, i, j in zip(d, x, y, strict=True))
            best = min(best, dot(q, q))
    return best


def brute_rays(triangles: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """[R, F] distances along rays after Möller and Trumbore, inf where the inside of a triangle is missed."""
    t, o = triangles.astype(np.float64), origins.astype(np.float64)[:, None]
    d = directions.astype(np.float64)
    d = (d / np.linalg.norm(d, axis=1, keepdims=True))[:, None]
    e1, e2 = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    h = np.cross(d, e2)
    with np.errstate(divide="ignore", invalid="ignore"):
        det = (e1 * h).sum(-1)
        s = o - t[:, 0]
        u = (s * h).sum(-1) / det
        q = np.cross(s, e1)
        v = (d * q).sum(-1) / det
        r = (e2 * q).sum(-1) / det
        return np.where((det != 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (r >= 0), r, np.inf)


RIGHT = [(0, 0, 0), (4, 0, 0), (0, 4, 0)]
HAND = [  # point, squared distance to RIGHT
    ((1, 1, 0), Fraction(0)),
    ((1, 1, 3), Fraction(9)),
    ((-3, -4, 0), Fraction(25)),
    ((2, -2, 0), Fraction(4)),
    ((4, 4, 0), Fraction(8)),
    ((5, 0, 2), Fraction(5)),
    ((0, 6, 0), Fraction(4)),
    ((3, 3, 1), Fraction(3)),
]


@pytest.mark.parametrize(("point", "squared"), HAND)
def test_oracles_know_the_handwritten_cases(point: tuple[int, int, int], squared: Fraction) -> None:
    assert exact_distance2(RIGHT, point) == squared
    assert brute_distance(np.array([RIGHT]), np.array([point]))[0, 0] == pytest.approx(math.sqrt(squared), abs=1e-12)


def test_oracles_know_triangles_without_area() -> None:
    segment, dot = [(0, 0, 0), (2, 0, 0), (4, 0, 0)], [(1, 1, 1)] * 3
    assert exact_distance2(segment, (3, 2, 0)) == 4 and exact_distance2(dot, (1, 1, 3)) == 4
    assert brute_distance(np.array([segment, dot]), np.array([[3.0, 2.0, 0.0]]))[0] == pytest.approx([2, math.sqrt(6)])


def test_ray_oracle_knows_the_handwritten_cases() -> None:
    rays = (
        np.array([[1, 1, 3], [1, 1, 3], [3, 3, 3], [1, 1, -2]]),
        np.array([[0, 0, -2], [0, 0, 1], [0, 0, -1], [0, 0, 1]]),
    )
    assert brute_rays(np.array([RIGHT]), *rays)[:, 0].tolist() == [3, math.inf, math.inf, 2]


# ---- closest point ------------------------------------------------------------------------------------------------


def assert_closest(triangles: np.ndarray, points: np.ndarray, relative: float = 2e-7) -> None:
    """The distance is the oracle's but for the rounding to float, and face and weights give it again."""
    v, f = soup(triangles)
    distance, face, weights = (x.numpy() for x in Bvh(v, f).closest_point(torch.as_tensor(points, dtype=torch.float32)))
    oracle = brute_distance(triangles, points)
    scale = max(np.abs(triangles).max(), np.abs(points).max())
    assert np.all(np.abs(distance - oracle.min(1)) <= relative * oracle.min(1) + 1e-12 * scale)
    assert np.all(oracle[np.arange(len(points)), face] <= oracle.min(1) * (1 + 2e-7) + 1e-12 * scale)
    assert np.all(weights >= 0) and np.allclose(weights.sum(1), 1, atol=3e-7)
    foot = (triangles[face].astype(np.float64) * weights[:, :, None]).sum(1)
    assert np.all(np.abs(np.linalg.norm(foot - points, axis=1) - distance) <= 5e-7 * scale)


@pytest.mark.parametrize("faces", [1, 2, 7, 8, 9, 63, 64, 65, 511, 513, 700])
def test_closest_point_equals_brute_force(faces: int) -> None:
    rng = np.random.default_rng(faces)
    triangles = (rng.random((faces, 1, 3)) + 0.1 * rng.standard_normal((faces, 3, 3))).astype(np.float32)
    points = np.concatenate(
        [rng.random((150, 3)) * 1.5, triangles[:50].mean(1), triangles[:50, 0], rng.standard_normal((20, 3)) * 1e4]
    )
    assert_closest(triangles, points.astype(np.float32))


@pytest.mark.parametrize("exponent", [-36, -30, -23, -22, -21, -12, -3, 3, 12, 30, 36])
def test_any_scale(exponent: int) -> None:
    rng = np.random.default_rng(1)
    scale = np.float32(10.0) ** exponent
    triangles = ((rng.random((300, 1, 3)) + 0.2 * rng.standard_normal((300, 3, 3))) * scale).astype(np.float32)
    assert_closest(triangles, (rng.standard_normal((100, 3)) * scale).astype(np.float32), relative=3e-7)


@pytest.mark.parametrize("thin", [1e-2, 1e-4, 1e-6, 1e-8])
def test_slivers(thin: float) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((60, 3)), rng.random((60, 3))
    c = a + rng.random((60, 1)) * (b - a) + thin * rng.standard_normal((60, 3))
    triangles = np.stack([a, b, c], 1).astype(np.float32)
    points = np.concatenate([rng.random((60, 3)), triangles.mean(1) + thin * rng.standard_normal((60, 3))])
    assert_closest(triangles, points.astype(np.float32))


CELL = st.tuples(*[st.integers(-3, 3)] * 3)


@FEW
@given(
    st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=20),
    st.lists(CELL, min_size=1, max_size=8),
    st.integers(-100, 100),
)
def test_small_integers_with_ties_and_triangles_without_area(triangles, points, exponent) -> None:
    """Corners, edges and equal triangles meet all the time here: the face must be the first of the nearest ones."""
    v, f = soup(triangles)
    scale = 2.0**exponent
    distance, face, _ = Bvh(v * scale, f).closest_point(torch.tensor(points, dtype=torch.float32) * scale)
    for p, point in enumerate(points):
        exact = [exact_distance2([*t], point) for t in triangles]
        assert int(face[p]) == exact.index(min(exact))
        assert float(distance[p]) == np.float32(math.sqrt(min(exact)) * scale)


def test_far_away_queries_and_faces() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(subdivisions=3))
    distance, _, _ = Bvh(v, f).closest_point(torch.tensor([[1e6, 0, 0], [0, 0, -1e20], [3e38, 3e38, 3e38]]))
    assert distance[0] == pytest.approx(1e6 - 1, rel=1e-6) and distance[1] == 1e20 and distance[2] == math.inf
    far, _ = soup([RIGHT])
    face = Bvh(torch.cat([v, far + 1e7]), torch.cat([f, torch.arange(3)[None] + len(v)])).closest_point(
        torch.full((1, 3), 9e6)
    )[1]
    assert face.item() == len(f)


def test_max_distance() -> None:
    v, f = as_mesh(trimesh.creation.box())
    points = torch.tensor([[1.0, 0, 0], [1.25, 0, 0], [1.5, 0, 0]])
    distance, face, weights = Bvh(v, f).closest_point(points, max_distance=0.75)
    assert distance.tolist() == [0.5, 0.75, math.inf] and face[2] == -1 and weights[2].tolist() == [0, 0, 0]
    assert (face[:2] >= 0).all() and Bvh(v, f).closest_point(points, max_distance=0.0)[0].isinf().all()
    assert Bvh(v, f).closest_point(v, max_distance=0.0)[0].tolist() == [0.0] * 8


def test_points_that_are_not_finite() -> None:
    v, f = as_mesh(trimesh.creation.box())
    points = torch.tensor([[math.nan, 0, 0], [0, math.inf, 0], [0.0, 0, 2]])
    distance, face, weights = Bvh(v, f).closest_point(points)
    assert distance.isnan().tolist() == [True, True, False] and face[:2].tolist() == [-1, -1] and distance[2] == 1.5
    assert weights[:2].eq(0).all()


def test_faces_that_are_not_finite_are_never_found() -> None:
    triangles = np.random.default_rng(3).random((30, 3, 3)).astype(np.float32)
    v, f = soup(triangles)
    bad = v.clone()
    bad[3 * 4], bad[3 * 17 + 1, 2], bad[3 * 29 + 2, 0] = math.nan, math.inf, -math.inf
    kept = [i for i in range(30) if i not in (4, 17, 29)]
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    d1, i1, w1 = Bvh(bad, f).closest_point(points)
    d2, i2, w2 = Bvh(v, f[kept]).closest_point(points)
    assert torch.equal(d1, d2) and torch.equal(i1, torch.tensor(kept)[i2]) and torch.equal(w1, w2)
    d, i, _ = Bvh(torch.full((3, 3), math.nan), f[:1]).closest_point(points[:2])
    assert d.tolist() == [math.inf, math.inf] and i.tolist() == [-1, -1]


def test_results_do_not_depend_on_the_order_of_points_or_faces() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(subdivisions=3))
    g = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 3, generator=g)
    distance, face, weights = Bvh(v, f).closest_point(points)
    shuffle = torch.randperm(len(points), generator=g)
    for whole, part in zip((distance, face, weights), Bvh(v, f).closest_point(points[shuffle]), strict=True):
        assert torch.equal(whole[shuffle], part)
    mixed = torch.randperm(len(f), generator=g)
    assert torch.equal(Bvh(v, f[mixed]).closest_point(points)[0], distance)
    for row in range(0, 3000, 100):
        assert torch.equal(Bvh(v, f).closest_point(points[row : row + 1])[1], face[row : row + 1])


def test_same_bits_for_any_number_of_threads() -> None:
    v, f = as_mesh(trimesh.creation.icosphere(subdivisions=5))
    g = torch.Generator().manual_seed(0)
    points, directions = torch.randn(5000, 3, generator=g), torch.randn(5000, 3, generator=g)

    def everything() -> list[object]:
        bvh = Bvh(v, f)
        rays = points, directions
        return [
            bvh.nodes,
            bvh.leaves.nan_to_num(),
            bvh.ids,
            bvh.closest_point(points),
            bvh.ray_cast(*rays),
            bvh.count_hits(*rays),
        ]

    assert_same_bits_for_any_thread_count(EXTENSION, everything)


def test_no_points_and_strides_and_index_types() -> None:
    v, f = as_mesh(trimesh.creation.box())
    distance, face, weights = Bvh(v, f).closest_point(torch.empty(0, 3))
    assert distance.shape == (0,) and face.shape == (0,) and weights.shape == (0, 3)
    assert face.dtype == torch.int64 and Bvh(v, f).count_hits(torch.empty(0, 3), torch.empty(0, 3)).shape == (0,)
    points = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    want = Bvh(v, f).closest_point(points[:, :3].contiguous())
    got = Bvh(v.repeat(1, 2)[:, :3], f.int().t().contiguous().t()).closest_point(points[:, :3])
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
    assert torch.equal(Bvh(v, f).bounds, torch.tensor([[-0.5] * 3, [0.5] * 3]))


# ---- rays ---------------------------------------------------------------------------------------------------------


def test_rays_equal_brute_force() -> None:
    rng = np.random.default_rng(4)
    triangles = (rng.random((900, 1, 3)) + 0.15 * rng.standard_normal((900, 3, 3))).astype(np.float32)
    o = (rng.random((400, 3)) * 2 - 0.5).astype(np.float32)
    d = (rng.standard_normal((400, 3)) * 10.0 ** rng.integers(-20, 20, (400, 1))).astype(np.float32)
    v, f = soup(triangles)
    bvh, rays = Bvh(v, f), (torch.tensor(o), torch.tensor(d))
    oracle = brute_rays(triangles, o, d)
    distance, face, weights = (x.numpy() for x in bvh.ray_cast(*rays))
    np.testing.assert_allclose(distance, oracle.min(1), rtol=1e-6, atol=1e-6)
    hit = np.isfinite(distance)
    assert hit.sum() > 100 and np.array_equal(face[hit], oracle.argmin(1)[hit]) and np.all(face[~hit] == -1)
    unit = d / np.linalg.norm(d.astype(np.float64), axis=1, keepdims=True)
    at = (triangles[face[hit]] * weights[hit][:, :, None]).sum(1)
    np.testing.assert_allclose(at, (o + unit * np.where(hit, distance, 0)[:, None])[hit], atol=2e-6)
    assert np.array_equal(bvh.count_hits(*rays).numpy(), np.isfinite(oracle).sum(1))
    limited = np.where((oracle >= 0.25) & (oracle <= 0.75), oracle, np.inf)
    np.testing.assert_allclose(bvh.ray_cast(*rays, t_min=0.25, t_max=0.75)[0], limited.min(1), rtol=1e-6, atol=1e-6)
    assert np.array_equal(bvh.count_hits(*rays, t_min=0.25, t_max=0.75).numpy(), np.isfinite(limited).sum(1))


@pytest.mark.parametrize("direction", [(0, 0, -1), (0, 0, 1), (0.3, -0.2, -1), (1, 1, 1), (-1, 0, 1e-3)])
def test_no_ray_passes_through_edges_or_corners(direction: tuple[float, float, float]) -> None:
    """Rays aimed at corners and at points of edges of a closed mesh, from inside and from outside."""
    v, f = as_mesh(trimesh.creation.icosphere(subdivisions=2))
    edges = torch.cat([f[:, [0, 1]], f[:, [1, 2]]])
    targets = torch.cat([v, (v[edges[:, 0]] + v[edges[:, 1]]) / 2, v[edges[:, 0]] * 0.75 + v[edges[:, 1]] * 0.25])
    bvh, d = Bvh(v, f), torch.tensor(direction, dtype=torch.float32)
    front = targets @ d < -0.3 * d.norm()  # not near the silhouette
    assert bvh.ray_cast(targets[front] - 3 * d, d.expand(int(front.sum()), 3))[0].isfinite().all()
    # From the middle outward, and the count from there has to be odd wherever the rays pass.
    middle = torch.zeros_like(targets)
    assert bvh.ray_cast(middle, targets)[0].isfinite().all()
    assert (bvh.count_hits(middle, targets) == 1).all()
    assert (bvh.count_hits(targets - 3 * d, d.expand_as(targets)) % 2 == 0).all()


def test_rays_along_the_axes_of_a_box() -> None:
    """Along diagonals of its sides, its edges, and within its sides: parity still tells inside from outside."""
    v, f = as_mesh(trimesh.creation.box(extents=(2, 2, 2)))
    bvh = Bvh(v, f)
    grid = torch.tensor(list(itertools.product([-1.5, -0.5, 0.0, 0.5, 1.5], repeat=3)))
    inside = (grid.abs() < 1).all(1)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            d = torch.zeros(3)
            d[axis] = sign
            assert torch.equal(bvh.count_hits(grid, d.expand_as(grid)) % 2 == 1, inside)
    assert torch.equal(bvh.count_hits(grid, torch.ones_like(grid)) % 2 == 1, inside)
    distance, face, _ = bvh.ray_cast(
        torch.tensor([[0.0, 0, 3], [0, 0, 0], [3, 3, 3]]), torch.tensor([[0.0, 0, -1], [0, 0, -9], [1, 1, 1]])
    )
    assert distance.tolist() == [2, 1, math.inf] and face[2] == -1


def test_first_of_equal_faces_is_hit() -> None:
    v, f = soup([RIGHT] * 20)
    _, face, _ = Bvh(v, f).ray_cast(torch.tensor([[1.0, 1, 1]]), torch.tensor([[0.0, 0, -1]]))
    assert (
        face.item() == 0
        and Bvh(v, f).count_hits(torch.tensor([[1.0, 1, 1]]), torch.tensor([[0.0, 0, -1]])).item() == 20
    )


def test_rays_that_are_none() -> None:
    v, f = as_mesh(trimesh.creation.box())
    o = torch.tensor([[0.0, 0, 3], [math.nan, 0, 0], [0, 0, 0], [0, 0, 0]])
    d = torch.tensor([[0.0, 0, 0], [0, 0, 1], [math.inf, 0, 0], [0, 0, 1]])
    distance, face, weights = Bvh(v, f).ray_cast(o, d)
    assert distance[:3].isnan().all() and face[:3].eq(-1).all() and weights[:3].eq(0).all() and distance[3] == 0.5
    assert Bvh(v, f).count_hits(o, d).tolist() == [-1, -1, -1, 1]


# ---- arguments ----------------------------------------------------------------------------------------------------

BOX = as_mesh(trimesh.creation.box())
THREE = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Bvh(BOX[0], BOX[1][:0]), ValueError, "faces: expected at least one face, got a mesh without faces"),
        (lambda: Bvh(BOX[0], BOX[1] + 1), ValueError, "faces: expected vertex indices in \\[0, 8\\), got 1 to 8"),
        (lambda: Bvh(BOX[0].double(), BOX[1]), TypeError, "vertices: expected dtype float32, got float64"),
        (
            lambda: Bvh(*BOX).closest_point(THREE[:, :2]),
            ValueError,
            "points: expected shape \\[N, 3\\], got \\[2, 2\\]",
        ),
        (lambda: Bvh(*BOX).closest_point(THREE.to("meta")), ValueError, "points: expected a tensor on cpu"),
        (lambda: Bvh(*BOX).closest_point(THREE, max_distance=-1.0), ValueError, "max_distance: .* got -1.0"),
        (lambda: Bvh(*BOX).closest_point(THREE, max_distance=math.nan), ValueError, "max_distance: .* got nan"),
        (lambda: Bvh(*BOX).ray_cast(THREE.int(), THREE), TypeError, "origins: expected dtype float32, got int32"),
        (lambda: Bvh(*BOX).ray_cast(THREE, THREE[:1]), ValueError, "directions: expected 2 rows like origins, got 1"),
        (lambda: Bvh(*BOX).ray_cast(THREE, THREE, t_min=-0.5), ValueError, "t_min: .* got -0.5"),
        (lambda: Bvh(*BOX).count_hits(THREE, THREE, t_max=-0.5), ValueError, "t_max: .* got -0.5"),
        (lambda: Bvh(*BOX).count_hits(THREE, THREE[0]), ValueError, "directions: expected shape"),
    ],
)
def test_errors_name_argument_expected_and_actual(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()


def test_operators_pass_opcheck() -> None:
    bvh = Bvh(*BOX)
    tree = (bvh.nodes, bvh.leaves.nan_to_num(), bvh.ids, bvh.num_faces)
    checks = ("test_schema", "test_faketensor")
    ops = torch.ops.trellis_mesh
    torch.library.opcheck(ops.bvh_closest_point.default, (*tree, THREE, math.inf), test_utils=checks)
    torch.library.opcheck(ops.bvh_ray_cast.default, (*tree, THREE, THREE + 1, 0.0, math.inf), test_utils=checks)
    torch.library.opcheck(ops.bvh_count_hits.default, (*tree, THREE, THREE + 1, 0.0, math.inf), test_utils=checks)
    torch.library.opcheck(
        ops.bvh_build.default, (BOX[0].repeat(3, 1), BOX[1].int().repeat(1, 1)), test_utils=("test_schema",)
    )
