"""Rasterisation and interpolation: argument checks, operators, gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from trellis_native import check

from ._library import EXTENSION, MAX_FACES, MAX_SIDE, OPS, aligned, scratch


@OPS.define(
    "rasterize(Tensor clip, Tensor faces, SymInt height, SymInt width, int subpixel_bits, Tensor? previous) -> Tensor"
)
def _rasterize(
    clip: torch.Tensor, faces: torch.Tensor, height: int, width: int, subpixel_bits: int, previous: torch.Tensor | None
) -> torch.Tensor:
    batch, vertices, _ = clip.shape
    rast = clip.new_empty((batch, height, width, 4))
    clip, previous = aligned(clip), None if previous is None else aligned(previous)
    memory = scratch("rasterize", len(faces), height, width, device=clip.device)
    EXTENSION.call(
        "rasterize",
        *(clip, faces, batch, vertices, len(faces), height, width, subpixel_bits, previous, memory, rast),
        device=clip.device,
    )
    return rast


@OPS.fake("rasterize")
def _(
    clip: torch.Tensor, faces: torch.Tensor, height: int, width: int, subpixel_bits: int, previous: torch.Tensor | None
) -> torch.Tensor:
    return clip.new_empty((clip.shape[0], height, width, 4))


def rasterize(
    clip: torch.Tensor,
    faces: torch.Tensor,
    resolution: tuple[int, int],
    *,
    peel: torch.Tensor | None = None,
    subpixel_bits: int = 4,
) -> torch.Tensor:
    """The nearest face at each pixel centre.

    Args:
        clip: float32 [B, V, 4], homogeneous clip-space positions (x, y, z, w). A face with a vertex that is not
            finite, or zero in all four, is left out.
        faces: int32 or int64 [F, 3], at most 16,777,215 faces. Both orientations are drawn. An index that names no
            vertex is an error on the CPU; on CUDA, where looking would wait for the device, its face is left out.
        resolution: (H, W) in pixels, each at most 32,768.
        peel: a result of this function for the same mesh (float32 [B, H, W, 4]); each pixel then shows what lies
            next behind it: the fragment that follows it in order of depth, then face.
        subpixel_bits: 4 to 8. Projected vertices are rounded to multiples of 2^-subpixel_bits pixel, ties to even,
            before coverage is decided; 4 gives the coverage of the CUDA rasterisers that assets are usually baked with.

    Returns:
        float32 [B, H, W, 4] = (u, v, z/w, face + 1), all 0 where no face is seen. u and v are the perspective-correct
        weights of the face's vertices 0 and 1. Row 0 is at y = -1 and column 0 at x = -1; pixel (i, j) is sampled at
        its centre. Centres on a shared edge belong to one face (top-left rule, row 0 being the top). What is seen
        has w > 0 and z/w in [-1, 1]; the smallest z/w wins, the lower face where two are equal.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than stated.

    Source: edge functions of Pineda, SIGGRAPH 1988, over integers; clipping of Sutherland and Hodgman, CACM 1974;
        depth peeling after Everitt, Interactive order-independent transparency, 2001. No gradient.
    """
    clip = check.tensor("clip", clip, dtype=torch.float32, shape=["B", "V", 4])
    faces = _check_faces(faces, clip, clip.shape[1])
    if not isinstance(resolution, (tuple, list)) or len(resolution) != 2:
        raise TypeError(f"resolution: expected (height, width), got {resolution!r}")
    height = check.positive_int("resolution[0]", resolution[0], maximum=MAX_SIDE)
    width = check.positive_int("resolution[1]", resolution[1], maximum=MAX_SIDE)
    subpixel_bits = check.positive_int("subpixel_bits", subpixel_bits, minimum=4, maximum=8)
    if peel is not None:
        peel = check.tensor(
            "peel", peel, dtype=torch.float32, shape=[clip.shape[0], height, width, 4], like=clip
        ).detach()
    if torch.is_grad_enabled() and clip.requires_grad:
        raise ValueError("clip: requires a gradient, but rasterisation has none; pass clip.detach()")
    result: torch.Tensor = _rasterize(clip, faces, height, width, subpixel_bits, peel)
    return result


def depth_layers(
    clip: torch.Tensor,
    faces: torch.Tensor,
    resolution: tuple[int, int],
    *,
    max_layers: int | None = None,
    subpixel_bits: int = 4,
) -> Iterator[torch.Tensor]:
    """The layers of a mesh from front to back, each as `rasterize` returns it, until one is empty.

    Args:
        max_layers: stop after so many; None for all. The rest as for `rasterize`.
    """
    if max_layers is not None:
        max_layers = check.positive_int("max_layers", max_layers)
    layer: torch.Tensor | None = None
    count = 0
    while max_layers is None or count < max_layers:
        layer = rasterize(clip, faces, resolution, peel=layer, subpixel_bits=subpixel_bits)
        if not bool((layer[..., 3] > 0).any()):
            return
        yield layer
        count += 1


def _interpolated(attrs: torch.Tensor, rast: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    batch, height, width, _ = rast.shape
    attr_batch, vertices, channels = attrs.shape
    out = attrs.new_empty((batch, height, width, channels))
    EXTENSION.call(
        "interpolate",
        *(attrs, rast, faces, attr_batch, batch, height * width, vertices, len(faces), channels, out),
        device=attrs.device,
    )
    return out


_interpolate = OPS.define("interpolate(Tensor attrs, Tensor rast, Tensor faces) -> Tensor")(_interpolated)
# The same without a gradient: the way through autograd takes longer than the kernel.
_interpolate_values = OPS.define("interpolate_values(Tensor attrs, Tensor rast, Tensor faces) -> Tensor")(_interpolated)


@OPS.fake("interpolate")
@OPS.fake("interpolate_values")
def _(attrs: torch.Tensor, rast: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    return attrs.new_empty((*rast.shape[:3], attrs.shape[2]))


@OPS.define(
    "interpolate_backward(Tensor grad, Tensor rast, Tensor faces, SymInt attr_batch, SymInt num_vertices) -> Tensor"
)
def _interpolate_backward(
    grad: torch.Tensor, rast: torch.Tensor, faces: torch.Tensor, attr_batch: int, num_vertices: int
) -> torch.Tensor:
    batch, height, width, channels = grad.shape
    out = grad.new_empty((attr_batch, num_vertices, channels))
    pixels = height * width
    lists = _pixels_and_corners(rast, faces, num_vertices) if grad.is_cuda else (None,) * 4
    sizes = (attr_batch, batch, pixels, num_vertices, len(faces), channels)
    EXTENSION.call("interpolate_backward", grad.contiguous(), rast, faces, *lists, *sizes, out, device=grad.device)
    return out


def _pixels_and_corners(rast: torch.Tensor, faces: torch.Tensor, num_vertices: int) -> tuple[torch.Tensor, ...]:
    """Pixels by face for each image and corners by vertex, as the header of the native function states."""
    count = len(faces)
    face = rast[..., 3].flatten(1)
    named = torch.where((face >= 1) & (face <= count), face - 1, count).to(torch.int32)
    sorted_faces, pixel_order = torch.sort(named, dim=1, stable=True)
    numbers = torch.arange(count + 1, dtype=torch.int32, device=rast.device).expand(len(rast), -1).contiguous()
    face_begin = torch.searchsorted(sorted_faces, numbers)
    owners, corner_order = torch.sort(faces.view(-1), stable=True)
    vertices = torch.arange(num_vertices + 1, dtype=torch.int32, device=rast.device)
    return pixel_order, face_begin, corner_order, torch.searchsorted(owners, vertices)


@OPS.fake("interpolate_backward")
def _(grad: torch.Tensor, rast: torch.Tensor, faces: torch.Tensor, attr_batch: int, num_vertices: int) -> torch.Tensor:
    return grad.new_empty((attr_batch, num_vertices, grad.shape[3]))


def _interpolate_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    attrs, rast, faces = inputs
    ctx.save_for_backward(rast, faces)
    ctx.attr_batch, ctx.num_vertices = attrs.shape[:2]


def _interpolate_gradient(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    rast, faces = ctx.saved_tensors
    return _interpolate_backward(grad, rast, faces, ctx.attr_batch, ctx.num_vertices), None, None


OPS.autograd("interpolate", _interpolate_gradient, setup_context=_interpolate_context)


def interpolate(attrs: torch.Tensor, rast: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Vertex attributes at each pixel: u a0 + v a1 + (1 - u - v) a2.

    Args:
        attrs: float32 [B, V, C], or [1, V, C] shared by all images. Has a gradient, summed in a fixed order.
        rast: float32 [B, H, W, 4] as `rasterize` returns it. Has no gradient.
        faces: the faces it was rasterised with, int32 or int64 [F, 3].

    Returns:
        float32 [B, H, W, C], 0 where rast is empty.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than stated; on the CPU also a
            rast that names a face beyond F, or a face that names a vertex beyond V (on CUDA, where looking would wait
            for the device, such a pixel is 0).
    """
    attrs = check.tensor("attrs", attrs, dtype=torch.float32, shape=["B", "V", "C"])
    rast = check.tensor("rast", rast, dtype=torch.float32, shape=["B", "H", "W", 4], like=attrs)
    if attrs.shape[0] not in (1, rast.shape[0]):
        raise ValueError(f"attrs: expected a batch of 1 or {rast.shape[0]} like rast, got {attrs.shape[0]}")
    faces = _check_faces(faces, attrs, attrs.shape[1])
    if torch.is_grad_enabled() and rast.requires_grad:
        raise ValueError("rast: requires a gradient, but interpolation has one for attrs alone; pass rast.detach()")
    differentiable = torch.is_grad_enabled() and attrs.requires_grad
    result: torch.Tensor = (_interpolate if differentiable else _interpolate_values)(attrs, rast, faces)
    return result


def _check_faces(faces: torch.Tensor, like: torch.Tensor, num_vertices: int) -> torch.Tensor:
    faces = check.tensor("faces", faces, dtype=[torch.int32, torch.int64], shape=["F", 3], like=like)
    if len(faces) > MAX_FACES:
        raise ValueError(f"faces: expected at most {MAX_FACES} (their numbers are kept in float32), got {len(faces)}")
    if faces.numel() and not faces.is_cuda:  # looking would wait for the device
        low, high = (int(x) for x in torch.aminmax(faces))
        if low < 0 or high >= num_vertices:
            raise ValueError(f"faces: expected vertex indices in [0, {num_vertices}), got {low} to {high}")
    return faces.to(torch.int32)
