"""The whole road on an asset whose colours, place and size are known."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import save
from trellis_mesh import Bvh
from trellis_pipeline.errors import CheckpointError
from trellis_pipeline.export import export_asset, load_source, voxelize
from trellis_pipeline.manifest import write_manifest
from trellis_pipeline.remake import RemakeOptions, remake
from trellis_pipeline.store import StageStore, alone
from trellis_pipeline.testing import DIRECTION_COLORS, painted_mesh
from trellis_regression.compare import compare_pictures
from trellis_regression.glb import read_glb
from trellis_regression.khronos import errors, validate
from trellis_regression.scene import load_parts


def part_of(path):
    (part,) = load_parts(read_glb(path))
    return part


def nearest(points):
    """Distances to the source's surface and the faces nearest to `points`, by the BVH (its own tests hold it to brute force)."""
    source = painted_mesh()
    v = torch.tensor(source.vertices, dtype=torch.float32)
    bvh = Bvh(v, torch.tensor(source.faces, dtype=torch.int32))
    distance, face, _ = bvh.closest_point(torch.tensor(points, dtype=torch.float32))
    return distance.numpy(), source.face_normals[face.numpy()]


def texture_at(part, name, uv):
    image = part.material.textures[name].image
    rows = np.clip((uv[:, 1] * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    columns = np.clip((uv[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    return image[rows, columns].astype(int)


@pytest.fixture(scope="module")
def sampled(remade):
    """Points on the remade surface: positions back in the source's own space, normals, colours, roughness."""
    part = part_of(remade.path)
    mesh = trimesh.Trimesh(part.positions, part.faces, process=False)
    points, face = trimesh.sample.sample_surface(mesh, 4000, seed=1)
    weights = trimesh.triangles.points_to_barycentric(mesh.triangles[face], points)
    uv = (part.uvs[0][part.faces[face]] * weights[..., None]).sum(1)
    colour = texture_at(part, "baseColorTexture", uv)[:, :3]
    surface = texture_at(part, "metallicRoughnessTexture", uv)
    return (points - remade.offset) / remade.scale, mesh.face_normals[face], colour, surface


def test_khronos_validator_finds_no_error(remade):
    (report,) = validate(remade.path)
    assert errors(report) == []


def test_size_and_place_are_those_of_the_source(painted, remade):
    source, result = part_of(painted), part_of(remade.path)
    voxel = np.ptp(source.positions, 0).max() / remade.options.resolution
    for bound in (np.min, np.max):
        np.testing.assert_allclose(bound(result.positions, 0), bound(source.positions, 0), atol=0.5 * voxel)


def test_surface_lies_on_the_source(remade, sampled):
    points = sampled[0]
    distance, _ = nearest(points)
    voxel = np.ptp(painted_mesh().vertices, 0).max() / remade.options.resolution
    assert np.quantile(distance, 0.99) < 0.3 * voxel
    assert distance.max() < voxel


def test_colours_stand_where_they_stood(sampled):
    """Away from the borders between two colours, where a voxel mixes both, every sample has its direction's colour."""
    points, _, colour, _ = sampled
    _, normal = nearest(points)
    order = np.sort(np.abs(normal), 1)
    clear = order[:, 2] - order[:, 1] > 0.25
    axis = np.abs(normal).argmax(1)
    sign = np.take_along_axis(normal, axis[:, None], 1)[:, 0] > 0
    expected = np.array(list(DIRECTION_COLORS.values()))[2 * axis + np.where(sign, 0, 1)]
    error = np.abs(colour - expected).max(1)[clear]
    assert clear.sum() > 1500
    assert np.mean(error <= 8) > 0.97
    assert {tuple(e) for e in expected[clear]} == set(DIRECTION_COLORS.values())


def test_roughness_and_metal_are_in_their_channels(sampled):
    points, _, _, surface = sampled
    _, normal = nearest(points)
    smooth = normal[:, 0] > 0.9
    rough = normal[:, 1] > 0.9
    assert abs(np.median(surface[smooth, 1]) - 64) <= 2
    assert abs(np.median(surface[rough, 1]) - 191) <= 2
    assert surface[:, 2].max() <= 2


def test_faces_look_outward_and_normals_agree_with_them(remade, sampled):
    points, normals, _, _ = sampled
    _, expected = nearest(points)
    assert np.mean((normals * expected).sum(1) > 0) > 0.999
    part = part_of(remade.path)
    corners = part.positions[part.faces]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.mean((face * part.normals[part.faces].mean(1)).sum(1) > 0) > 0.99


def test_pictures_agree_with_the_source(painted, remade):
    measured = compare_pictures(painted, remade.path, size=128)
    assert measured["silhouette_iou"] > 0.98
    assert measured["color_error"] < 0.05


def test_face_count_is_met(remade):
    faces = len(part_of(remade.path).faces)
    assert 0.9 * remade.options.faces <= faces <= remade.options.faces


def test_opaque_source_gives_an_opaque_file_without_alpha(remade):
    part = part_of(remade.path)
    assert part.material.alpha_mode == "OPAQUE"
    assert (part.material.textures["baseColorTexture"].image[..., 3] == 255).all()


def test_no_texel_is_left_black(remade):
    part = part_of(remade.path)
    assert part.material.textures["baseColorTexture"].image[..., :3].max(2).min() >= 30


def test_manifest_records_what_was_done(painted, remade):
    facts = remade.facts
    assert facts["input"]["file"] == painted.name
    assert list(facts["stages"]) == [
        "load",
        "voxelize",
        "extract",
        "clean",
        "orient",
        "simplify",
        "unwrap",
        "bake",
        "write",
    ]
    assert facts["stages"]["bake"]["texels_without_voxel"] < 0.001 * facts["stages"]["bake"]["texels_covered"]
    assert facts["packages"]["torch"]
    assert {row["extension"] for row in facts["native"]} >= {
        "trellis_mesh",
        "trellis_voxel",
        "trellis_raster",
        "trellis_sparse",
    }


def test_second_run_gives_the_same_bytes(painted, remade, tmp_path):
    facts = remake(painted, tmp_path / "again.glb", remade.options, quiet=True)
    assert facts["output"]["sha256"] == remade.facts["output"]["sha256"]


def test_webp_textures_and_kept_stages(painted, tmp_path):
    out = tmp_path / "w.glb"
    options = RemakeOptions(resolution=32, faces=800, texture=128, image_format="webp")
    remake(painted, out, options, keep_stages=tmp_path / "stages", quiet=True)
    (report,) = validate(out)
    assert errors(report) == []
    assert read_glb(out).document["extensionsRequired"] == ["EXT_texture_webp"]
    kept = {p.stem for p in (tmp_path / "stages").iterdir()}
    assert kept == {"run", "voxels", "raw", "fine", "coarse", "unwrapped", "textures"}


@pytest.mark.parametrize("remeshed", [False, True])
def test_voxels_alone_are_enough(painted, tmp_path, remeshed):
    """As a generated asset comes: no source mesh, and some attributes missing."""
    voxels = voxelize(load_source(painted), 48, torch.device("cpu"))
    attrs = {k: v for k, v in voxels.attrs.items() if k in ("base_color", "roughness")}
    out = tmp_path / "a.glb"
    facts = export_asset(dataclasses.replace(voxels, attrs=attrs), out, faces=3000, texture=256, remeshed=remeshed)
    middle = "remesh" if remeshed else "orient"
    assert list(facts) == ["extract", "clean", middle, "simplify", "unwrap", "bake", "write"]
    assert all("seconds" in f for f in facts.values())
    (report,) = validate(out)
    assert errors(report) == []
    part = part_of(out)
    mesh = trimesh.Trimesh(part.positions, part.faces)
    assert mesh.volume > 0.5 * painted_mesh().volume / np.ptp(painted_mesh().vertices, 0).max() ** 3
    image = part.material.textures["baseColorTexture"].image
    assert {tuple(c) for c in np.unique(image[..., :3].reshape(-1, 3), axis=0)} > set(DIRECTION_COLORS.values())
    assert (part.material.textures["metallicRoughnessTexture"].image[..., 2] == 0).all()


def test_voxels_without_a_surface_are_refused(painted, tmp_path):
    voxels = voxelize(load_source(painted), 16, torch.device("cpu"))
    none = dataclasses.replace(voxels, intersected=torch.zeros_like(voxels.intersected))
    with pytest.raises(ValueError, match="dual grid has no faces"):
        export_asset(none, tmp_path / "a.glb")
    assert list(tmp_path.iterdir()) == []


def test_a_source_whose_name_is_no_unicode_gives_names_that_are(painted, tmp_path):
    """Half a character in the JSON is refused by strict readers of glTF."""
    source, out = tmp_path / os.fsdecode(b"a\xffb.glb"), tmp_path / "o.glb"
    shutil.copy(painted, source)
    remake(source, out, RemakeOptions(resolution=16, faces=200, texture=64), quiet=True)
    document = read_glb(out).document
    assert document["scenes"][0]["name"] == "a\N{REPLACEMENT CHARACTER}b"
    json.dumps(document, ensure_ascii=False).encode()


def test_stages_of_a_remake_are_never_taken_up_by_a_generation(painted, tmp_path):
    """Both keep `voxels`; a folder holds the stages of one run."""
    folder, identity = tmp_path / "stages", {"seed": 1}
    StageStore(folder).begin(identity)
    (folder / "shape.safetensors").write_bytes(b"of the generation")
    remake(
        painted, tmp_path / "o.glb", RemakeOptions(resolution=16, faces=200, texture=64), keep_stages=folder, quiet=True
    )
    assert (folder / "voxels.safetensors").is_file() and not (folder / "shape.safetensors").exists()
    with pytest.raises(CheckpointError, match="its stages are those of a remake"):
        StageStore(folder, resume=True).begin(identity)


def test_two_runs_do_not_share_a_folder_of_stages(painted, tmp_path):
    folder = tmp_path / "stages"
    options = RemakeOptions(resolution=16, faces=200, texture=64)
    with alone(folder, "--keep-stages", "run"), pytest.raises(ValueError, match="another run is at work there"):
        remake(painted, tmp_path / "o.glb", options, keep_stages=folder, quiet=True)
    assert not folder.exists() and not (tmp_path / "o.glb").exists()
    folder.mkdir()
    theirs = folder / "model.safetensors"
    for content in (b"somebody's", save({"a": torch.zeros(1)}), save({"a": torch.zeros(1)}, {"stage": "2 of 3"})):
        theirs.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"it holds model\.safetensors"):
            remake(painted, tmp_path / "o.glb", options, keep_stages=folder, quiet=True)
        assert theirs.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": 0}, "faces: expected a whole number from 4 to 100000000, got 0"),  # not "all of them"
        ({"faces": 2.5}, "faces: expected a whole number"),
        ({"texture": 0}, "texture: expected a whole number from 16 to 16384, got 0"),
        ({"texture": 20_000}, "texture: expected a whole number from 16 to 16384"),
        ({"min_fraction": 2}, r"min_fraction: expected a share in \[0, 1\), got 2"),
        ({"min_fraction": float("nan")}, "min_fraction: expected a share"),
        ({"min_fraction": "1e-5"}, "min_fraction: expected a share"),
        ({"unwrap": "xatlass"}, "unwrap: expected one of fast, xatlas, got 'xatlass'"),
        ({"alpha": "OPAQUE"}, "alpha: expected one of auto, opaque, mask, blend, got 'OPAQUE'"),
        ({"image_format": "jpg"}, "image_format: expected one of png, webp, got 'jpg'"),
        (
            {"image_format": "webp", "texture": 16_384},
            "image_format: webp holds 16,383 texels a side, and texture is 16,384",
        ),
        ({"resolution": 4}, "resolution: expected a whole number from 8 to 2048, got 4"),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_own_name_before_any_work(change, message):
    with pytest.raises(ValueError, match=message):
        RemakeOptions(**change)


def test_options_and_manifests_take_numbers_of_numpy_and_paths(tmp_path):
    options = RemakeOptions(faces=np.int64(100), texture=np.uint16(64), resolution=np.int32(32))
    assert [type(x) for x in (options.faces, options.texture, options.resolution)] == [int, int, int]
    facts = {"seed": np.int64(5), "share": np.float32(0.5), "bound": np.float64("inf"), "weights": tmp_path, "on": True}
    write_manifest(facts, tmp_path / "m.json")
    read = json.loads((tmp_path / "m.json").read_text())
    assert read == {"seed": 5, "share": 0.5, "bound": None, "weights": str(tmp_path), "on": True}


def test_a_remake_is_a_glb_by_name_too(painted, tmp_path):
    with pytest.raises(ValueError, match=r"out: .*must end in \.glb"):
        remake(painted, tmp_path / "o.gltf", RemakeOptions())
