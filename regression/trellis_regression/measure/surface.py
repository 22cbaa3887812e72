"""Distances between the surfaces of a candidate and its golden, in both directions, in the golden's unit space.

Normalisation: both are moved and scaled by what brings the golden's bounding box to centre 0 and longest side 1, so an
asset of another size or place is measured as such. Sample count and seed are those of `asset`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..asset import SAMPLES, SEED, Asset

TOLERANCE = 0.01
"""F-score: points closer than this share of the longest side agree."""
IN_FRONT = 0.02
"""How far in front of a surface its counterpart is looked for as well, so that a thin wall does not meet its own back."""


def into(asset: Asset, points: torch.Tensor, golden: Asset) -> torch.Tensor:
    """Points of `asset`'s unit space in the golden's."""
    ours, theirs = (torch.from_numpy(x.bounds.mean(0)).to(points.device) for x in (asset, golden))
    world = points.double() * asset.extent + ours
    return ((world - theirs) / golden.extent).float()


def measure(asset: Asset, golden: Asset) -> dict[str, Any]:
    """Both one-sided distances, F-score, normal agreement, and the share of the golden that has no counterpart."""
    scale = golden.extent / asset.extent
    points = into(asset, asset.samples.points, golden)
    to_golden, g_face, _ = golden.bvh.closest_point(points)
    _, front_face, _ = golden.bvh.closest_point(points + IN_FRONT * asset.samples.normals)
    to_ours, _, _ = asset.bvh.closest_point(into(golden, golden.samples.points, asset))
    forward = to_golden.cpu().numpy().astype(np.float64)
    backward = to_ours.cpu().numpy().astype(np.float64) / scale
    precision, recall = float((forward < TOLERANCE).mean()), float((backward < TOLERANCE).mean())
    agreement, from_front = (
        (asset.samples.normals * golden.normals[face.long()]).sum(1).cpu().numpy() for face in (g_face, front_face)
    )
    return {
        "samples": SAMPLES,
        "seed": SEED,
        "normalisation": "golden bounding box, longest side 1",
        "tolerance": TOLERANCE,
        "scale_ratio": 1 / scale,
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
        "normal_turned_share": float(((agreement < -0.3) & (from_front < -0.3)).mean()),
        "face_ratio": len(golden.faces) / max(1, len(asset.faces)),
    }


def nothing(golden: Asset) -> dict[str, Any]:
    """The same figures for a candidate without a surface: all of the golden is missing."""
    return {
        "samples": SAMPLES,
        "seed": SEED,
        "normalisation": "golden bounding box, longest side 1",
        "tolerance": TOLERANCE,
        "scale_ratio": 0.0,
        "missing_share": 1.0,
        "extra_share": 0.0,
        "f_score": 0.0,
        "normal_turned_share": 0.0,
        "face_ratio": float(len(golden.faces)),
    }
