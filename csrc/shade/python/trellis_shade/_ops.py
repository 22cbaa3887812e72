"""The native operations as torch operators; their arguments are checked by the classes and functions that call them."""

from __future__ import annotations

import ctypes

import torch

from ._library import EXTENSION, OPS


@OPS.define("latlong_to_cube(Tensor latlong, int side) -> Tensor")
def latlong_to_cube(latlong: torch.Tensor, side: int) -> torch.Tensor:
    cube = latlong.new_empty((6, side, side, 3))
    EXTENSION.call("latlong_to_cube", latlong, *latlong.shape[:2], side, cube, device=latlong.device)
    return cube


@OPS.fake("latlong_to_cube")
def _(latlong: torch.Tensor, side: int) -> torch.Tensor:
    return latlong.new_empty((6, side, side, 3))


@OPS.define("halve_cube(Tensor cube) -> Tensor")
def halve_cube(cube: torch.Tensor) -> torch.Tensor:
    side = cube.shape[1]
    half = cube.new_empty((6, side // 2, side // 2, 3))
    EXTENSION.call("halve_cube", cube, side, half, device=cube.device)
    return half


@OPS.fake("halve_cube")
def _(cube: torch.Tensor) -> torch.Tensor:
    return cube.new_empty((6, cube.shape[1] // 2, cube.shape[1] // 2, 3))


@OPS.define("lobe(Tensor like, float roughness, int samples, int side) -> Tensor")
def lobe(like: torch.Tensor, roughness: float, samples: int, side: int) -> torch.Tensor:
    out = like.new_empty((samples, 5), dtype=torch.float32)
    EXTENSION.call("lobe", roughness, samples, side, out, device=like.device)
    return out


@OPS.fake("lobe")
def _(like: torch.Tensor, roughness: float, samples: int, side: int) -> torch.Tensor:
    return like.new_empty((samples, 5), dtype=torch.float32)


@OPS.define("prefilter(Tensor pyramid, int side, int levels, Tensor lobe, int out_side) -> Tensor")
def prefilter(pyramid: torch.Tensor, side: int, levels: int, lobe: torch.Tensor, out_side: int) -> torch.Tensor:
    out = pyramid.new_empty((6, out_side, out_side, 3))
    EXTENSION.call("prefilter", pyramid, side, levels, lobe, len(lobe), out_side, out, device=pyramid.device)
    return out


@OPS.fake("prefilter")
def _(pyramid: torch.Tensor, side: int, levels: int, lobe: torch.Tensor, out_side: int) -> torch.Tensor:
    return pyramid.new_empty((6, out_side, out_side, 3))


@OPS.define("irradiance(Tensor cube, int out_side) -> Tensor")
def irradiance(cube: torch.Tensor, out_side: int) -> torch.Tensor:
    out = cube.new_empty((6, out_side, out_side, 3))
    EXTENSION.call("irradiance", cube, cube.shape[1], out_side, out, device=cube.device)
    return out


@OPS.fake("irradiance")
def _(cube: torch.Tensor, out_side: int) -> torch.Tensor:
    return cube.new_empty((6, out_side, out_side, 3))


@OPS.define("brdf_table(Tensor like, int side) -> Tensor")
def brdf_table(like: torch.Tensor, side: int) -> torch.Tensor:
    table = like.new_empty((side, side, 2), dtype=torch.float32)
    EXTENSION.call("brdf_table", side, table, device=like.device)
    return table


@OPS.fake("brdf_table")
def _(like: torch.Tensor, side: int) -> torch.Tensor:
    return like.new_empty((side, side, 2), dtype=torch.float32)


@OPS.define("sample_cube(Tensor pyramid, int side, int levels, Tensor directions, Tensor? level) -> Tensor")
def sample_cube(
    pyramid: torch.Tensor, side: int, levels: int, directions: torch.Tensor, level: torch.Tensor | None
) -> torch.Tensor:
    out = torch.empty_like(directions)
    EXTENSION.call(
        "sample_cube", pyramid, side, levels, directions, level, len(directions), out, device=directions.device
    )
    return out


@OPS.fake("sample_cube")
def _(
    pyramid: torch.Tensor, side: int, levels: int, directions: torch.Tensor, level: torch.Tensor | None
) -> torch.Tensor:
    return torch.empty_like(directions)


@OPS.define(
    "shade(Tensor specular, int side, int levels, Tensor diffuse, Tensor table, float[] to_light, Tensor position, "
    "Tensor normal, Tensor base_color, Tensor metallic, Tensor roughness, Tensor view) -> Tensor"
)
def shade(
    specular: torch.Tensor,
    side: int,
    levels: int,
    diffuse: torch.Tensor,
    table: torch.Tensor,
    to_light: list[float],
    position: torch.Tensor,
    normal: torch.Tensor,
    base_color: torch.Tensor,
    metallic: torch.Tensor,
    roughness: torch.Tensor,
    view: torch.Tensor,
) -> torch.Tensor:
    out = torch.empty_like(position)
    EXTENSION.call(
        "shade",
        *(specular, side, levels, diffuse, diffuse.shape[1], table, len(table), (ctypes.c_float * 9)(*to_light)),
        *(position, normal, base_color, metallic, roughness, view, int(view.dim() == 1), len(position), out),
        device=position.device,
    )
    return out


@OPS.fake("shade")
def _(
    specular: torch.Tensor,
    side: int,
    levels: int,
    diffuse: torch.Tensor,
    table: torch.Tensor,
    to_light: list[float],
    position: torch.Tensor,
    normal: torch.Tensor,
    base_color: torch.Tensor,
    metallic: torch.Tensor,
    roughness: torch.Tensor,
    view: torch.Tensor,
) -> torch.Tensor:
    return torch.empty_like(position)
