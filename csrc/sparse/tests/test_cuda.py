"""CUDA against the CPU path. Integers agree exactly; samples to float32 rounding, since a device may fuse operations."""

import pytest
import torch
from trellis_sparse import (
    conv_map,
    conv_plan,
    decode_order,
    downsample,
    encode_order,
    grid_sample_3d,
    neighbor_map,
    submanifold_conv3d,
    upsample,
    voxel_index,
)
from trellis_sparse._plan import _conv_plan, _invert_map

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SHAPE = (2, 20, 30, 40)


@pytest.fixture
def coords() -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 1 << 20, (20_000, 4), generator=g).remainder(torch.tensor(SHAPE)).int()


@pytest.mark.parametrize("curve", ["morton", "hilbert"])
def test_orders(coords: torch.Tensor, curve: str) -> None:
    codes = encode_order(coords[:, 1:].cuda(), curve)
    assert torch.equal(codes.cpu(), encode_order(coords[:, 1:], curve))
    assert torch.equal(decode_order(codes, curve).cpu(), coords[:, 1:])


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), ((1, 3, 5), (1, 2, 3))])
def test_neighbor_map(coords: torch.Tensor, kernel: int | tuple[int, ...], dilation: int | tuple[int, ...]) -> None:
    got = neighbor_map(coords.cuda(), SHAPE, kernel, dilation)
    assert torch.equal(got.cpu(), neighbor_map(coords, SHAPE, kernel, dilation))


def test_map_and_plan_in_one_go(coords: torch.Tensor) -> None:
    for some in (coords, coords[:1], coords[:0]):
        plan = conv_map(some.cuda(), SHAPE)
        neighbors = neighbor_map(some.cuda(), SHAPE)
        assert torch.equal(plan.neighbors, neighbors)
        for ours, theirs in zip(plan.forward, conv_plan(neighbors).forward, strict=True):
            assert torch.equal(ours, theirs)
    coords[77, 2] = SHAPE[2]
    with pytest.raises(ValueError, match=r"coords: expected entries from 0 to .* in row 77"):
        conv_map(coords.cuda(), SHAPE)


@pytest.mark.parametrize("mode", ["trilinear", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_grid_sample(coords: torch.Tensor, mode: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(1)
    feats = torch.randn(len(coords), 6, generator=g).to(dtype)
    points = torch.rand(2, 5000, 3, generator=g) * 44 - 2
    points[0, :3] = torch.tensor([[20.0, 30, 40], [float("nan"), 1, 1], [0, 0, 0]])
    got = grid_sample_3d(feats.cuda(), coords.cuda(), SHAPE, points.cuda(), mode)
    tolerance = 1e-3 if dtype == torch.float16 else 1e-5
    torch.testing.assert_close(
        got.cpu(), grid_sample_3d(feats, coords, SHAPE, points, mode), rtol=tolerance, atol=tolerance
    )


def test_resampling(coords: torch.Tensor) -> None:
    mask = torch.rand(len(coords), 8, generator=torch.Generator().manual_seed(2)) < 0.5
    for ours, cpu in zip(
        (*downsample(coords.cuda()), *upsample(coords.cuda(), mask.cuda())),
        (*downsample(coords), *upsample(coords, mask)),
        strict=True,
    ):
        assert torch.equal(ours.cpu(), cpu)


def test_empty() -> None:
    none = torch.empty((0, 4), dtype=torch.int32, device="cuda")
    assert neighbor_map(none, SHAPE).shape == (0, 27)
    assert grid_sample_3d(torch.empty(0, 3).cuda(), none, SHAPE, torch.rand(2, 4, 3).cuda()).eq(0).all()
    assert len(downsample(none).coords) == 0
    assert encode_order(none[:, 1:]).shape == (0,)


@pytest.mark.parametrize("kernel", [3, (3, 1, 3)])
def test_voxels_at_the_far_corner_of_the_largest_grid_small(kernel: int | tuple[int, ...]) -> None:
    near = torch.cartesian_prod(*[torch.arange(3)] * 3)
    coords = torch.cat([near, 65534 - near, near])
    coords = torch.cat([torch.arange(len(coords))[:, None] // 54 * 65534, coords], 1).int()
    shape = (65535,) * 4
    got = neighbor_map(coords.cuda(), shape, kernel)
    assert torch.equal(got.cpu(), neighbor_map(coords, shape, kernel))


def test_the_first_of_repeated_voxels_is_found_small() -> None:
    coords = torch.randint(0, 4, (1000, 4), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    assert torch.equal(neighbor_map(coords.cuda(), (4,) * 4).cpu(), neighbor_map(coords, (4,) * 4))


def test_an_index_serves_several_calls(coords: torch.Tensor) -> None:
    there = coords.cuda()
    index = voxel_index(there, SHAPE)
    assert torch.equal(neighbor_map(there, SHAPE, index=index), neighbor_map(there, SHAPE))
    feats, points = torch.randn(len(there), 3, device="cuda"), torch.rand(2, 99, 3, device="cuda") * 20
    assert torch.equal(
        grid_sample_3d(feats, there, SHAPE, points, index=index), grid_sample_3d(feats, there, SHAPE, points)
    )
    with pytest.raises(ValueError, match="index: expected one made for `coords` and `shape`"):
        neighbor_map(there.clone(), SHAPE, index=index)
    there[7, 2] = 30
    with pytest.raises(ValueError, match=r"coords: expected entries from 0 to \(1, 19, 29, 39\)"):
        voxel_index(there, SHAPE)


@pytest.mark.parametrize("mode", ["trilinear", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("channels", [1, 6, 8])
def test_gradient_of_samples_small(mode: str, dtype: torch.dtype, channels: int) -> None:
    g = torch.Generator().manual_seed(4)
    voxels = torch.randint(0, 6, (300, 4), generator=g).remainder(torch.tensor([2, 6, 6, 6])).int()
    points = torch.rand(2, 200, 3, generator=g) * 7 - 0.5
    feats, grad = (torch.randn(*shape, channels, generator=g).to(dtype) for shape in ((300,), (2, 200)))
    results = []
    for device in ("cpu", "cuda", "cuda"):
        leaf = feats.clone().to(device).requires_grad_()
        grid_sample_3d(leaf, voxels.to(device), (2, 6, 6, 6), points.to(device), mode).backward(grad.to(device))
        assert leaf.grad is not None
        results.append(leaf.grad.cpu())
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(results[1], results[2])


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("rows", [1, 64, 129, 5000])
def test_plans_are_those_of_the_cpu_small(coords: torch.Tensor, rows: int, parts: int) -> None:
    neighbors = neighbor_map(coords[:rows].contiguous(), SHAPE)
    for chunk in (rows, 1 + rows // 3):
        ours = _conv_plan(neighbors.cuda(), rows, parts, chunk)
        cpu = _conv_plan(neighbors, rows, parts, chunk)
        for mine, theirs in zip(ours[:3], cpu[:3], strict=True):
            assert torch.equal(mine.cpu(), theirs)
        assert int(ours[3]) > neighbors.numel()


def test_a_neighbour_that_is_no_row_is_refused_small() -> None:
    neighbors = torch.zeros((10, 27), dtype=torch.int32, device="cuda")
    neighbors[7, 3] = 10
    feats, weight = torch.zeros(10, 4, device="cuda"), torch.zeros(6, 3, 3, 3, 4, device="cuda")
    for dtype in (torch.float16, torch.float32):
        with pytest.raises(ValueError, match=r"neighbors: expected rows in \[-1, 10\), got 10 at \[7, 3\]"):
            submanifold_conv3d(feats.to(dtype), weight.to(dtype), None, neighbors)
    with pytest.raises(ValueError, match="got 10 at"):
        conv_plan(neighbors)


def test_the_transpose_of_a_map(coords: torch.Tensor) -> None:
    neighbors = neighbor_map(coords, SHAPE)  # with repeated voxels
    ours, cpu = neighbors.cuda(), neighbors.clone()
    for mine, theirs in zip(_invert_map(ours, len(coords)), _invert_map(cpu, len(coords)), strict=True):
        assert torch.equal(mine.cpu(), theirs)
    assert torch.equal(ours.cpu(), cpu)


# ||difference|| / ||result||: rounding of inputs is shared, so what remains is that of the output, or of TF32.
TOLERANCE = {"float16": 6e-4, "bfloat16": 5e-3, "float32": 2e-6, "tf32": 1e-3, "float64": 1e-12}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach().double().cpu(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


@pytest.fixture(params=["best", "mma"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_CUDA", request.param)


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_float32_matmul_precision()
    yield lambda on: torch.set_float32_matmul_precision("high" if on else "highest")
    torch.set_float32_matmul_precision(before)


def conv_case(rows: int, channels_in: int, channels_out: int, kernel: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(rows)
    cells = torch.randperm(20**3, generator=g)[:rows]
    coords = torch.stack([cells * 0, cells // 400, cells // 20 % 20, cells % 20], 1).int()
    weight = torch.randn(channels_out, kernel, kernel, kernel, channels_in, generator=g) / (8 * channels_in) ** 0.5
    neighbors = neighbor_map(coords, (1, 20, 20, 20), kernel)
    return torch.randn(rows, channels_in, generator=g), weight, torch.randn(channels_out, generator=g), neighbors


# One row; a group and a tile of rows to one more; channels of a line, of two, odd ones; many taps.
CONVS = [
    pytest.param(1, 8, 8, 3, id="small-1"), pytest.param(65, 64, 64, 3, id="small-65"),
    pytest.param(129, 5, 3, 3, id="small-odd"), pytest.param(200, 16, 96, 3, id="small-96"), pytest.param(300, 72, 136, 3, id="small-300"),
    pytest.param(257, 64, 264, 3, id="257"), pytest.param(7000, 128, 256, 3, id="7000"),
    pytest.param(900, 24, 40, 5, id="125 taps"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "channels_in", "channels_out", "kernel"), CONVS)
@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_convolution(kernels, tf32, precision, rows, channels_in, channels_out, kernel) -> None:
    dtype = getattr(torch, precision, torch.float32)
    *real, neighbors = conv_case(rows, channels_in, channels_out, kernel)
    real = [t.to(dtype) for t in real]
    expected = submanifold_conv3d(*[t if dtype == torch.float64 else t.float() for t in real], neighbors)
    tf32(precision == "tf32")
    there = [t.cuda() for t in real]
    plan = conv_plan(neighbors.cuda())
    got = submanifold_conv3d(*there, plan.neighbors, plan=plan)
    assert got.dtype == dtype
    assert relative(got, expected) < TOLERANCE[precision]
    assert torch.equal(got, submanifold_conv3d(*there, neighbors.cuda()))
    without_bias = submanifold_conv3d(there[0], there[1], None, plan.neighbors, plan=plan)
    assert relative(without_bias, expected - real[2].to(expected.dtype)) < 2 * TOLERANCE[precision]


@pytest.mark.parametrize("channels", [64, 128, 256])
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "tf32"])
def test_convolution_of_more_tiles_than_blocks(monkeypatch, tf32, precision: str, channels: int) -> None:
    g = torch.Generator().manual_seed(channels)
    cells = torch.randperm(64**3, generator=g)[:100_003].sort().values
    coords = torch.stack([cells * 0, cells // 4096, cells // 64 % 64, cells % 64], 1).int().cuda()
    neighbors = neighbor_map(coords, (1, 64, 64, 64))
    dtype = getattr(torch, precision, torch.float32)
    feats = torch.randn(len(cells), channels, generator=g).to(dtype).cuda()
    weight = (torch.randn(channels, 3, 3, 3, channels, generator=g) / (8 * channels) ** 0.5).to(dtype).cuda()
    tf32(precision == "tf32")
    plan = conv_plan(neighbors)
    got = submanifold_conv3d(feats, weight, None, neighbors, plan=plan)
    assert torch.equal(got, submanifold_conv3d(feats, weight, None, neighbors, plan=plan))
    monkeypatch.setenv("TRELLIS_CUDA", "mma")
    other = submanifold_conv3d(feats, weight, None, neighbors, plan=plan)
    assert float((got.float() - other.float()).norm() / other.float().norm()) < TOLERANCE[precision]
    for row in (0, 50_000, 100_002):  # the kernels share plans: a few rows by themselves
        taps = [t for t in range(27) if neighbors[row, t] >= 0]
        sums = sum(weight.reshape(channels, 27, -1)[:, t].double() @ feats[neighbors[row, t]].double() for t in taps)
        assert relative(got[row], sums.cpu()) < 4 * TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["float16", "float32", "float64"])
@pytest.mark.parametrize("repeated", [False, True])
def test_gradients_of_convolution_small(precision: str, repeated: bool) -> None:
    dtype = getattr(torch, precision)
    *real, neighbors = conv_case(200, 20, 12, 3)
    if repeated:  # a map that neighbor_map would not make: some rows are read several times at a tap
        neighbors[:5, 2] = 7
    real, results = [t.to(dtype) for t in real], []
    for device in ("cpu", "cuda", "cuda"):
        leaves = [t.clone().to(device).requires_grad_() for t in real]
        plan = conv_plan(neighbors.to(device)) if len(results) == 1 else None
        out = submanifold_conv3d(*leaves, plan.neighbors if plan else neighbors.to(device), plan=plan)
        results.append(torch.autograd.grad(out, leaves, torch.ones_like(out)))
    for cpu, ours, again in zip(*results, strict=True):
        assert relative(ours, cpu) < 2 * TOLERANCE[precision]
        assert torch.equal(ours, again)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_more_taps_than_a_plan_takes_small(precision: str) -> None:
    dtype = getattr(torch, precision)
    *real, neighbors = conv_case(40, 4, 6, 7)
    real = [t.to(dtype) for t in real]
    expected = submanifold_conv3d(*[t.float() for t in real], neighbors)
    got = submanifold_conv3d(*[t.cuda() for t in real], neighbors.cuda())
    assert got.dtype == dtype
    assert relative(got, expected) < TOLERANCE[precision]


def test_rows_without_neighbours_get_the_bias_small() -> None:
    neighbors = torch.full((70, 27), -1, dtype=torch.int32, device="cuda")
    bias = torch.randn(8, device="cuda", dtype=torch.float16)
    feats = torch.full((70, 8), float("nan"), device="cuda", dtype=torch.float16)
    weight = torch.randn(8, 3, 3, 3, 8, device="cuda", dtype=torch.float16)
    assert torch.equal(submanifold_conv3d(feats, weight, bias, neighbors), bias.expand(70, 8))


def test_empty_convolution_small() -> None:
    feats, weight = torch.empty(0, 4, device="cuda"), torch.randn(6, 3, 3, 3, 4, device="cuda")
    neighbors = torch.empty(0, 27, dtype=torch.int32, device="cuda")
    for plan in (None, conv_plan(neighbors)):
        assert submanifold_conv3d(feats, weight, None, neighbors, plan=plan).shape == (0, 6)


def test_another_stream() -> None:
    *real, neighbors = conv_case(5000, 64, 64, 3)
    there = [t.half().cuda() for t in real]
    expected = submanifold_conv3d(*there, neighbors.cuda())
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        late = [t.half().to("cuda", non_blocking=True) for t in real]
        got = submanifold_conv3d(*late, neighbors.to("cuda", non_blocking=True))
    stream.synchronize()
    assert torch.equal(got, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_another_device(coords: torch.Tensor) -> None:
    *real, neighbors = conv_case(500, 64, 64, 3)
    results = [submanifold_conv3d(*[t.half().to(d) for t in real], neighbors.to(d)).cpu() for d in ("cuda:0", "cuda:1")]
    assert torch.equal(*results)
    assert torch.equal(neighbor_map(coords.to("cuda:1"), SHAPE).cpu(), neighbor_map(coords, SHAPE))
