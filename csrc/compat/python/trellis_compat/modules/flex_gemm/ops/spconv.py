"""As flex_gemm.ops.spconv: convolutions with a neighbour cache that the caller keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import trellis_sparse
from trellis_compat._missing import Served

from ._strided import SparseConv3dFunction, SparseConv3dNeighborCache, sparse_conv3d

__all__ = [
    "ALGORITHM",
    "HASHMAP_RATIO",
    "Algorithm",
    "SparseConv3dFunction",
    "SparseConv3dNeighborCache",
    "SubMConv3dFunction",
    "SubMConv3dNeighborCache",
    "set_algorithm",
    "set_hashmap_ratio",
    "sparse_conv3d",
    "sparse_submanifold_conv3d",
]


class Algorithm:
    """Names of upstream's algorithms. Here there is one, whatever is set."""

    EXPLICIT_GEMM = "explicit_gemm"
    IMPLICIT_GEMM = "implicit_gemm"
    IMPLICIT_GEMM_SPLITK = "implicit_gemm_splitk"
    MASKED_IMPLICIT_GEMM = "masked_implicit_gemm"
    MASKED_IMPLICIT_GEMM_SPLITK = "masked_implicit_gemm_splitk"


ALGORITHM = Algorithm.MASKED_IMPLICIT_GEMM_SPLITK
HASHMAP_RATIO = 2.0


def set_algorithm(algorithm: str) -> None:
    """Keeps `ALGORITHM` for those who read it; it decides nothing here."""
    global ALGORITHM
    ALGORITHM = algorithm


def set_hashmap_ratio(ratio: float) -> None:
    """Keeps `HASHMAP_RATIO` for those who read it; it decides nothing here."""
    global HASHMAP_RATIO
    HASHMAP_RATIO = ratio


class SubMConv3dNeighborCache(Served):
    """The neighbour map of one set of coordinates, kernel size and dilation: ``cache["neighbor_map"]``, int32 [N, taps].

    Upstream marks an absent neighbour by 0xffffffff in uint32; as int32 that is the -1 that stands here.
    """

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


def sparse_submanifold_conv3d(
    feats: torch.Tensor,
    coords: torch.Tensor,
    shape: Sequence[int],
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    neighbor_cache: SubMConv3dNeighborCache | None = None,
    dilation: int | Sequence[int] = (1, 1, 1),
) -> tuple[torch.Tensor, SubMConv3dNeighborCache]:
    """Submanifold convolution; differentiable in feats, weight and bias.

    Args:
        feats: [N, Ci].
        coords: int32 [N, 4], (batch, x, y, z).
        shape: (batch, channels, W, H, D).
        weight: [Co, kx, ky, kz, Ci].
        bias: [Co] or None.
        neighbor_cache: what an earlier call for the same coordinates, kernel size and dilation returned.
        dilation: spacing of the kernel's taps.

    Returns:
        [N, Co], and the cache to pass on: the given one, or a new one.
    """
    if neighbor_cache is None:
        batch, _, *size = shape
        neighbors = trellis_sparse.neighbor_map(coords, (batch, *size), tuple(weight.shape[1:4]), dilation)
        neighbor_cache = SubMConv3dNeighborCache(neighbor_map=neighbors, plan=trellis_sparse.conv_plan(neighbors))
    neighbors = neighbor_cache["neighbor_map"]
    plan = getattr(neighbor_cache, "plan", None)
    if plan is not None and plan.neighbors is not neighbors:  # the caller's own map
        plan = None
    out = trellis_sparse.submanifold_conv3d(feats, weight, bias, neighbors, plan=plan)
    return out, neighbor_cache


class SubMConv3dFunction:
    """`sparse_submanifold_conv3d` in upstream's other order of arguments."""

    @staticmethod
    def apply(
        feats: torch.Tensor,
        coords: torch.Tensor,
        shape: Sequence[int],
        neighbor_cache: SubMConv3dNeighborCache | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        dilation: int | Sequence[int] = (1, 1, 1),
    ) -> tuple[torch.Tensor, SubMConv3dNeighborCache]:
        return sparse_submanifold_conv3d(feats, coords, shape, weight, bias, neighbor_cache, dilation)
