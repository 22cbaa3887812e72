"""o_voxel's conventions: sizes and boxes in many forms, tuples returned, files, and a trimesh from to_glb."""

import numpy as np
import pytest
import torch
import trellis_mesh
import trellis_voxel
import trimesh
from PIL import Image

AABB = [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]
LAYOUT = {"base_color": slice(0, 3), "metallic": slice(3, 4), "roughness": slice(4, 5), "alpha": slice(5, 6)}


@pytest.fixture(scope="module")
def sphere():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)


def test_mesh_to_dual_grid_and_back(sphere, capsys):
    import o_voxel

    v, f = sphere
    coords, dual, flags = o_voxel.convert.mesh_to_flexible_dual_grid(
        v.double(), f, grid_size=32, aabb=AABB, boundary_weight=0.2, regularization_weight=1e-2, timing=True
    )
    assert f"{len(coords)} voxels" in capsys.readouterr().out
    same = trellis_voxel.mesh_to_dual_grid(
        v, f, grid_size=32, aabb=AABB, boundary_weight=0.2, regularization_weight=1e-2
    )
    assert torch.equal(coords, same.coords) and torch.equal(dual, same.dual_vertices)
    assert torch.equal(flags, same.intersected) and flags.dtype == torch.bool
    local = dual * 32 - coords  # as the texturing pipeline has it
    for size in ({"grid_size": 32}, {"voxel_size": 1 / 32}, {"voxel_size": torch.full((3,), 1 / 32)}):
        vertices, faces = o_voxel.convert.flexible_dual_grid_to_mesh(coords, local, flags, None, AABB, **size)
        assert (vertices.norm(dim=1) - 0.4).abs().max() < 0.01
        assert faces.dtype == torch.int32 and len(trellis_mesh.boundary_edges(faces)) == 0
    weight = torch.rand(len(coords), 1)
    ours = trellis_voxel.dual_grid_to_mesh(coords, local, flags, weight, aabb=AABB, grid_size=32)
    theirs = o_voxel.convert.flexible_dual_grid_to_mesh(
        coords, local, flags, weight, aabb=np.array(AABB), grid_size=torch.tensor([32, 32, 32]), train=False
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    with pytest.raises(NotImplementedError, match="train=False only"):
        o_voxel.convert.flexible_dual_grid_to_mesh(coords, local, flags, weight, AABB, grid_size=32, train=True)


def test_boxes_that_are_fitted(sphere):
    import o_voxel
    from o_voxel._settings import grid_of

    low, high = [0.0, 0.0, 1.0], [3.0, 6.0, 10.0]
    grid = grid_of(None, 4, None, (low, high))
    # A quarter of the widened box is a voxel; half of one is free on each side.
    assert grid.aabb_min == (-0.5, -1.0, -0.5) and grid.aabb_max == (3.5, 7.0, 11.5) and grid.size == (4, 4, 4)
    grid = grid_of(2.0, None, None, (low, high))
    assert grid.aabb_min == (-0.5, 0.0, 0.5) and grid.aabb_max == (3.5, 6.0, 10.5) and grid.size == (2, 3, 5)
    assert grid_of([1.0, 2.0, 3.0], [3, 3, 3], [low, [3.0, 6.0, 10.0]]).size == (3, 3, 3)
    v, f = sphere
    coords, _, _ = o_voxel.convert.mesh_to_flexible_dual_grid(v, f, grid_size=16)
    assert coords.min() == 0 and coords.max() == 15


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((None, None, AABB), "voxel_size, grid_size: expected one of them"),
        ((0.1, 32, AABB), "voxel_size, grid_size: .* makes .* voxels"),
        ((None, 32, None), "aabb: expected"),
    ],
)
def test_sizes_that_do_not_fit(arguments, text):
    import o_voxel  # noqa: F401
    from o_voxel._settings import grid_of

    with pytest.raises(ValueError, match=text):
        grid_of(*arguments)


def test_empty_meshes_without_a_box():
    import o_voxel

    with pytest.raises(ValueError, match="vertices: expected at least one"):
        o_voxel.convert.mesh_to_flexible_dual_grid(torch.zeros(0, 3), torch.zeros(0, 3).int(), grid_size=4)
    with pytest.raises(ValueError, match="mesh: expected at least one"):
        o_voxel.convert.textured_mesh_to_volumetric_attr(trimesh.Scene(), grid_size=4)


def test_attributes_of_a_textured_mesh(tmp_path, capsys):
    import o_voxel

    box = trimesh.creation.box((0.8, 0.6, 0.4))
    material = trimesh.visual.material.PBRMaterial(
        baseColorFactor=[255, 0, 51, 255], metallicFactor=0.2, roughnessFactor=0.6
    )
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(box.vertices), 2)), material=material)
    coords, attributes = o_voxel.convert.textured_mesh_to_volumetric_attr(
        box, grid_size=16, aabb=AABB, verbose=True, timing=True
    )
    same, expected = trellis_voxel.voxelize_attributes(box, grid_size=16, aabb=AABB)
    assert torch.equal(coords, same) and all(torch.equal(attributes[k], expected[k]) for k in expected)
    assert attributes["base_color"].unique(dim=0).tolist() == [[255, 0, 51]]
    assert "size=(16, 16, 16)" in capsys.readouterr().out
    box.export(tmp_path / "box.glb")
    for source in (tmp_path / "box.glb", str(tmp_path / "box.glb")):
        coords, _ = o_voxel.convert.textured_mesh_to_volumetric_attr(source, voxel_size=0.07)
        assert coords.amax(0).tolist() == [11, 8, 5]


@pytest.mark.parametrize("suffix", ["vxz", "npz", "ply"])
def test_files_come_back(suffix, tmp_path):
    import o_voxel

    coords = torch.stack(torch.meshgrid(*[torch.arange(3)] * 3, indexing="ij"), -1).view(-1, 3).int()
    attributes = {"base_color": torch.randint(256, (27, 3)).byte(), "alpha": torch.randint(256, (27, 1)).byte()}
    path = str(tmp_path / f"voxels.{suffix}")
    o_voxel.io.write(path, coords, attributes)
    back, values = o_voxel.io.read(path)
    order = torch.argsort(back.long() @ torch.tensor([9, 3, 1]))
    assert torch.equal(back[order].int(), coords)
    assert all(torch.equal(values[k][order], attributes[k]) for k in attributes)


def test_vxz_takes_the_arguments_of_upstream(tmp_path):
    import o_voxel

    coords, attributes = torch.tensor([[1, 2, 3]]), {"alpha": torch.tensor([[9]]).byte()}
    path = str(tmp_path / "voxels.vxz")
    o_voxel.io.write_vxz(path, coords, attributes)
    info = o_voxel.io.read_vxz_info(path)
    assert (info["compression"], info["chunk_size"], info["num_voxel"]) == ("lzma", 256, 1)
    o_voxel.io.write_vxz(path, coords, attributes, 64, "none", "deflate", 3, "all", 1)
    info = o_voxel.io.read_vxz_info(path)
    assert (info["compression"], info["chunk_size"], info["attr_interleave"]) == ("deflate", 64, "all")
    for threads in (-1, 4):
        back, values = o_voxel.io.read_vxz(path, num_threads=threads)
        assert back.tolist() == [[1, 2, 3]] and values["alpha"].tolist() == [[9]]
    with pytest.raises(ValueError, match="file_path: expected a name that ends in"):
        o_voxel.io.write("voxels.obj", coords, attributes)


def test_orders():
    import o_voxel

    coords = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0], [1023, 1023, 1023]])
    codes = o_voxel.serialize.encode_seq(coords)
    assert codes.tolist() == [4, 2, 1, 32, 2**30 - 1] and codes.dtype == torch.int32
    # Axes z, x, y: the z coordinate takes the place of the first.
    assert o_voxel.serialize.encode_seq(coords[:3], permute=[2, 0, 1]).tolist() == [2, 1, 4]
    for mode in ("z_order", "hilbert"):
        for permute in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):
            there = o_voxel.serialize.encode_seq(coords, permute=permute, mode=mode)
            assert torch.equal(o_voxel.serialize.decode_seq(there, permute=permute, mode=mode), coords.int())
    with pytest.raises(ValueError, match="mode: expected z_order or hilbert, got 'peano'"):
        o_voxel.serialize.encode_seq(coords, mode="peano")


@pytest.mark.parametrize("remesh", [False, True])
def test_to_glb(sphere, remesh, tmp_path, capsys):
    """The base colour of a voxel is its place, so the texture at each vertex must say where the vertex is."""
    import o_voxel

    v, f = sphere
    coords, dual, flags = o_voxel.convert.mesh_to_flexible_dual_grid(v, f, grid_size=32, aabb=AABB)
    v, f = o_voxel.convert.flexible_dual_grid_to_mesh(coords, dual * 32 - coords, flags, None, AABB, grid_size=32)
    n = len(coords)
    attributes = torch.cat([(coords + 0.5) / 32, torch.full((n, 1), 0.2), torch.full((n, 1), 0.6), torch.ones(n, 1)], 1)
    mesh = o_voxel.postprocess.to_glb(
        vertices=v,
        faces=f,
        attr_volume=attributes,
        coords=coords,
        attr_layout=LAYOUT,
        voxel_size=1 / 32,
        aabb=AABB,
        decimation_target=1000,
        texture_size=128,
        remesh=remesh,
        remesh_band=1,
        remesh_project=1.0,
        use_tqdm=True,
    )
    assert "Baked: 128 x 128" in capsys.readouterr().out
    assert isinstance(mesh, trimesh.Trimesh) and 900 <= len(mesh.faces) <= 1000
    assert mesh.visual.material.doubleSided is (not remesh)
    # Outwards, for the remeshed one too: its inner sheet is gone.
    outwards = (mesh.vertex_normals * mesh.vertices).sum(1) / np.linalg.norm(mesh.vertices, axis=1)
    assert outwards.min() > 0.8
    color = np.asarray(mesh.visual.material.baseColorTexture, dtype=float) / 255
    packed = np.asarray(mesh.visual.material.metallicRoughnessTexture)
    assert color.shape == (128, 128, 4) and (packed == [0, 153, 51]).all() and (color[..., 3] == 1).all()
    column, row = (mesh.visual.uv * [128, -128] + [0, 128]).clip(0, 127).astype(int).T  # row 0 is at v = 1
    x, y, z = mesh.vertices.T  # y up
    place = np.stack([x, -z, y], 1) + 0.5
    assert np.median(np.abs(color[row, column, :3] - place).max(1)) < 0.015
    mesh.export(tmp_path / "sphere.glb", extension_webp=True)
    back = trimesh.load(tmp_path / "sphere.glb", force="mesh")
    assert isinstance(back.visual.material.baseColorTexture, Image.Image) and len(back.faces) == len(mesh.faces)


def test_to_glb_of_a_torn_mesh_closes_small_holes(sphere):
    import o_voxel

    v, f = sphere
    mesh = o_voxel.postprocess.to_glb(
        v,
        f[1:],
        torch.ones(1, 6),
        torch.tensor([[16, 16, 31]]),
        LAYOUT,
        AABB,
        grid_size=32,
        decimation_target=100000,
        texture_size=32,
    )
    # One corner of three sides of about 0.03 each is too long a hole.
    assert len(mesh.faces) == len(f) - 1


def looking(eye):
    """World to camera of one at `eye` that looks at the origin, y down; its intrinsics."""
    eye = np.asarray(eye, dtype=np.float64)
    z = -eye / np.linalg.norm(eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    view = np.eye(4)
    view[:3, :3] = [x, np.cross(z, x), z]
    view[:3, 3] = -view[:3, :3] @ eye
    lens = np.array([[1.1, 0, 0.45], [0, 1.3, 0.55], [0, 0, 1]])
    return torch.tensor(view, dtype=torch.float32), torch.tensor(lens, dtype=torch.float32)


def test_voxels_are_drawn_where_rays_meet_them():
    """Against every ray with every box, in float64."""
    import o_voxel

    side, edge, eye = 48, 0.11, (0.9, -1.6, 0.7)
    g = torch.Generator().manual_seed(5)
    position = torch.rand(60, 3, generator=g) - 0.5
    attrs = torch.rand(60, 4, generator=g)
    view, lens = looking(eye)
    out = o_voxel.rasterize.VoxelRenderer({"resolution": side}).render(position, attrs, edge, view, lens)
    assert out.attr.shape == (4, side, side) and out["depth"].shape == out.alpha.shape == (side, side)

    pixel = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) + 0.5) / side
    ray = np.dstack([(pixel - lens.numpy()[:2, 2]) / lens.numpy()[[0, 1], [0, 1]], np.ones((side, side))])
    ray = (ray / np.linalg.norm(ray, axis=2, keepdims=True)) @ view.numpy()[:3, :3].astype(np.float64)
    low, high = (
        (position.double().numpy() + s * edge / 2 - np.array(eye)) / ray[:, :, None] for s in (-1, 1)
    )  # [row, column, voxel, axis]
    enter, leave = np.minimum(low, high).max(3), np.maximum(low, high).min(3)
    enter[enter >= leave] = np.inf
    first, owner = enter.min(2), enter.argmin(2)
    meets = np.isfinite(first)
    assert 0.1 < meets.mean() < 0.9
    # Outlines are rounded to a sixteenth of a pixel, so a few pixels at them show what is behind.
    assert ((out.alpha.numpy() > 0) == meets).mean() > 0.99
    both = meets & (out.alpha.numpy() > 0)
    assert (np.abs(out.depth.numpy() - first)[both] < 1e-5).mean() > 0.98
    colour = np.abs(out.attr.permute(1, 2, 0).numpy() - attrs.numpy()[owner]).max(2)
    assert (colour[both] == 0).mean() > 0.98
    assert not out.depth[out.alpha == 0].any() and not out.attr[:, out.alpha == 0].any()


def test_voxels_in_parts_and_with_samples(monkeypatch):
    import o_voxel

    position = torch.rand(300, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    view, lens = looking((2.0, 0.3, 0.4))
    renderer = o_voxel.rasterize.VoxelRenderer({"resolution": 24, "ssaa": 2})
    whole = renderer.render(position, position, 0.05, view, lens)
    monkeypatch.setattr(o_voxel.rasterize, "_AT_ONCE", 7)
    parts = renderer.render(position, position, 0.05, view, lens)
    assert all(torch.equal(whole[k], parts[k]) for k in ("attr", "depth", "alpha"))
    assert whole.alpha.shape == (24, 24) and bool(((whole.alpha > 0) & (whole.alpha < 1)).any())
    none = renderer.render(position[:0], position[:0], 0.05, view, lens)
    assert not none.alpha.any() and none.attr.shape == (3, 24, 24)
    with pytest.raises(ValueError, match="resolution"):
        o_voxel.rasterize.VoxelRenderer().render(position, position, 0.05, view, lens)
