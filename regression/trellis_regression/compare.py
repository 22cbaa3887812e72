"""How far a candidate GLB is from a reference, as seen from fixed cameras."""

from __future__ import annotations

from pathlib import Path

import torch

from .glb import check_geometry, read_glb
from .render import Renderer
from .scene import load_parts

# Six sides and two corners: every part of a convex object is seen from at least one of them.
VIEWS = ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90), (45, 35), (225, -35))
_TILE = 16


def compare_pictures(reference: Path, candidate: Path, *, size: int = 256) -> dict[str, float]:
    """Statistics over the base-colour pictures of both files, each drawn in the reference's frame.

    Returns:
        ``silhouette_iou``: covered by both over covered by either, all views together.
        ``color_error``: mean absolute difference of display colour in [0, 1] over pixels covered by either; a pixel
        that only one covers counts as 1, so that missing geometry cannot lower the error.
        ``worst_tile_error``: the largest mean of that error over a tile of 16 x 16 pixels, which a small wrong
        region raises when the mean over the picture does not.

    Raises:
        GlbError: one of them is not a usable GLB.
    """
    a, b = (_renderer(path) for path in (reference, candidate))
    b.frame = a.frame
    both = either = error_sum = 0.0
    worst = 0.0
    for azimuth, elevation in VIEWS:
        p, q = (r.draw(azimuth, elevation, size, "base_color") for r in (a, b))
        in_p, in_q = p.coverage > 0.5, q.coverage > 0.5
        union, common = in_p | in_q, in_p & in_q
        difference = (p.rgb.float() - q.rgb.float()).abs().mean(-1) / 255
        error = torch.where(common, difference, union.float())
        both += float(common.sum())
        either += float(union.sum())
        error_sum += float(error.sum())
        worst = max(worst, float(torch.nn.functional.avg_pool2d(error[None, None], _TILE).max()))
    return {
        "silhouette_iou": both / max(either, 1.0),
        "color_error": error_sum / max(either, 1.0),
        "worst_tile_error": worst,
    }


def _renderer(path: Path) -> Renderer:
    glb = read_glb(path)
    check_geometry(glb)
    return Renderer(load_parts(glb), None)
