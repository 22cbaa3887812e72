"""Contexts, rasterisation, interpolation, and their image-space derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import trellis_raster
from trellis_compat._missing import Served

from ._lazy import LazyTensor, settled

__all__: list[str] = []


class RasterizeCudaContext(Served):
    """Holds nothing but which `DepthPeeler` is at work: the tensors say on which device to draw, the CPU included."""

    def __init__(self, device: Any = None) -> None:
        self.active_depth_peeler: DepthPeeler | None = None


class RasterizeGLContext(RasterizeCudaContext):
    """The same; no OpenGL is involved."""

    def __init__(self, output_db: bool = True, mode: str = "automatic", device: Any = None) -> None:
        super().__init__(device)
        self.output_db = output_db

    def set_context(self) -> None:
        """Nothing to do."""

    def release_context(self) -> None:
        """Nothing to do."""


def rasterize(
    glctx: RasterizeCudaContext,
    pos: torch.Tensor,
    tri: torch.Tensor,
    resolution: Sequence[int],
    ranges: torch.Tensor | None = None,
    grad_db: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`trellis_raster.rasterize`, and the derivatives of u and v.

    Args:
        pos: float32 [B, V, 4], clip space.
        tri: int [F, 3].
        resolution: (height, width).
        ranges: not served.

    Returns:
        float32 [B, H, W, 4] (u, v, z/w, face + 1), row 0 at y = -1, and float32 [B, H, W, 4] (du/dX, du/dY, dv/dX, dv/dY) per pixel,
        which is computed when it is first read. Both are 0 where there is no face. No gradients.
    """
    if glctx.active_depth_peeler is not None:
        raise RuntimeError("rasterize: this context's DepthPeeler is at work; use its rasterize_next_layer()")
    return _draw(glctx, pos, tri, resolution, ranges, None)


def _draw(
    glctx: RasterizeCudaContext,
    pos: torch.Tensor,
    tri: torch.Tensor,
    resolution: Sequence[int],
    ranges: torch.Tensor | None,
    previous: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(glctx, RasterizeCudaContext):
        raise TypeError(f"glctx: expected a RasterizeCudaContext, got {type(glctx).__name__}")
    if pos.dim() == 2 or (ranges is not None and len(ranges)):
        raise NotImplementedError("rasterize: trellis_compat serves pos [B, V, 4] only, not range mode (pos [V, 4])")
    height, width = (int(side) for side in resolution)
    rast = trellis_raster.rasterize(pos, tri, (height, width), peel=previous)
    if not getattr(glctx, "output_db", True):
        return rast, rast.new_empty((*rast.shape[:3], 0))
    # A copy of the column, which callers shift when they draw a mesh in parts.
    face = rast[..., 3].to(torch.int32)
    return rast, LazyTensor(rast.shape, rast.device, lambda: _derivatives(pos, tri, face))


def _derivatives(pos: torch.Tensor, tri: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
    """(du/dX, du/dY, dv/dX, dv/dY) of the perspective-correct weights at each pixel's centre.

    A face's three weights are proportional to linear functions of the pixel: with corners p_i = (x, y, w) of clip space
    these are a_i = (p_j x p_k) . (X, Y, 1), in normalised device coordinates, and u = a_0 / (a_0 + a_1 + a_2). (Olano
    and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997.) In float64, since they cancel.
    """
    _, height, width = face.shape
    out = pos.new_zeros((*face.shape, 4))
    image, row, column = (face > 0).nonzero(as_tuple=True)
    corners = tri[face[image, row, column].long() - 1].long()
    p = pos.detach()[image[:, None], corners][..., [0, 1, 3]].double()
    normals = torch.linalg.cross(p[:, [1, 2, 0]], p[:, [2, 0, 1]])
    at = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1, torch.ones_like(row)], 1).double()
    a = (normals * at[:, None]).sum(2)
    total = a.sum(1)
    slope = normals[..., :2]
    step = torch.tensor([2 / width, 2 / height], dtype=torch.float64, device=pos.device)  # a pixel's size there
    weights = a[:, :2] / total[:, None]
    d = (slope[:, :2] - weights[..., None] * slope.sum(1)[:, None]) / total[:, None, None] * step
    out[image, row, column] = d.flatten(1).float()
    return out


class DepthPeeler(Served):
    """A context manager that draws a mesh layer by layer, from front to back. Arguments as for `rasterize`."""

    def __init__(
        self,
        glctx: RasterizeCudaContext,
        pos: torch.Tensor,
        tri: torch.Tensor,
        resolution: Sequence[int],
        ranges: torch.Tensor | None = None,
        grad_db: bool = True,
    ) -> None:
        self._context = glctx
        self._arguments = (pos, tri, resolution, ranges)
        self._layer: torch.Tensor | None = None

    def __enter__(self) -> DepthPeeler:
        if self._context.active_depth_peeler is not None:
            raise RuntimeError("DepthPeeler: another one is at work in this context")
        self._context.active_depth_peeler = self
        self._layer = None
        return self

    def __exit__(self, *error: object) -> Literal[False]:
        self._context.active_depth_peeler = None
        self._layer = None
        return False

    def rasterize_next_layer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next layer, as from `rasterize`; empty behind the last."""
        if self._context.active_depth_peeler is not self:
            raise RuntimeError("DepthPeeler: use it in a with statement")
        rast, derivatives = _draw(self._context, *self._arguments, self._layer)
        self._layer = rast.clone()  # callers may change what they get
        return rast, derivatives


def interpolate(
    attr: torch.Tensor,
    rast: torch.Tensor,
    tri: torch.Tensor,
    rast_db: torch.Tensor | None = None,
    diff_attrs: str | Sequence[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`trellis_raster.interpolate`, and derivatives of what it returns. Differentiable in attr.

    Args:
        attr: float32 [B or 1, V, C], or [V, C] for all images.
        rast, rast_db: from `rasterize`.
        tri: int [F, 3].
        diff_attrs: channels to derive, or "all".

    Returns:
        float32 [B, H, W, C], and float32 [B, H, W, 2 k] with (dA/dX, dA/dY) of the k channels chosen.
    """
    attr = attr[None] if attr.dim() == 2 else attr
    rast = settled(rast)
    out = trellis_raster.interpolate(attr, rast, tri)
    if diff_attrs is None or len(diff_attrs) == 0:
        return out, out.new_empty((*out.shape[:3], 0))
    if rast_db is None:
        raise ValueError("rast_db: expected what rasterize returned, got None although diff_attrs asks for derivatives")
    chosen = attr.detach() if diff_attrs == "all" else attr.detach()[..., list(map(int, diff_attrs))]
    slopes = out.new_zeros((*out.shape[:3], chosen.shape[2], 2))
    image, row, column = (rast[..., 3] > 0).nonzero(as_tuple=True)
    corners = tri[rast[image, row, column, 3].long() - 1].long()
    a = chosen[image[:, None] if len(chosen) > 1 else 0, corners]
    d = settled(rast_db)[image, row, column].view(-1, 2, 1, 2)
    slopes[image, row, column] = (a[:, :2] - a[:, 2:])[..., None].mul(d).sum(1)
    return out, slopes.flatten(3)
