"""Antialiasing of silhouettes after the fact.

Where two pixels that touch show different surfaces, the edge of the nearer one crosses the line between their centres;
how far along tells how much of a pixel's width the nearer surface covers there (after Laine et al., "Modular primitives
for high-performance differentiable rendering", 2020, section 3.5).
"""

from __future__ import annotations

import torch

__all__: list[str] = []


def antialias_construct_topology_hash(tri: torch.Tensor) -> torch.Tensor:
    """For `antialias`: int64 [F, 3], for the edge opposite each corner the far corner of the face beyond it.

    -1 where there is none, or more than one.
    """
    corners = tri.long()
    ends = corners[:, [[1, 2], [2, 0], [0, 1]]].sort(2).values.view(-1, 2)
    key = ends[:, 0] * (int(corners.max()) + 1 if corners.numel() else 1) + ends[:, 1]
    key, order = torch.sort(key, stable=True)
    _, counts = torch.unique_consecutive(key, return_counts=True)
    first = (torch.cumsum(counts, 0) - counts)[counts == 2]
    one, other = order[first], order[first + 1]
    far = torch.full_like(corners, -1).view(-1)
    far[one], far[other] = corners.reshape(-1)[other], corners.reshape(-1)[one]
    return far.view(-1, 3)


def antialias(
    color: torch.Tensor,
    rast: torch.Tensor,
    pos: torch.Tensor,
    tri: torch.Tensor,
    topology_hash: torch.Tensor | None = None,
    pos_gradient_boost: float = 1.0,
) -> torch.Tensor:
    """Blends pixels across silhouettes; differentiable in color alone.

    Silhouettes are sought in the faces that pixels show: where the outermost face is too thin to cover the centre of
    one, its pixels stay as they are.

    Args:
        color: [B, H, W, C].
        rast: from `rasterize` with pos and tri.
        pos: float32 [B, V, 4].
        tri: int [F, 3].
        topology_hash: from `antialias_construct_topology_hash`.

    Returns:
        [B, H, W, C].
    """
    if torch.is_grad_enabled() and pos.requires_grad:
        raise NotImplementedError("antialias: trellis_compat has no gradient for pos; pass pos.detach()")
    if pos.dim() == 2:
        raise NotImplementedError("antialias: trellis_compat serves pos [B, V, 4] only, not range mode (pos [V, 4])")
    far = antialias_construct_topology_hash(tri) if topology_hash is None else topology_hash
    out = color.clone()
    for b in range(len(color)):
        for axis in (0, 1):  # rows below each other, then columns side by side
            front, back, share = _crossings(rast[b], pos[b], tri.long(), far, axis)
            # share > 0: so much of the back pixel is covered; < 0: so much of the front one is not.
            flat = color[b].reshape(-1, color.shape[3])
            difference = (flat[front] - flat[back]) * share[:, None]
            # A pixel may be the back, or the front, on two sides of this axis: the sides go one after the other.
            target = torch.where(share > 0, back, front)
            for side in (target == torch.minimum(front, back), target == torch.maximum(front, back)):
                change = torch.zeros_like(flat)
                change[target[side]] = difference[side]
                out[b] = out[b] + change.view(color.shape[1:])
    return out


def _crossings(
    rast: torch.Tensor, pos: torch.Tensor, tri: torch.Tensor, far: torch.Tensor, axis: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (row * W + column) on the near and the far side of silhouettes between neighbours along `axis`, and the
    share, in [-1/2, 1/2], of a pixel by which the silhouette passes the middle between them."""
    height, width, _ = rast.shape
    face = rast[..., 3].long() - 1
    depth = torch.where(face >= 0, rast[..., 2], torch.inf)
    count = face.shape[axis] - 1
    face0, face1 = face.narrow(axis, 0, count), face.narrow(axis, 1, count)
    depth0, depth1 = depth.narrow(axis, 0, count), depth.narrow(axis, 1, count)
    row, column = (face0 != face1).nonzero(as_tuple=True)
    first = row * width + column
    second = first + (width if axis == 0 else 1)
    nearer = depth0[row, column] <= depth1[row, column]
    front, back = torch.where(nearer, first, second), torch.where(nearer, second, first)
    shown = torch.where(nearer, face0[row, column], face1[row, column])

    # In pixels, centres at whole numbers; `along` is the coordinate that differs between the two.
    corners = tri[shown]
    p = pos.detach()[corners].double()
    w = p[..., 3]
    size = torch.tensor([width, height], dtype=torch.float64, device=pos.device)
    screen = (p[..., :2] / w[..., None] + 1) / 2 * size - 0.5
    along, across = (screen[..., 1], screen[..., 0]) if axis == 0 else (screen[..., 0], screen[..., 1])
    rows, columns = front // width, front % width
    place, level = (rows, columns) if axis == 0 else (columns, rows)
    sign = torch.where(nearer, 1.0, -1.0).double()

    begin, end = [1, 2, 0], [2, 0, 1]  # the edge opposite each corner
    above = across > level[:, None]
    run, rise = along[:, end] - along[:, begin], across[:, end] - across[:, begin]
    reach = (along[:, begin] + (level[:, None] - across[:, begin]) / rise * run - place[:, None]) * sign[:, None]
    crosses = (above[:, begin] != above[:, end]) & (reach >= 0) & (reach <= 1)
    # An edge counts along the axis that it is steeper to: there, its place is the share that it covers.
    crosses &= (run.abs() <= rise.abs()) if axis == 0 else (run.abs() < rise.abs())
    crosses &= (w[:, begin] > 0) & (w[:, end] > 0)

    # A silhouette: no single face beyond the edge, or one that lies on the same side of it on the screen.
    beyond = far[shown]
    q = pos.detach()[beyond.clamp_min(0)].double()
    line = torch.linalg.cross(p[:, begin][..., [0, 1, 3]], p[:, end][..., [0, 1, 3]])
    own, other = (line * p[..., [0, 1, 3]]).sum(2), (line * q[..., [0, 1, 3]]).sum(2)
    crosses &= (beyond < 0) | (own * other > 0)

    found, edge = crosses.max(1)
    share = reach.gather(1, edge[:, None])[:, 0] - 0.5
    return front[found], back[found], share[found].float()
