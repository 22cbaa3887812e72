"""The detectors, by the names of the catalogue of faults."""

from __future__ import annotations

from . import figures as f
from .base import Detector

ALL: tuple[Detector, ...] = (
    Detector(
        "empty",
        "the file holds no surface: the mesh or its UV step failed and the file was written all the same",
        "look at the log of UV unwrapping and of the writer; a stage that fails must raise, never write",
        alone=f.lacks_surface, golden=f.lacks_surface, fixed=0.5, note=f.what_is_drawn,
    ),
    Detector(
        "dummy-primitive",
        "the asset is a bare box or ball of a few faces: a placeholder was exported instead of the generated mesh",
        "a module failed to import and something fell back; run trellis-doctor, and let the import error surface",
        alone=f.primitive, golden=f.primitive_not_golden, fixed=0.5,
    ),
    Detector(
        "over-cleaned",
        "{value:.1%} of the surface is missing: component removal deleted parts of the asset",
        "lower --min-fraction; removal must be relative to the whole and may never take the largest component",
        alone=f.lost_in_cleaning, golden=f.against("missing_share"), needs="--golden or --stages",
        floor=0.002, floor_alone=0.005,
    ),
    Detector(
        "spconv-confetti",
        "the mesh is shattered: {value:.0%} of its area is in fragments (clean assets stay below {limit:.1%})",
        "a fallback convolution computes wrong values: run trellis-doctor's known-answer test, rebuild trellis_sparse",
        alone=f.shattered, golden=f.shattered_more,
        floor=0.08,
    ),
    Detector(
        "floaters",
        "{value:.0f} small pieces float away from the surface (clean assets: at most {limit:.0f})",
        "libraries of another torch build in the process (torchaudio is the usual one): run trellis-doctor; then cleaning",
        alone=f.shape("floaters"), golden=f.more_than_golden("shape", "floaters"), unit="count", floor=5.0,
    ),
    Detector(
        "blocky",
        "the surface is a stair of voxels: blockiness {value:.1f}, limit {limit:.1f}",
        "remeshing is broken or skipped: export the dual grid's own mesh, do not contour occupancy",
        alone=f.blocky, golden=f.blocky_more, unit="ratio", floor=2.0, floor_alone=8.0, note=f.how_blocky,
    ),
    Detector(
        "double-shell",
        "{value:.0%} of the surface has a second layer close behind it: both sides of an unsigned field were meshed",
        "keep the outer shell only: remesh_dual_contouring(shell='outer')",
        alone=f.shape("shell_share"), golden=f.second_layer, floor=0.2, floor_alone=0.5,
    ),
    Detector(
        "flipped-winding",
        "{value:.1%} of the surface or its edges are wound the wrong way: faces vanish or turn dark from outside",
        "unify_orientation, then turn each component outward; check mirrored node transforms",
        alone=f.winding, golden=f.winding_golden, floor=0.03,
    ),
    Detector(
        "fp16-threshold",
        "{value:.2%} of the faces are stray quads that hang off the surface: crossing flags were decided in fp16",
        "compare the decoder's logits with their threshold in fp32",
        alone=f.shape("stray_share"), golden=f.more_than_golden("shape", "stray_share"), floor=0.01,
        floor_alone=0.06,
    ),
    Detector(
        "over-decimated",
        "{value:.0f} times fewer faces than asked for (clean assets: at most {limit:.1f} times)",
        "the simplifier ran on the wrong target, or twice; see the manifest's `simplify` stage",
        alone=f.decimated, golden=f.sparser_than_golden, needs="--golden or --faces", unit="ratio", floor=1.0,
    ),
    Detector(
        "axis-swap",
        "another order of the axes explains the asset better than its own: x, y, z and z, y, x were mixed up",
        "pass coordinates to the sampler as x, y, z everywhere (trellis_sparse.grid_sample_3d)",
        alone=f.axis_alone, golden=f.axis_golden, needs="--golden or --stages", floor=0.015,
    ),
    Detector(
        "black-texture",
        "{value:.0%} of the visible texels are black (clean assets: at most {limit:.0%})",
        "the texture sampler read nothing: check its axis order (x, y, z) and that attributes and points share a frame",
        alone=f.black, golden=f.more_than_golden("texture", "black_inside_share"), floor=0.1,
    ),
    Detector(
        "edge-of-grid",
        "black spots where the asset touches the side of its box: coordinates of exactly the resolution were lost",
        "clamp the voxel index, not the coordinate, when sampling at the far border",
        alone=f.texture("dead_edge_contrast"), golden=f.more_than_golden("texture", "dead_edge_contrast"), floor=0.1,
    ),
    Detector(
        "transparent",
        "the surface is {value:.0%} invisible: alpha was written and the material is not OPAQUE",
        "write alphaMode OPAQUE unless the alpha of covered texels says otherwise (--alpha auto)",
        alone=f.texture("invisible_share"), golden=f.more_than_golden("texture", "transparency"), floor=0.05,
    ),
    Detector(
        "alpha-lost",
        "{value:.0%} of the surface should be see-through and is drawn solid: OPAQUE was forced",
        "choose alphaMode from the alpha of covered texels (--alpha auto)",
        alone=f.alpha_lost, golden=f.less_transparent, floor=0.3, floor_alone=0.01,
    ),
    Detector(
        "alpha-holes",
        "an opaque surface is blended: BLEND was forced, so that faces are sorted wrongly and shine through",
        "choose alphaMode from the alpha of covered texels (--alpha auto)",
        alone=f.forced_blend, golden=f.blend_where_golden_is_not, fixed=0.5,
    ),
    Detector(
        "unnormalised-trilinear",
        "alpha ripples in {value:.0%} of the surface: trilinear weights were not divided by those of the voxels present",
        "renormalise the weights over the neighbours that exist (trellis_sparse.grid_sample_3d does)",
        alone=f.texture("alpha_ripple_share"), golden=f.more_than_golden("texture", "alpha_ripple_share"),
        floor_alone=0.05,
    ),
    Detector(
        "black-texel-bleed",
        "{value:.0%} of the texels around charts hold a background colour that filtering bleeds onto the asset",
        "fill the gaps between charts (trellis_raster.fill_gaps) before writing textures",
        alone=f.texture("gutter_bleed_share"), golden=f.more_than_golden("texture", "gutter_bleed_share"), floor=0.1,
    ),
    Detector(
        "sliver-charts",
        "{value:.0%} of the charts cover fewer than 8 texels: the atlas is confetti and its texels are wasted",
        "unwrap the cleaned, welded mesh with larger charts (unwrap_uv), after simplification",
        alone=f.slivers, golden=f.slivers_more, floor=0.3, floor_alone=0.5,
    ),
    Detector(
        "second-run",
        "a second run of the same job gave another result ({value:.2%} of its values): state leaks between jobs",
        "look for tensors cached at module level and for unordered sums; the road is bit-identical from run to run",
        alone=f.differs_again, golden=f.differs_again, needs="--again SECOND.glb", fixed=0.0,
    ),
    Detector(
        "validator",
        "the Khronos validator finds {value:.0f} errors",
        "see the validator's messages in the JSON report",
        alone=f.validator_errors, golden=f.validator_errors, needs="the Khronos validator", unit="count", fixed=0.5,
        historic=False,
    ),
    Detector(
        "surface-drift",
        "{value:.1%} of the surface is where the golden has none, or the other way round",
        "the shape changed and no known fault explains it: look at the report; approve a new golden if it is meant",
        golden=f.drift, needs="--golden", floor=0.02, historic=False,
    ),
    Detector(
        "material-drift",
        "roughness or metalness is on average {value:.0%} away from the golden's: another map was written",
        "look at the metallic-roughness texture; approve a new golden if it is meant",
        golden=f.other_material, needs="--golden and metallic-roughness maps", floor=0.05, historic=False,
    ),
    Detector(
        "picture-drift",
        "pictures differ from the golden's by up to {value:.2f} (FLIP, worst tile)",
        "the look changed and no known fault explains it: look at the heat maps; approve a new golden if it is meant",
        golden=f.worst_tile, needs="--golden", floor=0.1, historic=False,
    ),
)  # fmt: skip

BY_NAME = {d.name: d for d in ALL}
