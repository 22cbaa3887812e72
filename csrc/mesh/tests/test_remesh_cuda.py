"""Remeshing on CUDA against the CPU: the same vertices, faces and report, bit for bit."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
import trimesh
from trellis_mesh import Bvh, boundary_edges, edges, remesh_dual_contouring
from trellis_native.testing import bits

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

Mesh = tuple[torch.Tensor, torch.Tensor]


def from_trimesh(mesh: trimesh.Trimesh) -> Mesh:
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


def soup(count: int, size: float) -> Mesh:
    """Faces that touch nothing: their shells meet in every way that a grid allows."""
    g = torch.Generator().manual_seed(count)
    v = torch.rand(count, 1, 3, generator=g) + size * torch.randn(count, 3, 3, generator=g)
    return v.view(-1, 3), torch.arange(3 * count, dtype=torch.int32).view(-1, 3)


def nested() -> Mesh:
    """A ball within a ball: with shell="outer" the inner one vanishes."""
    outer, inner = trimesh.creation.icosphere(3), trimesh.creation.icosphere(2, radius=0.4)
    return from_trimesh(trimesh.util.concatenate([outer, inner]))


MESHES: dict[str, Callable[[], Mesh]] = {
    "small-face": lambda: (
        torch.rand(3, 3, generator=torch.Generator().manual_seed(2)),
        torch.tensor([[0, 1, 2]]).int(),
    ),
    "small-point": lambda: (torch.tensor([[0.3, 0.2, 0.1]]), torch.zeros(1, 3, dtype=torch.int32)),
    "small-soup": lambda: soup(12, 0.1),
    "ball": lambda: from_trimesh(trimesh.creation.icosphere(4)),
    "box": lambda: from_trimesh(trimesh.creation.box()),
    "ring": lambda: from_trimesh(trimesh.creation.torus(1.0, 0.3)),
    "nested": nested,
    "soup": lambda: soup(3_000, 0.03),
}


@pytest.mark.parametrize("shell", ["outer", "both"])
@pytest.mark.parametrize(
    ("resolution", "band", "project"), [(1, 1.0, 0.9), (9, 0.87, 1.0), (40, 1.0, 0.9), (64, 2.3, 0.5), (70, 1.0, 0.0)]
)
@pytest.mark.parametrize("name", sorted(MESHES))
def test_the_result_is_that_of_the_cpu(name: str, resolution: int, band: float, project: float, shell: str) -> None:
    v, f = MESHES[name]()
    settings = {"resolution": resolution, "band": band, "project": project, "shell": shell}
    cpu = remesh_dual_contouring(v, f, **settings)
    ours = remesh_dual_contouring(v.cuda(), f.cuda(), **settings)
    assert ours.report == cpu.report
    assert bits(ours.faces) == bits(cpu.faces)
    assert bits(ours.vertices) == bits(cpu.vertices)


def test_a_large_result_is_closed_and_the_same_on_any_stream() -> None:
    v, f = (x.cuda() for x in soup(20_000, 0.02))
    expected = remesh_dual_contouring(v, f, resolution=400)
    assert len(expected.faces) > 1_000_000
    assert len(boundary_edges(expected.faces)) == 0
    assert 2 * len(edges(expected.faces)) == 3 * len(expected.faces)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        again = remesh_dual_contouring(v, f, resolution=400, bvh=Bvh(v, f))
    stream.synchronize()
    assert bits(tuple(again)) == bits(tuple(expected))


def test_nothing_is_left_until_the_garbage_is_collected() -> None:
    v, f = (x.cuda() for x in soup(20_000, 0.02))
    tree = Bvh(v, f)
    gc.collect()
    before = torch.cuda.memory_allocated()
    gc.disable()
    try:
        result = remesh_dual_contouring(v, f, resolution=400, bvh=tree)
        result = (result.vertices, result.faces)
        assert torch.cuda.memory_allocated() - before < 1.01 * sum(12 * len(x) for x in result) + 4096
    finally:
        gc.enable()


def test_no_memory_is_torchs_error() -> None:
    v, f = (x.cuda() for x in soup(20_000, 0.02))
    tree = Bvh(v, f)
    taken = torch.cuda.memory_allocated()
    total = torch.cuda.get_device_properties(v.device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((taken + 40e6) / total)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            remesh_dual_contouring(v, f, resolution=400, bvh=tree)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
