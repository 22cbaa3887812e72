"""The figures of `measure_uv` (src/unwrap_measure.cpp) on flat arrays, for CUDA tensors; the CPU serves tests."""

from __future__ import annotations

import torch

from ._flat_charts import overlapped
from ._flat_surface import connected_by_edges, inverted, lengths, summed

_TOLERANCE = 2.0**-22  # depth in texture units below which an overlap or a turned face is rounding
_UNIT = float(1 << 40)


def _sums(values: torch.Tensor, chart: torch.Tensor, charts: int) -> torch.Tensor:
    """Sums by chart that do not depend on the order of threads."""
    scale = _UNIT / values.abs().sum().clamp(min=1e-300)
    return summed((values * scale).long(), chart, charts).double() / scale


def _checked(vertices: torch.Tensor, faces: torch.Tensor, uv: torch.Tensor) -> None:
    used = torch.zeros(len(vertices), dtype=torch.bool, device=faces.device)
    used[faces.view(-1).long()] = True
    for name, values, good, what in (
        ("uv", uv, uv.abs() <= 1 << 20, "expected coordinates in [-2^20, 2^20], got {:g} in row {}"),
        ("vertices", vertices, vertices.isfinite(), "expected finite coordinates, got {:g} in vertex {}"),
    ):
        bad = inverted(good) & used[:, None]
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise ValueError(f"{name}: " + what.format(float(values[row, column]), row))


def measure(
    vertices: torch.Tensor, faces: torch.Tensor, uv: torch.Tensor, resolution: int, small_chart_texels: float
) -> tuple[list[float], torch.Tensor, torch.Tensor]:
    """The ten figures, the chart int32 [F] and the fault bits uint8 [F] of each face, as tk_mesh_measure_uv."""
    if len(faces) == 0:
        return [0.0] * 10, faces.new_empty(0), faces.new_empty(0, dtype=torch.uint8)
    _checked(vertices, faces, uv)
    label, charts = connected_by_edges(faces, len(vertices))
    chart, index = label.long(), faces.long()
    corners, texture = vertices.double()[index], uv.double()[index].contiguous()
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    surface = lengths(normal) / 2
    sides = corners.roll(-1, 1) - corners
    longest2 = (sides * sides).sum(2).amax(1)
    degenerate = inverted(2 * surface > 1e-5 * longest2)
    edges = texture.roll(-1, 1) - texture
    twice = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    longest = (edges * edges).sum(2).amax(1).sqrt()
    height = torch.where(longest > 0, twice / longest, 0.0)
    signed = twice / 2
    against = _sums(signed, chart, charts)[chart] < 0
    flipped = torch.where(against, -height, height) < -_TOLERANCE
    overlapping = overlapped(texture, _TOLERANCE) >= 0
    outside = ((texture < 0) | (texture > 1)).any(2).any(1)
    without = inverted(degenerate) & (signed == 0)
    faults = torch.stack([flipped, overlapping, outside, without])
    bits = torch.tensor([1, 2, 4, 8], dtype=torch.uint8, device=faces.device)
    fault = (faults.to(torch.uint8) * bits[:, None]).sum(0, dtype=torch.uint8)

    # Derivatives of the surface by the texture: Sander et al. (2001), section 3.
    inverse = (0.5 / torch.where(signed == 0, 1.0, signed))[:, None]
    s, t = texture.unbind(2)
    by_s = (corners * (t.roll(-1, 1) - t.roll(1, 1))[..., None]).sum(1) * inverse
    by_t = (corners * (s.roll(1, 1) - s.roll(-1, 1))[..., None]).sum(1) * inverse
    p, q, w = (by_s * by_s).sum(1), (by_s * by_t).sum(1), (by_t * by_t).sum(1)
    largest2 = 0.5 * (p + w + ((p - w) * (p - w) + 4 * q * q).sqrt())
    live = inverted(degenerate) & (signed != 0)
    texels, area = (signed.abs() * live).sum(), (surface * live).sum()
    squares = torch.where(live, surface * 0.5 * (p + w), 0.0).sum()
    unit = torch.where(area > 0, (texels / area).sqrt(), 0.0)
    covered = _sums(signed.abs(), chart, charts)
    has_area = summed((signed != 0).long(), chart, charts) > 0
    turned = summed((against & (height < -_TOLERANCE)).long(), chart, charts) > 0
    figures = torch.stack(
        [
            has_area.sum(),
            (has_area & turned).sum(),
            (has_area & (covered * resolution**2 < small_chart_texels)).sum(),
            torch.where(area > 0, (squares / area).sqrt() * unit, 0.0),
            torch.where(live, largest2, 0.0).amax().sqrt() * unit,
            signed.abs().sum(),
            *faults.sum(1),
        ]
    )
    return figures.tolist(), label, fault
