"""Normals of corners: smooth surfaces stay smooth, creases stay sharp."""

import numpy as np
import pytest
import torch
import trellis_mesh as mesh
import trimesh
from trellis_mesh._library import EXTENSION
from trellis_native.testing import assert_same_bits_for_any_thread_count


def tensors(m):
    return torch.tensor(np.asarray(m.vertices), dtype=torch.float32), torch.tensor(
        np.asarray(m.faces), dtype=torch.int32
    )


def oracle(v, f, degrees):
    """The definition, corner by corner, in NumPy."""
    p = v.numpy().astype(np.float64)
    face = np.cross(p[f[:, 1]] - p[f[:, 0]], p[f[:, 2]] - p[f[:, 0]])
    face /= np.maximum(np.linalg.norm(face, axis=1, keepdims=True), 1e-300)
    out = np.zeros((len(f), 3, 3))
    for a in range(len(f)):
        for i in range(3):
            total = np.zeros(3)
            for b in range(len(f)):
                for j in range(3):
                    if f[b, j] != f[a, i] or (a != b and face[a] @ face[b] < np.cos(np.radians(degrees))):
                        continue
                    u, w = p[f[b, (j + 1) % 3]] - p[f[b, j]], p[f[b, (j + 2) % 3]] - p[f[b, j]]
                    total += face[b] * np.arctan2(np.linalg.norm(np.cross(u, w)), u @ w)
            out[a, i] = total / np.linalg.norm(total)
    return out


def test_a_box_keeps_its_edges_below_the_crease_angle_and_loses_them_above():
    v, f = tensors(trimesh.creation.box())
    flat = mesh.face_normals(v, f)
    normals, leaders = mesh.corner_normals(v, f, crease_angle=60)
    assert torch.equal(normals, flat[:, None].expand(-1, 3, -1))
    assert len(leaders.unique()) == 24  # 8 vertices with 3 directions each
    normals, leaders = mesh.corner_normals(v, f, crease_angle=100)
    torch.testing.assert_close(normals.abs(), torch.full_like(normals, 3**-0.5))
    assert len(leaders.unique()) == 8


@pytest.mark.parametrize("degrees", [15.0, 40.0, 75.0])
def test_equals_the_definition(degrees):
    ball = trimesh.creation.icosphere(1)
    rng = np.random.default_rng(0)
    v = torch.tensor(ball.vertices * rng.uniform(0.6, 1.4, (len(ball.vertices), 1)), dtype=torch.float32)
    f = torch.tensor(ball.faces, dtype=torch.int32)
    normals, leaders = mesh.corner_normals(v, f, crease_angle=degrees)
    np.testing.assert_allclose(normals.numpy(), oracle(v, ball.faces, degrees), atol=1e-6)
    flat = normals.reshape(-1, 3)
    vertex = f.reshape(-1)
    lead = leaders.reshape(-1).long()
    assert torch.equal(flat[lead], flat) and torch.equal(vertex[lead], vertex)
    pairs = {(int(i), *n) for i, n in zip(vertex, flat.tolist(), strict=True)}
    assert len(leaders.unique()) == len(pairs)


def test_at_180_degrees_they_are_the_vertex_normals():
    v, f = tensors(trimesh.creation.torus(1, 0.3))
    normals, _ = mesh.corner_normals(v, f, crease_angle=180)
    assert torch.equal(normals, mesh.vertex_normals(v, f, weighting="angle")[f.long()])


def test_degenerate_faces_make_no_crease_and_no_nan():
    v = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [float("nan"), 0, 0]])
    f = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 0, 2], [0, 1, 4]])
    normals, _ = mesh.corner_normals(v, f, crease_angle=30)
    assert torch.isfinite(normals).all()
    assert torch.equal(normals[0], torch.tensor([[0.0, 0, 1]] * 3))
    assert torch.equal(normals[1, 0], torch.tensor([0.0, 0, 1]))


def test_no_faces_and_any_number_of_threads():
    normals, leaders = mesh.corner_normals(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int32), crease_angle=30)
    assert normals.shape == (0, 3, 3) and leaders.shape == (0, 3)
    v, f = tensors(trimesh.creation.icosphere(5))
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: mesh.corner_normals(v, f, crease_angle=3))


@pytest.mark.parametrize("angle", [-1.0, 181.0, float("nan")])
def test_crease_angle_is_checked(angle):
    with pytest.raises(ValueError, match="crease_angle"):
        mesh.corner_normals(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), crease_angle=angle)
