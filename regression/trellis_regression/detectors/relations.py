"""What follows from what: the gates that a fault turns on beside its own, and why.

A gate that fired counts as a consequence, and not as a cause, where one that explains it fired too. So a relation may
only be here if without it a fault would have two causes; `trellis-gate faults` counts the trials in which each was needed.
"""

from __future__ import annotations

from collections.abc import Mapping

_LOOK = "what looks different is what this fault did"
_SHAPE = "surface that the fault moved, added or took has no counterpart in the golden"
_GUARDS = {"surface-drift": _SHAPE, "picture-drift": _LOOK}
_SHARE = "shares are taken over texels, and this fault changes which parts of the asset have how many"

EXPLAINS: Mapping[str, Mapping[str, str]] = {
    "empty": {"over-cleaned": "of no surface all is missing", **_GUARDS},
    "dummy-primitive": {
        "over-cleaned": "the asset's own surface is gone",
        "over-decimated": "a placeholder has few faces",
        "blocky": "a box has right angles on the axes",
        "axis-swap": "a placeholder fits the golden's box one way as badly as another",
        "alpha-lost": "it shows other parts of the texture",
        "transparent": "it shows other parts of the texture",
        "material-drift": "it shows other parts of the texture",
        **_GUARDS,
    },
    "over-cleaned": {
        "empty": "all of it was cleaned away",
        "over-decimated": "what is left may have larger faces than the whole had",
        "axis-swap": "what is left may fit the golden's box, or the voxels', another way round",
        "floaters": "what held small pieces to the rest is gone",
        "sliver-charts": "charts are cut where surface was taken",
        "alpha-lost": "the parts that were see-through are gone",
        "transparent": "the parts that were opaque are gone",
        "material-drift": "parts of one material are gone",
        **_GUARDS,
    },
    "spconv-confetti": {
        "over-cleaned": "cleaning takes fragments away, as it should",
        "floaters": "fragments lie apart from each other",
        "fp16-threshold": "fragments hang together at edges of three faces",
        "flipped-winding": "a fragment has no outside",
        "over-decimated": "few faces are left, or they lie on far less surface",
        "axis-swap": "nothing of a shattered asset fits its golden better than anything else",
        "edge-of-grid": "fragments lie where there is no colour",
        "sliver-charts": "each fragment is a chart of its own",
        "transparent": "fragments lie where there is no alpha",
        "material-drift": "fragments lie where there is no material",
        **_GUARDS,
    },
    "floaters": {"sliver-charts": "each piece is a chart of its own", **_GUARDS},
    "blocky": {
        "over-cleaned": "the stair lies up to a cell away from the surface",
        "over-decimated": "a stair has more area for as many faces",
        "double-shell": "a thin part becomes a layer of cells with two walls",
        "black-texture": "the sides of steps take the colour nearest to them, which may be black",
        **_GUARDS,
    },
    "double-shell": {
        "over-cleaned": "the two layers lie on either side of the surface that was there",
        "over-decimated": "as many faces are spread over twice the area",
        "axis-swap": "the inner layer carries the colours of the outer to where those of a thin part's other side are",
        "floaters": "the inner layers of small parts lie apart",
        **_GUARDS,
    },
    "flipped-winding": {
        "sliver-charts": "charts do not grow across edges whose two faces disagree",
        "picture-drift": _LOOK,
    },
    "fp16-threshold": {
        "sliver-charts": "each stray quad is a chart of its own",
        **_GUARDS,
    },
    "over-decimated": {
        "blocky": "few large faces on right angles have long edges for their area",
        "over-cleaned": "a few large faces cut across what was round",
        "fp16-threshold": "where parts of few faces touch, some hang at edges of three",
        "axis-swap": "colours are taken from where the large faces cut across",
        "material-drift": _SHARE,
        **_GUARDS,
    },
    "axis-swap": {
        "black-texture": "points in the wrong order may meet nothing, and stay black",
        "alpha-lost": "alpha is looked up in the wrong order too",
        "transparent": "alpha is looked up in the wrong order too",
        "alpha-holes": "alpha is looked up in the wrong order too, and opaque where faces are blended",
        "material-drift": "roughness and metalness are looked up in the wrong order too",
        "picture-drift": _LOOK,
    },
    "black-texture": {
        "edge-of-grid": "of black spots all over, some touch the sides of the box",
        "material-drift": "the sampler that reads no colour reads no roughness either",
        "picture-drift": _LOOK,
    },
    "edge-of-grid": {"material-drift": "roughness and metalness are lost there too", "picture-drift": _LOOK},
    "transparent": {"picture-drift": _LOOK},
    "alpha-lost": {"picture-drift": _LOOK},
    "alpha-holes": {"picture-drift": _LOOK},
    "unnormalised-trilinear": {
        "transparent": "alpha that is too small shows the background",
        "alpha-holes": "alpha that ripples is blended",
        "material-drift": "roughness and metalness are too small by the same weights",
        "picture-drift": _LOOK,
    },
    "black-texel-bleed": {"picture-drift": _LOOK},
    "sliver-charts": {
        "black-texel-bleed": "nearly all texels of a tiny chart touch a gap",
        "black-texture": _SHARE,
        "alpha-lost": _SHARE,
        "material-drift": _SHARE,
        "picture-drift": _LOOK,
    },
    "surface-drift": {"picture-drift": _LOOK},
}  # fmt: skip
"""Gate -> what follows from its fault -> why."""

DECIDED_BY_STAGES = {"empty": 0.5, "over-decimated": 0.0}
"""Gates that explain `over-cleaned` and are explained by it: it is the cause where the kept stages say that cleaning
took more than this share, and more than it does from sound assets."""
