"""nvdiffrast beside trellis_raster: rasterisation, interpolation, textures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import trellis_raster as raster
from harness import Finding, Setting, case, share

_CONTEXTS: dict[torch.device, Any] = {}


def _context(setting: Setting) -> Any:
    """Theirs is costly to make, and one does for all pictures."""
    if setting.device not in _CONTEXTS:
        _CONTEXTS[setting.device] = setting.modules["nvdiffrast"].RasterizeCudaContext(device=setting.device)
    return _CONTEXTS[setting.device]


def _scene(setting: Setting) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int], str]:
    """Clip positions [B, V, 4], faces, picture size."""
    from shapes import surface

    kind = setting.one_of("perspective", "flat", "through the camera", "tiny")
    batch = int(setting.one_of(1, 1, 3))
    height, width = (int(setting.one_of(8, 16, 64, 104, 256)) for _ in range(2))
    what, v, f = surface(setting, damaged=setting.chance(0.3))
    points = v - v.mean(0)
    points = points / max(1e-6, np.abs(points).max())
    turned = []
    for _ in range(batch):
        q, _ = np.linalg.qr(setting.random.normal(size=(3, 3)))
        x = points @ q.T
        if kind == "flat":
            turned.append(np.concatenate([x[:, :2], x[:, 2:] * 0.5, np.ones_like(x[:, :1])], 1))
            continue
        depth = x[:, 2:] + {"perspective": 2.5, "through the camera": 0.3, "tiny": 40.0}[kind]
        near, far = 0.1, 100.0
        z = depth * (far + near) / (far - near) - 2 * far * near / (far - near)
        turned.append(np.concatenate([x[:, :2] * 1.2, z, depth], 1))
    clip = setting.tensor(np.stack(turned).astype(np.float32))
    said = f"seed {setting.seed}: {kind}, {what}, {len(f)} faces, {batch} of {height} x {width}"
    return clip, setting.tensor(f), (height, width), said


def _corners(clip: torch.Tensor, f: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip positions float64 [P, 3, 4] of the triangles of covered pixels, and the pixels int64 [P, 3]."""
    at = (ids > 0).nonzero()
    face = ids[tuple(at.T)].long() - 1
    return clip.double()[at[:, :1], f[face].long()], at


def _depth_beyond(clip: torch.Tensor, f: torch.Tensor, rast: torch.Tensor) -> float:
    """How far z/w reaches beyond those of its triangle's corners, at most, where none of them is clipped."""
    corners, at = _corners(clip, f, rast[..., 3].round())
    whole = ((corners[..., 3] > 0) & (corners[..., 2].abs() <= corners[..., 3])).all(1)
    ends = (corners[..., 2] / corners[..., 3])[whole]
    z = rast[tuple(at.T)][:, 2].double()[whole, None]
    return float(((ends - z).amin(1).clamp_min(0) + (z - ends).amin(1).clamp_min(0)).max()) if len(z) else 0.0


def _unexplained(clip: torch.Tensor, f: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """Pixels where the two name different triangles, far from the edges of both and not at one depth: their share, and
    that of those where ours is the farther. Both round corners to a sixteenth of a pixel; far is three of those."""
    a, b = ours[..., 3].round(), theirs[..., 3].round()
    height, width = a.shape[1:]
    apart = a != b
    clear = apart.clone()
    for ids in (a, b):
        corners, at = _corners(clip, f, torch.where(apart, ids, 0))
        pixel = torch.stack([(at[:, 2] + 0.5) / width * 2 - 1, (at[:, 1] + 0.5) / height * 2 - 1], 1).double()
        place = torch.cat([pixel, torch.ones_like(pixel[:, :1])], 1)
        # A line of the picture for each edge, and one where the triangle meets the near plane.
        flat = corners[..., [0, 1, 3]]
        lines = torch.stack([torch.linalg.cross(flat[:, i], flat[:, (i + 1) % 3]) for i in range(3)], 1)
        near = corners[..., 2] + corners[..., 3]
        lines = torch.cat([lines, (lines[:, [1, 2, 0]] * near[..., None]).sum(1, keepdim=True)], 1)
        steps = lines[..., :2].abs() * torch.tensor([2 / width, 2 / height], device=lines.device)
        distance = ((lines * place[:, None]).sum(2).abs() / steps.norm(dim=2).clamp_min(1e-300)).amin(1)
        clear[tuple(at.T)] &= distance > 3 / 16
    behind = ours[..., 2] - theirs[..., 2]
    clear &= (a == 0) | (b == 0) | (behind.abs() > 1e-5)
    return share(clear), share(clear & (((a > 0) & (b > 0) & (behind > 0)) | (a == 0)))


@case("nvdiffrast")
def rasterization(setting: Setting) -> Iterator[Finding]:
    """The parity check's measures, and depth; then values interpolated over their own picture."""
    clip, f, size, said = _scene(setting)
    module = setting.modules["nvdiffrast"]
    kind = said.split(": ")[1].split(",")[0]
    theirs, _ = module.rasterize(_context(setting), clip, f, size)
    ours = raster.rasterize(clip, f, size)
    a, b = ours[..., 3].round(), theirs[..., 3].round()
    yield Finding(
        said,
        f"coverage apart, {kind}",
        share((a > 0) != (b > 0)),
        float("inf") if kind.startswith("through") else 0.001,
    )
    yield Finding(said, f"triangle apart, {kind}", share(a != b), float("inf") if kind.startswith("through") else 0.01)
    clear, ours_hidden = _unexplained(clip, f, ours, theirs)
    yield Finding(said, f"triangle apart far from edges, at another depth, {kind}", clear, float("inf"))
    yield Finding(said, f"of these ours is the farther one, {kind}", ours_hidden, 0)
    for who, rast in (("ours", ours), ("theirs", theirs)):
        limit = 2e-6 if who == "ours" else float("inf")
        yield Finding(said, f"{who}: depth beyond that of its corners, {kind}", _depth_beyond(clip, f, rast), limit)
    both = (a == b) & (a > 0)
    gap = (ours[..., :2] - theirs[..., :2]).abs().amax(-1)[both]
    yield Finding(said, f"u, v beyond 1e-3, {kind}", share(gap > 1e-3), 0.002)
    gap = (ours[..., 2] - theirs[..., 2]).abs()[both]
    yield Finding(
        said, f"depth beyond 1e-4, {kind}", share(gap > 1e-4), float("inf")
    )  # of triangles seen from the side
    values = setting.tensor(setting.random.normal(size=(clip.shape[0], clip.shape[1], 5)).astype(np.float32))
    drawn, _ = module.interpolate(values, theirs.contiguous(), f)
    own = raster.interpolate(values, theirs.contiguous(), f)
    yield Finding(said, "interpolated values over one picture", float((drawn - own).abs().max()), 1e-4)


@case("nvdiffrast", share=0.5)
def layers(setting: Setting) -> Iterator[Finding]:
    """Depth peeling: the second and third layer."""
    clip, f, size, said = _scene(setting)
    if "camera" in said:
        return
    kind = said.split(": ")[1].split(",")[0]
    with setting.modules["nvdiffrast"].DepthPeeler(_context(setting), clip, f, size) as peeler:
        theirs = [peeler.rasterize_next_layer()[0] for _ in range(3)]
    ours = []
    for layer in raster.depth_layers(clip, f, size, max_layers=3):
        ours.append(layer)
    for depth in range(1, 3):
        known = theirs[depth][..., 3].round()
        own = ours[depth][..., 3].round() if depth < len(ours) else torch.zeros_like(known)
        yield Finding(said, f"layer {depth + 1}, triangle apart, {kind}", share(own != known), 0.01)


@case("nvdiffrast")
def textures(setting: Setting) -> Iterator[Finding]:
    """Filters and borders."""
    height, width = (int(2 ** setting.random.integers(0, 8)) for _ in range(2))
    channels = int(setting.one_of(1, 3, 4))
    image = setting.tensor(setting.random.random((height, width, channels)).astype(np.float32))
    uv = setting.tensor(setting.random.normal(size=(40, 50, 2)).astype(np.float32)) * 0.6 + 0.5
    if setting.chance(0.3):
        uv = (uv * 8).round() / 8
    lod = setting.tensor(setting.random.uniform(-1, 9, (40, 50)).astype(np.float32))
    module = setting.modules["nvdiffrast"]
    said = f"seed {setting.seed}: {height} x {width} x {channels}"
    for wrap, border in (("repeat", "wrap"), ("clamp", "clamp")):
        for own, theirs in (("nearest", "nearest"), ("linear", "linear")):
            known = module.texture(image[None], uv[None], filter_mode=theirs, boundary_mode=border)[0]
            ours = raster.sample_texture(image[None], uv[None], filter=own, wrap=wrap)[0]
            gap = (ours - known).abs().amax(-1)
            yield Finding(said, f"{own}, {wrap}, share beyond 1e-3", share(gap > 1e-3), 0.005)
        known = module.texture(
            image[None], uv[None], mip_level_bias=lod[None], filter_mode="linear-mipmap-linear", boundary_mode=border
        )[0]
        ours = raster.sample_texture(image[None], uv[None], filter="mip", wrap=wrap, lod=lod[None])[0]
        gap = (ours - known).abs().amax(-1)
        yield Finding(said, f"mip, {wrap}, share beyond 2e-3", share(gap > 2e-3), 0.005)


@case("nvdiffrast")
def picture_chain(setting: Setting) -> Iterator[Finding]:
    """What renderers call of nvdiffrast, beside trellis_compat: derivatives, mips by them, silhouettes, gradients."""
    from trellis_compat.modules.nvdiffrast import torch as compat

    clip, f, size, said = _scene(setting)
    if "camera" in said:
        return
    kind, module = said.split(": ")[1].split(",")[0], setting.modules["nvdiffrast"]
    rast, rast_db = module.rasterize(_context(setting), clip, f, size)
    _, own_db = compat.rasterize(compat.RasterizeCudaContext(device=setting.device), clip, f, size)
    same = (rast[..., 3] > 0) & (
        rast[..., 3] == compat.rasterize(compat.RasterizeCudaContext(), clip, f, size)[0][..., 3]
    )

    def beyond(ours: torch.Tensor, theirs: torch.Tensor, limit: float, where: torch.Tensor | None = None) -> float:
        gap = (ours - theirs).abs().amax(-1) / theirs.abs().amax().clamp_min(1)
        return share((gap if where is None else gap[where]) > limit)

    database = torch.as_tensor(own_db[...])
    # Weights that go from none to all within a pixel are those of slivers, where theirs cancel in float32.
    same &= rast_db.abs().amax(-1) < 1
    yield Finding(said, f"rast_db, share beyond 1e-3, {kind}", beyond(database, rast_db, 1e-3, same), 0.001)
    values = setting.tensor(setting.random.random((clip.shape[0], clip.shape[1], 2)).astype(np.float32))
    back = setting.tensor(setting.random.normal(size=(*rast.shape[:3], 2)).astype(np.float32))
    found = []
    for who in (compat, module):
        leaf = values.clone().requires_grad_()
        drawn, drawn_da = who.interpolate(leaf, rast, f, rast_db=rast_db, diff_attrs="all")
        (drawn * back).sum().backward()
        found.append((drawn.detach(), torch.as_tensor(drawn_da).detach(), leaf.grad))
    (uv, uv_da, grad), (their_uv, their_da, their_grad) = found
    yield Finding(said, "interpolate", float((uv - their_uv).abs().max()), 1e-5)
    yield Finding(said, "interpolate, derivatives, share beyond 1e-4", beyond(uv_da, their_da, 1e-4), 0.001)
    assert grad is not None and their_grad is not None
    gap = float((grad - their_grad).norm() / their_grad.norm().clamp_min(1e-12))
    yield Finding(said, "interpolate, gradient of attributes", gap, 1e-4)

    image = setting.tensor(setting.random.random((1, 64, 32, 3)).astype(np.float32))
    for mode in ("linear-mipmap-linear", "linear-mipmap-nearest"):
        for border in ("wrap", "clamp", "zero"):
            looked = [
                w.texture(image, their_uv, their_da, filter_mode=mode, boundary_mode=border) for w in (compat, module)
            ]
            yield Finding(said, f"{mode}, {border}, share beyond 1e-2", beyond(*looked, 1e-2), 0.02)

    color = setting.tensor(setting.random.random((*rast.shape[:3], 3)).astype(np.float32))
    seed, smoothed = setting.tensor(setting.random.normal(size=tuple(color.shape)).astype(np.float32)), []
    for who in (compat, module):
        leaf = color.clone().requires_grad_()
        out = who.antialias(leaf, rast, clip, f)
        (out * seed).sum().backward()
        assert leaf.grad is not None
        smoothed.append((out.detach(), leaf.grad))
    (out, grad), (their_out, their_grad) = smoothed
    yield Finding(said, f"antialias, share beyond 1e-2, {kind}", beyond(out, their_out, 1e-2), 0.05)
    yield Finding(
        said, f"antialias, gradient of colours, share beyond 1e-2, {kind}", beyond(grad, their_grad, 1e-2), 0.08
    )
    changed = share((their_out - color).abs().amax(-1) > 1e-2)
    yield Finding(said, f"antialias: pixels that theirs changes, {kind}", changed, float("inf"))
