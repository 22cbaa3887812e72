"""Mesh to flexible dual grid, against an oracle that decides crossings in exact rational arithmetic (dual_grid_oracle.py).

Tolerances: voxels and flags are compared exactly; dual vertices within 0.01 voxel, since their quadrics are float32.
"""

from itertools import product

import numpy as np
import pytest
import torch
import trimesh
from dual_grid_oracle import least_in_box, oracle, overlaps
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_voxel import Grid, dual_grid_to_mesh, mesh_to_dual_grid
from trellis_voxel._library import EXTENSION

CLOSE = 0.01  # voxels
UNIT = [[0.0] * 3, [1.0] * 3]


def tensors(vertices, faces):
    return torch.as_tensor(np.asarray(vertices), dtype=torch.float32), torch.as_tensor(
        np.asarray(faces), dtype=torch.int32
    ).reshape(-1, 3)


def rows(coords):
    return [tuple(r) for r in coords.tolist()]


def assert_in_grid(coords, size):
    assert bool(((coords >= 0) & (coords < torch.tensor(Grid.of(size, UNIT).size))).all())


def flagged(grid):
    """The crossed lattice edges as (x, y, z, axis)."""
    return {
        (*c, axis)
        for c, flags in zip(rows(grid.coords), grid.intersected.tolist(), strict=True)
        for axis in range(3)
        if flags[axis]
    }


def test_the_oracle_on_one_crossing():
    """A level triangle around one lattice line, worked out by hand."""
    vertices, faces = [[0.2, 0.2, 0.3], [0.9, 0.3, 0.3], [0.4, 0.9, 0.3]], [(0, 1, 2)]
    duals, flags, tie = oracle(np.float32(vertices), faces, 2, True, 0.0, 0.1)
    assert not tie
    assert flags == {(0, 0, 0, 2)}
    assert set(duals) == {(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)}
    for dual in duals.values():
        np.testing.assert_allclose(dual, [0.5, 0.5, 0.3], atol=1e-6)


def test_the_oracle_on_a_corner():
    """Three faces of a cube meet in one voxel: its dual vertex is their common corner, inside or on the voxel's border."""
    a = np.diag([1.0, 1.0, 1.0])
    np.testing.assert_allclose(least_in_box(a, np.array([0.2, 0.3, 0.4]), np.zeros(3), np.ones(3)), [0.2, 0.3, 0.4])
    np.testing.assert_allclose(least_in_box(a, np.array([-0.2, 0.3, 1.4]), np.zeros(3), np.ones(3)), [0.0, 0.3, 1.0])
    assert overlaps([[0.2, 0.2, 2.0], [0.2, 0.2, -2.0]], [0, 0, 0], [1, 1, 1])
    assert not overlaps([[1.2, 0.2, 2.0], [1.2, 0.2, -2.0]], [0, 0, 0], [1, 1, 1])


# Vertices on a fine lattice that avoids the planes of power-of-two grids, so that few crossings are ties.
coordinate = st.integers(-120, 1143).map(lambda i: (2 * i + 1) / 2048)
triangle_soup = st.lists(st.tuples(*[coordinate] * 9), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(triangle_soup, st.sampled_from([2, 4, 8]), st.booleans(), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_grids_of_soups_equal_the_oracle(soup, size, use_faces, boundary_weight, fan):
    vertices = np.float32(soup).reshape(-1, 3)
    # A fan shares vertices, so that some of its sides are not boundaries.
    faces = (
        [(0, i, i + 1) for i in range(1, len(vertices) - 1)]
        if fan
        else [tuple(range(i, i + 3)) for i in range(0, len(vertices), 3)]
    )
    p = np.asarray(vertices, float)[np.array(faces)]
    sides = np.linalg.norm(p - p[:, [1, 2, 0]], axis=2)
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
    faces = [f for f, s, a in zip(faces, sides, area, strict=True) if a > 0.02 * s.max()]  # needles have no sure plane
    grid = mesh_to_dual_grid(
        *tensors(vertices, faces),
        grid_size=size,
        aabb=UNIT,
        face_weight=float(use_faces),
        boundary_weight=boundary_weight,
        regularization_weight=0.1,
    )
    duals, flags, tie = oracle(vertices, faces, size, use_faces, boundary_weight, 0.1)
    assume(not tie)
    # A depth between -1 voxel and 0 counts for the lowest voxel; the oracle leaves such crossings out.
    if (vertices >= 0).all():
        assert rows(grid.coords) == sorted(duals)
        assert flagged(grid) == flags
        for coord, dual in zip(rows(grid.coords), grid.dual_vertices.numpy(), strict=True):
            if duals[coord] is not None:
                np.testing.assert_allclose(dual * size, duals[coord] * size, rtol=0, atol=CLOSE)
    else:
        assert set(duals) <= set(rows(grid.coords))
        assert flags <= flagged(grid)
        assert all(c[axis] == 0 for *c, axis in flagged(grid) - flags)


@pytest.mark.parametrize("seed", range(9))
def test_small_triangles_count_where_they_overlap(seed):
    """A tilted plate activates voxels; scattered triangles below a voxel in size pull at those that they overlap."""
    rng = np.random.default_rng(seed)
    size, axis = 4, seed % 3
    plate = np.roll([[-0.9, -0.8, 0.2], [1.9, -0.7, 0.45], [0.3, 2.3, 0.6]], axis, axis=1)
    centers = plate[[0] * 60] + rng.random((60, 2)) @ (plate[1:] - plate[0])
    small = centers[:, None] + rng.normal(size=(60, 3, 3)) * 0.05
    small = small[((small > 0.01) & (small < 0.99)).all((1, 2))]
    vertices = np.float32(np.concatenate([plate[None], small]).reshape(-1, 3))
    faces = [tuple(range(i, i + 3)) for i in range(0, len(vertices), 3)]
    for use_faces, boundary_weight in ((True, 0.0), (True, 0.5), (False, 0.5)):
        grid = mesh_to_dual_grid(
            *tensors(vertices, faces),
            grid_size=size,
            aabb=UNIT,
            face_weight=float(use_faces),
            boundary_weight=boundary_weight,
            regularization_weight=0.1,
        )
        duals, flags, tie = oracle(vertices, faces, size, use_faces, boundary_weight, 0.1)
        assert not tie
        assert flags == flagged(grid)
        assert sum(dual is not None for dual in duals.values()) > 12
        for coord, dual in zip(rows(grid.coords), grid.dual_vertices.numpy(), strict=True):
            if duals[coord] is not None:
                np.testing.assert_allclose(dual * size, duals[coord] * size, rtol=0, atol=CLOSE)


@settings(max_examples=30, deadline=None)
@given(triangle_soup, st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([0.0, 0.01, 0.1]))
def test_voxels_lie_in_the_grid_and_dual_vertices_in_their_voxels(soup, size, regularization):
    grid = mesh_to_dual_grid(
        *tensors(np.float32(soup).reshape(-1, 3) * 1.3 - 0.15, np.arange(len(soup) * 3)),
        grid_size=size,
        aabb=[[0, 0, 0], [1, 0.75, 1.1]],
        regularization_weight=regularization,
    )
    assert_in_grid(grid.coords, size)
    local = grid.local_dual(Grid.of(size, [[0, 0, 0], [1, 0.75, 1.1]]))
    assert bool(((local >= -1e-4) & (local <= 1 + 1e-4)).all())
    for *cell, axis in flagged(grid):
        for du, dv in product((0, 1), repeat=2):
            voxel = list(cell)
            voxel[(axis + 1) % 3] += du
            voxel[(axis + 2) % 3] += dv
            assert tuple(voxel) in set(rows(grid.coords))


# ---- exact cases ----


def test_a_level_triangle_around_one_lattice_line():
    vertices, faces = tensors([[0.2, 0.2, 0.3], [0.9, 0.3, 0.3], [0.4, 0.9, 0.3]], [[0, 1, 2]])
    grid = mesh_to_dual_grid(vertices, faces, grid_size=2, aabb=UNIT, boundary_weight=0)
    assert rows(grid.coords) == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    assert grid.intersected.tolist() == [[False, False, True]] + [[False] * 3] * 3
    torch.testing.assert_close(grid.dual_vertices, torch.tensor([[0.5, 0.5, 0.3]]).expand(4, 3), rtol=0, atol=1e-6)
    assert (grid.coords.dtype, grid.dual_vertices.dtype, grid.intersected.dtype) == (
        torch.int32,
        torch.float32,
        torch.bool,
    )


def test_sharp_features_are_kept():
    """The voxels of a cube's corners have their dual vertices at those corners, those of its edges on the edges."""
    low, high, size = 0.23, 0.71, 16
    box = trimesh.creation.box(bounds=[[low] * 3, [high] * 3])
    grid = mesh_to_dual_grid(*tensors(box.vertices, box.faces), grid_size=size, aabb=UNIT, regularization_weight=1e-3)
    cells = {int(low * size): low, int(high * size): high}
    kinds = [0] * 4
    for coord, dual in zip(rows(grid.coords), grid.dual_vertices.tolist(), strict=True):
        near = [axis for axis in range(3) if coord[axis] in cells]
        kinds[len(near)] += 1
        for axis in near:
            assert dual[axis] == pytest.approx(cells[coord[axis]], abs=CLOSE / size)
    assert kinds[3] == 8
    assert kinds[2] == 12 * (int(high * size) - int(low * size) - 1)


def test_open_boundaries_attract_dual_vertices():
    """Along the rim of an open plate dual vertices move to the rim; without boundary_weight they do not."""
    size, rim = 8, 0.55
    plate = tensors([[0.06, 0.06, 0.3], [0.94, 0.06, 0.3], [0.94, rim, 0.3], [0.06, rim, 0.3]], [[0, 1, 2], [0, 2, 3]])
    reach = {}
    for weight in (0.0, 1.0):
        grid = mesh_to_dual_grid(*plate, grid_size=size, aabb=UNIT, boundary_weight=weight, regularization_weight=0.01)
        inner = (grid.coords[:, 1] == int(rim * size)) & (grid.coords[:, 0] > 0) & (grid.coords[:, 0] < 7)
        reach[weight] = grid.dual_vertices[inner, 1]
    assert len(reach[0.0]) == 6
    torch.testing.assert_close(reach[1.0], torch.full_like(reach[1.0], rim), rtol=0, atol=2 * CLOSE / size)
    assert float((reach[0.0] - rim).abs().min()) > 0.03


def test_face_weight_is_a_switch():
    v, f = tensors(*sphere(2, 0.4))
    grids = [mesh_to_dual_grid(v, f, grid_size=12, aabb=UNIT, face_weight=w) for w in (0.0, 0.25, 1.0)]
    assert torch.equal(grids[1].dual_vertices, grids[2].dual_vertices)
    assert not torch.equal(grids[0].dual_vertices, grids[1].dual_vertices)
    assert torch.equal(grids[0].coords, grids[1].coords)


@pytest.mark.parametrize("up", [0, 1, 2])
@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.9, -0.7), (-0.2, 0.05)])
def test_a_triangle_that_spans_the_grid(up, tilt):
    """One plane through a fine grid: flags from its equation, dual vertices on it."""
    size = np.array([70, 83, 61])
    corners = np.array([[-3.1, -2.2], [4.3, -1.9], [0.4, 5.7]])
    height = 0.4801 - 0.5 * sum(tilt) + corners @ tilt
    vertices = np.float32(np.roll(np.column_stack([corners, height]), up + 1, axis=1))
    grid = mesh_to_dual_grid(*tensors(vertices, [[0, 1, 2]]), grid_size=size, aabb=UNIT)
    exact = vertices.astype(float)
    normal = np.cross(exact[1] - exact[0], exact[2] - exact[0])
    offset = normal @ exact[0]
    expected = set()
    for w in range(3):
        u, v = (w + 1) % 3, (w + 2) % 3
        if abs(normal[w]) < 1e-9:
            continue
        i, j = np.meshgrid(np.arange(1, size[u]), np.arange(1, size[v]), indexing="ij")
        depth = (offset - normal[u] * i / size[u] - normal[v] * j / size[v]) / normal[w] * size[w]
        cell = np.zeros((*i.shape, 3), dtype=int)
        cell[..., u], cell[..., v], cell[..., w] = i - 1, j - 1, np.floor(depth)
        keep = (depth > -1) & (depth < size[w])
        expected |= {(*np.maximum(c, 0).tolist(), w) for c in cell[keep]}
    # Where the plane passes a lattice point closely rounding decides.
    assert len(flagged(grid) ^ expected) < 5e-3 * len(expected)
    distance = (grid.dual_vertices.double().numpy() @ normal - offset) / np.linalg.norm(normal) * size.min()
    border = (grid.coords == 0).any(1).numpy()
    assert np.abs(distance[~border]).max() < CLOSE


# ---- shapes ----


def sphere(subdivisions, radius, center=0.5):
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    return mesh.vertices + center, mesh.faces


def round_trip(vertices, faces, size, aabb, keep=None):
    spec = Grid.of(size, aabb)
    grid = mesh_to_dual_grid(*tensors(vertices, faces), grid_size=size, aabb=aabb)
    flags = grid.intersected if keep is None else grid.intersected & keep(grid)
    v, f = dual_grid_to_mesh(grid.coords, grid.local_dual(spec), flags, None, aabb=aabb, grid_size=size)
    return grid, trimesh.Trimesh(v.numpy(), f.numpy(), process=False)


def solid(vertices, faces, spec):
    """Whether each inner lattice point lies inside a closed mesh, by counting its faces below along z: bool, [x, y, z]."""
    corners = ((np.asarray(vertices, dtype=np.float32) - np.float32(spec.aabb_min)) / np.array(spec.voxel_size))[faces]
    p, z = corners[..., :2], corners[..., 2]
    inside = np.zeros(spec.size, dtype=bool)
    for x, y in product(range(1, spec.size[0]), range(1, spec.size[1])):
        d = p - [x, y]
        weights = np.stack(
            [d[:, i, 0] * d[:, j, 1] - d[:, i, 1] * d[:, j, 0] for i, j in ((1, 2), (2, 0), (0, 1))], axis=1
        )
        hit = (weights > 0).all(1) | (weights < 0).all(1)
        depth = (weights[hit] * z[hit]).sum(1) / weights[hit].sum(1)
        inside[x, y] = (depth[:, None] < np.arange(spec.size[2])).sum(0) % 2
    return inside


def parted_edges(inside):
    """The lattice edges with one end inside: bool [x, y, z, axis] by the edge's voxel."""
    flags = np.zeros((*inside.shape, 3), dtype=bool)
    for axis in range(3):
        # The edge of voxel c along w runs from lattice point c + u + v to c + u + v + w.
        start = np.roll(inside, [-(k != axis) for k in range(3)], axis=(0, 1, 2))
        flags[..., axis] = start != np.roll(inside, (-1, -1, -1), axis=(0, 1, 2))
    return flags


def test_a_sphere_comes_back_closed_and_in_place():
    """(Closed here: where the surface crosses one lattice edge twice, the flag is set and a flap comes with it.)"""
    grid, mesh = round_trip(*sphere(4, 0.4), 48, UNIT)
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    assert len(mesh.vertices) == len(grid.coords)
    distance = np.abs(np.linalg.norm(mesh.vertices - 0.5, axis=1) - 0.4)
    assert distance.max() < 0.2 / 48  # voxels of 1 / 48


def test_components_do_not_meet():
    a, b = sphere(3, 0.12, 0.27), sphere(3, 0.15, 0.69)
    _, mesh = round_trip(np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1] + len(a[0])]), 37, UNIT)
    assert mesh.is_watertight
    assert mesh.euler_number == 4


def test_a_torus_in_unequal_voxels_parts_inside_from_outside():
    """Edges between inside and outside are flagged, and the quads of those alone form a closed surface."""
    torus = trimesh.creation.torus(0.6, 0.2)
    torus.apply_transform(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3]))
    size, aabb = (40, 50, 30), [[-1, -0.9, -1], [1, 1, 1]]
    parted = parted_edges(solid(torus.vertices, torus.faces, Grid.of(size, aabb)))
    grid, mesh = round_trip(
        torus.vertices, torus.faces, size, aabb, lambda g: torch.from_numpy(parted[tuple(g.coords.T.numpy())])
    )
    assert {tuple(c) for c in np.argwhere(parted).tolist()} <= flagged(grid)
    assert len(flagged(grid)) < parted.sum() * 1.02  # the rest are edges crossed twice
    assert mesh.is_watertight
    assert mesh.euler_number == 0


# ---- invariances ----


def off_lattice(v):
    """Positions rounded so that shifts by multiples of 1/32 are exact, and away from the planes of such lattices."""
    return ((v * 2048).floor() * 2 + 1) / 4096


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_faces_does_not_matter(random):
    v, f = tensors(*sphere(2, 0.4))
    order = list(range(len(f)))
    random.shuffle(order)
    a, b = (mesh_to_dual_grid(v, faces, grid_size=20, aabb=UNIT) for faces in (f, f[order]))
    assert torch.equal(a.coords, b.coords)
    assert torch.equal(a.intersected, b.intersected)
    torch.testing.assert_close(a.dual_vertices * 20, b.dual_vertices * 20, rtol=0, atol=CLOSE)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(0, 6)] * 3))
def test_a_shift_by_whole_voxels_shifts_the_grid(shift):
    v, f = tensors(*sphere(2, 0.2, 0.26))
    v = off_lattice(v)
    move = torch.tensor(shift, dtype=torch.int32)
    a = mesh_to_dual_grid(v, f, grid_size=16, aabb=UNIT)
    b = mesh_to_dual_grid(v + move / 16, f, grid_size=16, aabb=UNIT)
    assert torch.equal(a.coords + move, b.coords)
    assert torch.equal(a.intersected, b.intersected)
    torch.testing.assert_close(a.dual_vertices * 16 + move, b.dual_vertices * 16, rtol=0, atol=CLOSE)


def test_a_larger_box_with_the_same_voxels_gives_the_same_grid():
    """Work is cut into cubes of voxels; where the cuts run does not matter."""
    v, f = tensors(*sphere(2, 0.4))
    v, f = off_lattice(v), f[:-40]
    a = mesh_to_dual_grid(v, f, grid_size=32, aabb=UNIT)
    b = mesh_to_dual_grid(v, f, grid_size=(37, 43, 56), aabb=[[-5 / 32, -11 / 32, -7 / 32], [1, 1, 49 / 32]])
    move = torch.tensor([5, 11, 7])
    assert torch.equal(a.coords + move, b.coords)
    assert torch.equal(a.intersected, b.intersected)
    # A triangle that no more than touches a voxel may overlap it or not.
    near = (a.dual_vertices * 32 + move - b.dual_vertices * 32).abs().amax(1) < CLOSE
    assert int((~near).sum()) <= 0.002 * len(near)


def test_any_number_of_threads_gives_the_same_bits():
    v, f = tensors(*sphere(3, 0.45))
    f = f[:-100]  # with a boundary
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: mesh_to_dual_grid(v, f, grid_size=64, aabb=UNIT))


# ---- borders and degenerate input ----


def test_a_mesh_on_the_border_of_the_box():
    """Faces on the near border are inside the grid, those on the far border outside."""
    box = trimesh.creation.box(bounds=UNIT)
    grid = mesh_to_dual_grid(*tensors(box.vertices, box.faces), grid_size=8, aabb=UNIT)
    assert flagged(grid) == {(*np.roll([0, i, j], a).tolist(), a) for a in range(3) for i in range(7) for j in range(7)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 96, 100, (7, 1, 48)])
def test_vertices_on_the_border_never_leave_the_grid(size):
    """Where a voxel's size is no float32 number, rounding decides whether the far border is the last voxel's."""
    for low, high in ((0.0, 1.0), (-0.3, 0.7), (5.1, 5.3)):
        box = trimesh.creation.box(bounds=[[low] * 3, [high] * 3])
        grid = mesh_to_dual_grid(*tensors(box.vertices, box.faces), grid_size=size, aabb=box.bounds)
        assert_in_grid(grid.coords, size)
        assert bool(torch.isfinite(grid.dual_vertices).all())


def test_what_lies_outside_the_box_is_left_out():
    v, f = tensors(*sphere(3, 0.4))
    inside = mesh_to_dual_grid(v, f, grid_size=32, aabb=UNIT)
    cut = mesh_to_dual_grid(v, f, grid_size=16, aabb=[[0.5] * 3, [1.0] * 3])
    expected = {(*(np.array(c) - 16).tolist(), a) for *c, a in flagged(inside) if min(c) >= 16}
    found = flagged(cut)
    assert expected <= found
    assert all(c[a] == 0 for *c, a in found - expected)  # crossings up to a voxel below the box
    far = mesh_to_dual_grid(v + 1e6, f, grid_size=16, aabb=UNIT)
    assert len(far.coords) == 0


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e12, 1e30])
def test_triangles_far_larger_than_the_box(scale):
    vertices, faces = tensors(np.array([[-1, -1, 0], [2, -1, 0], [-1, 2, 0]]) * scale + [0, 0, 0.3], [[0, 1, 2]])
    grid = mesh_to_dual_grid(vertices, faces, grid_size=4, aabb=UNIT)
    assert flagged(grid) == {(i, j, 1, 2) for i in range(3) for j in range(3)}
    torch.testing.assert_close(grid.dual_vertices[:, 2], torch.full((16,), 0.3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("exponent", [1, 4, 8, 16, 30, 38])
def test_huge_triangles_leave_dual_vertices_in_their_voxels(exponent):
    """Rounding may misplace the plane of a triangle of 10^exponent boxes, but nothing overflows or leaves its voxel."""
    rng = np.random.default_rng(exponent)
    vertices = np.float32(rng.uniform(-3, 3, (300, 3)) * 10.0**exponent)
    vertices[:, 2] *= rng.choice([0, 1], 300)
    grid = mesh_to_dual_grid(*tensors(vertices, np.arange(300)), grid_size=4, aabb=UNIT)
    local = grid.local_dual(Grid.of(4, UNIT))
    assert bool(((local >= 0) & (local <= 1)).all())
    assert_in_grid(grid.coords, 4)


def test_long_boundaries_are_followed_only_within_the_grid():
    """A segment of 1e9 voxels that passes through the grid takes no longer than one that spans it."""
    end = 1e8
    vertices, faces = tensors([[-end, 0.55, 0.3], [end, 0.55, 0.3], [0.5, -1.0, 0.3]], [[0, 1, 2]])
    grid = mesh_to_dual_grid(vertices, faces, grid_size=8, aabb=UNIT, regularization_weight=0.01)
    rim = grid.dual_vertices[(grid.coords[:, 1] == 4) & (grid.coords[:, 0] > 0) & (grid.coords[:, 0] < 7)]
    assert len(rim) == 6
    torch.testing.assert_close(rim[:, 1], torch.full((6,), 0.55), rtol=0, atol=2 * CLOSE / 8)


def test_no_faces_give_an_empty_grid():
    for n in (0, 3):
        grid = mesh_to_dual_grid(torch.rand(n, 3), torch.empty(0, 3, dtype=torch.int64), grid_size=4, aabb=UNIT)
        assert grid.coords.shape == grid.dual_vertices.shape == grid.intersected.shape == (0, 3)


def test_faces_with_repeated_vertices_change_nothing():
    v, f = tensors(*sphere(2, 0.4))
    repeated = torch.tensor([[0, 0, 1], [5, 5, 5], [7, 3, 7]], dtype=torch.int32)
    a = mesh_to_dual_grid(v, f, grid_size=20, aabb=UNIT)
    b = mesh_to_dual_grid(v, torch.cat([repeated, f]), grid_size=20, aabb=UNIT)
    assert torch.equal(a.coords, b.coords)
    assert torch.equal(a.intersected, b.intersected)
    assert torch.equal(a.dual_vertices, b.dual_vertices)


def test_collinear_vertices_give_finite_dual_vertices():
    t = torch.linspace(0, 1, 9)[:, None]
    v = torch.tensor([[0.1, 0.2, 0.15]]) + t * torch.tensor([[0.7, 0.6, 0.8]])
    f = torch.combinations(torch.arange(9, dtype=torch.int32), 3)
    grid = mesh_to_dual_grid(v, f, grid_size=64, aabb=UNIT, regularization_weight=0)
    assert bool(torch.isfinite(grid.dual_vertices).all())


def test_int64_faces_and_strided_vertices_are_accepted():
    v, f = tensors(*sphere(1, 0.4))
    strided = torch.stack([v, v], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    a, b = mesh_to_dual_grid(v, f, grid_size=8, aabb=UNIT), mesh_to_dual_grid(strided, f.long(), grid_size=8, aabb=UNIT)
    assert torch.equal(a.coords, b.coords)
    assert torch.equal(a.dual_vertices, b.dual_vertices)


TRIANGLE = (torch.rand(3, 3), torch.tensor([[0, 1, 2]]))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"vertices": [[0, 0, 0]]}, TypeError, "vertices: expected a torch.Tensor, got list"),
        ({"vertices": torch.rand(3, 3).double()}, TypeError, "vertices: expected dtype float32, got float64"),
        ({"vertices": torch.rand(3, 2)}, ValueError, r"vertices: expected shape \[V, 3\], got \[3, 2\]"),
        ({"vertices": torch.full((3, 3), torch.nan)}, ValueError, "vertices: expected finite positions, got .* at 0"),
        (
            {"vertices": torch.tensor([[0, 0, 0], [0, 0, 0], [0, torch.inf, 0]])},
            ValueError,
            r"vertices: expected finite positions, got \[0.0, inf, 0.0\] at 2",
        ),
        ({"faces": torch.rand(1, 3)}, TypeError, "faces: expected dtype int32 or int64, got float32"),
        ({"faces": torch.tensor([[0, 1]])}, ValueError, r"faces: expected shape \[F, 3\], got \[1, 2\]"),
        ({"faces": torch.tensor([[0, 1, 3]])}, ValueError, r"faces: expected vertex indices in \[0, 3\), got 0 to 3"),
        ({"faces": torch.tensor([[0, -1, 2]])}, ValueError, "faces: expected vertex indices"),
        ({"faces": torch.empty(1, 3, dtype=torch.int32, device="meta")}, ValueError, "faces: expected a tensor on cpu"),
        ({"grid_size": 0}, ValueError, "grid_size: expected one or three ints"),
        ({"aabb": [[0] * 3] * 2}, ValueError, "aabb: expected a maximum above the minimum"),
        ({"face_weight": -1}, ValueError, "face_weight: expected"),
        ({"boundary_weight": 1e13}, ValueError, "boundary_weight: expected a number in"),
        ({"regularization_weight": -0.1}, ValueError, "regularization_weight: expected a number in"),
        ({"boundary_weight": float("nan")}, ValueError, "boundary_weight: expected a finite number"),
        ({"regularization_weight": "much"}, TypeError, "regularization_weight: expected a number, got str"),
    ],
)
def test_bad_arguments_are_errors(change, error, text):
    arguments = {"vertices": TRIANGLE[0], "faces": TRIANGLE[1], "grid_size": 4, "aabb": UNIT} | change
    vertices, faces = arguments.pop("vertices"), arguments.pop("faces")
    with pytest.raises(error, match=text):
        mesh_to_dual_grid(vertices, faces, **arguments)
