"""CUDA against the CPU path: the same bits, except where a test says otherwise."""

import math

import numpy as np
import pytest
import torch
import trellis_raster as raster
from scipy.spatial import Delaunay

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def plane(points, seed=0):
    """A triangulation of random points of a square a little larger than the picture, at random depths and w."""
    rng = np.random.default_rng(seed)
    at = np.concatenate([rng.uniform(-1.2, 1.2, (points, 2)), [[-1.3, -1.3], [1.3, -1.3], [-1.3, 1.3], [1.3, 1.3]]])
    faces = torch.from_numpy(Delaunay(at).simplices.astype(np.int32))
    w = rng.uniform(0.3, 3, (len(at), 1))
    z = rng.uniform(-0.9, 0.9, (len(at), 1))
    return torch.from_numpy(np.concatenate([at * w, z * w, w], 1)).float()[None], faces


def soup(count, size, seed=0):
    """Separate triangles of about `size` in all places and depths, some through the eye, beyond planes or degenerate."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-1.5, 1.5, (count, 1, 4))
    clip = (centre + rng.normal(0, size, (count, 3, 4))).astype(np.float32)
    clip[:, :, 3] += 0.7
    clip[::50, 1] = clip[::50, 0]
    clip[7::90, 2, 1] = math.nan
    clip[3::90, 0] = 0
    return torch.from_numpy(clip).view(1, -1, 4), torch.arange(3 * count, dtype=torch.int32).view(-1, 3)


def agree(clip, faces, resolution, **options):
    peel = options.pop("peel", None)
    ours = raster.rasterize(
        clip.cuda(), faces.cuda(), resolution, peel=None if peel is None else peel.cuda(), **options
    )
    assert torch.equal(ours.cpu(), raster.rasterize(clip, faces, resolution, peel=peel, **options))
    return ours


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("resolution", [(1, 1), (7, 300), (256, 256), (515, 130)])
@pytest.mark.parametrize("points", [0, 30, 3000])
def test_small_meshes_of_the_plane(points, resolution, bits):
    assert (agree(*plane(points), resolution, subpixel_bits=bits)[..., 3] > 0).any()


@pytest.mark.parametrize("size", [0.01, 0.1, 0.7, 20])
def test_small_soups_with_clipping(size):
    seen = agree(*soup(600, size), (200, 333))
    assert (seen[..., 3] > 0).sum() > 100


def test_all_layers():
    clip, faces = soup(300, 0.5, seed=1)
    layer = raster.rasterize(clip, faces, (90, 90))
    layers = 0
    while (layer[..., 3] > 0).any():
        layer = agree(clip, faces, (90, 90), peel=layer).cpu()
        layers += 1
    assert layers > 5
    assert len(list(raster.depth_layers(clip.cuda(), faces.cuda(), (90, 90)))) == layers


def test_small_ties_batches_and_long_indices():
    clip, faces = plane(200)
    flat = torch.cat([clip, clip * torch.tensor([1.0, 1, 0, 1]), clip * torch.tensor([-1.0, 1, -1, 1])])
    twice = torch.cat([faces, faces.flip(0), faces.flip(1)])
    ours = agree(flat, twice.long(), (64, 80))
    assert (ours[..., 3] <= len(faces)).all()


def test_faces_that_name_no_vertex_are_left_out():
    clip, faces = plane(50)
    bad = torch.tensor([[0, 1, 10**6], [-1, 0, 1]], dtype=torch.int32)
    ours = raster.rasterize(clip.cuda(), torch.cat([faces, bad]).cuda(), (64, 64))
    assert torch.equal(ours.cpu(), raster.rasterize(clip, faces, (64, 64)))
    rast = torch.tensor([[[[0.2, 0.3, 0, 1], [0.2, 0.3, 0, 2], [0.2, 0.3, 0, 3]]]]).cuda()
    attrs = torch.ones(1, 54, 1).cuda()
    assert raster.interpolate(attrs, rast, torch.cat([bad, faces[:1]]).cuda()).flatten().tolist() == [0, 0, 1]


def test_small_nothing_to_draw():
    none = torch.empty(0, 3, dtype=torch.int32)
    assert (agree(torch.zeros(1, 0, 4), none, (5, 6)) == 0).all()
    assert agree(torch.zeros(0, 3, 4), none, (5, 6)).shape == (0, 5, 6, 4)


def test_small_misaligned_input():
    clip, faces = plane(100)
    store = torch.empty(clip.numel() + 1).cuda()
    store[1:] = clip.flatten()
    ours = raster.rasterize(store[1:].view(clip.shape), faces.cuda(), (50, 60))
    assert torch.equal(ours.cpu(), raster.rasterize(clip, faces, (50, 60)))


def test_a_million_faces_repeat_on_any_stream():
    clip, faces = plane(500_000)
    first = agree(clip, faces, (2048, 2048))
    clip, faces = clip.cuda(), faces.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        again = raster.rasterize(clip, faces, (2048, 2048))
    stream.synchronize()
    assert torch.equal(first, again)


def test_a_picture_of_8192():
    clip, faces = soup(2000, 1.0)
    rast = raster.rasterize(clip.cuda(), faces.cuda(), (8192, 8192))
    part = raster.rasterize(clip, faces, (8192, 8192))
    assert torch.equal(rast.cpu(), part)


def misaligned(tensor):
    """The same on the device, beside a multiple of 16 bytes."""
    store = torch.empty(tensor.numel() + 1).cuda()
    store[1:] = tensor.flatten()
    return store[1:].view(tensor.shape)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("shared", [True, False])
def test_small_interpolation(shared, channels):
    clip, faces = plane(300)
    rast = raster.rasterize(torch.cat([clip, clip.flip(0) * 0.9]), faces, (100, 70))
    attrs = torch.randn(1 if shared else 2, clip.shape[1], channels)
    cpu = raster.interpolate(attrs, rast, faces)
    assert torch.equal(raster.interpolate(attrs.cuda(), rast.cuda(), faces.cuda()).cpu(), cpu)
    assert torch.equal(raster.interpolate(attrs.cuda(), misaligned(rast), faces.cuda()).cpu(), cpu)


@pytest.mark.parametrize("width", [0, 1, 255, 256, 257, 70_000])
def test_small_interpolation_of_few_pixels(width):
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    rast = torch.rand(1, 1, width, 4)
    rast[..., 3] = (rast[..., 3] < 0.7).float()
    attrs = torch.randn(1, 3, 3)
    ours = raster.interpolate(attrs.cuda(), rast.cuda(), faces.cuda())
    assert torch.equal(ours.cpu(), raster.interpolate(attrs, rast, faces))


@pytest.mark.parametrize("shared", [True, False])
def test_small_gradient_of_interpolation(shared):
    clip, faces = plane(300)
    rast = raster.rasterize(torch.cat([clip, clip * torch.tensor([0.5, 0.7, 1, 1])]), faces, (100, 70))
    attrs = torch.randn(1 if shared else 2, clip.shape[1], 5)
    weight = torch.randn(2, 100, 70, 5)
    gradients = []
    for device in ("cpu", "cuda"):
        mine = attrs.detach().clone().to(device).requires_grad_()
        (raster.interpolate(mine, rast.to(device), faces.to(device)) * weight.to(device)).sum().backward()
        gradients.append(mine.grad.cpu())
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 100


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("wrap", ["repeat", "clamp", "mirror", "zero"])
@pytest.mark.parametrize("filter", ["nearest", "linear", "mip"])
def test_small_textures(filter, wrap, channels):  # noqa: A002
    g = torch.Generator().manual_seed(0)
    image = torch.rand(1, 37, 50, channels, generator=g)
    uv = torch.rand(2, 40, 41, 2, generator=g) * 4 - 1.5
    uv[0, 0, 0] = math.nan
    uv[0, 1] *= 1e30
    uv[0, 2] = torch.rand(41, 1, generator=g).gt(0.5) * torch.tensor([2.0, -0.0])
    options = {"lod": torch.rand(2, 40, 41, generator=g) * 7} if filter == "mip" else {}
    mine = {k: v.cuda() for k, v in options.items()}
    cpu = raster.sample_texture(image, uv, filter=filter, wrap=wrap, **options)
    for on_device in (image.cuda(), misaligned(image)):
        ours = raster.sample_texture(on_device, uv.cuda(), filter=filter, wrap=wrap, **mine)
        assert torch.equal(ours.cpu(), cpu)


def test_small_level_of_detail():
    uv = torch.rand(1, 30, 31, 2)
    # log2 of the device's own library: an ulp or two
    torch.testing.assert_close(
        raster.uv_lod(uv.cuda(), (512, 512)).cpu(), raster.uv_lod(uv, (512, 512)), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (64, 64), (131, 517), (300, 33)])
@pytest.mark.parametrize("share", [0, 1e-4, 0.003, 0.3, 1])
def test_small_nearest_texels(shape, share):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share
    assert torch.equal(raster.nearest_texel(mask.cuda()).cpu(), raster.nearest_texel(mask))


@pytest.mark.parametrize("ties", [2, 5, 16])
def test_small_nearest_texels_of_a_lattice(ties):
    mask = torch.zeros(200, 200, dtype=torch.bool)
    mask[::ties, ::ties] = True
    assert torch.equal(raster.nearest_texel(mask.cuda()).cpu(), raster.nearest_texel(mask))


@pytest.mark.parametrize("shape", [(raster.MAX_SIDE, 3), (3, raster.MAX_SIDE), (4096, 4096)])
def test_nearest_texels_of_large_images(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[-1, -1] = True
    assert torch.equal(raster.nearest_texel(mask.cuda()).cpu(), raster.nearest_texel(mask))
    mask |= torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 1e-4
    first = raster.nearest_texel(mask.cuda())
    assert torch.equal(first.cpu(), raster.nearest_texel(mask))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        again = raster.nearest_texel(mask.cuda())
    stream.synchronize()
    assert torch.equal(first, again)


@pytest.mark.parametrize("method", ["nearest", "smooth"])
@pytest.mark.parametrize("shape", [(0, 5, 3), (1, 1, 2), (1, 40, 1), (33, 67, 9), (257, 130, 4)])
def test_small_fills(shape, method):
    image = torch.rand(shape)
    for share in (0, 0.02, 1):
        mask = torch.rand(shape[:2]) < share
        ours = raster.fill_gaps(image.cuda(), mask.cuda(), method=method)
        assert torch.equal(ours.cpu(), raster.fill_gaps(image, mask, method=method))


@pytest.mark.parametrize("channels", [0, 1, 3, 9])
def test_small_fills_of_bytes_within_a_distance(channels):
    image = torch.randint(0, 255, (41, 77, channels), dtype=torch.uint8)
    mask = torch.rand(41, 77) < 0.05
    for limit in (None, 0.0, 2.5):
        ours = raster.fill_gaps(image.cuda(), mask.cuda(), max_distance=limit)
        assert torch.equal(ours.cpu(), raster.fill_gaps(image, mask, max_distance=limit))
    wrong = torch.full((41, 77), 10**9, dtype=torch.int32)
    assert torch.equal(raster.fill_gaps(image.cuda(), mask.cuda(), nearest=wrong.cuda()).cpu(), image)


def test_copies_within_an_image_beyond_the_reach_of_32_bits():
    height, width, texel = 4096, 8192, 64
    if torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("less than 12 GiB of memory are free")
    image = torch.arange(height * width * texel // 8, device="cuda").view(torch.uint8).view(height, width, texel)
    backwards = torch.arange(height * width, dtype=torch.int32, device="cuda").flip(0).view(height, width)
    ours = raster.fill_gaps(image, torch.zeros(height, width, dtype=torch.bool, device="cuda"), nearest=backwards)
    assert torch.equal(ours.view(-1, texel), image.view(-1, texel).flip(0))
