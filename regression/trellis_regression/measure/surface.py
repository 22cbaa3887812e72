"""Distances between the surfaces of a candidate and its golden, in both directions, in the golden's unit space.

Normalisation: both are moved and scaled by what brings the golden's bounding box to centre 0 and longest side 1, so an
asset of another size or place is measured as such. Sample count and seed are those of `asset`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..asset import SAMPLES, SEED, Asset, rows
from .rays import OFFSET, escapes, hemisphere

TOLERANCE = 0.01
"""F-score: points closer than this share of the longest side agree."""
IN_FRONT = 0.02
"""How far in front of a surface its counterpart is looked for as well, so that a thin wall does not meet its own back."""
REACH = 0.03
"""How far to either side of the golden's surface layers are counted: farther than a second shell lies from the first."""
_LAYERED = 2048
_HARDLY = 4


def into(asset: Asset, points: torch.Tensor, golden: Asset) -> torch.Tensor:
    """Points of `asset`'s unit space in the golden's."""
    ours, theirs = (torch.from_numpy(x.bounds.mean(0)).to(points.device) for x in (asset, golden))
    world = points.double() * asset.extent + ours
    return ((world - theirs) / golden.extent).float()


def measure(asset: Asset, golden: Asset) -> dict[str, Any]:
    """Both one-sided distances, F-score, normal agreement, the share of the golden that has no counterpart, and layers.

    ``added_layer_share``: where along the golden's normal more layers lie than there, less where fewer do.
    ``normal_turned_one_sided_share``: of what looks the other way that whose material shows only its front;
    ``normal_turned_solid_share``: that of which the outside sees the golden's front and
    the asset's back.
    """
    scale = golden.extent / asset.extent
    points = into(asset, asset.samples.points, golden)
    to_golden, g_face, g_weights = golden.bvh.closest_point(points)
    _, front_face, _ = golden.bvh.closest_point(points + IN_FRONT * asset.samples.normals)
    to_ours, _, _ = asset.bvh.closest_point(into(golden, golden.samples.points, asset))
    forward = to_golden.cpu().numpy().astype(np.float64)
    backward = to_ours.cpu().numpy().astype(np.float64) / scale
    precision, recall = float((forward < TOLERANCE).mean()), float((backward < TOLERANCE).mean())
    agreement, from_front = (
        (asset.samples.normals * golden.normals[face.long()]).sum(1).cpu().numpy() for face in (g_face, front_face)
    )
    turned = (agreement < -0.3) & (from_front < -0.3)
    one_sided = ~asset.double_sided[asset.samples.faces].cpu().numpy()
    return {
        "samples": SAMPLES,
        "seed": SEED,
        "normalisation": "golden bounding box, longest side 1",
        "tolerance": TOLERANCE,
        "scale_ratio": 1 / scale,
        "area_ratio": asset.area / scale**2 / golden.area,
        "added_layer_share": _added_layers(asset, golden, scale),
        "extra_mean": float(forward.mean()),
        "extra_p99": float(np.quantile(forward, 0.99)),
        "extra_max": float(forward.max()),
        "missing_mean": float(backward.mean()),
        "missing_p99": float(np.quantile(backward, 0.99)),
        "missing_max": float(backward.max()),
        "missing_share": 1 - recall,
        "extra_share": 1 - precision,
        "f_score": 2 * precision * recall / max(precision + recall, 1e-12),
        "normal_consistency": float(np.abs(agreement).mean()),
        "normal_turned_share": float(turned.mean()),
        "normal_turned_one_sided_share": float((turned & one_sided).mean()),
        "normal_turned_solid_share": float(turned.mean()) * _shows_its_back(asset, golden, g_face, g_weights, turned),
        "face_ratio": len(golden.faces) / max(1, len(asset.faces)),
    }


def _shows_its_back(
    asset: Asset, golden: Asset, face: torch.Tensor, weights: torch.Tensor, which: npt.NDArray[np.bool_]
) -> float:
    """Of some samples the share where the outside sees the golden's front and not, or hardly, its back, and of the asset
    the other way round. Of a sheet it sees both; the back of an inner layer it does not see.

    Args:
        face, weights: the golden's points beside the samples, as solid faces [N] and barycentric weights [N, 3].
        which: [N], the samples that are asked for.
    """
    chosen = torch.from_numpy(which.nonzero()[0]).to(face.device)
    chosen = chosen[:: max(1, len(chosen) // _LAYERED)]
    if not len(chosen):
        return 0.0
    solid = face[chosen].long()
    corners = rows(golden.welded_vertices, rows(golden.welded_faces, solid))
    there = _sides(golden, (corners * weights[chosen][..., None]).sum(1), golden.normals[solid].float())
    here = _sides(asset, asset.samples.points[chosen], asset.samples.normals[chosen])
    shown = (there[0] > _HARDLY * there[1]) & (here[1] > _HARDLY * here[0])
    return float(shown.float().mean())


def _sides(asset: Asset, points: torch.Tensor, normals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many rays escape in front of points of a surface, and behind them."""
    directions = hemisphere(normals)
    return escapes(asset, points + OFFSET * normals, directions), escapes(asset, points - OFFSET * normals, -directions)


def _added_layers(asset: Asset, golden: Asset, scale: float) -> float:
    """The share of the golden's area beside which the asset has more layers than it, minus that where it has fewer."""
    step = len(golden.samples.points) // _LAYERED
    points, normals = golden.samples.points[::step], golden.samples.normals[::step]
    back = (-normals).contiguous()
    there = golden.bvh.count_hits((points + REACH * normals).contiguous(), back, t_max=2 * REACH)
    begin = into(golden, points + REACH * normals, asset)
    here = asset.bvh.count_hits(begin.contiguous(), back, t_max=2 * REACH * scale)
    return (int((here > there).sum()) - int((here < there).sum())) / len(points)


def nothing(golden: Asset) -> dict[str, Any]:
    """The same figures for a candidate without a surface: all of the golden is missing."""
    return {
        "samples": SAMPLES,
        "seed": SEED,
        "normalisation": "golden bounding box, longest side 1",
        "tolerance": TOLERANCE,
        "scale_ratio": 0.0,
        "area_ratio": 0.0,
        "added_layer_share": -1.0,
        "missing_share": 1.0,
        "extra_share": 0.0,
        "f_score": 0.0,
        "normal_turned_share": 0.0,
        "normal_turned_one_sided_share": 0.0,
        "normal_turned_solid_share": 0.0,
        "face_ratio": float(len(golden.faces)),
    }
