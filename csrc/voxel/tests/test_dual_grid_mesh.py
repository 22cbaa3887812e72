"""Flexible dual grid to mesh, against a dictionary walk in NumPy. Faces are compared exactly, vertices bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_voxel import dual_grid_to_mesh
from trellis_voxel._library import EXTENSION

UNIT = [[0.0] * 3, [1.0] * 3]
# The four voxels around the lattice edge along x, y and z, in the order of a quad's corners.
AROUND = [
    [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)],
    [(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)],
    [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)],
]


def bend(p, q, r, s):
    """The angle between the planes of triangles (p, q, r) and (p, r, s)."""
    n, m = np.cross(q - p, r - p), np.cross(r - p, s - p)
    size = np.linalg.norm(n) * np.linalg.norm(m)
    return np.arccos(np.clip(n @ m / size, -1, 1)) if size else np.pi


def oracle(coords, local, flags, weights, size, aabb):
    """Vertices, and for each quad its two possible splits and which is right (None: too close to call)."""
    low, high = np.float32(aabb)
    vertices = (coords.astype(np.float32) + local) * ((high - low) / np.float32(size)) + low
    index = {}
    for i, c in enumerate(map(tuple, coords.tolist())):
        index.setdefault(c, i)
    quads = []
    for i, c in enumerate(coords.tolist()):
        for axis in range(3):
            if not flags[i, axis]:
                continue
            q = [index.get(tuple(np.add(c, o).tolist())) for o in AROUND[axis]]
            q[0] = i
            if None in q:
                continue
            first, second = [q[0], q[1], q[2], q[0], q[2], q[3]], [q[0], q[1], q[3], q[3], q[1], q[2]]
            if weights is None:
                p = vertices[q].astype(float)
                gap = bend(p[1], p[2], p[3], p[0]) - bend(p[0], p[1], p[2], p[3])
                right = None if abs(gap) < 1e-2 else first if gap > 0 else second
            else:
                w = weights[q]
                right = first if w[0] * w[2] > w[1] * w[3] else second
            quads.append((first, second, right))
    return vertices, quads


def check(coords, local, flags, weights, size, aabb):
    v, f = dual_grid_to_mesh(
        torch.from_numpy(coords),
        torch.from_numpy(local),
        torch.from_numpy(flags),
        None if weights is None else torch.from_numpy(weights),
        aabb=aabb,
        grid_size=size,
    )
    vertices, quads = oracle(coords, local, flags, weights, size, aabb)
    assert (v.dtype, f.dtype) == (torch.float32, torch.int32)
    np.testing.assert_array_equal(v.numpy(), vertices)
    assert len(f) == 2 * len(quads)
    for found, (first, second, right) in zip(f.reshape(-1, 6).tolist(), quads, strict=True):
        assert found == right if right else found in (first, second)


def test_the_oracle_on_one_quad():
    coords = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=np.int32)
    local = np.full((4, 3), 0.5, dtype=np.float32)
    flags = np.zeros((4, 3), dtype=bool)
    flags[0, 2] = True
    for weights, right in (([2, 1, 1, 2], [0, 2, 3, 0, 3, 1]), ([1, 2, 2, 1], [0, 2, 1, 1, 2, 3])):
        vertices, quads = oracle(coords, local, flags, np.float32(weights), (2, 2, 2), UNIT)
        assert [q[2] for q in quads] == [right]
        assert vertices[3].tolist() == [0.75, 0.75, 0.25]
    assert bend(*np.array([[0, 0, 0.0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])) == 0
    assert bend(*np.array([[0, 0, 0.0], [1, 0, 0], [1, 0, 1], [0, 0, 0]])) == np.pi


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**31), st.booleans(), st.booleans())
def test_random_grids_equal_the_oracle(data, seed, weighted, margins):
    size = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    rng = np.random.default_rng(seed)
    cells = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    keep = rng.permutation(len(cells))[: data.draw(st.integers(0, len(cells)))]
    coords = cells[keep]
    local = rng.uniform(-0.5 * margins, 1 + 0.5 * margins, coords.shape).astype(np.float32)
    flags = rng.random(coords.shape) < 0.8
    weights = rng.normal(size=len(coords)).astype(np.float32) if weighted else None
    check(coords, local, flags, weights, size, [[-1, 0, 3], [1, 0.7, 3.1]])


def test_a_large_grid_equals_the_oracle():
    """Many blocks and many bricks of the table."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(100), np.arange(100), indexing="ij")
    z = (20 + 9 * np.sin(x / 9) + 7 * np.cos(y / 7)).astype(int)
    coords = np.stack([np.repeat(x, 3), np.repeat(y, 3), np.repeat(z, 3) + np.tile([0, 1, 2], x.size)], axis=1)
    coords = rng.permutation(coords.astype(np.int32))
    check(
        coords,
        rng.random(coords.shape).astype(np.float32),
        rng.random(coords.shape) < 0.5,
        rng.random(len(coords)).astype(np.float32),
        (100, 100, 64),
        UNIT,
    )


def plate(heights):
    """Four voxels around a lattice edge along z, corner k of the quad at height heights[k]."""
    coords = torch.tensor(AROUND[2], dtype=torch.int32)
    local = torch.full((4, 3), 0.5)
    local[:, 2] = torch.tensor(heights)
    flags = torch.zeros(4, 3, dtype=torch.bool)
    flags[0, 2] = True
    return coords, local, flags


@pytest.mark.parametrize(
    ("heights", "outer", "faces"),
    [
        ([0.5, 0.5, 0.5, 0.5], [], [[0, 1, 2], [0, 2, 3]]),  # flat: between corners 0 and 2
        ([0.1, 0.3, 0.5, 0.3], [], [[0, 1, 2], [0, 2, 3]]),  # flat and sloped
        ([0.5, 0.9, 0.5, 0.9], [0, 2], [[0, 1, 3], [3, 1, 2]]),  # a saddle bends least across its longer diagonal
        ([0.5, 0.9, 0.5, 0.9], [1, 3], [[0, 1, 2], [0, 2, 3]]),
    ],
)
def test_without_weights_the_flatter_diagonal_splits(heights, outer, faces):
    coords, local, flags = plate(heights)
    for k in outer:
        local[k, :2] += (coords[k, :2] - 0.5) * 0.8
    _, f = dual_grid_to_mesh(coords, local, flags, None, aabb=UNIT, grid_size=2)
    assert f.tolist() == faces


def test_a_missing_voxel_leaves_no_quad():
    coords, local, flags = plate([0.5] * 4)
    for gone in range(1, 4):
        kept = [k for k in range(4) if k != gone]
        v, f = dual_grid_to_mesh(coords[kept], local[kept], flags[kept], None, aabb=UNIT, grid_size=2)
        assert len(v) == 3
        assert len(f) == 0


def test_flags_on_the_far_border_leave_no_quad():
    """Their voxels would lie outside the grid, which must not wrap round to its other side."""
    coords = torch.tensor([[i, j, k] for i in range(3) for j in range(3) for k in range(3)], dtype=torch.int32)
    border = (coords == 2).any(1)
    flags = border[:, None].expand(27, 3).clone()
    for axis in range(3):  # a flag needs neighbours along the other two axes only
        flags[:, axis] &= (coords[:, (axis + 1) % 3] == 2) | (coords[:, (axis + 2) % 3] == 2)
    _, f = dual_grid_to_mesh(coords, torch.rand(27, 3), flags, None, aabb=UNIT, grid_size=3)
    assert len(f) == 0


def test_of_equal_voxels_the_first_is_the_neighbour():
    coords, local, flags = plate([0.5] * 4)
    coords, local, flags = coords[[0, 1, 1, 2, 3, 1]], local[[0, 1, 1, 2, 3, 1]], flags[[0, 1, 1, 2, 3, 1]]
    v, f = dual_grid_to_mesh(coords, local, flags, torch.tensor([1.0, 0, 0, 1, 0, 0]), aabb=UNIT, grid_size=2)
    assert len(v) == 6
    assert f.tolist() == [[0, 1, 3], [0, 3, 4]]


def test_an_empty_grid_gives_an_empty_mesh():
    none = torch.empty(0, 3)
    v, f = dual_grid_to_mesh(none.int(), none, none.bool(), None, aabb=UNIT, grid_size=4)
    assert (v.shape, f.shape) == ((0, 3), (0, 3))
    v, f = dual_grid_to_mesh(none.int(), none, none.bool(), torch.empty(0, 1), aabb=UNIT, grid_size=4)
    assert (v.shape, f.shape) == ((0, 3), (0, 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_flags_may_be_integers(dtype):
    coords, local, flags = plate([0.5] * 4)
    _, f = dual_grid_to_mesh(coords, local, flags.to(dtype) * 2, None, aabb=UNIT, grid_size=2)
    assert len(f) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float32(dtype):
    """The products of these weights are equal in half precision and differ in float32."""
    coords, local, flags = plate([0.5] * 4)
    one = torch.tensor(1.0, dtype=dtype)
    step = torch.finfo(dtype).eps
    weights = torch.stack([one * (1 + step), one * (1 + 2 * step), one * (1 + step), one])
    assert weights[0] * weights[2] == weights[1] * weights[3]
    _, f = dual_grid_to_mesh(coords, local.to(dtype), flags, weights, aabb=UNIT, grid_size=2)
    assert f.tolist() == [[0, 1, 2], [0, 2, 3]]
    _, g = dual_grid_to_mesh(coords, local.to(dtype), flags, weights[[1, 0, 3, 2], None], aabb=UNIT, grid_size=2)
    assert g.tolist() == [[0, 1, 3], [3, 1, 2]]


def test_any_number_of_threads_gives_the_same_bits():
    rng = np.random.default_rng(1)
    coords = torch.from_numpy(rng.integers(0, 16, (5000, 3)).astype(np.int32))  # with many equal voxels
    local, flags = torch.rand(5000, 3), torch.rand(5000, 3) < 0.5
    assert_same_bits_for_any_thread_count(
        EXTENSION, lambda: dual_grid_to_mesh(coords, local, flags, None, aabb=UNIT, grid_size=16)
    )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"coords": [[0, 0, 0]]}, TypeError, "coords: expected a torch.Tensor, got list"),
        ({"coords": torch.zeros(4, 3)}, TypeError, "coords: expected dtype int32, got float32"),
        ({"coords": torch.zeros(4, 4).int()}, ValueError, r"coords: expected shape \[N, 3\], got \[4, 4\]"),
        (
            {"coords": torch.tensor([[0, 0, 0], [0, 0, 2], [2, 0, 0], [0, 0, 0]], dtype=torch.int32)},
            ValueError,
            r"coords: expected voxels of a grid of size \[2, 2, 2\], got \[0, 0, 2\] at 1",
        ),
        ({"coords": torch.full((4, 3), -1).int()}, ValueError, r"coords: expected voxels .* got \[-1, -1, -1\] at 0"),
        (
            {"local_dual": torch.zeros(4, 3).double()},
            TypeError,
            "local_dual: expected dtype float32, float16 or bfloat16",
        ),
        ({"local_dual": torch.zeros(3, 3)}, ValueError, r"local_dual: expected shape \[4, 3\], got \[3, 3\]"),
        (
            {"local_dual": torch.full((4, 3), torch.nan)},
            ValueError,
            "local_dual: expected finite numbers, got others at 0",
        ),
        ({"local_dual": torch.zeros(4, 3, device="meta")}, ValueError, "local_dual: expected a tensor on cpu"),
        ({"intersected": torch.zeros(4, 3)}, TypeError, "intersected: expected dtype bool, uint8, int32 or int64"),
        ({"intersected": torch.zeros(4).bool()}, ValueError, r"intersected: expected shape \[4, 3\], got \[4\]"),
        ({"intersected": torch.zeros(4, 3, device="meta").bool()}, ValueError, "intersected: expected a tensor on cpu"),
        ({"split_weight": torch.zeros(4).int()}, TypeError, "split_weight: expected dtype float32"),
        ({"split_weight": torch.zeros(3)}, ValueError, r"split_weight: expected shape \[4\], got \[3\]"),
        ({"split_weight": torch.zeros(4, 2)}, ValueError, r"split_weight: expected shape \[4, 1\], got \[4, 2\]"),
        ({"split_weight": 1.0}, TypeError, "split_weight: expected a torch.Tensor, got float"),
        ({"split_weight": torch.zeros(4, device="meta")}, ValueError, "split_weight: expected a tensor on cpu"),
        ({"grid_size": -1}, ValueError, "grid_size: expected one or three ints"),
        ({"aabb": [[0] * 3] * 2}, ValueError, "aabb: expected a maximum above the minimum"),
    ],
)
def test_bad_arguments_are_errors(change, error, text):
    coords, local, flags = plate([0.5] * 4)
    arguments = {
        "coords": coords,
        "local_dual": local,
        "intersected": flags,
        "split_weight": None,
        "grid_size": 2,
        "aabb": UNIT,
    }
    with pytest.raises(error, match=text):
        dual_grid_to_mesh(**(arguments | change))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("weighted", [False, True])
def test_cuda_gives_the_bits_of_the_cpu(weighted):
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(0, 64, (50_000, 3), generator=generator, dtype=torch.int32)
    local, flags = torch.rand(50_000, 3, generator=generator), torch.rand(50_000, 3, generator=generator) < 0.5
    weights = torch.rand(50_000, generator=generator) if weighted else None
    cpu = dual_grid_to_mesh(coords, local, flags, weights, aabb=UNIT, grid_size=64)
    cuda = dual_grid_to_mesh(
        coords.cuda(), local.cuda(), flags.cuda(), None if weights is None else weights.cuda(), aabb=UNIT, grid_size=64
    )
    assert torch.equal(cpu[0], cuda[0].cpu())
    assert torch.equal(cpu[1], cuda[1].cpu())
    with pytest.raises(ValueError, match="coords: expected voxels of a grid"):
        dual_grid_to_mesh(coords.cuda(), local.cuda(), flags.cuda(), None, aabb=UNIT, grid_size=63)
