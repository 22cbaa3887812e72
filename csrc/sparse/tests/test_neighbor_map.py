"""Neighbour maps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_sparse import neighbor_map
from trellis_sparse._library import EXTENSION

SHAPE = (2, 5, 6, 9)
voxels = st.lists(st.tuples(*(st.integers(0, size - 1) for size in SHAPE)), max_size=60)


def tensor(rows: list[tuple[int, ...]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)


def oracle(
    rows: list[tuple[int, ...]], kernel: tuple[int, int, int], dilation: tuple[int, int, int] = (1, 1, 1)
) -> list[list[int]]:
    first: dict[tuple[int, ...], int] = {}
    for i, row in enumerate(rows):
        first.setdefault(row, i)
    result = []
    for b, x, y, z in rows:
        line = []
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                for k in range(kernel[2]):
                    dx, dy, dz = ((n - size // 2) * d for n, size, d in zip((i, j, k), kernel, dilation, strict=True))
                    line.append(first.get((b, x + dx, y + dy, z + dz), -1))
        result.append(line)
    return result


def test_a_handwritten_case() -> None:
    # Three voxels: the second is one step up z from the first, the third one step up x.
    got = neighbor_map(tensor([(0, 1, 1, 1), (0, 1, 1, 2), (0, 2, 1, 1)]), (1, 3, 3, 3))
    expected = torch.full((3, 27), -1, dtype=torch.int32)
    expected[:, 13] = torch.tensor([0, 1, 2])
    expected[0, 14], expected[1, 12] = 1, 0  # (0, 0, +1) is column 14, x-major
    expected[0, 22], expected[2, 4] = 2, 0  # (+1, 0, 0) is column 22
    expected[1, 21], expected[2, 5] = 2, 1  # (+1, 0, -1) is column 21
    assert torch.equal(got, expected)
    assert oracle([(0, 1, 1, 1), (0, 1, 1, 2), (0, 2, 1, 1)], (3, 3, 3)) == expected.tolist()


@given(rows=voxels, kernel=st.tuples(*[st.integers(1, 4)] * 3), dilation=st.tuples(*[st.integers(1, 3)] * 3))
@settings(deadline=None, max_examples=60)
def test_against_brute_force(
    rows: list[tuple[int, ...]], kernel: tuple[int, int, int], dilation: tuple[int, int, int]
) -> None:
    got = neighbor_map(tensor(rows), SHAPE, kernel, dilation)
    assert got.dtype == torch.int32
    assert got.shape == (len(rows), kernel[0] * kernel[1] * kernel[2])
    assert got.tolist() == oracle(rows, kernel, dilation)


@given(rows=voxels, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_permutation_of_the_voxels_renames_the_rows(rows: list[tuple[int, ...]], seed: int) -> None:
    coords = tensor(list(dict.fromkeys(rows)))
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(seed))
    plain, shuffled = neighbor_map(coords, SHAPE), neighbor_map(coords[order], SHAPE)
    renamed = torch.cat([order, torch.tensor([-1])])[shuffled.long()]
    assert torch.equal(renamed.int(), plain[order])


@given(rows=voxels, shift=st.tuples(*[st.integers(0, 70)] * 3))
@settings(deadline=None, max_examples=30)
def test_translation_changes_nothing(rows: list[tuple[int, ...]], shift: tuple[int, int, int]) -> None:
    moved = tensor(rows) + torch.tensor([0, *shift], dtype=torch.int32)
    assert torch.equal(neighbor_map(moved, (2, 90, 90, 90)), neighbor_map(tensor(rows), SHAPE))


def test_the_map_is_its_own_transpose() -> None:
    coords = torch.unique(torch.randint(0, 9, (400, 4), generator=torch.Generator().manual_seed(3)).int() % 8, dim=0)
    neighbors = neighbor_map(coords, (8, 8, 8, 8))
    i, tap = (neighbors >= 0).nonzero(as_tuple=True)
    assert torch.equal(neighbors[neighbors[i, tap].long(), 26 - tap], i.int())


def test_the_corners_of_the_largest_grid() -> None:
    top = 65534
    rows = [(top, top, top, top), (top, top, top, top - 1), (0, 0, 0, 0), (0, top, 0, top), (1, 0, 0, 0)]
    assert neighbor_map(tensor(rows), (65535,) * 4).tolist() == oracle(rows, (3, 3, 3))


def test_neighbours_do_not_wrap_around() -> None:
    rows = [(0, 0, 0, 7), (0, 0, 1, 0), (0, 7, 7, 7), (1, 0, 0, 0), (0, 1, 0, 0)]
    assert neighbor_map(tensor(rows), (2, 8, 8, 8)).tolist() == oracle(rows, (3, 3, 3))


def test_c_callers_may_leave_voxels_outside_the_grid() -> None:
    # 2^18 overflows its 16 bits of a block's key into the next component, where the second and fourth voxel are.
    coords = tensor([(0, 0, 0, 2**18), (0, 0, 4, 0), (0, 2**18, 0, 0), (1, 0, 0, 0), (-1, 2, 2, 2), (0, 0, 9, 0)])
    neighbors = torch.empty(6, 1, dtype=torch.int32)
    sizes = (2, 8, 8, 8, 1, 1, 1, 1, 1, 1)
    EXTENSION.call("neighbor_map", coords, 6, *sizes, None, neighbors, device=torch.device("cpu"))
    assert neighbors.flatten().tolist() == [-1, 1, -1, 3, -1, -1]


def test_the_first_of_repeated_voxels_stands_for_them() -> None:
    got = neighbor_map(tensor([(0, 1, 1, 1), (0, 1, 1, 1), (0, 1, 1, 2)]), (1, 4, 4, 4), 1)
    assert got.tolist() == [[0], [0], [2]]


def test_empty_single_and_non_contiguous() -> None:
    assert neighbor_map(tensor([]), (1, 1, 1, 1)).shape == (0, 27)
    assert neighbor_map(tensor([(0, 0, 0, 0)]), (1, 1, 1, 1), 1).tolist() == [[0]]
    wide = torch.randint(0, 5, (30, 8), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    shape = torch.Size([5, 5, 5, 5])
    assert torch.equal(neighbor_map(wide[:, ::2], shape), neighbor_map(wide[:, ::2].clone(), shape))


def test_threads_do_not_matter() -> None:
    coords = torch.randint(0, 40, (60_000, 4), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    coords[:, 0] %= 2
    assert_same_bits_for_any_thread_count(EXTENSION, lambda: neighbor_map(coords, (2, 40, 40, 40)))


def test_argument_errors() -> None:
    good = tensor([(0, 1, 2, 3)])
    with pytest.raises(TypeError, match="coords: expected dtype int32, got int64"):
        neighbor_map(good.long(), (1, 4, 4, 4))
    with pytest.raises(ValueError, match=r"coords: expected shape \[N, 4\], got \[1, 3\]"):
        neighbor_map(good[:, :3], (1, 4, 4, 4))
    with pytest.raises(
        ValueError, match=r"coords: expected entries from 0 to \(0, 3, 3, 2\), got \[0, 1, 2, 3\] in row 0"
    ):
        neighbor_map(good, (1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"coords: expected entries from 0 to 3, got \[0, -1, 2, 3\] in row 1"):
        neighbor_map(tensor([(0, 1, 2, 3), (0, -1, 2, 3)]), (4, 4, 4, 4))
    for shape in [(1, 3, 4, 4, 4), (4, 4, 4), 4, "4444"]:
        with pytest.raises(ValueError, match="shape: expected 4 sizes"):
            neighbor_map(good, shape)
    with pytest.raises(TypeError, match="shape: expected 4 ints"):
        neighbor_map(good, (1, 4, 4, 4.0))
    for size in (0, -4, 65536):
        with pytest.raises(ValueError, match=r"shape: expected sizes in \[1, 65535\], got"):
            neighbor_map(good, (1, 4, size, 4))
    with pytest.raises(ValueError, match=r"kernel_size: expected an int or 3 ints \(x, y, z\), got \[3, 3\]"):
        neighbor_map(good, (1, 4, 4, 4), [3, 3])
    with pytest.raises(ValueError, match=r"kernel_size: expected in \[1, 63\], got 64"):
        neighbor_map(good, (1, 4, 4, 4), 64)
    with pytest.raises(TypeError, match="kernel_size: expected an int, got str"):
        neighbor_map(good, (1, 4, 4, 4), "333")
    with pytest.raises(ValueError, match=r"dilation: expected in \[1, 65535\], got 0"):
        neighbor_map(good, (1, 4, 4, 4), 3, (1, 0, 1))


def test_too_many_voxels_are_refused_before_any_work() -> None:
    claimed = torch.empty(1, dtype=torch.int32).expand(2**33).as_strided((2**31, 4), (0, 0))
    with pytest.raises(ValueError, match="coords: expected fewer than 2147483647 voxels, got 2147483648"):
        torch.ops.trellis_sparse.neighbor_map(claimed, [1, 4, 4, 4], [3, 3, 3], [1, 1, 1], None)
