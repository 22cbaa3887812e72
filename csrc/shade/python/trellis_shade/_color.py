"""Colour: the sRGB transfer function and tone mapping. Plain torch, any floating dtype, with gradients."""

from __future__ import annotations

import torch
from trellis_native import check

_CURVES = ("none", "reinhard", "aces", "agx", "neutral")


def _floating(name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {str(value.dtype).removeprefix('torch.')}")
    return value


def linear_to_srgb(linear: torch.Tensor) -> torch.Tensor:
    """Encodes linear values, clamped to [0, 1]. Source: IEC 61966-2-1, the piecewise definition."""
    x = _floating("linear", linear).clamp(0, 1)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=0.0031308).pow(1 / 2.4) - 0.055)


def srgb_to_linear(encoded: torch.Tensor) -> torch.Tensor:
    """Decodes sRGB values, clamped to [0, 1]. Source: IEC 61966-2-1, the piecewise definition."""
    x = _floating("encoded", encoded).clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4))


def tonemap(rgb: torch.Tensor, curve: str = "neutral", *, exposure: float = 0.0) -> torch.Tensor:
    """Brings linear scene values into [0, 1], still linear: encode with `linear_to_srgb` afterwards.

    Args:
        rgb: floating [..., 3].
        curve: "none" clamps; "reinhard" is x / (1 + x) (Reinhard et al., SIGGRAPH 2002); "aces" is K. Narkowicz's
            fit of the ACES film curve (2016); "agx" is T. Sobotka's AgX with B. Wrensch's fit of its curve (2023);
            "neutral" is the Khronos PBR Neutral specification (2024), which keeps base colours as they are.
        exposure: in stops, applied first.

    Returns:
        A tensor like rgb; NaN stays NaN.
    """
    rgb = _floating("rgb", rgb)
    if rgb.dim() < 1 or rgb.shape[-1] != 3:
        raise ValueError(f"rgb: expected shape [..., 3], got {list(rgb.shape)}")
    check.choice("curve", curve, _CURVES)
    gain = float(2.0 ** check.number("exposure", exposure))
    x = (rgb * gain).clamp(0, 6e4)  # finite in every dtype
    if curve == "reinhard":
        x = x / (1 + x)
    elif curve == "aces":
        x = x.clamp(max=100)  # already above 1, and its square is finite in float16
        x = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    elif curve == "agx":
        x = _agx(x)
    elif curve == "neutral":
        x = _neutral(x)
    return x.clamp(0, 1)


_AGX_IN = (
    (0.842479062253094, 0.0784335999999992, 0.0792237451477643),
    (0.0423282422610123, 0.878468636469772, 0.0791661274605434),
    (0.0423756549057051, 0.0784336, 0.879142973793104),
)


def _agx(x: torch.Tensor) -> torch.Tensor:
    inset = torch.tensor(_AGX_IN, dtype=torch.float64, device=x.device)
    low, high = -12.47393, 4.026069
    t = ((x @ inset.T.to(x.dtype)).clamp(min=1e-10).log2().clamp(low, high) - low) / (high - low)
    t = ((((((15.5 * t - 40.14) * t + 31.96) * t - 6.868) * t + 0.4298) * t + 0.1191) * t) - 0.00232
    # The curve gives values for a display of gamma 2.2.
    back: torch.Tensor = torch.linalg.inv(inset).T.to(x.dtype)
    return (t @ back).clamp(min=0).pow(2.2)


def _neutral(x: torch.Tensor) -> torch.Tensor:
    start, desaturation = 0.8 - 0.04, 0.15
    lowest = x.amin(-1, keepdim=True)
    x = x - torch.where(lowest < 0.08, lowest - 6.25 * lowest * lowest, 0.04)
    peak = x.amax(-1, keepdim=True)
    room = 1 - start
    pressed = 1 - room * room / (peak + room - start)
    bright = x * (pressed / peak.clamp(min=start))
    white = 1 - 1 / (desaturation * (peak - pressed) + 1)
    return torch.where(peak < start, x, bright + (pressed - bright) * white)
