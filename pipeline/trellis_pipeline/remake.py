"""``trellis remake``: a textured GLB through the whole export road, voxels included, and out as a new GLB."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from . import export
from .arguments import device_of, name_of, require_glb, whole
from .asset import GlbOptions
from .hashes import sha256
from .manifest import Manifest
from .store import StageStore, alone


@dataclass(frozen=True)
class RemakeOptions(GlbOptions):
    """What a remake is asked for; see `GlbOptions` for the rest.

    Attributes:
        resolution: voxels along the longest side, 8 to 2,048.
        device: where tensors live.
    """

    faces: int | None = 50_000
    resolution: int = 256
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "resolution", whole("resolution", self.resolution, 8, 2048))


def remake(
    source: str | Path, out: str | Path, options: RemakeOptions, *, keep_stages: Path | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Remakes `source` as `out` and returns the manifest's facts.

    Args:
        keep_stages: a folder for every intermediate stage, as .safetensors. Stages that another run kept there go.

    Raises:
        GlbError: the source is not a usable GLB.
        ValueError: `out` does not end in .glb, the device is not here, or the folder for stages is another run's at this
            moment, or holds files of something else.
    """
    require_glb("out", Path(out))
    device = device_of(options.device)
    manifest = Manifest("remake", asdict(options), quiet=quiet, device=device)

    with ExitStack() as stack:
        store = None if keep_stages is None else StageStore(keep_stages)
        if store:
            stack.enter_context(alone(store.folder, "--keep-stages", "run"))
        return _remake(Path(source), Path(out), options, device, manifest, store)


def _remake(
    source: Path, out: Path, options: RemakeOptions, device: torch.device, manifest: Manifest, store: StageStore | None
) -> dict[str, Any]:
    def keep(name: str, stage: Any) -> None:
        if store:
            store.keep(name, stage)

    with manifest.stage("load") as facts:
        asset = export.load_source(source)
        facts.update(faces=len(asset.faces), vertices=len(asset.vertices))
        digest = sha256(source)
        if store:
            store.begin({"command": "remake", "input": digest, "options": asdict(options)})
        manifest.facts["input"] = {"file": source.name, "sha256": digest, "left_out": list(asset.left_out)}
    for sentence in asset.left_out:
        manifest.say(f"  left out: {sentence}")
    with manifest.stage("voxelize") as facts:
        voxels = export.voxelize(asset, options.resolution, device)
        facts.update(voxels=len(voxels.coords), attribute_voxels=len(voxels.attr_coords))
        keep("voxels", voxels)
    export.export_asset(
        voxels,
        out,
        faces=options.faces,
        texture=options.texture,
        min_fraction=options.min_fraction,
        remeshed=options.remesh,
        unwrap_method=options.unwrap,
        alpha=options.alpha,
        image_format=options.image_format,
        blended_double_sided=asset.blended_double_sided,
        name=name_of(source),
        placement=asset.placement,
        reference=asset.reference(device),
        stage=manifest.stage,
        keep=keep,
    )
    manifest.facts["output"] = {"file": out.name, "sha256": sha256(out)}
    return manifest.finish()
