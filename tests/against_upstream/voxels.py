"""o_voxel beside trellis_voxel: dual grids and back, attributes of textured meshes, files and curves."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_sparse as sparse
import trellis_voxel as voxel
from harness import Finding, Setting, case, relative, rows_in_common, share
from shapes import in_box, surface


def _box(setting: Setting) -> tuple[Any, list[list[float]], str]:
    """Grid size (a number or three), box, description."""
    if setting.chance(0.5):
        size: Any = int(setting.one_of(8, 21, 32, 50, 64, 96, 100))
        low = setting.one_of(-0.5, 0.0, -1.25) * np.ones(3)
        high = low + setting.one_of(1.0, 2.5)
    else:
        size = [int(s) for s in setting.random.integers(6, 80, 3)]
        low = setting.random.normal(size=3).round(2)
        high = low + np.array(size) * setting.random.uniform(0.01, 0.05)
        if setting.chance(0.5):
            high = low + setting.random.uniform(0.5, 2, 3).round(2)  # voxels that are no cubes
    return size, [low.tolist(), high.tolist()], f"grid {size}, box {low.tolist()} to {high.round(3).tolist()}"


def _grid_case(setting: Setting) -> tuple[str, Any, Any, Any, Any, dict[str, float]]:
    size, box, where = _box(setting)
    said, v, f = surface(setting)
    v = in_box(v, np.array(box[0]), np.array(box[1]), setting.one_of(0.99999, 0.9, 0.6))
    weights = {
        "face_weight": setting.one_of(1.0, 1.0, 0.0, 0.3),
        "boundary_weight": setting.one_of(0.2, 1.0, 0.0),
        "regularization_weight": setting.one_of(0.01, 0.1, 1.0, 0.0),
    }
    return f"seed {setting.seed}: {said}, {len(f)} faces, {where}, {weights}", v, f, size, box, weights


def _size(size: Any, device: str | torch.device = "cpu") -> torch.Tensor:
    return torch.tensor([size] * 3 if isinstance(size, int) else size, dtype=torch.int32, device=device)


@case("o_voxel")
def dual_grid(setting: Setting) -> Iterator[Finding]:
    """mesh_to_flexible_dual_grid, with the parity check's measures."""
    said, v, f, size, box, weights = _grid_case(setting)
    theirs, their_dual, their_flags = setting.modules["o_voxel"].convert.mesh_to_flexible_dual_grid(
        torch.from_numpy(v), torch.from_numpy(f), grid_size=_size(size), aabb=torch.tensor(box), **weights
    )
    ours = voxel.mesh_to_dual_grid(setting.tensor(v), setting.tensor(f), grid_size=size, aabb=box, **weights)
    a, b, apart = rows_in_common(ours.coords, theirs)
    yield Finding(said, "voxels apart", apart, 0.0005)
    yield Finding(said, "flags apart", share((ours.intersected.cpu()[a] != their_flags[b].bool()).any(1)), 0.001)
    cell = (torch.tensor(box[1]) - torch.tensor(box[0])) / _size(size)
    gap = ((ours.dual_vertices.cpu()[a] - their_dual[b]) / cell).abs().amax(1)
    kind = "without regularization" if weights["regularization_weight"] == 0 else "regularized"
    yield Finding(said, f"dual vertices beyond 0.01 voxel, {kind}", share(~(gap < 0.01)), 0.005)


@case("o_voxel")
def dual_grid_mesh(setting: Setting) -> Iterator[Finding]:
    """flexible_dual_grid_to_mesh of a grid some of whose voxels are gone, with and without split weights."""
    said, v, f, size, box, weights = _grid_case(setting)
    grid = voxel.mesh_to_dual_grid(setting.tensor(v), setting.tensor(f), grid_size=size, aabb=box, **weights)
    keep = setting.tensor(setting.random.random(len(grid.coords)) < setting.one_of(1.0, 0.9))
    coords, flags = grid.coords[keep].contiguous(), grid.intersected[keep].contiguous()
    if setting.chance(0.3):
        flags = flags | setting.tensor(setting.random.random(flags.shape) < 0.2)
    local = setting.tensor(setting.random.random((len(coords), 3)).astype(np.float32))
    split = None
    if setting.chance(0.5):
        split = setting.tensor(setting.random.normal(size=(len(coords), 1)).astype(np.float32)).abs()
    theirs_v, theirs_f = setting.modules["o_voxel"].convert.flexible_dual_grid_to_mesh(
        coords, local, flags, split, aabb=torch.tensor(box, device=coords.device), grid_size=_size(size, coords.device)
    )
    ours_v, ours_f = voxel.dual_grid_to_mesh(coords, local, flags, split, aabb=box, grid_size=size)
    yield Finding(said, "vertices", relative(ours_v, theirs_v), 1e-5)
    yield Finding(said, "faces, count", abs(len(ours_f) - len(theirs_f)), 0)
    same = {tuple(sorted(t)) for t in ours_f.cpu().tolist()} ^ {tuple(sorted(t)) for t in theirs_f.cpu().tolist()}
    quads = {_corners(q) for q in ours_f.cpu().reshape(-1, 6).tolist()}
    quads ^= {_corners(q) for q in theirs_f.cpu().reshape(-1, 6).tolist()}
    yield Finding(said, "quads apart", len(quads) / max(1, len(theirs_f)), 0.001)
    turned = {_rolled(t) for t in ours_f.cpu().tolist()} ^ {_rolled(t) for t in theirs_f.cpu().tolist()}
    weighed = "by weight" if split is not None else "by shape (ours takes the flatter diagonal, not the larger product)"
    limit = 0.001 if split is not None else 1.0
    yield Finding(said, f"triangles apart, split {weighed}", len(same) / max(1, 2 * len(theirs_f)), limit)
    yield Finding(said, f"triangles or winding apart, split {weighed}", len(turned) / max(1, 2 * len(theirs_f)), limit)


def _corners(two_triangles: list[int]) -> tuple[int, ...]:
    return tuple(sorted(set(two_triangles)))


def _rolled(triangle: list[int]) -> tuple[int, ...]:
    at = triangle.index(min(triangle))
    return tuple(triangle[at:] + triangle[:at])


def _image(setting: Setting, channels: int) -> Any:
    from PIL import Image

    w = h = int(setting.one_of(1, 4, 16, 64, 128))  # theirs takes squares of powers of two alone
    coarse = setting.random.integers(0, 256, (max(1, h // 4), max(1, w // 4), channels), dtype=np.uint8)
    if channels == 1:
        return Image.fromarray(coarse[..., 0], "L").resize((w, h))
    return Image.fromarray(coarse, "RGB" if channels == 3 else "RGBA").resize((w, h))


def textured(setting: Setting) -> tuple[str, Any]:
    """A trimesh Scene of parts with random metallic-roughness materials."""
    import trimesh

    scene, said = trimesh.Scene(), []
    for part in range(int(setting.random.integers(1, 4))):
        kind, v, f = surface(setting, damaged=False)
        channels = setting.one_of(3, 4)
        mode = setting.one_of(None, "OPAQUE", "MASK", "BLEND")
        given = {
            "baseColorFactor": setting.random.integers(0, 256, 4, dtype=np.uint8),
            "baseColorTexture": _image(setting, channels),
            "metallicFactor": float(setting.random.random()),
            "roughnessFactor": float(setting.random.random()),
            "metallicRoughnessTexture": _image(setting, 3),
            "emissiveFactor": setting.random.random(3),
            # No emissive texture: theirs reads its mips from the roughness texture's, beyond their end.
            "normalTexture": _image(setting, 3),
            "alphaCutoff": float(setting.random.random()),
        }
        given = {k: x for k, x in given.items() if setting.chance(0.6)}
        material = trimesh.visual.material.PBRMaterial(**given, alphaMode=mode)
        uv = setting.random.normal(size=(len(v), 2)) * setting.one_of(0.3, 1.0) + 0.5
        if setting.chance(0.5):  # smooth, as of an unwrapped mesh
            uv = v[:, :2] * setting.one_of(0.3, 1.0) + 0.5
        uv = None if setting.chance(0.1) and not any(k.endswith("Texture") for k in given) else uv
        visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        scene.add_geometry(trimesh.Trimesh(v, f, visual=visual, process=False), geom_name=f"part{part}")
        said.append(f"{kind} {mode} {sorted(given)}")
    return "; ".join(said), scene


@case("o_voxel")
def attributes(setting: Setting) -> Iterator[Finding]:
    """textured_mesh_to_volumetric_attr; the parity check's measure is a mean gap of 3 of 255."""
    what, scene = textured(setting)
    size, box, where = _box(setting)
    least, most = scene.bounds
    low, high = np.array(box[0]), np.array(box[1])
    scene.apply_translation(-(least + most) / 2)
    scene.apply_scale(0.99 * float(((high - low) / np.maximum(most - least, 1e-6)).min()))
    scene.apply_translation((low + high) / 2)
    said = f"seed {setting.seed}: {where}, {what}"
    theirs, their_attrs = setting.modules["o_voxel"].convert.textured_mesh_to_volumetric_attr(
        scene, grid_size=_size(size), aabb=torch.tensor(box)
    )
    ours, attrs = voxel.voxelize_attributes(scene, grid_size=size, aabb=box, device=setting.device)
    a, b, apart = rows_in_common(ours, theirs)
    yield Finding(said, "voxels apart", apart, 0.001)
    for name, known in their_attrs.items():
        gap = (attrs[name].cpu()[a].float() - known[b].float()).abs()
        # Theirs bends normals the other way where the mapping is mirrored.
        mapped = name == "normal" and "normalTexture" in what
        note = f"{name}{', with a normal map' if mapped else ''}"
        yield Finding(said, f"{note}, mean gap of 255", float(gap.mean()) if len(a) else 0.0, 255.0 if mapped else 3.0)
        yield Finding(said, f"{note}, share beyond 8 of 255", share(gap > 8), 1.0 if mapped else 0.05)


def _voxels(setting: Setting) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    span = int(setting.one_of(4, 60, 256, 300, 700))
    count = int(setting.one_of(1, 2, 50, 3000))
    coords = np.unique(setting.random.integers(0, span, (count, 3), dtype=np.int32), axis=0)
    coords = coords[setting.random.permutation(len(coords))]
    names = setting.one_of(["base_color"], ["dual_vertices", "intersected"], ["a", "b_c", "normal"])
    attrs = {
        name: torch.from_numpy(
            setting.random.integers(0, 256, (len(coords), int(setting.one_of(1, 3))), dtype=np.uint8)
        )
        for name in names
    }
    return torch.from_numpy(coords), attrs


def _unequal(
    coords: torch.Tensor, attrs: dict[str, torch.Tensor], back: torch.Tensor, again: dict[str, torch.Tensor]
) -> float:
    """Share of voxels that did not come back with the same values; 1 where names or shapes differ."""
    if set(attrs) != set(again) or any(attrs[k].shape != again[k].shape for k in attrs):
        return 1.0
    a, b, apart = rows_in_common(coords, back)
    wrong = [share((attrs[k][a].long() != again[k][b].long()).any(1)) for k in attrs]
    return max([apart, *wrong])


@case("o_voxel")
def files(setting: Setting) -> Iterator[Finding]:
    """A file of theirs read by us, a file of ours read by them: .vxz with every option, .npz, .ply."""
    module = setting.modules["o_voxel"].io
    coords, attrs = _voxels(setting)
    options = {
        "chunk_size": setting.one_of(64, 256, 512),
        "filter": setting.one_of("none", "parent", "neighbor"),
        "compression": setting.one_of("none", "deflate", "lzma", "zstd"),
        "attr_interleave": setting.one_of("none", "as_is", "all"),
    }
    said = f"seed {setting.seed}: {len(coords)} voxels below {int(coords.max()) + 1}, {list(attrs)}, {options}"
    with tempfile.TemporaryDirectory() as folder:
        for suffix, given in ((".vxz", options), (".npz", {}), (".ply", {})):
            path = Path(folder) / f"voxels{suffix}"
            note = f", {options['filter']} filter" if suffix == ".vxz" else ""
            module.write(str(path), coords, attrs, **given)
            yield Finding(said, f"{suffix}{note}: theirs read by us", _unequal(coords, attrs, *voxel.read(path)), 0)
            if suffix == ".vxz" and options["attr_interleave"] == "all":
                continue  # theirs writes such files and cannot read them
            voxel.write(path, coords, attrs, **given)
            yield Finding(
                said, f"{suffix}{note}: ours read by them", _unequal(coords, attrs, *module.read(str(path))), 0
            )
    held = io.BytesIO()
    module.write_vxz(held, coords, attrs, **options)
    held.seek(0)
    ours, theirs = voxel.read_vxz_info(held), module.read_vxz_info(io.BytesIO(held.getvalue()))
    yield Finding(said, "read_vxz_info: keys apart", float(any(ours.get(k) != theirs[k] for k in theirs)), 0)


@case("o_voxel")
def curves(setting: Setting) -> Iterator[Finding]:
    """serialize.encode_seq and decode_seq: 10 bits an axis."""
    module = setting.modules["o_voxel"].serialize
    coords = setting.tensor(setting.random.integers(0, setting.one_of(2, 100, 1024), (500, 3), dtype=np.int32))
    said = f"seed {setting.seed}: below {int(coords.max()) + 1}"
    for theirs, ours in (("z_order", "morton"), ("hilbert", "hilbert")):
        codes = module.encode_seq(coords, mode=theirs)
        wrong = share(sparse.encode_order(coords, ours, bits=10) != codes.long())
        yield Finding(said, f"{ours}, codes apart", wrong, 0)
        wrong = share((sparse.decode_order(codes.long(), ours, bits=10) != coords).any(1))
        yield Finding(said, f"{ours}, coordinates apart", wrong, 0)
        default = sparse.encode_order(coords, ours)
        yield Finding(said, f"{ours}, codes apart without `bits`", share(default != codes.long()), 0)
