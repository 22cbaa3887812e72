"""Mesh to flexible dual grid and back on CUDA: the bits of the CPU, which its own tests compare with an oracle."""

import numpy as np
import pytest
import torch
import trimesh
from trellis_native.testing import bits
from trellis_voxel import DualGrid, Grid, dual_grid_to_mesh, mesh_to_dual_grid

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

UNIT = [[0.0] * 3, [1.0] * 3]


def soup(seed: int, count: int, reach: float, spread: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles of about `reach` in size, that share no vertices."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.5 - spread, 0.5 + spread, (count, 1, 3))
    corners = centre + rng.uniform(-reach, reach, (count, 3, 3))
    return torch.tensor(corners.reshape(-1, 3), dtype=torch.float32), torch.arange(3 * count).reshape(-1, 3).int()


def solid(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


def ball(subdivisions: int = 4, radius: float = 0.45) -> tuple[torch.Tensor, torch.Tensor]:
    v, f = solid(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))
    return v + 0.5, f


def open_sheet() -> tuple[torch.Tensor, torch.Tensor]:
    """A wavy sheet with a hole, whose borders run through the grid."""
    n = 40
    x, y = torch.meshgrid(torch.linspace(0.05, 0.95, n), torch.linspace(0.05, 0.95, n), indexing="ij")
    v = torch.stack([x, y, 0.5 + 0.2 * torch.sin(7 * x) * torch.cos(5 * y)], 2).reshape(-1, 3)
    i = torch.arange(n * n).reshape(n, n)
    a, b, c, d = i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]
    f = torch.cat([torch.stack([a, b, c], 2).reshape(-1, 3), torch.stack([a, c, d], 2).reshape(-1, 3)])
    return v, f[(v[f].mean(1)[:, :2] - 0.5).norm(dim=1) > 0.15]


def degenerate() -> tuple[torch.Tensor, torch.Tensor]:
    """Faces without area, faces that occur twice, and collinear ones, beside a ball."""
    v, f = ball(3)
    line = torch.tensor([[0.1, 0.2, 0.15]]) + torch.linspace(0, 1, 9)[:, None] * torch.tensor([[0.7, 0.6, 0.8]])
    thin = torch.combinations(torch.arange(9), 3).int() + len(v)
    same = torch.tensor([[0, 0, 1], [5, 5, 5], [7, 3, 7]]).int()
    return torch.cat([v, line]), torch.cat([same, f, f[:100], f[50:150].flip(1), thin])


def scaled(exponent: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(exponent)
    v = np.float32(rng.uniform(-3, 3, (300, 3)) * 10.0**exponent)
    v[:, 2] *= rng.choice([0, 1], 300)
    return torch.from_numpy(v), torch.arange(300).reshape(-1, 3).int()


MESHES = {
    "ball": (ball, (64, 1, 7, (33, 64, 17))),
    "sheet": (open_sheet, (64, 100)),
    "small, degenerate": (degenerate, (48,)),
    "box on the far faces": (lambda: solid(trimesh.creation.box(bounds=UNIT)), (1, 2, 3, 8, 96, 100, (7, 1, 48))),
    "large triangles": (lambda: soup(0, 200, 0.6), (100,)),
    "small triangles": (lambda: soup(1, 5000, 0.01), (256,)),
    "small, many in a voxel": (lambda: soup(2, 5000, 0.05), (3,)),
    "outside": (lambda: soup(3, 500, 0.5, spread=2.0), (32,)),
    **{f"of 1e{e} boxes": (lambda e=e: scaled(e), (4, 40)) for e in (1, 2, 4, 8, 16, 30, 38)},
    "small, one face": (lambda: soup(4, 1, 0.4), (16, 65536 // 256)),
    "small, 129 faces": (lambda: soup(5, 129, 0.2), (20,)),
    "small, no face": (lambda: (torch.rand(3, 3), torch.empty(0, 3).int()), (8,)),
    "nothing": (lambda: (torch.empty(0, 3), torch.empty(0, 3).int()), (8,)),
}


def assert_equal(got: DualGrid, expected: DualGrid) -> None:
    """The same voxels and flags, and dual vertices of the same bits."""
    assert torch.equal(got.coords.cpu(), expected.coords)
    assert torch.equal(got.intersected.cpu(), expected.intersected)
    assert bits(got.dual_vertices) == bits(expected.dual_vertices)


@pytest.mark.parametrize("name", MESHES)
def test_grids_have_the_bits_of_the_cpu(name):
    make, sizes = MESHES[name]
    v, f = make()
    for size in sizes:
        expected = mesh_to_dual_grid(v, f, grid_size=size, aabb=UNIT)
        assert_equal(mesh_to_dual_grid(v.cuda(), f.cuda(), grid_size=size, aabb=UNIT), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"face_weight": 0.0},
        {"boundary_weight": 0.0},
        {"boundary_weight": 3.5, "regularization_weight": 0.01},
        {"face_weight": 0.0, "boundary_weight": 0.0, "regularization_weight": 0.0},
    ],
)
def test_options_have_the_bits_of_the_cpu(options):
    for v, f in (open_sheet(), degenerate()):
        box = [[-0.1, 0.05, 0.2], [0.9, 1.2, 0.8]]
        expected = mesh_to_dual_grid(v, f, grid_size=(50, 60, 30), aabb=box, **options)
        assert len(expected.coords)
        assert_equal(mesh_to_dual_grid(v.cuda(), f.cuda(), grid_size=(50, 60, 30), aabb=box, **options), expected)


def test_a_large_grid_has_the_bits_of_the_cpu():
    """More than a launch's worth of tiles, and 64 bits of voxel number."""
    v, f = ball(6)
    expected = mesh_to_dual_grid(v, f, grid_size=1024, aabb=UNIT)
    assert_equal(mesh_to_dual_grid(v.cuda(), f.cuda(), grid_size=1024, aabb=UNIT), expected)
    v, f = v * 0.01, f
    expected = mesh_to_dual_grid(v, f, grid_size=65536, aabb=UNIT)
    assert_equal(mesh_to_dual_grid(v.cuda(), f.cuda(), grid_size=65536, aabb=UNIT), expected)


def test_repeats_have_the_same_bits_on_any_stream():
    v, f = (t.cuda() for t in open_sheet())
    first = bits(mesh_to_dual_grid(v, f, grid_size=128, aabb=UNIT))
    stream = torch.cuda.Stream()
    for _ in range(3):
        assert bits(mesh_to_dual_grid(v, f, grid_size=128, aabb=UNIT)) == first
        with torch.cuda.stream(stream):
            grid = mesh_to_dual_grid(v, f, grid_size=128, aabb=UNIT)
        stream.synchronize()
        assert bits(grid) == first


def test_work_is_ordered_on_the_stream():
    """Inputs that a stream is still writing are read after it has written them."""
    v, f = (t.cuda() for t in ball())
    expected = bits(mesh_to_dual_grid(v, f, grid_size=64, aabb=UNIT))
    late = torch.empty_like(v)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        late.zero_()
        torch.cuda._sleep(50_000_000)
        late.copy_(v)
        assert bits(mesh_to_dual_grid(late, f, grid_size=64, aabb=UNIT)) == expected


@pytest.mark.parametrize("weighted", [False, True])
def test_there_and_back_on_the_device(weighted):
    """The way of the export road: mesh, grid, mesh; equal to the CPU's in every bit and in the order of the faces."""
    v, f = open_sheet()
    size = Grid.of(128, UNIT)
    meshes = []
    for device in ("cpu", "cuda"):
        grid = mesh_to_dual_grid(v.to(device), f.to(device), grid_size=128, aabb=UNIT)
        local = (grid.dual_vertices.cpu() / torch.tensor(size.voxel_size) - grid.coords.cpu()).to(device)
        weights = torch.rand(len(local), generator=torch.Generator().manual_seed(0)).to(device) if weighted else None
        meshes.append(dual_grid_to_mesh(grid.coords, local, grid.intersected, weights, grid_size=128, aabb=UNIT))
    assert len(meshes[0][1]) > 10_000
    assert bits(meshes[0]) == bits(meshes[1])


@pytest.mark.parametrize("n", [1, 255, 256, 257, 3 * 256 * 1024 + 1], ids=lambda n: f"small-{n}" if n < 300 else str(n))
def test_meshes_of_random_grids(n):
    g = torch.Generator().manual_seed(n)
    side = max(2, round((2 * n) ** (1 / 3)))
    coords = torch.randint(0, side, (n, 3), generator=g).int()  # some voxels twice
    local, flags = torch.rand(n, 3, generator=g), torch.rand(n, 3, generator=g) < 0.7
    cpu = dual_grid_to_mesh(coords, local, flags, None, grid_size=side, aabb=UNIT)
    gpu = [
        dual_grid_to_mesh(coords.cuda(), local.cuda(), flags.cuda(), None, grid_size=side, aabb=UNIT) for _ in range(2)
    ]
    assert bits(gpu[0]) == bits(gpu[1]) == bits(cpu)


def test_an_empty_grid_gives_an_empty_mesh():
    none = torch.empty(0, 3, device="cuda")
    v, f = dual_grid_to_mesh(none.int(), none, none.bool(), None, grid_size=4, aabb=UNIT)
    assert v.shape == f.shape == (0, 3)
    assert f.is_cuda


def test_vertices_that_are_not_finite_are_refused():
    v = torch.rand(3, 3)
    v[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"vertices: expected finite positions, got .* at 1"):
        mesh_to_dual_grid(v.cuda(), torch.tensor([[0, 1, 2]]).cuda(), grid_size=4, aabb=UNIT)


def test_a_device_that_is_full_says_so():
    """A refused allocation between the kernels reaches the caller as torch's own error, and leaves the device usable."""
    v, f = (t.cuda() for t in ball(5))
    torch.cuda.empty_cache()
    _free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (64 << 20)) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            mesh_to_dual_grid(v, f, grid_size=2048, aabb=UNIT)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(mesh_to_dual_grid(v, f, grid_size=32, aabb=UNIT).coords)
