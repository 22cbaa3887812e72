"""LDR-FLIP: the difference of two pictures as a person who flips between them sees it.

Source: Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström, Fairchild, "FLIP: A Difference Evaluator for Alternating
Images", Proc. ACM Comput. Graph. Interact. Tech. 3(2), 2020. Constants are the paper's.
"""

from __future__ import annotations

import math

import torch
import trellis_shade as shade

PIXELS_PER_DEGREE = 67.0
"""A 0.7 m wide 4K monitor seen from 0.7 m, the paper's default."""
_QC, _PC, _PT = 0.7, 0.4, 0.95
_FEATURE_WIDTH, _QF = 0.082, 0.5
_D65 = torch.tensor([0.950428545, 1.0, 1.088900371])
_TO_XYZ = torch.tensor(
    [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]]
)


def flip(reference: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """The error map [H, W] in [0, 1] of two display pictures [H, W, 3] in [0, 1]."""
    a, b = (_opponent(x.movedim(-1, 0)[None].float()) for x in (reference, candidate))
    fa, fb = _filtered(a), _filtered(b)
    lab_a, lab_b = _hunt(_lab(_from_opponent(fa))), _hunt(_lab(_from_opponent(fb)))
    colour = _redistribute(_hyab(lab_a, lab_b) ** _QC)
    grey_a, grey_b = (a[:, :1] + 16) / 116, (b[:, :1] + 16) / 116
    feature = _features(grey_a, grey_b)
    return (colour ** (1 - feature))[0, 0]


def _opponent(srgb: torch.Tensor) -> torch.Tensor:
    """sRGB -> linear -> XYZ -> YCxCz (a linearised CIELab)."""
    xyz = torch.einsum("ij,njhw->nihw", _TO_XYZ, shade.srgb_to_linear(srgb)) / _D65[:, None, None]
    x, y, z = xyz.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _from_opponent(c: torch.Tensor) -> torch.Tensor:
    """YCxCz -> linear RGB, clipped, and back to XYZ relative to white."""
    y = (c[:, 0] + 16) / 116
    xyz = torch.stack([y + c[:, 1] / 500, y, y - c[:, 2] / 200], 1) * _D65[:, None, None]
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(_TO_XYZ), xyz).clamp(0, 1)
    return torch.einsum("ij,njhw->nihw", _TO_XYZ, rgb) / _D65[:, None, None]


def _lab(xyz: torch.Tensor) -> torch.Tensor:
    delta = 6 / 29
    f = torch.where(xyz > delta**3, xyz.clamp_min(1e-12) ** (1 / 3), xyz / (3 * delta**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _hunt(lab: torch.Tensor) -> torch.Tensor:
    """Colour differences matter less in the dark."""
    light, a, b = lab.unbind(1)
    return torch.stack([light, 0.01 * light * a, 0.01 * light * b], 1)


def _hyab(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    d = a - b
    return d[:, :1].abs() + (d[:, 1:] ** 2).sum(1, keepdim=True).sqrt()


def _redistribute(powered: torch.Tensor) -> torch.Tensor:
    """Compresses the range so that large differences do not drown visible small ones."""
    green, blue = torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1), torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    ends = [_hunt(_lab(_from_opponent(_opponent(x)))) for x in (green, blue)]
    largest = float(_hyab(*ends)) ** _QC
    limit = _PC * largest
    return torch.where(
        powered < limit, _PT / limit * powered, _PT + (powered - limit) / (largest - limit) * (1 - _PT)
    ).clamp(0, 1)


def _filtered(c: torch.Tensor) -> torch.Tensor:
    """Contrast sensitivity: what is too fine for the eye at this distance is blurred away, per opponent channel."""
    terms = (
        ((1.0, 0.0047, 0.0, 1e-5),),
        ((1.0, 0.0053, 0.0, 1e-5),),
        ((34.1, 0.04, 13.5, 0.025),),
    )
    radius = math.ceil(3 * math.sqrt(0.04 / (2 * math.pi**2)) * PIXELS_PER_DEGREE)
    at = torch.arange(-radius, radius + 1).float() / PIXELS_PER_DEGREE
    square = at[:, None] ** 2 + at[None] ** 2
    out = []
    for channel, ((a1, b1, a2, b2),) in enumerate(terms):
        kernel = sum(
            a * math.sqrt(math.pi / b) * torch.exp(-(math.pi**2) * square / b) for a, b in ((a1, b1), (a2, b2)) if a
        )
        assert isinstance(kernel, torch.Tensor)
        out.append(_convolve(c[:, channel : channel + 1], kernel / kernel.sum()))
    return torch.cat(out, 1)


def _convolve(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    pad = [kernel.shape[1] // 2] * 2 + [kernel.shape[0] // 2] * 2
    return torch.nn.functional.conv2d(torch.nn.functional.pad(x, pad, mode="replicate"), kernel[None, None])


def _features(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Differences of edges and of points, the larger of the two."""
    sigma = 0.5 * _FEATURE_WIDTH * PIXELS_PER_DEGREE
    radius = math.ceil(3 * sigma)
    at = torch.arange(-radius, radius + 1).float()
    gauss = torch.exp(-(at**2) / (2 * sigma**2))
    edge = -at * gauss
    edge = edge / edge[edge > 0].sum()
    point = (at**2 / sigma**2 - 1) * gauss
    point = torch.where(point > 0, point / point[point > 0].sum(), -point / point[point < 0].sum())
    smooth = gauss / gauss.sum()

    def size(x: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
        dx = _convolve(_convolve(x, along[None]), smooth[:, None])
        dy = _convolve(_convolve(x, along[:, None]), smooth[None])
        return (dx**2 + dy**2).sqrt()

    worst = torch.maximum((size(a, edge) - size(b, edge)).abs(), (size(a, point) - size(b, point)).abs())
    return (worst / math.sqrt(2)).clamp(0, 1) ** _QF
