"""nvdiffrast's conventions: pairs returned, derivatives by pixel, levels of detail, antialiased silhouettes."""

import pytest
import torch
import trellis_raster
import trimesh


@pytest.fixture
def dr():
    import nvdiffrast.torch

    return nvdiffrast.torch


def scene(seed=0, faces=6):
    """Triangles in perspective: positions [1, V, 4] and faces."""
    generator = torch.Generator().manual_seed(seed)
    w = 1 + 2 * torch.rand(1, 3 * faces, 1, generator=generator)
    xyz = torch.rand(1, 3 * faces, 3, generator=generator) * 3 - 1.5
    return torch.cat([xyz * torch.tensor([1, 1, 0.5]) * w, w], 2), torch.arange(3 * faces, dtype=torch.int32).view(
        -1, 3
    )


def test_rasterize_and_interpolate_are_ours(dr):
    pos, tri = scene()
    for context in (dr.RasterizeCudaContext(device="cuda"), dr.RasterizeGLContext(), dr.RasterizeCudaContext()):
        rast, rast_db = dr.rasterize(context, pos, tri, resolution=[48, 64], grad_db=False)
        assert torch.equal(rast, trellis_raster.rasterize(pos, tri, (48, 64))) and rast_db.shape == rast.shape
    attr = torch.rand(1, 18, 5)
    out, out_da = dr.interpolate(attr, rast, tri)
    assert torch.equal(out, trellis_raster.interpolate(attr, rast, tri)) and out_da.shape == (1, 48, 64, 0)
    assert torch.equal(dr.interpolate(attr[0], rast, tri)[0], out)
    rast, nothing = dr.rasterize(dr.RasterizeGLContext(output_db=False), pos, tri, (8, 8))
    assert nothing.shape == (1, 8, 8, 0)
    dr.RasterizeGLContext().set_context()
    dr.RasterizeGLContext().release_context()


def steps(image, face):
    """Differences to the right and to the next row, and where both pixels show one face."""
    right = image[:, :, 1:] - image[:, :, :-1], (face[:, :, 1:] == face[:, :, :-1]) & (face[:, :, 1:] > 0)
    down = image[:, 1:] - image[:, :-1], (face[:, 1:] == face[:, :-1]) & (face[:, 1:] > 0)
    return right, down


def test_derivatives_are_the_differences_between_pixels(dr):
    pos, tri = scene()
    rast, rast_db = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (300, 200))
    face = rast[..., 3]
    (right, along_row), (down, along_column) = steps(rast[..., :2], face)
    # A central difference would be exact to second order; the mean of the slopes at both ends is as good.
    d = rast_db.view(1, 300, 200, 2, 2)
    slope_x, slope_y = (d[:, :, 1:] + d[:, :, :-1])[..., 0] / 2, (d[:, 1:] + d[:, :-1])[..., 1] / 2
    for difference, slope, same in ((right, slope_x, along_row), (down, slope_y, along_column)):
        assert same.sum() > 10000
        torch.testing.assert_close(difference[same], slope[same], atol=1e-4, rtol=1e-2)
    assert (rast_db[face == 0] == 0).all()

    attr = torch.rand(1, 18, 3)
    out, out_da = dr.interpolate(attr, rast, tri, rast_db=rast_db, diff_attrs="all")
    assert out_da.shape == (1, 300, 200, 6)
    (right, along_row), (down, along_column) = steps(out, face)
    d = out_da.view(1, 300, 200, 3, 2)
    torch.testing.assert_close(
        right[along_row], (d[:, :, 1:] + d[:, :, :-1])[along_row][..., 0] / 2, atol=1e-4, rtol=0.02
    )
    torch.testing.assert_close(
        down[along_column], (d[:, 1:] + d[:, :-1])[along_column][..., 1] / 2, atol=1e-4, rtol=0.02
    )
    chosen = dr.interpolate(attr, rast, tri, rast_db, [2, 0])[1]
    assert torch.equal(chosen, out_da[..., [4, 5, 0, 1]])
    with pytest.raises(ValueError, match="rast_db: expected what rasterize returned"):
        dr.interpolate(attr, rast, tri, diff_attrs="all")


def test_derivatives_survive_what_callers_do_to_the_faces(dr):
    pos, tri = scene()
    _, expected = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (20, 30))
    expected = expected.clone()
    rast, rast_db = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (20, 30))
    rast[..., 3:4] += 100000
    assert torch.equal(rast_db, expected)
    assert rast_db.numpy().shape == (1, 20, 30, 4) and "tensor(" in repr(rast_db)
    assert type(rast_db[0]) is torch.Tensor and type(rast_db * 2) is torch.Tensor


def test_derivatives_are_found_when_first_read(dr, monkeypatch):
    import nvdiffrast.torch._raster as module

    calls = []
    monkeypatch.setattr(module, "_derivatives", lambda *a: calls.append(1) or torch.zeros(1, 4, 4, 4))
    pos, tri = scene()
    _, rast_db = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (4, 4))
    assert rast_db.shape == (1, 4, 4, 4) and rast_db.dtype == torch.float32 and not calls
    _ = rast_db + 1, rast_db.sum()
    assert len(calls) == 1


def test_layers(dr):
    pos, tri = scene(faces=12)
    context = dr.RasterizeCudaContext()
    with dr.DepthPeeler(context, pos, tri, (32, 32)) as peeler:
        for expected in trellis_raster.depth_layers(pos, tri, (32, 32)):
            rast, rast_db = peeler.rasterize_next_layer()
            assert torch.equal(rast, expected) and rast_db.shape == rast.shape
            rast.zero_()  # what callers do to a layer does not reach the next
        assert not peeler.rasterize_next_layer()[0].any()
        with pytest.raises(RuntimeError, match="DepthPeeler is at work"):
            dr.rasterize(context, pos, tri, (8, 8))
        with pytest.raises(RuntimeError, match="another one is at work"), dr.DepthPeeler(context, pos, tri, (8, 8)):
            pass
    with pytest.raises(RuntimeError, match="use it in a with statement"):
        peeler.rasterize_next_layer()
    dr.rasterize(context, pos, tri, (8, 8))


def test_what_is_not_served(dr):
    pos, tri = scene()
    with pytest.raises(NotImplementedError, match="range mode"):
        dr.rasterize(dr.RasterizeCudaContext(), pos[0], tri, (8, 8), ranges=torch.tensor([[0, 6]]))
    with pytest.raises(TypeError, match="glctx: expected a RasterizeCudaContext"):
        dr.rasterize(_Context(), pos, tri, (8, 8))
    with pytest.raises(NotImplementedError, match="a list of images"):
        dr.texture(torch.rand(1, 8, 8, 3), torch.rand(1, 4, 4, 2), torch.rand(1, 4, 4, 4), mip=[torch.rand(1, 4, 4, 3)])
    with pytest.raises(NotImplementedError, match="cube maps"):
        dr.texture(torch.rand(1, 6, 8, 8, 4), torch.rand(1, 4, 4, 3), boundary_mode="cube")
    with pytest.raises(NotImplementedError, match="cube maps"):
        dr.texture_construct_mip(torch.rand(1, 6, 8, 8, 3), cube_mode=True)
    with pytest.raises(ValueError, match="filter_mode: expected one of auto"):
        dr.texture(torch.rand(1, 8, 8, 3), torch.rand(1, 4, 4, 2), filter_mode="cubic")
    with pytest.raises(ValueError, match="boundary_mode: expected one of wrap"):
        dr.texture(torch.rand(1, 8, 8, 3), torch.rand(1, 4, 4, 2), boundary_mode="mirror")
    with pytest.raises(ValueError, match="uv_da, mip_level_bias: expected one"):
        dr.texture(torch.rand(1, 8, 8, 3), torch.rand(1, 4, 4, 2), filter_mode="linear-mipmap-linear")


class _Context:
    active_depth_peeler = None


def test_texture_filters_and_borders(dr):
    image, uv = torch.rand(1, 8, 16, 3), torch.rand(1, 5, 6, 2) * 4 - 2
    for boundary, wrap in (("wrap", "repeat"), ("clamp", "clamp"), ("zero", "zero")):
        for mode in ("nearest", "linear"):
            ours = trellis_raster.sample_texture(image, uv, filter=mode, wrap=wrap)
            assert torch.equal(dr.texture(image, uv, filter_mode=mode, boundary_mode=boundary), ours)
    assert torch.equal(dr.texture(image, uv), trellis_raster.sample_texture(image, uv))
    row_zero = torch.tensor([[[[0.5 / 16, 0.5 / 8]]]])
    assert torch.equal(dr.texture(image, row_zero)[0, 0, 0], image[0, 0, 0])


@pytest.mark.parametrize(
    "texels, level",
    [
        ([[1, 0], [0, 1]], 0.0),
        ([[2, 0], [0, 2]], 1.0),
        ([[4, 0], [0, 1]], 2.0),
        ([[0, 1], [4, 0]], 2.0),  # u moves with rows, v with columns
        ([[2.4, -3.2 * 0.5], [3.2, 2.4 * 0.5]], 2.0),  # a turned footprint of 4 by 2
        ([[3, 3], [0, 0]], 0.5 * torch.tensor(18.0).log2().item()),
    ],
)
def test_level_is_that_of_the_longer_axis(dr, texels, level):
    image, uv = torch.rand(1, 8, 16, 3), torch.rand(1, 5, 6, 2)
    uv_da = (torch.tensor(texels, dtype=torch.float32) / torch.tensor([[16.0], [8.0]])).view(4).expand(1, 5, 6, 4)
    expected = trellis_raster.sample_texture(image, uv, filter="mip", lod=level)
    torch.testing.assert_close(dr.texture(image, uv, uv_da), expected)
    mip = dr.texture_construct_mip(image)
    torch.testing.assert_close(dr.texture(image, uv, uv_da, mip=mip, filter_mode="linear-mipmap-linear"), expected)
    shifted = trellis_raster.sample_texture(image, uv, filter="mip", lod=level + 0.75)
    torch.testing.assert_close(dr.texture(image, uv, uv_da, torch.full((1, 5, 6), 0.75)), shifted)
    torch.testing.assert_close(dr.texture(image, uv, mip_level_bias=torch.full((1, 5, 6), level)), expected)
    finer = trellis_raster.sample_texture(image, uv, filter="mip", lod=float(int(level + 0.75)))
    bias = torch.full((1, 5, 6), 0.75)
    torch.testing.assert_close(dr.texture(image, uv, uv_da, bias, filter_mode="linear-mipmap-nearest"), finer)
    limited = trellis_raster.sample_texture(image, uv, filter="mip", lod=min(level, 1.0))
    torch.testing.assert_close(dr.texture(image, uv, uv_da, max_mip_level=1), limited)
    assert torch.equal(dr.texture(image, uv, uv_da, max_mip_level=0), dr.texture(image, uv))


def cube_directions(side):
    """Unit directions of a cube map's texels, by the table of the OpenGL 4.6 specification, section 8.13."""
    t, s = torch.meshgrid(*[(torch.arange(side) + 0.5) / side * 2 - 1] * 2, indexing="ij")
    one = torch.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.nn.functional.normalize(torch.stack([torch.stack(face, -1) for face in faces]), dim=-1)


def test_cube_maps(dr):
    directions = cube_directions(16)
    cube = torch.rand(6, 16, 16, 3)
    found = dr.texture(cube[None], 3 * directions.view(1, 6, 256, 3), boundary_mode="cube")
    torch.testing.assert_close(found.view_as(cube), cube, atol=1e-5, rtol=1e-5)


# ---- antialias -----------------------------------------------------------------------------------------------------


def rectangle(left, right, bottom, top):
    """Two triangles, in pixels of an image of 8 rows and 8 columns whose border is 0 and 8."""
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    pos = torch.tensor([[[x / 4 - 1, y / 4 - 1, 0, 1] for x, y in corners]])
    return pos, torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("edge", [3.75, 4.0, 4.25])
def test_antialias_gives_the_share_that_is_covered(dr, edge, flip):
    """A straight edge at `edge` covers column 3 up to it and column 4 beyond."""
    for axis in (1, 2):
        sides = (8 - edge, 12, -4, 12) if flip else (-4, edge, -4, 12)
        pos, tri = rectangle(*(sides if axis == 2 else sides[2:] + sides[:2]))
        rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (8, 8))
        mask = (rast[..., 3:] > 0).float()
        out = dr.antialias(mask, rast, pos, tri)[0, ..., 0]
        out = out if axis == 2 else out.T
        covered = torch.tensor([1, 1, 1, min(edge - 3, 1), max(edge - 4, 0), 0, 0, 0])
        torch.testing.assert_close(out, (covered.flip(0) if flip else covered).expand(8, 8))


def test_antialias_leaves_edges_within_a_surface(dr):
    """Its two faces have their own colours, but between them there is no silhouette."""
    pos, tri = rectangle(-4, 12, -4, 12)
    rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (8, 8))
    color = torch.rand(1, 8, 8, 3)
    assert len(rast[..., 3].unique()) == 2
    assert torch.equal(dr.antialias(color, rast, pos, tri), color)


def test_antialias_of_a_nearer_surface_over_another(dr):
    """The edge of the front rectangle counts, whichever pixel it is in, and carries gradients of the colours."""
    (front, tri), (back, _) = rectangle(-4, 3.75, -4, 12), rectangle(-4, 12, -4, 12)
    pos = torch.cat([back + torch.tensor([0, 0, 0.5, 0]), front], 1)
    tri = torch.cat([tri, tri + 4])
    rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (8, 8))
    color = torch.where(rast[..., 3:] > 2, 10.0, 2.0).requires_grad_()
    out = dr.antialias(color, rast, pos, tri, topology_hash=dr.antialias_construct_topology_hash(tri))
    torch.testing.assert_close(out[0, 3, :, 0], torch.tensor([10.0, 10, 10, 8, 2, 2, 2, 2]))
    (gradient,) = torch.autograd.grad(out[0, 3, 3, 0], color)
    torch.testing.assert_close(gradient[0, 3, 2:6, 0], torch.tensor([0, 0.75, 0.25, 0]))


def test_antialias_of_a_closed_surface_in_perspective(dr):
    """Folds are silhouettes too: the mask comes close to the covered share that a finer image gives."""
    mesh = trimesh.creation.box((1.2, 1.0, 0.8), transform=trimesh.transformations.euler_matrix(0.5, 0.6, 0.7))
    v, tri = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)
    w = v[:, 2:] + 3
    pos = torch.cat([2 * v[:, :2], w - 2, w], 1)[None]

    def mask(size):
        rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (size, size))
        return rast, (rast[..., 3:] > 0).float()

    rast, sharp = mask(64)
    exact = torch.nn.functional.avg_pool2d(mask(1024)[1][..., 0], 16)
    smooth = dr.antialias(sharp, rast, pos, tri)[..., 0]
    assert (smooth - exact).abs().mean() < 0.25 * (sharp[..., 0] - exact).abs().mean()
    inside = exact == 1
    assert inside.sum() > 500 and (smooth[inside] > 0.9).all()


def test_antialias_says_what_it_has_not(dr):
    pos, tri = rectangle(0, 4, 0, 4)
    rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, (8, 8))
    with pytest.raises(NotImplementedError, match="no gradient for pos"):
        dr.antialias(rast, rast, pos.requires_grad_(), tri)
    with pytest.raises(NotImplementedError, match="range mode"):
        dr.antialias(rast, rast, pos[0].detach(), tri)
