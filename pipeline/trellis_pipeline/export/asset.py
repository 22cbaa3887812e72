"""The road from voxels to a GLB file, stage by stage, for generated and remade assets alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
import trellis_mesh as mesh

from ..errors import StageError, first_line, require_finite_fields
from .bake import bake, unwrap
from .gltf import write_glb
from .normals import Reference
from .shape import clean, extract, orient, orient_outward, remesh, simplify
from .stages import Placement, VoxelAsset

Stage = Callable[[str], AbstractContextManager[dict[str, Any]]]


def export_asset(
    voxels: VoxelAsset,
    path: str | Path,
    *,
    faces: int | None = 1_000_000,
    texture: int = 4096,
    min_fraction: float = 1e-5,
    remeshed: bool = False,
    unwrap_method: str = "fast",
    alpha: str = "auto",
    image_format: str = "png",
    double_sided: bool = True,
    blended_double_sided: bool = True,
    name: str = "asset",
    placement: Placement | None = None,
    reference: Reference | None = None,
    stage: Stage | None = None,
    keep: Callable[[str, Any], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Makes a textured mesh of the voxels and writes it as a GLB, whole or not at all.

    Everything up to the encoding of the textures is done on the device where the voxels are.

    Args:
        voxels: shape and attributes.
        faces: upper bound for the face count; None keeps every face of the voxel surface.
        texture: side of the square textures, in texels.
        min_fraction: components smaller than this share of the whole are removed.
        remeshed: close the surface anew before simplifying: one watertight shell without inner layers, for thin sheets
            with a back of their own. The textures still come from the voxels.
        unwrap_method: "fast" or "xatlas".
        alpha: "auto", "opaque", "mask" or "blend".
        image_format: "png" or "webp".
        double_sided, blended_double_sided: whether the material shows from behind too, and what of it is blended.
        name: what the file calls the asset, its mesh, material and textures.
        placement: where the asset goes in the file; None leaves it in the unit cube.
        reference: what the voxels were made from: its winding says which side is out and its normals how the result is
            shaded. None decides by looking outward from the surface, and shades it by its own faces.
        stage: what times and records each stage (`Manifest.stage`).
        keep: called with the name and value of each intermediate stage.

    Returns:
        facts about each stage by its name.

    Raises:
        ValueError: an option out of range, or voxels that leave no surface.
        StageError: a stage made a value that is not finite; it names the stage.
        RuntimeError: what was read back is not what was written.
    """
    facts: dict[str, dict[str, Any]] = {}
    source_tree = mesh.Bvh(reference.mesh.vertices, reference.mesh.faces) if reference else None
    timed = stage or _timer(voxels.coords.device)
    keep = keep or _forget

    @contextmanager
    def step(name: str) -> Iterator[dict[str, Any]]:
        try:
            with timed(name) as values:
                facts[name] = values
                yield values
        except torch.cuda.OutOfMemoryError as error:
            raise StageError(name, f"out of memory: {first_line(error)}") from error

    with step("extract") as found:
        raw = extract(voxels)
        found.update(faces=len(raw.faces))
        require_finite_fields("extract", raw)
        keep("raw", raw)
    with step("clean") as found:
        fine, report = clean(raw, min_fraction=min_fraction)
        found.update(report)
        if len(fine.faces) == 0:
            raise ValueError("voxels: their dual grid has no faces, so there is no surface to export")
        require_finite_fields("clean", fine)
        del raw
    turned = "remesh" if remeshed else "orient"
    with step(turned) as found:
        if remeshed:
            shape, report = remesh(fine, voxels.grid_size)
            found.update(report)
        elif reference is None or source_tree is None:
            shape = fine = orient_outward(fine)
        else:
            shape = fine = orient(fine, source_tree, reference.mesh.vertices, reference.mesh.faces)
        require_finite_fields(turned, shape)
        keep("fine", fine)
    with step("simplify") as found:
        coarse, report = simplify(shape, faces or len(shape.faces))
        found.update(report)
        found_error = float(report.get("error_bound", 0.0))
        require_finite_fields("simplify", coarse)
        keep("coarse", coarse)
        del shape
    with step("unwrap") as found:
        # The surface of voxels lies within one of the source's, and simplifying moves it by some more.
        reach = 2 / voxels.grid_size + found_error
        try:
            unwrapped, report = unwrap(
                coarse, texture_size=texture, method=unwrap_method, reference=reference, tree=source_tree, reach=reach
            )
        except (ImportError, RuntimeError) as error:
            if unwrap_method != "xatlas" or isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            # It is missing, or cannot serve this mesh.
            raise StageError("unwrap", first_line(error)) from error
        found.update(report)
        require_finite_fields("unwrap", unwrapped)
        keep("unwrapped", unwrapped)
    with step("bake") as found:
        tree = mesh.Bvh(fine.vertices, fine.faces)
        textures, report = bake(unwrapped, fine, tree, voxels, texture_size=texture)
        found.update(report)
        keep("textures", textures)
    with step("write") as found:
        found.update(
            write_glb(
                path, unwrapped, textures, placement=placement, double_sided=double_sided,
                blended_double_sided=blended_double_sided,
                name=name,
                alpha_mode=alpha, image_format=image_format,
            )
        )  # fmt: skip
    return facts


def _timer(device: torch.device) -> Stage:
    @contextmanager
    def timed(_: str) -> Iterator[dict[str, Any]]:
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        yield facts
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        facts["seconds"] = round(time.perf_counter() - start, 3)

    return timed


def _forget(_name: str, _value: Any) -> None:
    pass
