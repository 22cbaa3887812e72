"""Drives an unmodified tree of microsoft/TRELLIS.2 over trellis_compat, with tiny random weights. Not a test of pytest's:
the tree is not here. For whoever has it:

    tests/from_source.sh --cuda sm_90 -- python3 csrc/compat/tests/try_upstream.py TREE --device cuda

TREE holds `trellis2` and `o-voxel`. Of its requirements it needs utils3d (the commit that its setup names), easydict,
opencv, imageio, plyfile, transformers; torchvision, which nothing here calls, may be missing. Without a GPU
`--device cpu` redirects what upstream sends to "cuda". Prints a line for each part and fails if one fails.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_compat
import trimesh
from torch.overrides import TorchFunctionMode

LAYOUT = {"base_color": slice(0, 3), "metallic": slice(3, 4), "roughness": slice(4, 5), "alpha": slice(5, 6)}
BOX = [[-0.5] * 3, [0.5] * 3]


class OnTheCpu(TorchFunctionMode):
    """What asks for "cuda" gets the CPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        if name == "cuda":
            return args[0]
        if name == "to":
            args = tuple("cpu" if isinstance(a, str) and a == "cuda" else a for a in args)
        return function(*args, **kwargs)


def stand_in_for_torchvision() -> None:
    """An empty module where there is none: upstream imports it for what is not called here."""
    if importlib.util.find_spec("torchvision") is None:
        from transformers import DINOv3ViTModel  # noqa: F401  (it looks for torchvision, and must not find this one)

        for name in ("torchvision", "torchvision.transforms"):
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            sys.modules[name] = module
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]


def decoder_arguments(levels: int, up: bool, half: bool) -> dict[str, Any]:
    """Of a small decoder or encoder."""
    block = "SparseResBlockC2S3d" if up else "SparseResBlockS2C3d"
    return {
        "model_channels": [64, 32, 16][:levels] if up else [16, 32, 64][:levels],
        "latent_channels": 32, "num_blocks": [1] * levels, "block_type": ["SparseConvNeXtBlock3d"] * levels,
        "block_args": [{}] * levels, "use_fp16": half,
        "up_block_type" if up else "down_block_type": [block] * (levels - 1),
    }  # fmt: skip


def colour_error(mesh: trimesh.Trimesh) -> tuple[float, np.ndarray]:
    """RMS between the texture at random points of a surface and the colour that their place asks for (axes of glTF),
    and the points' distances from the origin."""
    points, face = trimesh.sample.sample_surface(mesh, 4000, seed=1)
    weights = trimesh.triangles.points_to_barycentric(mesh.triangles[face], points)
    uv = (mesh.visual.uv[mesh.faces[face]] * weights[..., None]).sum(1)
    image = np.asarray(mesh.visual.material.baseColorTexture)[..., :3] / 255.0
    side = image.shape[0]
    x = np.clip((uv[:, 0] * side).astype(int), 0, side - 1)
    y = np.clip(((1 - uv[:, 1]) * side).astype(int), 0, side - 1)
    place = np.stack([points[:, 0], -points[:, 2], points[:, 1]], 1) + 0.5
    return float(np.sqrt(((image[y, x] - place) ** 2).mean())), np.linalg.norm(points, axis=1)


class Trial:
    """The parts, in their order; each returns what is worth printing, and raises where something is wrong."""

    def __init__(self, tree: Path, device: str) -> None:
        self.tree, self.device, self.gpu = tree, device, device.startswith("cuda")
        self.resolution = 256 if self.gpu else 32
        self.failed: list[str] = []
        self.scratch = Path(tempfile.mkdtemp())
        import o_voxel

        self.o_voxel = o_voxel
        self._ball_of_voxels()

    def _ball_of_voxels(self) -> None:
        """A ball whose colour is its place, as voxels and as the mesh extracted from them."""
        ball, r = trimesh.creation.icosphere(7 if self.gpu else 4, 0.4), self.resolution
        convert = self.o_voxel.convert
        coords, dual, crossed = (
            t.to(self.device)
            for t in convert.mesh_to_flexible_dual_grid(
                torch.tensor(ball.vertices).float(), torch.tensor(ball.faces).int(), grid_size=r, aabb=BOX,
                face_weight=1.0, boundary_weight=0.2, regularization_weight=1e-2, timing=False,
            )
        )  # fmt: skip
        self.vertices, self.faces = convert.flexible_dual_grid_to_mesh(
            coords, dual * r - coords, crossed, split_weight=None, grid_size=r, aabb=BOX
        )
        place = (coords + 0.5) / r
        one = torch.ones_like(place[:, :1])
        self.coords, self.attrs = coords, torch.cat([place, one / 4, place[:, 1:2], one], 1)

    def step(self, name: str, part: Callable[[], Any]) -> None:
        begin = time.perf_counter()
        try:
            said = part()
            if self.gpu:
                torch.cuda.synchronize()
            print(f"ok    {name}: {said}  [{time.perf_counter() - begin:.2f} s]", flush=True)
        except Exception as error:
            self.failed.append(name)
            print(f"FAIL  {name}: {type(error).__name__}: {str(error)[:400]}", flush=True)
            traceback.print_exc(limit=-6)

    def run(self) -> list[str]:
        self.step("sparse convolution", self.convolution)
        self.step("decoders", self.decoders)
        for name, load in (("ours", lambda: self.o_voxel.postprocess), ("upstream's own file", self.their_export)):
            for remesh in (False, True):
                self.step(f"to_glb, {name}, remesh={remesh}", lambda m=load, r=remesh: self.to_glb(m(), r))
        for part in (
            self.pictures_of_voxels, self.video_of_decoded, self.mesh_renderer, self.textured_pictures, self.texturing,
            self.voxel_files, self.voxel_renderer,
        ):  # fmt: skip
            self.step(part.__name__.replace("_", " "), part)
        return self.failed

    # Models

    def convolution(self) -> str:
        import trellis2.modules.sparse as sp

        coords = torch.nonzero(torch.rand(2, 9, 9, 9) < 0.3).int().to(self.device)
        x = sp.SparseTensor(torch.randn(len(coords), 8).to(self.device), coords)
        worst = 0.0
        for dilation in (1, 2):
            conv = sp.SparseConv3d(8, 16, 3, dilation=dilation).to(self.device)
            y, again = conv(x), conv(x)
            dense = torch.zeros(2, 8, 9, 9, 9, device=self.device)
            b, i, j, k = coords.long().T
            dense[b, :, i, j, k] = x.feats
            kernel = conv.weight.permute(0, 4, 1, 2, 3).double()
            expected = torch.nn.functional.conv3d(
                dense.double(), kernel, conv.bias.double(), padding=dilation, dilation=dilation
            )
            worst = max(worst, float((y.feats - expected[b, :, i, j, k]).abs().max()))
            assert torch.equal(y.feats, again.feats)
        assert worst < 5e-3, worst
        y.feats.square().sum().backward()
        assert conv.weight.grad.isfinite().all()
        return f"{worst:.1e} from a dense one in float64"

    def decoders(self) -> str:
        import trellis2.modules.sparse as sp
        from trellis2 import models
        from trellis2.pipelines.trellis2_image_to_3d import Trellis2ImageTo3DPipeline

        r = self.resolution
        shape = models.FlexiDualGridVaeDecoder(resolution=r, **decoder_arguments(3, True, self.gpu))
        texture = models.SparseUnetVaeDecoder(out_channels=6, pred_subdiv=False, **decoder_arguments(3, True, self.gpu))
        for model in (shape, texture):
            model.to(self.device).eval()
            for p in model.parameters():
                if p.abs().sum() == 0:  # begins at zero, and would hide what comes before it
                    torch.nn.init.normal_(p, std=0.05)
        cells = torch.cartesian_prod(*[torch.arange(r // 4)] * 3)
        distance = (cells + 0.5 - r / 8).norm(dim=1)
        shell = cells[(distance - r / 4 * 0.35).abs() < 0.9].int()
        coords = torch.cat([shell[:, :1] * 0, shell], 1).to(self.device)
        pipeline = Trellis2ImageTo3DPipeline.__new__(Trellis2ImageTo3DPipeline)
        pipeline.models = {"shape_slat_decoder": shape, "tex_slat_decoder": texture}
        pipeline.low_vram, pipeline._device, pipeline.pbr_attr_layout = False, self.device, LAYOUT
        slat = sp.SparseTensor(torch.randn(len(coords), 32, device=self.device), coords)
        with torch.no_grad():
            (mesh,) = pipeline.decode_latent(slat, slat.replace(torch.randn_like(slat.feats)), r)
        assert len(mesh.faces) and mesh.attrs.isfinite().all()
        mesh.simplify(len(mesh.faces) // 2)
        mesh.remove_faces(torch.ones(len(mesh.faces), dtype=torch.bool, device=self.device))
        self.decoded = mesh
        seen = tuple(mesh.query_vertex_attrs().shape)
        return f"{len(mesh.coords)} voxels, {len(mesh.faces)} faces after simplify, attributes of vertices {seen}"

    # GLB

    def their_export(self) -> Any:
        """Upstream's exporter, from its own file, over our modules."""
        spec = importlib.util.spec_from_file_location(
            "upstream_postprocess", self.tree / "o-voxel/o_voxel/postprocess.py"
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def to_glb(self, module: Any, remesh: bool) -> str:
        for _ in range(2):
            begin = time.perf_counter()
            mesh = module.to_glb(
                vertices=self.vertices, faces=self.faces, attr_volume=self.attrs, coords=self.coords,
                attr_layout=LAYOUT, voxel_size=1 / self.resolution, aabb=BOX,
                decimation_target=20000 if self.gpu else 1000, texture_size=1024 if self.gpu else 128,
                remesh=remesh, remesh_band=1, remesh_project=0, verbose=False,
            )  # fmt: skip
            seconds = time.perf_counter() - begin
        mesh.export(self.scratch / "a.glb", extension_webp=True)
        volume = trimesh.load(self.scratch / "a.glb", force="mesh").volume
        error, radius = colour_error(mesh)
        assert error < (0.02 if self.gpu else 0.05), error
        if not remesh:
            self.glb = mesh
        return (
            f"{len(mesh.faces)} faces, RMS error of colour {error:.4f}, radius {radius.min():.3f} to {radius.max():.3f}, "
            f"volume {volume:.4f}, second call {seconds:.2f} s"
        )

    # Pictures

    def _light(self) -> Any:
        from trellis2.renderers import EnvMap

        return EnvMap(torch.full((32, 64, 3), 0.7, device=self.device))

    def _asset(self) -> Any:
        from trellis2.representations import MeshWithVoxel

        r = self.resolution
        size = torch.Size([1, 6, r, r, r])
        return MeshWithVoxel(self.vertices, self.faces, BOX[0], 1 / r, self.coords, self.attrs, size, LAYOUT)

    def _camera(self) -> tuple[torch.Tensor, torch.Tensor]:
        from trellis2.utils import render_utils

        outside, inside = render_utils.yaw_pitch_r_fov_to_extrinsics_intrinsics([0.3], [0.4], 2, 40)
        return outside[0].to(self.device), inside[0].to(self.device)

    def pictures_of_voxels(self) -> Any:
        from trellis2.utils import render_utils

        out = render_utils.render_snapshot(
            self._asset(), resolution=512 if self.gpu else 48, nviews=2, r=2, fov=36, envmap=self._light(),
            use_envmap_bg=True, verbose=False,
        )  # fmt: skip
        assert (out["mask"][0][..., 0] > 250).mean() > 0.2 and out["shaded"][0].std() > 3
        return {name: round(float(pictures[0].mean()), 1) for name, pictures in out.items()}

    def video_of_decoded(self) -> str:
        from trellis2.utils import render_utils

        lights = {"a": self._light(), "b": self._light()}
        out = render_utils.render_video(self.decoded, resolution=64, num_frames=2, envmap=lights, verbose=False)
        frames = render_utils.make_pbr_vis_frames({**out, "shaded": out["shaded_a"]}, resolution=32)
        return f"frames of {frames[0].shape}"

    def mesh_renderer(self) -> Any:
        from trellis2.renderers import MeshRenderer
        from trellis2.representations import Mesh

        mesh = Mesh(self.vertices, self.faces, self.attrs[:1].expand(len(self.vertices), 6).contiguous())
        found = []
        for chunk in (None, len(self.faces) // 3 + 1):
            options = {"resolution": 64, "near": 1, "far": 100, "ssaa": 2, "chunk_size": chunk}
            renderer = MeshRenderer(options, device=self.device)
            kinds = ["mask", "depth", "normal", "coord", "attr"]
            found.append(renderer.render(mesh, *self._camera(), return_types=kinds))
            renderer.render(self._asset(), *self._camera(), return_types=["mask", "attr"])
        whole, parts = found
        apart = max(float((whole[name] - parts[name]).abs().max()) for name in whole)
        return f"{sorted(whole.keys())}, in chunks {apart:.2g} apart"

    def textured_pictures(self) -> str:
        from trellis2.renderers import MeshRenderer
        from trellis2.representations import MeshWithPbrMaterial
        from trellis2.representations.mesh import PbrMaterial, Texture
        from trellis2.utils import render_utils

        image = torch.tensor(np.asarray(self.glb.visual.material.baseColorTexture)).float().to(self.device) / 255
        uv = torch.tensor(np.asarray(self.glb.visual.uv)).float().to(self.device)
        faces = torch.tensor(np.asarray(self.glb.faces)).to(self.device)
        v = torch.tensor(np.asarray(self.glb.vertices)).float().to(self.device)
        texture = Texture(image[..., :3].contiguous())
        material = PbrMaterial(base_color_texture=texture, metallic_factor=0.1, roughness_factor=0.6).to(self.device)
        mesh = MeshWithPbrMaterial(
            torch.stack([v[:, 0], -v[:, 2], v[:, 1]], 1), faces, torch.zeros(len(faces), dtype=torch.long).to(self.device),
            torch.stack([uv[:, 0], 1 - uv[:, 1]], 1)[faces.long()], [material],
        )  # fmt: skip
        options = {"r": 2, "fov": 36, "resolution": 96, "nviews": 1, "envmap": self._light(), "verbose": False}
        one, other = (render_utils.render_snapshot(m, **options) for m in (mesh, self._asset()))
        both = (one["mask"][0][..., 0] > 250) & (other["mask"][0][..., 0] > 250)
        apart = np.abs((one["base_color"][0].astype(float) - other["base_color"][0])[both]).mean()
        renderer = MeshRenderer({"resolution": 96, "near": 1, "far": 100}, device=self.device)
        renderer.render(mesh, *self._camera(), return_types=["mask", "attr"])
        assert apart < 6, apart
        return f"base colour {apart:.2f} of 255 from the voxels', over {both.sum()} pixels"

    # Texturing, files

    def texturing(self) -> str:
        import trellis2.modules.sparse as sp
        from trellis2 import models
        from trellis2.pipelines.trellis2_texturing import Trellis2TexturingPipeline

        pipeline = Trellis2TexturingPipeline.__new__(Trellis2TexturingPipeline)
        pipeline.low_vram, pipeline._device, pipeline.pbr_attr_layout = False, self.device, LAYOUT
        encoder = models.FlexiDualGridVaeEncoder(**decoder_arguments(3, False, self.gpu)).to(self.device).eval()
        pipeline.models = {"shape_slat_encoder": encoder, "tex_slat_decoder": None}
        ball = pipeline.preprocess_mesh(trimesh.creation.icosphere(4 if self.gpu else 3, 0.4))
        with torch.no_grad():
            slat = pipeline.encode_shape_slat(ball, self.resolution)
        voxels = sp.SparseTensor(self.attrs, torch.cat([self.coords[:, :1] * 0, self.coords], 1))
        done = pipeline.postprocess_mesh(trimesh.creation.icosphere(3, 0.4), voxels, self.resolution, 256)
        error, _ = colour_error(done)
        assert error < 0.05, error
        return f"latent {tuple(slat.feats.shape)}, RMS error of colour {error:.4f}"

    def _voxels(self) -> Any:
        from trellis2.representations import Voxel

        return Voxel(BOX[0], 1 / self.resolution, self.coords, self.attrs, LAYOUT, device=self.device)

    def voxel_files(self) -> str:
        from trellis2.representations import Voxel

        kept = self._voxels()
        kept.attrs = (kept.attrs.clamp(0, 1) * 255).byte()
        kept.save(str(self.scratch / "a.vxz"))
        read = Voxel(BOX[0], 1 / self.resolution, device=self.device)
        read.load(str(self.scratch / "a.vxz"))
        one, other = (dict(zip(map(tuple, x.coords.tolist()), x.attrs.tolist(), strict=True)) for x in (kept, read))
        assert one == other and list(read.layout) == list(LAYOUT)
        return f"{len(one)} voxels, equal"

    def voxel_renderer(self) -> str:
        """Each pixel that a voxel covers shows the colour of a place on the ball, seen along the pixel's ray."""
        from trellis2.renderers import VoxelRenderer

        outside, inside = self._camera()
        size = 256 if self.gpu else 64
        out = VoxelRenderer({"resolution": size, "ssaa": 1}).render(self._voxels(), outside, inside)
        colour, depth = out["base_color"].reshape(3, size, size), out["depth"].reshape(size, size)
        covered = out["alpha"].reshape(size, size) == 1
        pixel = (torch.arange(size, device=depth.device) + 0.5) / size
        y, x = torch.meshgrid(pixel, pixel, indexing="ij")
        ray = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(inside).T
        seen = torch.cat([ray * depth[..., None], torch.ones_like(x)[..., None]], -1) @ torch.linalg.inv(outside).T
        error = (colour.permute(1, 2, 0) - (seen[..., :3] + 0.5))[covered].square().mean().sqrt()
        radius = seen[..., :3].norm(dim=-1)[covered]
        assert 0.05 < covered.float().mean() < 0.95
        shown = {name: tuple(t.shape) for name, t in out.items()}
        return f"{shown}; RMS error of colour at the depth {float(error):.4f}, radius {radius.min():.3f} to {radius.max():.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, help="of microsoft/TRELLIS.2, as it was cloned")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    os.environ.setdefault("ATTN_BACKEND", "sdpa")
    sys.path.insert(0, str(arguments.tree))
    trellis_compat.install()
    stand_in_for_torchvision()
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "the CPU"
    print(f"torch {torch.__version__} on {where}", flush=True)
    torch.manual_seed(0)
    with contextlib.nullcontext() if arguments.device == "cuda" else OnTheCpu():
        failed = Trial(arguments.tree, arguments.device).run()
    print("failed:", ", ".join(failed) or "nothing")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
