"""Remeshing: closed, manifold, outward, one layer, close to the mesh, and the same every time."""

from __future__ import annotations

import ctypes
import gc
import math
import weakref

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_mesh import Bvh, remesh_dual_contouring
from trellis_mesh._library import EXTENSION, DeviceMemory
from trellis_native.testing import assert_same_bits_for_any_thread_count

Mesh = tuple[torch.Tensor, torch.Tensor]


def as_mesh(*meshes: trimesh.Trimesh) -> Mesh:
    mesh = trimesh.util.concatenate(meshes)
    return torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32), torch.tensor(np.asarray(mesh.faces))


def ball(radius: float = 1.0, subdivisions: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


def box(size: float, x: float = 0.0) -> trimesh.Trimesh:
    return trimesh.creation.box(extents=(size,) * 3, transform=trimesh.transformations.translation_matrix((x, 0, 0)))


# ---- what is measured ---------------------------------------------------------------------------------------------


def directed_edges(f: np.ndarray) -> np.ndarray:
    return np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])


def is_closed(f: np.ndarray) -> bool:
    """Every directed edge occurs once, and so does its opposite."""
    e = directed_edges(f)
    same = len(np.unique(e, axis=0)) == len(e)
    return same and np.array_equal(np.unique(e, axis=0), np.unique(e[:, ::-1], axis=0))


def fans(f: np.ndarray) -> int:
    """Number of fans of faces around vertices; equal to that of the vertices where every vertex has just one."""
    e, n, corners = directed_edges(f).astype(np.int64), int(f.max()) + 1, np.arange(3 * len(f)).reshape(3, -1)
    start, end = corners.reshape(-1), np.roll(corners, -1, axis=0).reshape(-1)  # corners at either end of each edge
    key, back = e[:, 0] * n + e[:, 1], e[:, 1] * n + e[:, 0]
    order = np.argsort(key)
    at = order[np.minimum(np.searchsorted(key, back, sorter=order), len(key) - 1)]
    paired = key[at] == back
    a = np.concatenate([start[paired], end[paired]])
    b = np.concatenate([end[at[paired]], start[at[paired]]])
    flat = corners.reshape(-1)
    while True:  # the smallest number in each fan spreads around it
        before = flat.copy()
        least = np.minimum(flat[a], flat[b])
        np.minimum.at(flat, a, least)
        np.minimum.at(flat, b, least)
        if np.array_equal(flat, before):
            return len(np.unique(flat))


def euler(f: np.ndarray) -> int:
    return len(np.unique(f)) - len(directed_edges(f)) // 2 + len(f)


def volume(v: np.ndarray, f: np.ndarray) -> float:
    a, b, c = (v[f[:, i]].astype(np.float64) for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def largest_distance(points: torch.Tensor, mesh: Mesh) -> float:
    return float(Bvh(*mesh).closest_point(points)[0].max())


def samples(mesh: Mesh, count: int = 4000) -> torch.Tensor:
    """Random points on a mesh."""
    v, f = mesh
    g = torch.Generator().manual_seed(0)
    corners = v[f.long()]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    pick = torch.multinomial(areas, count, replacement=True, generator=g)
    w = -torch.rand(count, 3, generator=g).log()
    return (corners[pick] * (w / w.sum(1, keepdim=True))[:, :, None]).sum(1)


def turned_over(v: np.ndarray, f: np.ndarray) -> float:
    """Share of edges whose two faces look in opposite directions, more than 150 degrees apart."""
    n = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]]).astype(np.float64)
    n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-30)
    e = directed_edges(f)
    face = np.tile(np.arange(len(f)), 3)
    order, back = np.lexsort((e[:, 1], e[:, 0])), np.lexsort((e[:, 0], e[:, 1]))
    return float(((n[face[order]] * n[face[back]]).sum(1) < math.cos(math.radians(150))).mean())


def check_closed_manifold(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    v, f = (x.numpy() for x in mesh)
    assert np.isfinite(v).all() and f.min() == 0 and f.max() == len(v) - 1 and len(np.unique(f)) == len(v)
    assert is_closed(f) and fans(f) == len(v)
    return v, f


TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def test_the_measures_know_the_handwritten_cases() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    assert is_closed(TETRAHEDRON) and fans(TETRAHEDRON) == 4 and euler(TETRAHEDRON) == 2
    assert volume(corners, TETRAHEDRON) == pytest.approx(1 / 6)
    assert not is_closed(TETRAHEDRON[:3]) and not is_closed(TETRAHEDRON[[0, 1, 2, 3, 3]])
    flipped = TETRAHEDRON.copy()
    flipped[0] = flipped[0, ::-1]
    assert not is_closed(flipped)
    touching = np.concatenate([TETRAHEDRON, np.where(TETRAHEDRON == 0, 0, TETRAHEDRON + 3)])  # two that share corner 0
    assert is_closed(touching) and fans(touching) == 8 and len(np.unique(touching)) == 7


# ---- shapes -------------------------------------------------------------------------------------------------------


def test_ball() -> None:
    mesh = as_mesh(ball())
    result = remesh_dual_contouring(*mesh, resolution=48)
    v, f = check_closed_manifold(result)
    cell = result.report.cell_size
    assert euler(f) == 2 and result.report.offset == cell and cell == pytest.approx(2 / 44, rel=1e-3)
    # A tenth of the offset is left; chords of the new mesh cut off less than that.
    assert np.all(np.abs(np.linalg.norm(v, axis=1) - 1 - 0.1 * cell) < 0.05 * cell)
    assert 4 / 3 * math.pi < volume(v, f) < 4 / 3 * math.pi * (1 + 0.1 * cell) ** 3
    assert result.vertices.dtype == torch.float32 and result.faces.dtype == torch.int32
    assert result.report.held_back == 0


@pytest.mark.parametrize("project", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("band", [1.0, 1.5, 3.0])
def test_project_and_band(project: float, band: float) -> None:
    mesh = as_mesh(ball(subdivisions=5))
    result = remesh_dual_contouring(*mesh, resolution=40, band=band, project=project)
    v, f = check_closed_manifold(result)
    left = (1 - project) * band * result.report.cell_size
    assert euler(f) == 2 and result.report.offset == pytest.approx(band * result.report.cell_size)
    # Means of the crossings of a curved surface lie a little inside of it.
    assert np.all(np.abs(np.linalg.norm(v, axis=1) - 1 - left) < 0.06 * result.report.cell_size)


def test_torus_keeps_its_hole() -> None:
    mesh = as_mesh(trimesh.creation.torus(1.0, 0.3, major_sections=96, minor_sections=48))
    v, f = check_closed_manifold(remesh_dual_contouring(*mesh, resolution=64))
    assert euler(f) == 0 and volume(v, f) == pytest.approx(2 * math.pi**2 * 0.3**2, rel=0.03)


def test_box_keeps_its_edges() -> None:
    mesh = as_mesh(box(2.0))
    result = remesh_dual_contouring(*mesh, resolution=48)
    v, f = check_closed_manifold(result)
    cell = result.report.cell_size
    assert euler(f) == 2 and volume(v, f) == pytest.approx(8, rel=0.02)
    assert largest_distance(result.vertices, mesh) < 0.15 * cell
    assert largest_distance(samples(mesh), (result.vertices, result.faces)) < 0.3 * cell  # chamfered by less than that
    assert turned_over(v, f) == 0


@pytest.mark.parametrize("project", [0.9, 1.0])
def test_distance_from_both_sides_on_a_knobbly_shape(project: float) -> None:
    shape = ball(subdivisions=5)
    p = np.asarray(shape.vertices)
    shape.vertices = p * (1 + 0.15 * np.sin(5 * p[:, :1]) * np.sin(6 * p[:, 1:2]) * np.sin(4 * p[:, 2:]))
    mesh = as_mesh(shape)
    result = remesh_dual_contouring(*mesh, resolution=64, project=project)
    v, f = check_closed_manifold(result)
    cell = result.report.cell_size
    assert euler(f) == 2 and turned_over(v, f) == 0
    assert largest_distance(result.vertices, mesh) < (1.0 - project) * 1.2 * cell + 0.05 * cell
    assert largest_distance(samples(mesh), (result.vertices, result.faces)) < 0.3 * cell
    # A tenth of the offset outward.
    assert volume(v, f) == pytest.approx(shape.volume + (1 - project) * cell * shape.area, rel=3e-3)


def rays_through(v: torch.Tensor, count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    d = torch.randn(count, 3, generator=g)
    return -20 * d / d.norm(dim=1, keepdim=True) + 0.05 * torch.randn(count, 3, generator=g), d


@pytest.mark.parametrize(("shell", "hits", "characteristic"), [("outer", 2, 2), ("both", 4, 4)])
def test_layers_counted_by_rays(shell: str, hits: int, characteristic: int) -> None:
    """Lines through a ball: an outer shell is crossed twice, a shell with its inner sheet four times."""
    result = remesh_dual_contouring(*as_mesh(ball()), resolution=48, shell=shell)
    v, f = check_closed_manifold(result)
    assert (Bvh(*result).count_hits(*rays_through(result.vertices)) == hits).all()
    assert euler(f) == characteristic
    sheets = {"outer": 4 / 3 * math.pi, "both": 4 * math.pi * 0.2 * result.report.cell_size}
    assert volume(v, f) == pytest.approx(sheets[shell], rel=0.02)


def test_what_lies_inside_vanishes() -> None:
    mesh = as_mesh(ball(1.0), ball(0.5))
    outer = remesh_dual_contouring(*mesh, resolution=48)
    assert (Bvh(*outer).count_hits(*rays_through(outer.vertices)) == 2).all()
    v, f = check_closed_manifold(outer)
    assert euler(f) == 2 and volume(v, f) == pytest.approx(4 / 3 * math.pi, rel=0.02)
    _, f = check_closed_manifold(remesh_dual_contouring(*mesh, resolution=48, shell="both"))
    assert euler(f) == 8


def test_overlapping_boxes_become_one_and_distant_ones_stay_two() -> None:
    v, f = check_closed_manifold(remesh_dual_contouring(*as_mesh(box(1.0), box(1.0, 0.5)), resolution=64))
    assert euler(f) == 2 and volume(v, f) == pytest.approx(1.5, rel=0.02)
    result = remesh_dual_contouring(*as_mesh(box(1.0), box(1.0, 1.5)), resolution=64)
    v, f = check_closed_manifold(result)
    assert euler(f) == 4 and volume(v, f) == pytest.approx(2 + 12 * 0.1 * result.report.cell_size, rel=0.005)


def test_orientation_of_the_input_does_not_matter() -> None:
    v, f = as_mesh(ball(subdivisions=2))
    mixed = f.clone()
    mixed[::2] = mixed[::2].flip(1)
    want, got = (remesh_dual_contouring(v, x, resolution=32) for x in (f, mixed))
    # The distances differ in their last bits, and those may decide between two equally good diagonals.
    assert torch.allclose(want.vertices, got.vertices, atol=1e-6) and want.faces.shape == got.faces.shape
    assert volume(got.vertices.numpy(), got.faces.numpy()) == pytest.approx(
        volume(want.vertices.numpy(), want.faces.numpy())
    )


def test_an_open_surface_becomes_a_thin_closed_slab() -> None:
    v = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    f = torch.tensor([[0, 1, 2], [0, 2, 3]])
    result = remesh_dual_contouring(v, f, resolution=48)
    nv, nf = check_closed_manifold(result)
    cell = result.report.cell_size
    assert euler(nf) == 2 and np.abs(nv[:, 2]).max() < 0.11 * cell
    assert volume(nv, nf) == pytest.approx(4 * 0.2 * cell, rel=0.05)
    assert largest_distance(samples((v, f)), (result.vertices, result.faces)) < 0.3 * cell


def test_a_small_hole_is_closed_and_a_large_one_is_not() -> None:
    v, f = as_mesh(ball(subdivisions=5))
    cell, middle = 2 / 44, v[f].mean(1)
    small = f[(f != 0).all(1)]  # without the faces around a vertex: 1.6 cells wide
    assert len(small) == len(f) - 5
    nv, nf = check_closed_manifold(remesh_dual_contouring(v, small, resolution=48))
    assert euler(nf) == 2 and volume(nv, nf) == pytest.approx(4 / 3 * math.pi, rel=0.02)
    large = f[(middle - v[0]).norm(dim=1) > 4 * cell]
    nv, nf = check_closed_manifold(remesh_dual_contouring(v, large, resolution=48))
    coat = 4 * math.pi * 2 * 0.1 * cell  # on both sides
    assert euler(nf) == 2 and volume(nv, nf) == pytest.approx(coat, rel=0.05)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_outside_reaches_into_an_open_box(axis: int, sign: int) -> None:
    """A box without its lid, which the flood enters in one direction only."""
    v, f = as_mesh(box(2.0))
    lidless = f[~(v[f][:, :, axis] == sign).all(1)]
    assert len(lidless) == 10
    nv, nf = check_closed_manifold(remesh_dual_contouring(v, lidless, resolution=40, aabb=[[-1.25] * 3, [1.25] * 3]))
    coat = 20 * 2 * 0.1 * 2.5 / 40  # of five sides; the eight inner edges are rounded over about a cell, and thicken it
    assert euler(nf) == 2 and coat * 0.95 < volume(nv, nf) < coat * 1.5  # a closed box has 8


# ---- anything goes in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["outer", "both"])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_manifold(seed: int, shell: str) -> None:
    """Grains as large as cells reach every one of the 256 cells, and those where four faces would meet at an edge."""
    g = torch.Generator().manual_seed(seed)
    count = 1500
    v = (torch.rand(count, 1, 3, generator=g) + 0.002 * torch.randn(count, 3, 3, generator=g)).reshape(-1, 3)
    result = remesh_dual_contouring(v, torch.arange(3 * count).view(-1, 3), resolution=32, shell=shell)
    nv, nf = check_closed_manifold(result)
    assert volume(nv, nf) > 0


@pytest.mark.parametrize("project", [0.5, 0.9])
def test_no_triangle_turns_over_on_its_way_back(project: float) -> None:
    """In a heap of triangles neighbours are drawn to different sheets; such vertices are held back, and few others."""
    g = torch.Generator().manual_seed(5)
    v = (torch.rand(200, 1, 3, generator=g) + 0.08 * torch.randn(200, 3, 3, generator=g)).reshape(-1, 3)
    f = torch.arange(len(v)).view(-1, 3)
    start = remesh_dual_contouring(v, f, resolution=40, project=0.0)
    result = remesh_dual_contouring(v, f, resolution=40, project=project)
    assert len(start.vertices) == len(result.vertices) and start.report.held_back == 0
    before, after = (
        torch.linalg.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0])
        for c in (x.vertices.double()[result.faces.long()] for x in (start, result))
    )
    lengths = before.norm(dim=1) * after.norm(dim=1)
    proper = lengths > 1e-5 * before.norm(dim=1) ** 2  # of the others float32 cannot tell the direction
    assert proper.double().mean() > 0.9
    assert ((before * after).sum(1)[proper] > 0.05 * lengths[proper]).all()
    assert 0 < result.report.held_back < 0.3 * len(result.vertices)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(*[st.tuples(*[st.integers(0, 6)] * 3)] * 3), min_size=1, max_size=8),
    st.integers(1, 24),
    st.floats(0.87, 2.5),
    st.sampled_from([0.0, 0.9, 1.0]),
    st.sampled_from(["outer", "both"]),
    st.sampled_from([1e-20, 1e-3, 1.0, 1e15]),
)
def test_any_triangles_give_a_closed_manifold(triangles, resolution, band, project, shell, scale) -> None:
    v = torch.tensor(triangles, dtype=torch.float32).reshape(-1, 3) * scale
    f = torch.arange(len(v)).view(-1, 3)
    result = remesh_dual_contouring(v, f, resolution=resolution, band=band, project=project, shell=shell)
    check_closed_manifold(result)
    # No vertex is farther from the mesh than the contour was, but for the chord of a cell.
    assert largest_distance(result.vertices, (v, f)) <= result.report.offset + 1.8 * result.report.cell_size


def test_one_point() -> None:
    v, f = check_closed_manifold(
        remesh_dual_contouring(torch.ones(3, 3), torch.tensor([[0, 1, 2]]), resolution=8, project=0.5)
    )
    assert euler(f) == 2 and np.allclose(v.mean(0), 1, atol=1e-3)


def test_aabb_places_the_grid() -> None:
    v, f = as_mesh(box(1.0))
    free = remesh_dual_contouring(v, f, resolution=20, aabb=[[-1.0, -1, -1], [1, 1, 1]], project=0.0)
    assert free.report.cell_size == pytest.approx(0.1) and free.vertices.abs().max() == pytest.approx(0.6, abs=2e-4)
    # The same cells, of a grid twice as large.
    large = remesh_dual_contouring(v, f, resolution=40, aabb=torch.tensor([[-2.0] * 3, [2.0] * 3]), project=0.0)
    assert len(large.faces) == len(free.faces)
    assert torch.allclose(torch.unique(large.vertices, dim=0), torch.unique(free.vertices, dim=0), atol=1e-6)
    # A mesh may touch the box: the band reaches beyond it.
    tight = remesh_dual_contouring(v, f, resolution=10, aabb=[[-0.5] * 3, [0.5] * 3])
    check_closed_manifold(tight)
    assert torch.equal(
        remesh_dual_contouring(v, f, resolution=10, aabb=[[-0.5] * 3, [0.5] * 3], bvh=Bvh(v, f)).vertices,
        tight.vertices,
    )


def test_moving_the_mesh_and_the_box_moves_the_result() -> None:
    v, f = as_mesh(ball(subdivisions=3))
    want = remesh_dual_contouring(v, f, resolution=32, aabb=[[-2.0] * 3, [2.0] * 3])
    got = remesh_dual_contouring(v + 4, f, resolution=32, aabb=[[2.0] * 3, [6.0] * 3])
    assert len(want.faces) == len(got.faces)
    assert float((want.vertices + 4 - got.vertices).abs().max()) < 1e-4


def test_same_bits_for_any_number_of_threads() -> None:
    mesh = as_mesh(box(1.0), ball(0.6, 3), box(0.7, 0.8))
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: tuple(remesh_dual_contouring(*mesh, resolution=64)))


# ---- arguments ----------------------------------------------------------------------------------------------------

BOX = as_mesh(box(1.0))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"resolution": 0}, ValueError, "resolution: expected in \\[1, 2048\\], got 0"),
        ({"resolution": 2049}, ValueError, "resolution: .* got 2049"),
        ({"resolution": 8.0}, TypeError, "resolution: expected an int, got float"),
        ({"band": 0.5}, ValueError, "band: expected a number in \\[0.87, 16.0\\], got 0.5"),
        ({"project": 1.5}, ValueError, "project: .* got 1.5"),
        ({"shell": "inner"}, ValueError, "shell: expected 'outer' or 'both', got 'inner'"),
        ({"aabb": [[0.0, 0, 0]]}, ValueError, "aabb: expected shape \\[2, 3\\], got \\[1, 3\\]"),
        ({"aabb": [[-1.0] * 3, [1, 1, 2]]}, ValueError, "aabb: expected the lowest and the highest corner of a cube"),
        ({"aabb": [[1.0] * 3, [-1.0] * 3]}, ValueError, "aabb: expected the lowest and the highest corner of a cube"),
        (
            {"aabb": [[-math.inf] * 3, [1.0] * 3]},
            ValueError,
            "aabb: expected the lowest and the highest corner of a cube",
        ),
        ({"aabb": [[0.0] * 3, [1.0] * 3]}, ValueError, "aabb: expected a cube that holds the mesh"),
        (
            {"bvh": Bvh(BOX[0], BOX[1][:3])},
            ValueError,
            "bvh: expected the tree of this mesh \\(12 faces .* one of 3 faces",
        ),
        ({"faces": BOX[1][:0]}, ValueError, "faces: expected at least one face"),
        ({"faces": BOX[1] - 1}, ValueError, "faces: expected vertex indices"),
        (
            {"vertices": BOX[0] * math.nan},
            ValueError,
            "vertices: expected finite coordinates, got 8 vertices with others",
        ),
    ],
)
def test_errors_name_argument_expected_and_actual(arguments, error, text) -> None:
    with pytest.raises(error, match=text):
        remesh_dual_contouring(**{"vertices": BOX[0], "faces": BOX[1], "resolution": 8, **arguments})


def test_cells_below_the_precision_of_coordinates_are_refused() -> None:
    v, f = BOX
    check_closed_manifold(remesh_dual_contouring(v + 500, f, resolution=64))
    with pytest.raises(
        ValueError, match=r"resolution: cells of size .* are too small for float32 coordinates up to 500"
    ):
        remesh_dual_contouring(v + 5000, f, resolution=64)


def test_vertices_that_no_face_uses_do_not_matter() -> None:
    v = torch.cat([BOX[0], torch.full((1, 3), math.nan), torch.full((1, 3), 1e9)])
    want, got = (remesh_dual_contouring(x, BOX[1], resolution=16) for x in (BOX[0], v))
    assert torch.equal(want.vertices, got.vertices) and torch.equal(want.faces, got.faces)


def test_operator_passes_opcheck() -> None:
    bvh = Bvh(*BOX)
    tree = (bvh.nodes, bvh.leaves.nan_to_num(), bvh.ids, bvh.num_faces)
    arguments = (*tree, [-0.75] * 3, 0.1, 15, 1.0, 0.9, True)
    torch.library.opcheck(torch.ops.trellis_mesh.remesh_dual_contouring.default, arguments, test_utils=("test_schema",))


def test_memory_of_a_native_call_goes_back_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        memory = DeviceMemory(torch.device("meta"))
        allocate = memory.allocate
        assert allocate is not None
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(allocate.value)(16)
        piece = weakref.ref(memory._pieces[0])
        assert piece() is not None
        memory.release()
        assert piece() is None
    finally:
        gc.enable()
