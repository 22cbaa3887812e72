"""LDR-FLIP: the difference of two pictures as a person who flips between them sees it.

Source: Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström, Fairchild, "FLIP: A Difference Evaluator for Alternating
Images", Proc. ACM Comput. Graph. Interact. Tech. 3(2), 2020. Constants are the paper's.
"""

from __future__ import annotations

import math
from functools import lru_cache

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
    """The error map [..., H, W] in [0, 1] of display pictures [..., H, W, 3] in [0, 1], on their device."""
    shape = reference.shape
    a, b = (_opponent(x.reshape(-1, *shape[-3:]).movedim(-1, 1).float()) for x in (reference, candidate))
    fa, fb = _filtered(a), _filtered(b)
    lab_a, lab_b = _hunt(_lab(_from_opponent(fa))), _hunt(_lab(_from_opponent(fb)))
    colour = _redistribute(_hyab(lab_a, lab_b) ** _QC)
    grey_a, grey_b = (a[:, :1] + 16) / 116, (b[:, :1] + 16) / 116
    feature = _features(grey_a, grey_b)
    return (colour ** (1 - feature))[:, 0].reshape(shape[:-1])


def _mixed(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A matrix [3, 3] times the channels of [N, 3, H, W]. Written out: a product rounds in its own way on every device."""
    p, q, r = x.unbind(1)
    return torch.stack([p * i + q * j + r * k for i, j, k in matrix.tolist()], 1)


def _white(x: torch.Tensor) -> torch.Tensor:
    return _D65.to(x.device)[:, None, None]


def _opponent(srgb: torch.Tensor) -> torch.Tensor:
    """sRGB -> linear -> XYZ -> YCxCz (a linearised CIELab)."""
    xyz = _mixed(_TO_XYZ, shade.srgb_to_linear(srgb)) / _white(srgb)
    x, y, z = xyz.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _from_opponent(c: torch.Tensor) -> torch.Tensor:
    """YCxCz -> linear RGB, clipped, and back to XYZ relative to white."""
    y = (c[:, 0] + 16) / 116
    xyz = torch.stack([y + c[:, 1] / 500, y, y - c[:, 2] / 200], 1) * _white(c)
    rgb = _mixed(torch.linalg.inv(_TO_XYZ), xyz).clamp(0, 1)
    return _mixed(_TO_XYZ, rgb) / _white(c)


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


@lru_cache(maxsize=1)
def _largest() -> float:
    """The largest difference that two colours of the display have, that of blue and green."""
    green, blue = torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1), torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    ends = [_hunt(_lab(_from_opponent(_opponent(x)))) for x in (green, blue)]
    return math.pow(float(_hyab(*ends)), _QC)


def _redistribute(powered: torch.Tensor) -> torch.Tensor:
    """Compresses the range so that large differences do not drown visible small ones."""
    largest = _largest()
    limit = _PC * largest
    return torch.where(
        powered < limit, _PT / limit * powered, _PT + (powered - limit) / (largest - limit) * (1 - _PT)
    ).clamp(0, 1)


def _filtered(c: torch.Tensor) -> torch.Tensor:
    """Contrast sensitivity: what is too fine for the eye at this distance is blurred away, per opponent channel.

    The kernel of a channel is a sum of Gaussians, so it is applied as a sum of passes along rows and columns.
    """
    terms = (((1.0, 0.0047),), ((1.0, 0.0053),), ((34.1, 0.04), (13.5, 0.025)))
    radius = math.ceil(3 * math.sqrt(0.04 / (2 * math.pi**2)) * PIXELS_PER_DEGREE)
    at = torch.arange(-radius, radius + 1).float() / PIXELS_PER_DEGREE
    out = []
    for channel, gaussians in enumerate(terms):
        kernels = [(a * math.sqrt(math.pi / b), torch.exp(-(math.pi**2) * at**2 / b)) for a, b in gaussians]
        total = sum(weight * float(k.sum()) ** 2 for weight, k in kernels)
        one = c[:, channel : channel + 1]
        out.append(torch.stack([_convolve(one, k, k) * (weight / total) for weight, k in kernels]).sum(0))
    return torch.cat(out, 1)


def _convolve(x: torch.Tensor, across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """[N, 1, H, W] with a kernel along the rows and one along the columns; the border repeats."""
    rows, columns = (_band(tuple(k.tolist()), n, x.device) for k, n in ((down, x.shape[2]), (across, x.shape[3])))
    return rows @ (x @ columns.T)


@lru_cache(maxsize=32)
def _band(kernel: tuple[float, ...], size: int, device: torch.device) -> torch.Tensor:
    """The matrix [size, size] that convolves (in the sense of torch's conv2d) a column of as many numbers."""
    radius = len(kernel) // 2
    row = torch.arange(size)[:, None].expand(size, len(kernel))
    column = (row + torch.arange(-radius, radius + 1)).clamp(0, size - 1)
    values = torch.tensor(kernel).expand(size, -1)
    return torch.zeros(size, size).index_put_((row, column), values, accumulate=True).to(device)


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
        dx, dy = _convolve(x, along, smooth), _convolve(x, smooth, along)
        return (dx**2 + dy**2).sqrt()

    worst = torch.maximum((size(a, edge) - size(b, edge)).abs(), (size(a, point) - size(b, point)).abs())
    return (worst / math.sqrt(2)).clamp(0, 1) ** _QF
