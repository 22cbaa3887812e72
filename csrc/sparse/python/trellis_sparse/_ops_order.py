"""Orders along space-filling curves."""

from __future__ import annotations

import torch
from trellis_native import check

from ._library import EXTENSION, OPS, require_range

_CURVES = ("morton", "hilbert")
_AXIS_BITS = 21


def encode_order(coords: torch.Tensor, curve: str = "morton", *, bits: int | None = None) -> torch.Tensor:
    """Positions of grid cells along a space-filling curve; sorting by them keeps neighbours close in memory.

    Each level of a code is one octal digit, x its highest bit. Morton is the plain interleave of the bits.
    Hilbert is J. Skilling's curve ("Programming the Hilbert curve", AIP Conf. Proc. 707, 2004).

    Args:
        coords: int32 [N, 3], each in [0, 2^21), or in [0, 2^bits) where `bits` is given.
        curve: "morton" or "hilbert".
        bits: levels of the curve, 1 to 21. A Hilbert curve's axes rotate with the number of its levels, so its
            codes for `bits` and `bits` + 3 agree and others do not; give it to agree with codes made elsewhere.
            The default agrees with 10 (what o_voxel writes) and every coordinate below 2^21. Morton codes do not
            depend on it.

    Returns:
        int64 [N].

    Raises:
        ValueError: a coordinate out of range (the check synchronises on CUDA), or an unknown curve.
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 3])
    result: torch.Tensor = _encode_order(coords, check.choice("curve", curve, _CURVES), _levels(bits))
    return result


def decode_order(codes: torch.Tensor, curve: str = "morton", *, bits: int | None = None) -> torch.Tensor:
    """The inverse of `encode_order`.

    Args:
        codes: int64 [N], each in [0, 8^21), or in [0, 8^bits) where `bits` is given.
        curve, bits: as they were for `encode_order`.

    Returns:
        int32 [N, 3].

    Raises:
        ValueError: a code out of range (the check synchronises on CUDA), or an unknown curve.
    """
    codes = check.tensor("codes", codes, dtype=torch.int64, shape=["N"])
    result: torch.Tensor = _decode_order(codes, check.choice("curve", curve, _CURVES), _levels(bits))
    return result


def _levels(bits: int | None) -> int:
    return _AXIS_BITS + 1 if bits is None else check.positive_int("bits", bits, maximum=_AXIS_BITS)


@OPS.define("encode_order(Tensor coords, str curve, int bits) -> Tensor")
def _encode_order(coords: torch.Tensor, curve: str, bits: int) -> torch.Tensor:
    coords = coords.contiguous()
    require_range("coords", coords, [2 ** min(bits, _AXIS_BITS) - 1] * 3)
    codes = torch.empty(len(coords), dtype=torch.int64, device=coords.device)
    EXTENSION.call("encode_order", coords, len(coords), _CURVES.index(curve), bits, codes, device=coords.device)
    return codes


@OPS.define("decode_order(Tensor codes, str curve, int bits) -> Tensor")
def _decode_order(codes: torch.Tensor, curve: str, bits: int) -> torch.Tensor:
    codes = codes.contiguous()
    require_range("codes", codes[:, None], [8 ** min(bits, _AXIS_BITS) - 1])
    coords = torch.empty((len(codes), 3), dtype=torch.int32, device=codes.device)
    EXTENSION.call("decode_order", codes, len(codes), _CURVES.index(curve), bits, coords, device=codes.device)
    return coords


@OPS.fake("encode_order")
def _(coords: torch.Tensor, curve: str, bits: int) -> torch.Tensor:
    return coords.new_empty((coords.shape[0],), dtype=torch.int64)


@OPS.fake("decode_order")
def _(codes: torch.Tensor, curve: str, bits: int) -> torch.Tensor:
    return codes.new_empty((codes.shape[0], 3), dtype=torch.int32)
