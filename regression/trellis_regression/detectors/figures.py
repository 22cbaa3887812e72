"""The figures of the detectors that are more than one measured number. All are larger when worse."""

from __future__ import annotations

from typing import Any

from ..profile import Evidence
from .base import Figure

FULL_BOX, FULL_SPHERE = 0.999, 1e-3
PRIMITIVE_FACES = 1024
"""A primitive of at most this many faces is a placeholder: an export is asked for thousands."""


def shape(name: str) -> Figure:
    """A number of the candidate's shape."""
    return lambda e: e.shape.get(name)


def texture(name: str) -> Figure:
    """A number of the candidate's texture."""
    return lambda e: e.texture.get(name)


def black(e: Evidence) -> float | None:
    """Texels that read 0 in every channel, as of a sampler that read nothing; or, from nine tenths of the surface on,
    those of colour 0 whatever else they read. Black things have black parts; hardly one has no other colour at all, and
    where the golden is one it was approved as such."""
    if not e.texture:
        return None
    approved = (e.golden or {}).get("texture", {}).get("black_inside_share", 0) > 0.9
    return float(max(e.texture["dead_inside_share"], 0 if approved else 10 * e.texture["colourless_share"] - 9))


def against(name: str) -> Figure:
    """A number of the candidate against its golden."""
    return lambda e: e.against.get(name)


def more_than_golden(section: str, name: str) -> Figure:
    """By how much the candidate exceeds the golden in a number that both have."""

    def figure(e: Evidence) -> float | None:
        ours, theirs = getattr(e, section).get(name), (e.golden or {}).get(section, {}).get(name)
        return None if ours is None or theirs is None else float(ours - theirs)

    return figure


def lacks_surface(e: Evidence) -> float | None:
    """1 for an asset without a triangle that has an area."""
    return 0.0 if e.shape else 1.0


def what_is_drawn(e: Evidence) -> str:
    """What an asset without a surface holds in its place, as the end of a sentence."""
    found = [f"{n} {kind}" for kind, n in e.container.get("primitives", {}).items() if n and kind != "of triangles"]
    return f" (its primitives: {', '.join(found)}; none has triangles)" if found and not e.shape else ""


def primitive(e: Evidence) -> float | None:
    """1 for a whole box or ellipsoid of few faces."""
    if not e.shape:
        return None
    return float(_is_primitive(e.shape))


def primitive_not_golden(e: Evidence) -> float | None:
    """1 for a primitive where the golden is none."""
    own = primitive(e)
    theirs = (e.golden or {}).get("shape", {})
    return None if own is None or not theirs else float(bool(own) and not _is_primitive(theirs))


def _is_primitive(s: dict[str, Any]) -> bool:
    return bool(
        s["faces"] <= PRIMITIVE_FACES and s["components"] <= 1
        and (s["box_share"] >= FULL_BOX or s["sphere_deviation"] <= FULL_SPHERE)
    )  # fmt: skip


LATTICE = 10.0
"""What a surface that lies wholly on a lattice, where the golden does not, counts as in steps per unit length."""


def blocky(e: Evidence) -> float | None:
    """Right-angled edges between axis-aligned faces per area, weighed by how much of the surface is axis-aligned and how
    well its vertices lie on a lattice: furniture has such edges too. A finer lattice than is looked for shows by edges alone.
    A stair turns in as often as out; where fewer than one edge in `ONE_WAY` turns inward, as of boards, they count for less.
    """
    if not e.shape:
        return None
    in_and_out = min(1.0, ONE_WAY * e.shape["inward_step_density"] / max(e.shape["step_density"], 1e-9))
    steps = _stepped(e.shape) * in_and_out
    return float(max(steps * e.shape["lattice_coherence"] ** 2, steps - MANY_STEPS))


ONE_WAY = 4.0
MANY_STEPS = 128.0
"""More right-angled edges than an object has that is not made of voxels; about what 128 cells along the longest side give."""


def _stepped(s: dict[str, Any]) -> float:
    return float(s["step_density"] * s["axis_aligned_share"])


def blocky_more(e: Evidence) -> float | None:
    """Steps beyond the golden's, or the share on the axes and on a lattice beyond it: a flat sheet has no steps."""
    theirs = (e.golden or {}).get("shape", {})
    if not e.shape or not theirs:
        return None
    steps = _stepped(e.shape) - _stepped(theirs)
    return float(max(steps, LATTICE * (_on_lattice(e.shape) - _on_lattice(theirs))))


def _on_lattice(s: dict[str, Any]) -> float:
    return float(s["axis_aligned_share"] * s["lattice_coherence"])


def how_blocky(e: Evidence) -> str:
    """What of it is as a surface of voxels is, as the end of a sentence."""
    return (
        f" ({e.shape['step_density']:.1f} right-angled steps per unit length, {e.shape['axis_aligned_share']:.0%} of the "
        f"surface on the axes)"
    )


def winding(e: Evidence) -> float | None:
    """Edges whose two faces disagree, or surface that shows the outside its back: whichever is more."""
    return _wound(e.shape) if e.shape else None


def winding_golden(e: Evidence) -> float | None:
    """`winding` beyond the golden's, or surface turned against the golden's."""
    own, theirs = winding(e), (e.golden or {}).get("shape", {})
    if own is None or not theirs:
        return None
    # Points beside the golden's surface meet it at any angle; they say nothing of how faces are wound.
    beside = 2 * float(e.against.get("extra_share", 0))
    beside += max(0.0, float(e.against.get("added_layer_share", 0)))  # a layer that was not there faces any way
    turned, one_sided, solid = (
        float(e.against.get(f"normal_turned_{k}share", 0)) - beside for k in ("", "one_sided_", "solid_")
    )
    return max(own - _wound(theirs), one_sided, TURNED_PART * solid, _most_of(turned))


TURNED_PART = 0.4
"""What a part counts that the golden shows from its front and the asset from its back, in a material that shows both: of two
builds of one source up to 6 % of the surface may be such, where sheets meet."""


def _wound(s: dict[str, Any]) -> float:
    return float(
        max(s["winding_conflict_share"], s.get("inside_out_one_sided_share", 0), _most_of(float(s["inside_out_share"])))
    )


def _most_of(share: float) -> float:
    """What a share is beyond a half, up to 1. A part that is turned as a whole looks right in a material that shows both
    sides, and a sheet has no outside; but where that is most of an asset, its winding means nothing."""
    return 2 * share - 1


SLIVER_AREA = 0.05
"""From this share of the surface on, charts of fewer than 8 texels count in full; such crumbs between large charts waste
nothing, however many they are."""


def slivers(e: Evidence) -> float | None:
    """Charts of fewer than 8 texels among all, weighed by the surface that they hold; of a handful nothing is concluded."""
    return _slivers(e.texture)


def slivers_more(e: Evidence) -> float | None:
    """`slivers` beyond the golden's."""
    own, theirs = slivers(e), _slivers((e.golden or {}).get("texture", {}))
    return None if own is None or theirs is None else own - theirs


def _slivers(t: dict[str, Any]) -> float | None:
    if "sliver_area_share" not in t:
        return None
    return float(min(t["sliver_charts"] / max(t["charts"], 100), t["sliver_area_share"] / SLIVER_AREA))


OPAQUE_SHARE = 0.998
"""A blended surface of which more than this is opaque needed no blending; the writer's own rule is 0.999."""


def forced_blend(e: Evidence) -> float | None:
    """1 where a material is blended although its texels are opaque."""
    if not e.texture:
        return None
    return float(e.texture["blended_share"] > 0 and e.texture["blended_opaque_share"] > OPAQUE_SHARE)


def blend_where_golden_is_not(e: Evidence) -> float | None:
    """How much more than of the golden's of all opaque texels is blended. Panes come and go, and some opaque texels beside
    them are always blended with them."""
    ours, theirs = _blended_of_opaque(e.texture), _blended_of_opaque((e.golden or {}).get("texture", {}))
    return None if ours is None or theirs is None else ours - theirs


def _blended_of_opaque(t: dict[str, Any]) -> float | None:
    if not t:
        return None
    return float(t["blended_share"] * t["blended_opaque_share"] / max(1 - t["alpha_below_opaque_share"], 1e-9))


def alpha_lost(e: Evidence) -> float | None:
    """Texels that say they are see-through, in a material that ignores alpha."""
    return texture("alpha_lost_share")(e)


SOME_GLASS = 0.1
"""A golden that is less see-through than this counts as this much: panes of a few texels come and go."""


def less_transparent(e: Evidence) -> float | None:
    """How much of the golden's transparency is solid here."""
    ours, theirs = e.texture.get("transparency"), (e.golden or {}).get("texture", {}).get("transparency")
    return None if ours is None or theirs is None else float((theirs - ours) / max(theirs, SOME_GLASS))


def lost_in_cleaning(e: Evidence) -> float | None:
    """Share of the raw mesh's area that cleaning removed, by the kept stages."""
    raw = e.stages.get("raw", {})
    after = e.stages.get("cleaned", e.stages.get("fine", {}))
    if not raw.get("area"):
        return None
    return max(0.0, 1 - float(after.get("area", 0.0)) / float(raw["area"]))


def axis_alone(e: Evidence) -> float | None:
    """What a permutation of the axes gains over the identity in explaining the texture by the voxels that it was made of."""
    return _most(e.voxel_axes.get("axis_colour_gain"), e.voxel_axes.get("grid_colour_gain"))


def axis_golden(e: Evidence) -> float | None:
    """What a permutation gains in explaining colours or shape by the golden."""
    if "axis_colour_gain" not in e.against:
        return None
    return float(max(e.against["axis_colour_gain"], 2 * e.against["axis_shape_gain"]))


def decimated(e: Evidence) -> float | None:
    """Faces asked for over faces present; an asset whose voxels gave fewer than asked is held against those."""
    if e.requested_faces is None or not e.shape:
        return None
    asked: float = e.requested_faces
    fine = e.stages.get("fine", {})
    if fine.get("faces"):
        asked = min(asked, int(fine["faces"]))
        raw = float(e.stages.get("raw", {}).get("area") or 0)
        if raw > 0:  # what cleaning removed is another story
            asked *= min(1.0, float(fine["area"]) / raw)
    return asked / max(1, int(e.shape["faces"]))


def sparser_than_golden(e: Evidence) -> float | None:
    """Faces per area of the golden over the candidate's: parts that are missing do not make the rest sparse."""
    theirs = (e.golden or {}).get("shape", {})
    if not e.shape or not theirs:
        return None
    return float(theirs["faces"] / theirs["area"] * e.shape["area"] / max(1, e.shape["faces"]))


def shattered(e: Evidence) -> float | None:
    """Share of the area in fragments: of the asset, or of what came out of the decoder where cleaning took them away."""
    return _most(e.shape.get("shattered_share"), e.stages.get("raw", {}).get("shattered_share"))


def shattered_more(e: Evidence) -> float | None:
    """`shattered` beyond the golden's."""
    raw, golden_raw = (s.get("raw", {}).get("shattered_share") for s in (e.stages, e.golden_stages))
    more = None if raw is None or golden_raw is None else float(raw - golden_raw)
    return _most(more_than_golden("shape", "shattered_share")(e), more)


def second_layer(e: Evidence) -> float | None:
    """Layers beside the golden's surface that it has not, as far as they add to the area: a wall that one build resolves
    and another does not, or one that moved, does not double a surface."""
    if "added_layer_share" not in e.against:
        return None
    return float(min(e.against["added_layer_share"], e.against["area_ratio"] - 1))


def _most(*figures: float | None) -> float | None:
    known = [float(x) for x in figures if x is not None]
    return max(known) if known else None


def other_material(e: Evidence) -> float | None:
    """How far mean roughness or mean metalness is from the golden's, whichever is farther."""
    more = [more_than_golden("texture", name)(e) for name in ("roughness_mean", "metallic_mean")]
    return _most(*(None if x is None else abs(x) for x in more))


def worst_tile(e: Evidence) -> float | None:
    """The worst tile of all pictures, base colour, normals and shading alike."""
    found = [e.against.get(f"flip_{mode}_worst_tile") for mode in ("base_color", "normal", "shaded")]
    return None if found[0] is None else max(float(x) for x in found if x is not None)


def drift(e: Evidence) -> float | None:
    """The share of either surface that has no counterpart on the other."""
    if "missing_share" not in e.against:
        return None
    return float(max(e.against["missing_share"], e.against["extra_share"]))


def validator_errors(e: Evidence) -> float | None:
    """Errors of the Khronos validator; not judged where it is not installed."""
    return float(e.validator["errors"]) if e.validator.get("available") else None


def differs_again(e: Evidence) -> float | None:
    """Share of the elements of positions, faces, normals, uv or textures that a second run gave differently."""
    share = e.again.get("differing_share")
    return None if share is None else float(share)
