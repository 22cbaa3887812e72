import numpy as np
import pytest
import torch
from trellis_voxel import Grid

UNIT = [[0, 0, 0], [1, 1, 1]]


def test_one_size_serves_all_axes():
    grid = Grid.of(8, UNIT)
    assert grid.size == (8, 8, 8)
    assert grid.voxel_size == (0.125, 0.125, 0.125)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_sizes_and_boxes_may_come_as_sequences_arrays_and_tensors(kind):
    grid = Grid.of(kind([2, 4, 8]), kind([[0.0, -1.0, 1.0], [1.0, 1.0, 5.0]]))
    assert grid == Grid((2, 4, 8), (0.0, -1.0, 1.0), (1.0, 1.0, 5.0), (0.5, 0.5, 0.5))


def test_voxel_sizes_are_the_float32_quotient():
    grid = Grid.of(96, [[-0.5] * 3, [0.5] * 3])
    assert grid.voxel_size[0] == (torch.tensor(1.0) / 96).item()


def test_world_and_voxel_units_are_inverse_to_each_other():
    grid = Grid.of((3, 5, 7), [[-1, 0, 2], [1, 1, 9]])
    points = torch.rand(50, 3)
    torch.testing.assert_close(grid.to_world(grid.to_voxel(points)), points, rtol=0, atol=1e-6)
    assert grid.to_voxel(torch.tensor([1.0, 1.0, 9.0])).tolist() == [3, 5, 7]
    assert grid.to_world(torch.tensor([0.0, 0.0, 0.0])).tolist() == [-1, 0, 2]


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (0, ValueError, r"grid_size: expected one or three ints in \[1, 65536\], got 0"),
        (65537, ValueError, "grid_size"),
        ([4, 4], ValueError, "grid_size"),
        ([4, 4, -1], ValueError, "grid_size"),
        (4.0, TypeError, "grid_size: expected an int or three ints, got 4.0"),
        (True, TypeError, "grid_size"),
        ("444", TypeError, "grid_size"),
        ([4, 4, 4.5], TypeError, "grid_size"),
        (None, TypeError, "grid_size"),
    ],
)
def test_bad_sizes_are_errors(size, error, text):
    with pytest.raises(error, match=text):
        Grid.of(size, UNIT)


@pytest.mark.parametrize(
    ("aabb", "error", "text"),
    [
        ([0, 0, 0], ValueError, r"aabb: expected shape \[2, 3\], got \[3\]"),
        ([[0, 0, 0], [1, 1, float("nan")]], ValueError, "aabb: expected finite numbers of at most"),
        ([[0, 0, 0], [1, 1, 1e31]], ValueError, "aabb: expected finite numbers of at most"),
        ([[0, 0, 0], [1, 1, 0]], ValueError, "aabb: expected a maximum above the minimum"),
        ([[0, 0, 0], [1, -1, 1]], ValueError, "aabb: expected a maximum above the minimum"),
        ([[0, 0, 0], [1, 1, 1e-45]], ValueError, "aabb: expected a box whose voxels have a float32 size"),
        ("box", TypeError, "aabb: expected"),
        ([[0, 0, 0], [1, 1]], TypeError, "aabb: expected"),
    ],
)
def test_bad_boxes_are_errors(aabb, error, text):
    with pytest.raises(error, match=text):
        Grid.of(8, aabb)
