"""The package as a whole: its C contract, its operators and what it exports."""

import ctypes

import pytest
import torch
import trellis_voxel
from trellis_native.testing import assert_header_matches_cpu_library
from trellis_voxel._library import EXTENSION


def test_the_header_and_the_cpu_library_agree():
    assert_header_matches_cpu_library(EXTENSION)


def test_every_public_name_exists():
    assert all(hasattr(trellis_voxel, name) for name in trellis_voxel.__all__)
    assert list(trellis_voxel.__all__) == sorted(trellis_voxel.__all__)


def test_a_bad_thread_count_is_an_error():
    with pytest.raises(ValueError, match="threads: expected 0 or more, got -1"):
        EXTENSION.call("set_num_threads", ctypes.c_int(-1), device=torch.device("cpu"))


GRID = ([4, 4, 4], [0.0, 0.0, 0.0], [0.25, 0.25, 0.25])


@pytest.mark.parametrize("weighted", [False, True])
def test_dual_grid_to_mesh_is_a_sound_operator(weighted):
    coords = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=torch.int32)
    flags = torch.zeros(4, 3, dtype=torch.bool)
    flags[0, 2] = True
    weights = torch.rand(4) if weighted else None
    torch.library.opcheck(
        torch.ops.trellis_voxel.dual_grid_to_mesh.default,
        (coords, torch.rand(4, 3), flags, weights, *GRID),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_mesh_to_dual_grid_is_a_sound_operator():
    vertices = torch.tensor([[0.1, 0.1, 0.4], [0.9, 0.2, 0.4], [0.3, 0.9, 0.6]])
    torch.library.opcheck(
        torch.ops.trellis_voxel.mesh_to_dual_grid.default,
        (vertices, torch.tensor([[0, 1, 2]], dtype=torch.int32), *GRID, True, 1.0, 0.1),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_arguments_and_results_as_the_public_signatures_have_them(tmp_path):
    """A grid comes apart into its three tensors, and a file's compression may stand fourth."""
    vertices = torch.tensor([[0.1, 0.1, 0.4], [0.9, 0.2, 0.4], [0.3, 0.9, 0.6]])
    grid = trellis_voxel.mesh_to_dual_grid(
        vertices, torch.tensor([[0, 1, 2]], dtype=torch.int32), grid_size=4, aabb=[[0.0] * 3, [1.0] * 3]
    )
    coords, dual_vertices, intersected = grid
    assert coords is grid.coords and dual_vertices is grid.dual_vertices and intersected is grid.intersected
    attrs = {"intersected": intersected.to(torch.uint8)}
    for compression in ("none", "lzma"):
        trellis_voxel.write_vxz(tmp_path / "a.vxz", coords, attrs, compression)
        assert trellis_voxel.read_vxz_info(tmp_path / "a.vxz")["compression"] == compression
