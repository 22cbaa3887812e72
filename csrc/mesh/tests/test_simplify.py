"""Simplification: counts, topology, boundaries, sides, distances that hold, and the quality of the result."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trellis_mesh import (
    MeshResult,
    SimplifyReport,
    boundary_edges,
    connected_components,
    edges,
    face_normals,
    repair_non_manifold_edges,
)
from trellis_mesh import simplify as simplify_there
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

FEW = settings(deadline=None, max_examples=30)

Simplify = Callable[..., MeshResult[SimplifyReport]]


@pytest.fixture(
    scope="module",
    params=[
        "cpu",
        pytest.param(
            "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
        ),
    ],
)
def simplify(request: pytest.FixtureRequest) -> Simplify:
    """simplify on each device, for meshes on the CPU."""

    def call(v: torch.Tensor, f: torch.Tensor, **options: Any) -> MeshResult[SimplifyReport]:
        result = simplify_there(v.to(request.param), f.to(request.param), **options)
        assert result.vertices.device.type == result.report.vertex_map.device.type == request.param
        report = replace(result.report, vertex_map=result.report.vertex_map.cpu())
        return MeshResult(result.vertices.cpu(), result.faces.cpu(), report)

    return call


def as_mesh(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32), torch.tensor(np.asarray(mesh.faces)).int()


def sphere(level: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return as_mesh(trimesh.creation.icosphere(level))


def grid(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The unit square in n x n cells."""
    i = torch.arange((n + 1) ** 2, dtype=torch.int32).view(n + 1, n + 1)
    a, b, c, d = (x.reshape(-1) for x in (i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]))
    f = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    x = torch.arange(n + 1) / n
    return torch.stack([x.repeat_interleave(n + 1), x.repeat(n + 1), torch.zeros((n + 1) ** 2)], 1), f


def distances(points: torch.Tensor, v: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Exact distances of points to a mesh, point by point against all triangles."""
    t = v[f.long()].double()
    a, ab, ac = t[:, 0], t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    normal = torch.linalg.cross(ab, ac)
    n2 = (normal**2).sum(1).clamp_min(1e-300)
    result = []
    for p in points.double():
        ap = p - a
        best = torch.full((len(t),), math.inf, dtype=torch.float64)
        for i in range(3):
            s, e = t[:, i], t[:, (i + 1) % 3] - t[:, i]
            k = (((p - s) * e).sum(1) / (e**2).sum(1).clamp_min(1e-300)).clamp(0, 1)
            best = torch.minimum(best, (p - s - k[:, None] * e).norm(dim=1))
        w = (torch.linalg.cross(ab, ap) * normal).sum(1) / n2
        u = (torch.linalg.cross(ap, ac) * normal).sum(1) / n2
        inside = (u >= 0) & (w >= 0) & (u + w <= 1)
        plane = (ap * normal).sum(1).abs() / n2.sqrt()
        result.append(torch.where(inside, torch.minimum(plane, best), best).min())
    return torch.stack(result)


def quality(v: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    t = v[f.long()].double()
    twice_area = torch.linalg.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).norm(dim=1)
    return 2 * math.sqrt(3) * twice_area / sum(((t[:, i] - t[:, i - 1]) ** 2).sum(1) for i in range(3))


def euler(v: torch.Tensor, f: torch.Tensor) -> int:
    return len(v) - len(edges(f)) + len(f)


def assert_manifold(faces: torch.Tensor) -> None:
    """Each edge has two faces, or one; those around a vertex form one fan; all agree in orientation."""
    repaired = repair_non_manifold_edges(torch.zeros((int(faces.max()) + 1, 3)), faces)
    assert repaired.report.added_vertices == 0
    directed = Counter((f[i], f[(i + 1) % 3]) for f in faces.tolist() for i in range(3))
    assert set(directed.values()) == {1}


def test_the_oracle_of_distances() -> None:
    v, f = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]])
    points = torch.tensor([[0.2, 0.2, 3], [2, 0, 0], [1, 1, 0], [-3, -4, 0]])
    assert distances(points, v, f).tolist() == pytest.approx([3, 1, 0.5**0.5, 5])


# ---- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [5000, 1000, 321, 100, 20, 8, 4])
def test_closed_surfaces_reach_the_target(simplify: Simplify, target: int) -> None:
    v, f = sphere()
    result = simplify(v, f, target_faces=target)
    assert target - 1 <= len(result.faces) <= target
    assert result.report.reached and result.report.topology_changes == 0
    assert result.report.faces_before == len(f) and result.report.faces_after == len(result.faces)
    assert euler(*result) == 2 and len(boundary_edges(result.faces)) == 0
    assert_manifold(result.faces)
    assert len(torch.unique(result.faces)) == len(result.vertices)


def test_no_more_faces_than_asked_for_is_no_work(simplify: Simplify) -> None:
    v, f = sphere(1)
    result = simplify(v, f, target_faces=80)
    assert torch.equal(result.vertices, v) and torch.equal(result.faces, f)
    assert result.report.collapses == 0 and result.report.vertex_map.tolist() == list(range(len(v)))


def test_a_closed_surface_is_never_squashed_flat(simplify: Simplify) -> None:
    v, f = sphere(2)
    result = simplify(v, f, target_faces=2)
    assert len(result.faces) == 4 and not result.report.reached
    assert abs(trimesh.Trimesh(*result, process=False).volume) > 0.1


def test_components_each_keep_their_share(simplify: Simplify) -> None:
    parts = [trimesh.creation.icosphere(2).apply_translation([3.0 * i, 0, 0]) for i in range(20)]
    v, f = as_mesh(trimesh.util.concatenate(parts))
    result = simplify(v, f, target_faces=1600)
    assert len(result.faces) == 1600 and result.report.topology_changes == 0
    count, labels = connected_components(result.faces, len(result.vertices))
    assert count == 20 and int(labels.bincount().min()) >= 60


def test_loose_triangles_go_only_as_a_last_resort(simplify: Simplify) -> None:
    rng = np.random.default_rng(0)
    v = torch.tensor(rng.random((500, 1, 3)) + 0.1 * rng.random((500, 3, 3)), dtype=torch.float32).view(-1, 3)
    result = simplify(v, torch.arange(1500).view(-1, 3), target_faces=100)
    assert 90 <= len(result.faces) <= 100
    assert result.report.topology_changes > 0 and result.report.error_bound == math.inf
    assert int((result.report.vertex_map >= 0).sum()) == 3 * len(result.faces)


# ---- topology, boundaries, sides ----------------------------------------------------------------------------------------


def test_a_torus_stays_a_torus(simplify: Simplify) -> None:
    v, f = as_mesh(trimesh.creation.torus(1, 0.4, major_sections=80, minor_sections=40))
    result = simplify(v, f, target_faces=60)
    assert len(result.faces) == 60 and euler(*result) == 0 and len(boundary_edges(result.faces)) == 0
    assert_manifold(result.faces)


def test_a_thin_handle_is_not_pinched_off(simplify: Simplify) -> None:
    # A ring of triangular section: its section is a circle of three edges that is no face.
    v, f = as_mesh(trimesh.creation.torus(1, 0.02, major_sections=300, minor_sections=3))
    result = simplify(v, f, target_faces=60)
    assert len(result.faces) == 60 and euler(*result) == 0
    assert_manifold(result.faces)


def test_a_ribbon_is_not_pinched(simplify: Simplify) -> None:
    # One cell wide: every edge inside joins the two sides of its outline.
    n = 200
    x = torch.arange(n + 1).repeat(2) / n
    v = torch.stack([x, 0.05 * torch.sin(9 * x), torch.arange(2).repeat_interleave(n + 1) * 1e-4], 1)
    a, b = torch.arange(n), torch.arange(n) + n + 1
    f = torch.cat([torch.stack([a, a + 1, b], 1), torch.stack([b, a + 1, b + 1], 1)])
    result = simplify(v, f, target_faces=30, min_quality=0.0)
    assert len(result.faces) <= 30 and euler(*result) == 1 and result.report.topology_changes == 0
    assert_manifold(result.faces)


@pytest.mark.parametrize("roughness", [0.02, 0.1])
def test_rough_surfaces_stay_manifold_and_on_their_side(simplify: Simplify, roughness: float) -> None:
    v, f = sphere(5)
    v = v * (1 + roughness * torch.tensor(np.random.default_rng(0).normal(size=(len(v), 1)), dtype=torch.float32))
    result = simplify(v, f, target_faces=3000)
    assert euler(*result) == 2
    assert_manifold(result.faces)


def test_flat_ground_does_not_fold(simplify: Simplify) -> None:
    # On flat ground no quadric tells a fold from none: only the check of each face's side does.
    v, f = grid(48)
    inside = ((v[:, :2] > 0.01) & (v[:, :2] < 0.99)).all(1)
    shift = torch.tensor(np.random.default_rng(0).uniform(-0.4, 0.4, size=(len(v), 2)), dtype=torch.float32) / 48
    v[:, :2] += shift * inside[:, None]
    f = f[face_normals(v, f)[:, 2] > 0]
    for regularization in (0.0, 3e-4):
        result = simplify(v, f, target_faces=300, regularization=regularization, min_quality=0.0)
        assert bool((face_normals(*result)[:, 2] > 0.99).all())


def test_holes_stay_open_and_outlines_in_place(simplify: Simplify) -> None:
    v, f = grid(30)
    centre = v[f.long()].mean(1)
    hole = ((centre - torch.tensor([0.4, 0.6, 0])).abs() < 0.1).all(1)
    f = f[~hole]
    result = simplify(v, f, target_faces=80)
    assert len(result.faces) <= 80 and result.report.topology_changes == 0
    assert euler(*result) == 0  # a disc with one hole

    def whole_area(v: torch.Tensor, f: torch.Tensor) -> float:
        return float(torch.linalg.det(torch.cat([v[f.long()][:, :, :2], torch.ones(len(f), 3, 1)], 2)).sum() / 2)

    assert whole_area(*result) == pytest.approx(whole_area(v, f), rel=2e-4)
    rim = result.vertices[torch.unique(boundary_edges(result.faces)).long()]
    outer = torch.minimum(rim[:, :2], 1 - rim[:, :2]).abs().amin(1)
    assert int((outer < 1e-4).sum()) >= 4
    assert bool((face_normals(*result)[:, 2] > 0.999).all())


def test_no_face_turns_over(simplify: Simplify) -> None:
    v, f = sphere(5)
    result = simplify(v, f, target_faces=600)
    centre = result.vertices[result.faces.long()].mean(1)
    towards = (face_normals(*result) * torch.nn.functional.normalize(centre, dim=1)).sum(1)
    assert float(towards.min()) > 0.9


def test_pages_of_a_book_keep_their_spine(simplify: Simplify) -> None:
    pages = []
    for angle in (0.0, 2.0, 4.0):
        x, y = torch.meshgrid(torch.linspace(0, 1, 13), torch.linspace(0, 1, 13), indexing="ij")
        pages.append(torch.stack([x * math.cos(angle), x * math.sin(angle), y], -1).view(-1, 3))
    f = torch.cat([grid(12)[1] + 169 * i for i in range(3)])
    v = torch.cat(pages)
    result = simplify(v, f, target_faces=60)  # welding makes the spine one line, with three faces at each edge
    assert len(result.faces) <= 60 and result.report.topology_changes == 0
    spine = result.vertices[result.vertices[:, :2].norm(dim=1) < 1e-5]
    assert len(spine) >= 2 and float(spine[:, 2].max() - spine[:, 2].min()) == pytest.approx(1, abs=1e-4)
    assert float(distances(v, *result).max()) < 2e-3


# ---- distances ----------------------------------------------------------------------------------------------------------


def bumpy() -> tuple[torch.Tensor, torch.Tensor]:
    v, f = sphere(3)
    return v * (1 + 0.2 * torch.sin(5 * v[:, :1]) * torch.cos(4 * v[:, 1:2])), f


@pytest.mark.parametrize("target", [600, 150, 20])
def test_reported_distances_hold(simplify: Simplify, target: int) -> None:
    v, f = bumpy()
    result = simplify(v, f, target_faces=target)
    report = result.report
    there = distances(v, *result)
    assert float(there.max()) <= report.deviation + 1e-6
    assert float(there.max()) >= 0.8 * report.deviation  # and it is no loose bound
    middles = result.vertices[result.faces.long()].mean(1)
    back = distances(torch.cat([result.vertices, middles]), v, f)
    assert max(float(there.max()), float(back.max())) <= report.error_bound + 1e-6
    moved = (result.vertices[report.vertex_map.long()] - v).norm(dim=1).max()
    assert float(moved) == pytest.approx(report.error_bound, rel=1e-4)
    assert 0 < report.quadric_error < report.error_bound


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@example(3435, 35)  # a face between two parts becomes an edge that no face has
@example(94841, 35)
def test_the_vertex_map_takes_simplices_to_simplices(simplify: Simplify, seed: int, target: int) -> None:
    # This is what makes error_bound a bound, for any tangle of faces.
    rng = np.random.default_rng(seed)
    v = torch.tensor(rng.normal(size=(20, 3)), dtype=torch.float32)
    f = torch.tensor(rng.integers(0, 20, (60, 3)))
    result = simplify(v, f, target_faces=target, weld=False)
    if result.report.error_bound == math.inf or result.report.collapses == 0:
        return
    known = {
        frozenset(x)
        for face in result.faces.tolist()
        for x in (face, face[:2], face[1:], face[::2], *([y] for y in face))
    }
    image = result.report.vertex_map
    proper = f[[len(set(x)) == 3 for x in f.tolist()]]
    assert all(frozenset(x) in known for x in image[proper].tolist())


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_any_tangle_gives_a_sound_result(simplify: Simplify, seed: int, target: int) -> None:
    rng = np.random.default_rng(seed)
    v = torch.tensor(rng.integers(0, 4, size=(30, 3)), dtype=torch.float32)
    f = torch.tensor(rng.integers(0, 30, (80, 3)))
    v2, f2 = simplify(v, f, target_faces=target)
    assert bool(torch.isfinite(v2).all()) and (f2.numel() == 0 or int(f2.max()) < len(v2))
    assert all(len(set(x)) == 3 for x in f2.tolist())


# ---- quality ------------------------------------------------------------------------------------------------------------


def test_a_sphere_is_approximated_as_well_as_its_faces_allow(simplify: Simplify) -> None:
    v, f = sphere(5)
    result = simplify(v, f, target_faces=500)
    radius = result.vertices.norm(dim=1)
    middle = result.vertices[result.faces.long()].mean(1).norm(dim=1)
    # Equilateral triangles of this area have a sagitta of 0.0097, which quadrics split between corners and middle;
    # the worst triangle may have half as much again.
    assert float(middle.min()) > 0.985 and float(radius.max()) < 1.01
    assert float(quality(*result).mean()) > 0.8 and float(quality(*result).min()) > 0.3
    # Planes touch a sphere from outside: a vertex of least error is r^2 / 4 above it, the mean of a face as much below.
    assert trimesh.Trimesh(*result, process=False).volume == pytest.approx(4 / 3 * math.pi, rel=0.015)


def test_edges_of_a_cube_stay_sharp(simplify: Simplify) -> None:
    box = trimesh.creation.box().subdivide().subdivide().subdivide().subdivide()
    result = simplify(*as_mesh(box), target_faces=60)
    assert result.report.deviation < 2e-3
    assert trimesh.Trimesh(*result, process=False).volume == pytest.approx(1, rel=5e-3)


@pytest.mark.parametrize("thickness", [0.1, 0.01, 0.001])
def test_thin_sheets_keep_their_extent(simplify: Simplify, thickness: float) -> None:
    box = trimesh.creation.box((1, 1, thickness)).subdivide().subdivide().subdivide().subdivide()
    v, f = as_mesh(box)
    result = simplify(v, f, target_faces=100)
    assert len(result.faces) == 100 and result.report.topology_changes == 0
    assert float(distances(v, *result).max()) < 3e-3


def test_flat_ground_gets_even_triangles(simplify: Simplify) -> None:
    v, f = grid(60)
    result = simplify(v, f, target_faces=300)
    assert len(result.faces) <= 300
    assert float(quality(*result).mean()) > 0.75 and float(quality(*result).min()) >= 0.1
    assert float(result.vertices[:, 2].abs().max()) < 1e-6


def test_hubs_of_very_many_faces(simplify: Simplify) -> None:
    n = 20_000
    rim = torch.arange(2, n + 2)
    angle = 2 * math.pi * torch.arange(n) / n
    v = torch.cat([torch.tensor([[0, 0, 1.0], [0, 0, -1]]), torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)])
    zero = torch.zeros_like(rim)
    f = torch.cat([torch.stack([zero, rim, rim.roll(-1)], 1), torch.stack([zero + 1, rim.roll(-1), rim], 1)])
    result = simplify(v, f, target_faces=100)
    assert len(result.faces) == 100 and euler(*result) == 2 and result.report.deviation < 0.02


# ---- invariance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "shift"), [(1e-30, 0.0), (1e30, 0.0), (1.0, 100.0), (0.25, -4.0)])
def test_scale_and_place_do_not_matter(simplify: Simplify, scale: float, shift: float) -> None:
    v, f = bumpy()
    a, b = simplify(v, f, target_faces=200), simplify(v * scale + shift, f, target_faces=200)
    assert len(b.faces) == 200
    assert b.report.deviation / scale == pytest.approx(a.report.deviation, rel=0.5)


def test_neighbours_may_disagree_in_orientation(simplify: Simplify) -> None:
    # Faces that are wound the other way look at the same surface: no crease lies between them and the rest.
    v, f = bumpy()
    wrong = torch.tensor(np.random.default_rng(0).random(len(f)) < 0.3)
    plain = simplify(v, f, target_faces=300)
    mixed = simplify(v, torch.where(wrong[:, None], f[:, [0, 2, 1]], f), target_faces=300)
    assert mixed.report.deviation == pytest.approx(plain.report.deviation, rel=0.3)
    assert mixed.report.quadric_error == pytest.approx(plain.report.quadric_error, rel=0.1)
    assert float(quality(*mixed).mean()) == pytest.approx(float(quality(*plain).mean()), abs=0.02)


def test_seams_are_welded_unless_told_otherwise(simplify: Simplify) -> None:
    v, f = sphere(3)
    loose, apart = v[f.long()].reshape(-1, 3), torch.arange(f.numel()).view(-1, 3)
    result = simplify(loose, apart, target_faces=200)
    assert euler(*result) == 2 and result.report.topology_changes == 0
    assert len(result.report.vertex_map) == len(loose) and int(result.report.vertex_map.min()) == 0
    assert simplify(loose, apart, target_faces=200, weld=False).report.topology_changes > 0


def test_degenerate_input(simplify: Simplify) -> None:
    points = torch.zeros((40, 3))
    assert simplify(points, torch.arange(39).view(-1, 3), target_faces=5).faces.shape == (0, 3)  # all at one place
    line = torch.stack([torch.arange(60.0), torch.zeros(60), torch.zeros(60)], 1)
    tangled = simplify(line, torch.tensor(np.random.default_rng(0).integers(0, 60, (100, 3))), target_faces=20)
    assert 18 <= len(tangled.faces) <= 20
    v, f = sphere(2)
    thrice = torch.cat([f, f, f[:, [0, 2, 1]]])
    assert 180 <= len(simplify(v, thrice, target_faces=200).faces) <= 200
    repeated = torch.cat([f, f[:, [0, 0, 1]]])
    assert euler(*simplify(v, repeated, target_faces=100)) == 2
    none = simplify(torch.zeros((0, 3)), torch.empty((0, 3), dtype=torch.int32), target_faces=1)
    assert none.faces.shape == (0, 3)


def test_vertices_that_no_face_names(simplify: Simplify) -> None:
    v, f = sphere(2)
    result = simplify(torch.cat([v, v[:5] + 9]), f, target_faces=100)
    assert float(result.vertices.abs().max()) < 2
    assert result.report.vertex_map[-5:].tolist() == [-1] * 5
    assert math.isfinite(result.report.error_bound)


def test_same_bits_for_any_number_of_threads() -> None:
    v, f = sphere(5)
    v = v * (1 + 0.1 * torch.sin(9 * v[:, :1]))

    def run() -> tuple[torch.Tensor, torch.Tensor, SimplifyReport]:
        result = simplify_there(v, f, target_faces=3000)
        return result.vertices, result.faces, result.report

    assert_same_bits_for_any_thread_count(EXTENSION, run)


def test_options_have_their_effect(simplify: Simplify) -> None:
    v, f = bumpy()
    plain, even = (simplify(v, f, target_faces=150, regularization=r) for r in (1e-6, 0.1))
    assert float(quality(*even).mean()) > float(quality(*plain).mean()) + 0.02
    assert float(quality(*simplify(v, f, target_faces=150, min_quality=0.4)).min()) >= 0.4


def test_bad_arguments(simplify: Simplify) -> None:
    v, f = sphere(1)
    with pytest.raises(ValueError, match=r"vertices: expected shape \[V, 3\], got \[42, 2\]"):
        simplify(v[:, :2], f, target_faces=9)
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 42\), got 1 to 42"):
        simplify(v, f + 1, target_faces=9)
    with pytest.raises(ValueError, match="target_faces: expected at least 1, got 0"):
        simplify(v, f, target_faces=0)
    with pytest.raises(TypeError, match="target_faces: expected an int, got float"):
        simplify(v, f, target_faces=9.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"regularization: expected a number in \[0, 1\.?0?\], got 2"):
        simplify(v, f, target_faces=9, regularization=2)
    with pytest.raises(ValueError, match=r"boundary_weight: expected a number of at least 0, got -1"):
        simplify(v, f, target_faces=9, boundary_weight=-1)
    with pytest.raises(ValueError, match=r"min_quality: expected a number in \[0, 1\.?0?\], got 1\.5"):
        simplify(v, f, target_faces=9, min_quality=1.5)
    with pytest.raises(TypeError, match="weld: expected a bool, got int"):
        simplify(v, f, target_faces=9, weld=1)  # type: ignore[arg-type]
    v[3, 1] = math.nan
    with pytest.raises(ValueError, match="vertices: expected finite coordinates, got NaN or infinity"):
        simplify(v, f, target_faces=9)
