"""Who owns an import name, and whether it has the functions that are called."""

from __future__ import annotations

from .. import calls
from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..site import Distribution, normalised

ID = "fork-api"
# What the upstream pipeline calls, by import name.
CALLED: dict[str, tuple[str, ...]] = {
    "o_voxel": (
        "convert.flexible_dual_grid_to_mesh",
        "convert.mesh_to_flexible_dual_grid",
        "convert.textured_mesh_to_volumetric_attr",
        "io.read_vxz",
        "io.write_vxz",
        "postprocess.to_glb",
        "serialize.encode_seq",
    ),
    "flex_gemm": (
        "ops.spconv.sparse_submanifold_conv3d",
        "ops.spconv.set_algorithm",
        "ops.spconv.set_hashmap_ratio",
        "ops.grid_sample.grid_sample_3d",
    ),
    "cumesh": ("CuMesh", "cuBVH", "remeshing.remesh_narrow_band_dc"),
    "nvdiffrast": (
        "torch.RasterizeCudaContext",
        "torch.rasterize",
        "torch.interpolate",
        "torch.texture",
        "torch.antialias",
        "torch.DepthPeeler",
    ),
    "nvdiffrec_render": ("light.EnvironmentLight",),
    "flash_attn": (
        "flash_attn_func",
        "flash_attn_varlen_func",
        "flash_attn_varlen_kvpacked_func",
        "flash_attn_varlen_qkvpacked_func",
    ),
    "spconv": ("pytorch.SparseConvTensor",),
    "xformers": ("ops.memory_efficient_attention",),
}
# Packages that put a subpackage of their own below another's import name, and nothing else there.
LODGERS = {"flash_attn": ("flash-attn-4",)}  # flash_attn.cute


def run(context: Context) -> Outcome:
    site = context.site
    present = [name for name in CALLED if site.module(name) is not None and not _only_lodgers(context, name)]
    if not present:
        raise NotApplicableError("none of the upstream extensions is installed")
    findings: list[Finding] = []
    for name in present:
        place = site.module(name)
        owners = [d for d in site.owners_of_import(name) if not _lodges(d, name)]
        if place is not None and place.name == "__init__.py":
            owners = [d for d in owners if place.is_relative_to(d.folder.parent)]
        who = ", ".join(d.text for d in owners) or "no installed package"
        missing = [f"{name}.{f}" for f in CALLED[name] if calls.has(site, f"{name}.{f}") is False]
        if missing:
            findings.append(
                context.finding(
                    ID,
                    "error",
                    f"`import {name}` gives {who}, which lacks {len(missing)} of the functions that are called",
                    seen=[
                        Evidence(f"{name} is {place}, owned by {who}", file=str(place)),
                        *(Evidence(f"missing: {m}", symbol=m) for m in missing),
                    ],
                    leads_to="AttributeError in the middle of a run, or a fallback that hides it",
                    remedy=[
                        *(context.pip("uninstall", "-y", d.name) for d in owners),
                        f"# then install the {name} that the pipeline was written for, or trellis-compat",
                    ],
                )
            )
        if len(owners) > 1:
            findings.append(
                context.finding(
                    ID,
                    "warning",
                    f"{len(owners)} packages wrote into {name}: {who}",
                    seen=[Evidence(d.text, file=str(d.folder), version=d.version) for d in owners],
                    leads_to="whichever was installed last wins, file by file",
                    remedy=[
                        context.pip("uninstall", "-y", *(d.name for d in owners)),
                        "# then install the one that is wanted",
                    ],
                )
            )
    return Outcome(
        f"{', '.join(present)}: every function that is called exists" if not findings else ", ".join(present),
        tuple(findings),
    )


def _lodges(package: Distribution, name: str) -> bool:
    return normalised(package.name) in LODGERS.get(name, ())


def _only_lodgers(context: Context, name: str) -> bool:
    """Whether the import name is no package of its own: a folder that holds only what lodges there."""
    owners = context.site.owners_of_import(name)
    place = context.site.module(name)
    return place is not None and place.is_dir() and bool(owners) and all(_lodges(d, name) for d in owners)


CHECK = Check(ID, "Import names", "error", run, ("fork-api",))
