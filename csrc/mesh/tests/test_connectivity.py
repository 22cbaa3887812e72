"""Edges, components and normals against plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_mesh import boundary_edges, connected_components, edges, face_normals, vertex_normals
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count

FEW = settings(deadline=None, max_examples=60)
FACE_LISTS = st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=25)


def as_faces(faces: object) -> torch.Tensor:
    return torch.tensor(faces, dtype=torch.int64).reshape(-1, 3)


# ---- oracles ------------------------------------------------------------------------------------------------------


def count_edges(faces: list[tuple[int, int, int]]) -> Counter[tuple[int, int]]:
    """How many faces each edge has; faces that name a vertex twice have no edges."""
    proper = [f for f in faces if len(set(f)) == 3]
    return Counter(tuple(sorted((f[i], f[(i + 1) % 3]))) for f in proper for i in range(3))  # type: ignore[misc]


def flood(faces: list[tuple[int, int, int]]) -> list[int]:
    """Component labels by flood fill over shared edges, numbered in the order of first faces."""
    around = defaultdict(list)
    for i, f in enumerate(faces):
        for e in count_edges([f]):
            around[e].append(i)
    labels = [-1] * len(faces)
    for first in range(len(faces)):
        if labels[first] >= 0:
            continue
        label, front = max(labels) + 1, [first]
        while front:
            i = front.pop()
            if labels[i] < 0:
                labels[i] = label
                front += [j for e in count_edges([faces[i]]) for j in around[e]]
    return labels


def sum_normals(v: np.ndarray, faces: np.ndarray, weighting: str) -> np.ndarray:
    """Vertex normals by a loop over corners, with angles from arc cosines."""
    total = np.zeros((len(v), 3))
    for face in faces:
        for i in range(3):
            p, q, r = (v[face[(i + k) % 3]].astype(float) for k in range(3))
            n = np.cross(q - p, r - p)
            if weighting == "angle":
                n /= np.linalg.norm(n)
                u, w = (q - p) / np.linalg.norm(q - p), (r - p) / np.linalg.norm(r - p)
                n *= np.arccos(np.clip(u @ w, -1, 1))
            total[face[i]] += n
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)


def test_oracles_on_cases_done_by_hand() -> None:
    two = [(0, 1, 2), (2, 1, 3), (4, 4, 1)]
    assert count_edges(two) == {(0, 1): 1, (0, 2): 1, (1, 2): 2, (1, 3): 1, (2, 3): 1}
    assert flood(two) == [0, 0, 1]
    assert flood([(0, 1, 2), (2, 3, 4)]) == [0, 1]  # a shared vertex does not connect
    v = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    f = np.array([[0, 1, 2], [0, 2, 3]])  # normals +z with 90 degrees and +x with 90 degrees at vertex 0
    np.testing.assert_allclose(sum_normals(v, f, "angle")[0], [0.5**0.5, 0, 0.5**0.5], atol=1e-12)


# ---- edges and components -------------------------------------------------------------------------------------------


@FEW
@given(FACE_LISTS)
def test_edges_match_counting(faces: list[tuple[int, int, int]]) -> None:
    counts = count_edges(faces)
    assert edges(as_faces(faces)).tolist() == [list(e) for e in sorted(counts)]
    assert boundary_edges(as_faces(faces)).tolist() == [list(e) for e in sorted(counts) if counts[e] == 1]


@FEW
@given(FACE_LISTS, st.randoms())
def test_components_match_flood_fill_and_do_not_depend_on_the_order_of_faces(
    faces: list[tuple[int, int, int]], random: object
) -> None:
    count, labels = connected_components(as_faces(faces), 10)
    assert labels.tolist() == flood(faces)
    assert count == len(set(labels.tolist()))
    assert labels.dtype == torch.int32
    shuffled = list(faces)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert connected_components(as_faces(shuffled), 10)[0] == count


def test_edges_of_a_sphere_obey_euler() -> None:
    ball = trimesh.creation.icosphere(4)
    f = torch.tensor(ball.faces)
    assert len(edges(f)) == len(ball.vertices) + len(f) - 2
    assert len(boundary_edges(f)) == 0
    assert edges(f).dtype == torch.int32


def test_very_many_faces_around_one_vertex() -> None:
    n = 50_000
    rim = torch.arange(1, n + 1, dtype=torch.int32)
    f = torch.stack([torch.zeros_like(rim), rim, rim.roll(-1)], 1)
    assert len(edges(f)) == 2 * n and len(boundary_edges(f)) == n
    assert connected_components(f, n + 1)[0] == 1


def test_memory_follows_the_faces_and_not_the_indices() -> None:
    far = 2**31 - 2
    f = torch.tensor([[far, 0, 10**9]], dtype=torch.int64)
    assert edges(f).tolist() == [[0, 10**9], [0, far], [10**9, far]]
    assert connected_components(f, 2**31 - 1) == (1, torch.tensor([0], dtype=torch.int32))


def test_no_faces() -> None:
    none = torch.empty((0, 3), dtype=torch.int32)
    assert edges(none).shape == (0, 2) and boundary_edges(none).shape == (0, 2)
    count, labels = connected_components(none, 0)
    assert count == 0 and labels.shape == (0,)


# ---- normals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["angle", "area"])
def test_vertex_normals_match_a_loop(weighting: str) -> None:
    ball = trimesh.creation.icosphere(2)
    rng = np.random.default_rng(0)
    v = (ball.vertices * rng.uniform(0.7, 1.3, (len(ball.vertices), 1))).astype(np.float32)
    got = vertex_normals(torch.tensor(v), torch.tensor(ball.faces), weighting=weighting)
    # Single precision of the output; the sums are made in double.
    np.testing.assert_allclose(got, sum_normals(v, ball.faces, weighting), atol=2e-7)


def test_angle_weights_do_not_see_how_a_cube_was_triangulated() -> None:
    box = trimesh.creation.box()
    got = vertex_normals(torch.tensor(box.vertices, dtype=torch.float32), torch.tensor(box.faces), weighting="angle")
    np.testing.assert_allclose(got, np.sign(box.vertices) / 3**0.5, atol=1e-6)


def test_area_weighs_where_nothing_is_said() -> None:
    """Two faces of a roof at one ridge, of which one is nine times as large: the ridge leans to its side."""
    v = torch.tensor([[0.0, 0, 0], [0, 1, 0], [1, 0, -1], [-9, 0, -9]])
    f = torch.tensor([[0, 2, 1], [0, 1, 3]])
    large, small = torch.tensor([-9.0, 0, 9]), torch.tensor([1.0, 0, 1])
    expected = torch.nn.functional.normalize(large + small, dim=0)
    torch.testing.assert_close(vertex_normals(v, f)[:2], expected.expand(2, 3))
    assert torch.equal(vertex_normals(v, f), vertex_normals(v, f, weighting="area"))


def test_face_normals_follow_the_right_hand() -> None:
    v = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 5]])
    f = torch.tensor([[0, 1, 2], [0, 2, 1], [0, 2, 3], [1, 1, 2]])
    assert face_normals(v, f).tolist() == [[0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_normals_of_very_small_and_large_faces(scale: float) -> None:
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]) * scale
    f = torch.tensor([[0, 1, 2]])
    assert face_normals(v, f).tolist() == [[0, 0, 1]]
    assert vertex_normals(v, f).tolist() == [[0, 0, 1]] * 3


def test_coordinates_that_are_not_finite_do_not_spread() -> None:
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [float("nan"), 0, 1], [float("inf"), 1, 1]])
    f = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [1, 2, 4]])
    assert face_normals(v, f).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert vertex_normals(v, f).tolist() == [[0, 0, 1]] * 3 + [[0, 0, 0]] * 2


def test_vertices_without_faces_have_no_normal() -> None:
    v, none = torch.ones((2, 3)), torch.empty((0, 3), dtype=torch.int32)
    assert vertex_normals(v, none).tolist() == [[0, 0, 0]] * 2
    assert face_normals(v, none).shape == (0, 3)
    assert vertex_normals(v[:0], none).shape == (0, 3)


def test_tensors_need_not_be_contiguous() -> None:
    ball = trimesh.creation.icosphere(1)
    v, f = torch.tensor(ball.vertices, dtype=torch.float32), torch.tensor(ball.faces)
    v2, f2 = v.t().contiguous().t(), f.t().contiguous().t()
    assert torch.equal(vertex_normals(v2, f2), vertex_normals(v, f))
    assert torch.equal(edges(f2), edges(f))


def test_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(1)
    f = torch.tensor(rng.integers(0, 30_000, (60_000, 3)))
    v = torch.tensor(rng.normal(size=(30_000, 3)), dtype=torch.float32)

    def run() -> tuple[object, ...]:
        return edges(f), boundary_edges(f), connected_components(f, 30_000), vertex_normals(v, f), face_normals(v, f)

    assert_same_bits_for_any_thread_count(EXTENSION, run)


# ---- errors ---------------------------------------------------------------------------------------------------------

GOOD_V, GOOD_F = torch.zeros((3, 3)), torch.tensor([[0, 1, 2]])


@pytest.mark.parametrize("operation", [edges, boundary_edges, lambda f: connected_components(f, 3)])
def test_bad_faces(operation: object) -> None:
    with pytest.raises(TypeError, match=r"faces: expected a torch\.Tensor, got list"):
        operation([[0, 1, 2]])  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"faces: expected dtype int32 or int64, got float32"):
        operation(GOOD_F.float())  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"faces: expected shape \[F, 3\], got \[1, 2\]"):
        operation(GOOD_F[:, :2])  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, \d+\), got -1 to 1"):
        operation(GOOD_F - 1)  # type: ignore[operator]


def test_indices_beyond_the_vertices() -> None:
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 2\), got 0 to 2"):
        connected_components(GOOD_F, 2)
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 2147483647\), got 0 to 4294967296"):
        edges(torch.tensor([[0, 1, 2**32]]))
    with pytest.raises(TypeError, match="num_vertices: expected an int, got float"):
        connected_components(GOOD_F, 3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"num_vertices: expected in \[0, 2147483647\], got -3"):
        connected_components(GOOD_F, -3)


@pytest.mark.parametrize("operation", [face_normals, vertex_normals])
def test_bad_meshes(operation: object) -> None:
    with pytest.raises(TypeError, match="vertices: expected dtype float32, got float64"):
        operation(GOOD_V.double(), GOOD_F)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"faces: expected vertex indices in \[0, 3\), got 1 to 3"):
        operation(GOOD_V, GOOD_F + 1)  # type: ignore[operator]


def test_unknown_weighting() -> None:
    with pytest.raises(ValueError, match="weighting: expected 'angle' or 'area', got 'uniform'"):
        vertex_normals(GOOD_V, GOOD_F, weighting="uniform")
