"""The profile of a GLB: every measurement of it, alone and against a golden, as plain JSON."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from . import stages
from .asset import Asset
from .compare import VIEWS
from .measure import axes, container, pictures, rays, surface, texture, welded
from .measure.pictures import View

SCHEMA = 1


@dataclass(frozen=True)
class Looks:
    """How pictures are compared; `views` may be empty for none."""

    size: int = pictures.SIZE
    views: tuple[tuple[float, float], ...] = VIEWS


@dataclass(frozen=True)
class Evidence:
    """All that the detectors may look at. Dictionaries are empty where there is nothing to measure.

    Attributes:
        container, shape, texture: the candidate's own figures; the last two are empty when it has no surface.
        golden: the golden's profile (`alone` of it); None without a golden.
        against: the candidate against the golden.
        validator: the Khronos validator's verdict.
        stages: profile of the candidate's own stages; `voxel_axes`: its colours against its own voxels.
        golden_stages: the golden's.
        again: the same output of a second run against the candidate.
        requested_faces: what the exporter was asked for.
        views: pictures of both, for the report.
        device: what it was measured on.
    """

    container: dict[str, Any]
    shape: dict[str, Any]
    texture: dict[str, Any]
    golden: dict[str, Any] | None = None
    against: dict[str, Any] = field(default_factory=dict)
    validator: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)
    voxel_axes: dict[str, Any] = field(default_factory=dict)
    golden_stages: dict[str, Any] = field(default_factory=dict)
    again: dict[str, Any] = field(default_factory=dict)
    requested_faces: int | None = None
    views: tuple[View, ...] = ()
    device: str = "cpu"

    @property
    def own(self) -> dict[str, Any]:
        """What `gather` takes under this name, for another golden."""
        return {"container": self.container, "shape": self.shape, "texture": self.texture}

    def as_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        names = ("container", "shape", "texture", "against", "validator", "stages", "voxel_axes", "again")
        return {"schema": SCHEMA, "device": self.device, **{n: getattr(self, n) for n in names if getattr(self, n)}}


def alone(asset: Asset) -> dict[str, Any]:
    """The figures of an asset by itself: what a golden stores."""
    found: dict[str, Any] = {
        "schema": SCHEMA, "device": device_name(asset.device), "container": container.measure(asset), "shape": {},
        "texture": {},
    }  # fmt: skip
    if asset.has_surface:
        _ = asset.unit  # both need it
        with ThreadPoolExecutor(1) as beside:  # the texture has nothing to do with the shape
            colours = beside.submit(texture.measure, asset)
            found["shape"] = {**welded.measure(asset), **rays.measure(asset)}
            found["texture"] = colours.result()
    return found


@contextmanager
def side_by_side(device: torch.device) -> Iterator[None]:
    """For measurements that run beside each other: torch's own threads would then wait for each other more than work."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2) if device.type == "cpu" else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """For the record: "cpu", or the model of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def gather(
    asset: Asset, *, golden: Asset | None = None, golden_profile: dict[str, Any] | None = None,
    stage_folder: Path | None = None, again: Asset | None = None, requested_faces: int | None = None,
    validate: Path | None = None, looks: Looks | None = None, own: dict[str, Any] | None = None,
) -> Evidence:  # fmt: skip
    """Measures everything that there is to measure.

    Args:
        golden: the approved asset, and `golden_profile` its stored profile (measured anew when absent).
        stage_folder: the candidate's kept stages.
        again: what a second run of the same job gave.
        validate: the file to give to the Khronos validator; None leaves it out.
        looks: how to compare pictures; None for the default.
        own: `alone(asset)` if it was measured before.
    """
    looks = looks or Looks()
    against: dict[str, Any] = {}
    views: tuple[View, ...] = ()
    with side_by_side(asset.device), ThreadPoolExecutor(2) as beside:
        if golden is not None:
            if looks.views:
                drawn = beside.submit(pictures.compare, asset, golden, size=looks.size, views=looks.views)
            distances = beside.submit(_distances, asset, golden)
        own = own or alone(asset)
        if golden is not None:
            golden_profile = golden_profile or alone(golden)
            against = distances.result()
            views = tuple(drawn.result()) if looks.views else ()
    if views:
        against |= pictures.measure(list(views))
    voxel_axes: dict[str, Any] = {}
    if stage_folder is not None and asset.has_surface and (voxels := stages.voxel_colours(stage_folder)):
        grid = stages.grid(stage_folder)
        if grid is None or axes.lies_in(asset, grid):
            voxel_axes = axes.measure_voxels(asset, *voxels)
            voxel_axes |= axes.measure_grid(asset, grid) if grid else {}
    return Evidence(
        container=own["container"], shape=own["shape"], texture=own["texture"], golden=golden_profile, against=against,
        validator=container.validator(validate) if validate is not None else {},
        stages=stages.profile(stage_folder) if stage_folder is not None else {},
        voxel_axes=voxel_axes, golden_stages=(golden_profile or {}).get("stages", {}),
        again=repeat(asset, again) if again is not None else {}, requested_faces=requested_faces, views=views,
        device=device_name(asset.device),
    )  # fmt: skip


def _distances(asset: Asset, golden: Asset) -> dict[str, Any]:
    if not asset.has_surface:
        return surface.nothing(golden)
    return surface.measure(asset, golden) | axes.measure(asset, golden)


def repeat(first: Asset, second: Asset) -> dict[str, Any]:
    """How much of one run's output is not, bit for bit, the other's: share of differing elements, and where first."""
    worst, where = 0.0, ""
    if len(first.parts) != len(second.parts):
        return {"differing_share": 1.0, "where": f"{len(second.parts)} parts, {len(first.parts)} in the first run"}
    for i, (a, b) in enumerate(zip(first.parts, second.parts, strict=True)):
        arrays: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
            "positions": (a.positions, b.positions),
            "faces": (a.faces, b.faces),
            "normals": (a.normals, b.normals),
        }
        arrays |= {f"uv {k}": (v, b.uvs.get(k, np.zeros((0, 2), np.float32))) for k, v in a.uvs.items()}
        empty = np.zeros((0,), np.uint8)
        for name, t in a.material.textures.items():
            other = b.material.textures.get(name)
            arrays[name] = (np.asarray(t.image), np.asarray(other.image) if other else empty)
        for name, (x, y) in arrays.items():
            share = float((x != y).mean()) if x.shape == y.shape else 1.0
            if share > worst:
                worst, where = share, f"{name} of part {i}"
    return {"differing_share": worst, "where": where}
