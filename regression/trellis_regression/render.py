"""Pictures of GLB files from fixed cameras, by our own rasteriser and shading: for eyes and for image gates alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_raster as raster
import trellis_shade as shade
from PIL import Image

from .glb import check_geometry, read_glb
from .scene import Frame, Material, Part, Texture, frame_of, load_parts

MODES = ("shaded", "base_color", "normal")

# How many surfaces deep a picture looks through cut-outs and glass.
_LAYERS = 6
_SUPERSAMPLE = 2
_FIELD_OF_VIEW = math.radians(30)
_BACKGROUND = (0.24, 0.25, 0.28)
NOTHING = tuple(round(255 * x) for x in _BACKGROUND)
"""A pixel of a picture where there is no surface."""


@dataclass(frozen=True)
class Picture:
    """One view: rgb uint8 [H, W, 3] over the neutral background, and the share of each pixel that is covered, [H, W]."""

    rgb: torch.Tensor
    coverage: torch.Tensor


def _there(values: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """An array on a device; a copy where it is read-only, as torch wants none of those."""
    return torch.from_numpy(np.ascontiguousarray(values) if values.flags.writeable else values.copy()).to(device)


def camera(frame: Frame, azimuth: float, elevation: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip matrix [4, 4] (row 0 of the picture on top) and eye [3], looking at `frame` from the given degrees.

    Azimuth 0 looks at the front of a glTF asset, that is from +z; 90 looks from +x. Elevation 90 looks from above.
    """
    a, e = math.radians(azimuth), math.radians(elevation)
    back = torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)], dtype=torch.float64)
    right = torch.tensor([math.cos(a), 0.0, -math.sin(a)], dtype=torch.float64)
    up = torch.linalg.cross(back, right)
    distance = frame.radius / math.sin(_FIELD_OF_VIEW / 2)
    eye = torch.tensor(frame.centre, dtype=torch.float64) + back * distance
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = torch.stack([right, up, back])
    view[:3, 3] = -view[:3, :3] @ eye
    near, far = distance - frame.radius * 1.01, distance + frame.radius * 1.01
    f = 1 / math.tan(_FIELD_OF_VIEW / 2)
    projection = torch.zeros(4, 4, dtype=torch.float64)
    projection[0, 0], projection[1, 1] = f, -f  # the rasteriser's first row is y = -1, a picture's is the top
    projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1
    return (projection @ view).float(), eye.float()


class Renderer:
    """The parts of one GLB as tensors, ready to be drawn from any side.

    Args:
        parts: what `load_parts` gave.
        light: the environment that lights "shaded" pictures; None if none will be drawn.
        device: where to draw.
        images: gives a texture's image, uint8 [H, W, 4], on the device, for a caller that has them there.
        frame: what the camera frames; None for the parts themselves.
    """

    def __init__(
        self, parts: Sequence[Part], light: shade.EnvironmentLight | None, device: torch.device | str = "cpu",
        images: Callable[[Texture], torch.Tensor] | None = None, frame: Frame | None = None,
    ) -> None:  # fmt: skip
        self._light = light
        self.frame = frame or frame_of(parts)
        numbers: dict[int, int] = {}  # of the materials, by identity
        index = [numbers.setdefault(id(p.material), len(numbers)) for p in parts]
        materials = list({id(p.material): p.material for p in parts}.values())
        self._materials = materials
        offsets = np.cumsum([0] + [len(p.positions) for p in parts]).tolist()
        uv_sets = sorted({t.uv_set for m in materials for t in m.textures.values()})

        def joined(arrays: Sequence[np.ndarray | None], width: int, default: float) -> torch.Tensor:
            """An attribute of all vertices; the default where a part has none."""
            return torch.cat([
                torch.full((len(p.positions), width), default, device=device) if values is None else _there(values, device)
                for p, values in zip(parts, arrays, strict=True)
            ])  # fmt: skip

        self._positions = joined([p.positions for p in parts], 3, 0.0)
        self._columns = [column.contiguous() for column in self._positions.unbind(1)]
        self._normals = joined([p.normals for p in parts], 3, 0.0)
        self._colors = joined([p.colors for p in parts], 4, 1.0)
        self._faces = torch.cat([_there(p.faces, device) + o for p, o in zip(parts, offsets[:-1], strict=True)])
        self._material_of_face = torch.cat([
            torch.full((len(p.faces),), i, device=device) for p, i in zip(parts, index, strict=True)
        ])  # fmt: skip
        self._uv = {s: joined([p.uvs.get(s) for p in parts], 2, 0.0) for s in uv_sets}
        self._images = images or (lambda t: _there(np.asarray(t.image), device))
        self._sent: dict[int, torch.Tensor] = {}
        sided = torch.tensor([m.double_sided for m in materials], device=device)
        self._all_double_sided = bool(sided.all())
        self._double_sided_face = sided[self._material_of_face]

    def draw(self, azimuth: float, elevation: float, size: int, mode: str = "shaded") -> Picture:
        """A picture of `size`^2 pixels of the asset from one side.

        Single-sided faces seen from behind are not drawn, as glTF demands: an asset with flipped faces shows holes.
        """
        return self.draw_modes(azimuth, elevation, size, (mode,))[0]

    def draw_modes(self, azimuth: float, elevation: float, size: int, modes: Sequence[str]) -> list[Picture]:
        """`draw` in several modes, with the surfaces looked up once."""
        for mode in modes:
            if mode not in MODES:
                raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        if "shaded" in modes and self._light is None:
            raise ValueError("mode: 'shaded' needs a light, and this renderer was made without one")
        fine = size * _SUPERSAMPLE
        matrix, eye = camera(self.frame, azimuth, elevation)
        eye = eye.to(self._positions.device)
        x, y, z = self._columns
        # Written out: a matrix product rounds in its own way on every device.
        clip = torch.stack([x * a + y * b + (z * c + d) for a, b, c, d in matrix.tolist()], 1)[None]
        faces, material_of_face = self._faces, self._material_of_face
        if not self._all_double_sided:
            kept = self._facing(eye)
            faces, material_of_face = faces[kept].contiguous(), material_of_face[kept]
        colours = [torch.zeros(fine * fine, 3, device=clip.device) for _ in modes]
        through = torch.ones(fine * fine, 1, device=clip.device)
        opaque = all(m.alpha_mode == "OPAQUE" for m in self._materials)
        rast = None
        for _ in range(1 if opaque else _LAYERS):
            rast = raster.rasterize(clip, faces, (fine, fine), peel=rast)
            flat = rast.view(-1, 4)
            seen = (flat[:, 3] > 0).nonzero()[:, 0]
            if not len(seen):
                break
            # Only pixels that show something are shaded; a picture may be mostly empty.
            shown, alpha = self._shade(flat[seen][None, None], faces, material_of_face, eye, modes)
            shares = through[seen] * alpha
            for colour, layer in zip(colours, shown, strict=True):
                colour[seen] += shares * layer
            through[seen] *= 1 - alpha
        coverage = _averaged(1 - through, size)
        background = through * torch.tensor(_BACKGROUND, device=clip.device)
        return [
            Picture((_averaged(c + background, size).clamp(0, 1) * 255).round().to(torch.uint8), coverage[..., 0])
            for c in colours
        ]

    def _facing(self, eye: torch.Tensor) -> torch.Tensor:
        p = self._positions[self._faces.long()]
        normal = torch.linalg.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        towards: torch.Tensor = (normal * (eye - p[:, 0])).sum(1) > 0
        return self._double_sided_face | towards

    def _shade(
        self, rast: torch.Tensor, faces: torch.Tensor, material_of_face: torch.Tensor, eye: torch.Tensor,
        modes: Sequence[str],
    ) -> tuple[list[torch.Tensor], torch.Tensor]:  # fmt: skip
        """Display colour [N, 3] in each mode, and coverage [N, 1], of pixels [1, 1, N, 4] that each show a face."""

        def at(values: torch.Tensor) -> torch.Tensor:
            return raster.interpolate(values[None].contiguous(), rast, faces)[0, 0]

        material = None if len(self._materials) == 1 else material_of_face[rast[0, 0, :, 3].long() - 1]
        position, normal = at(self._positions), torch.nn.functional.normalize(at(self._normals), dim=-1)
        normal = torch.where(((eye - position) * normal).sum(-1, keepdim=True) < 0, -normal, normal)
        uvs = {s: at(uv) for s, uv in self._uv.items()}
        base, metallic, roughness, emissive, occlusion = self._surface(material, uvs, at(self._colors))
        alpha = base[:, 3:].clone()
        for i, m in enumerate(self._materials):
            if m.alpha_mode != "BLEND":
                whole = torch.ones_like(alpha) if m.alpha_mode == "OPAQUE" else (alpha >= m.alpha_cutoff).float()
                alpha = whole if material is None else torch.where((material == i)[:, None], whole, alpha)
        shown = []
        for mode in modes:
            if mode == "normal":
                shown.append(normal / 2 + 0.5)
            elif mode == "base_color":
                shown.append(shade.linear_to_srgb(base[:, :3]))
            else:
                assert self._light is not None  # draw_modes() has checked
                lit = (
                    self._light.shade(position, normal, base[:, :3].contiguous(), metallic, roughness, eye) * occlusion
                    + emissive
                )
                shown.append(shade.linear_to_srgb(shade.tonemap(lit)))
        return shown, alpha

    def _surface(
        self, material: torch.Tensor | None, uvs: dict[int, torch.Tensor], vertex_color: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Linear base colour [N, 4], metallic, roughness [N, 1], emissive [N, 3] and occlusion [N, 1].

        Args:
            material: its number at each place, int64 [N]; None where there is only one.
            uvs: [N, 2] of each set.
            vertex_color: [N, 4].
        """
        count, device = len(vertex_color), vertex_color.device
        base, emissive = vertex_color.clone(), torch.zeros(count, 3, device=device)
        metallic, roughness, occlusion = (torch.ones(count, 1, device=device) for _ in range(3))
        for i, m in enumerate(self._materials):
            mine: torch.Tensor | slice = slice(None) if material is None else (material == i).nonzero()[:, 0]
            colour = base[mine]
            if not len(colour):
                continue
            taps: dict[Any, _Taps] = {}

            def look_up(
                name: str, m: Material = m, mine: torch.Tensor | slice = mine, taps: dict[Any, _Taps] = taps
            ) -> torch.Tensor | None:
                texture = m.textures.get(name)
                return None if texture is None else self._sample(texture, uvs[texture.uv_set][mine], taps)

            colour = colour * torch.tensor(m.base_color, device=device)
            if (t := look_up("baseColorTexture")) is not None:
                colour = colour * torch.cat([shade.srgb_to_linear(t[:, :3]), t[:, 3:]], 1)
            base[mine] = colour
            one = torch.ones(1, 1, device=device)
            surface = look_up("metallicRoughnessTexture")
            roughness[mine] = m.roughness * (surface[:, 1:2] if surface is not None else one)
            metallic[mine] = m.metallic * (surface[:, 2:3] if surface is not None else one)
            if (t := look_up("occlusionTexture")) is not None:
                occlusion[mine] = t[:, :1]
            glow = torch.tensor(m.emissive, device=device).expand(len(colour), 3)
            if (t := look_up("emissiveTexture")) is not None:
                glow = glow * shade.srgb_to_linear(t[:, :3])
            emissive[mine] = glow
        return base, metallic, roughness, emissive, occlusion

    def _sample(self, texture: Texture, uv: torch.Tensor, taps: dict[Any, _Taps]) -> torch.Tensor:
        """Texels [N, 4] in [0, 1] at uv [N, 2]; `taps` keeps where they lie, for textures that are looked up alike."""
        rows = texture.transform.tolist()
        (a, b, c), (d, e, f) = rows
        alike = (texture.uv_set, texture.wrap, texture.image.shape[:2], *rows[0], *rows[1])
        if alike not in taps:
            u, v = uv.unbind(1)
            folded = [_fold(x, texture.wrap[k]) for k, x in enumerate((u * a + v * b + c, u * d + v * e + f))]
            taps[alike] = _taps(texture.image.shape[0], texture.image.shape[1], *folded)
        key = id(texture.image)
        if key not in self._sent:
            self._sent[key] = self._images(texture)
        return _bilinear(self._sent[key], taps[alike])


def _averaged(fine: torch.Tensor, size: int) -> torch.Tensor:
    """The means [size, size, C] of the squares of four of pixels [4 size^2, C], added in the same order on any device."""
    a, b, c, d = fine.view(size, _SUPERSAMPLE, size, _SUPERSAMPLE, -1).permute(1, 3, 0, 2, 4).flatten(0, 1)
    mean: torch.Tensor = ((a + b) + (c + d)) / 4
    return mean


@dataclass(frozen=True)
class _Taps:
    """The four texels around each of N places, by number, and how far the place is from the first, [N, 1]."""

    texels: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
    right: torch.Tensor
    down: torch.Tensor


def _taps(height: int, width: int, u: torch.Tensor, v: torch.Tensor) -> _Taps:
    """Of an image, at u, v [N] in [0, 1]; the border repeats."""
    x, y = (t.nan_to_num(0.0, 0.0, 0.0).double() * n - 0.5 for t, n in ((u, width), (v, height)))
    left, top = x.floor(), y.floor()
    columns = [(left + i).long().clamp(0, width - 1) for i in (0, 1)]
    rows = [(top + i).long().clamp(0, height - 1) * width for i in (0, 1)]
    first, second, third, fourth = (row + column for row in rows for column in columns)
    return _Taps((first, second, third, fourth), (x - left).float()[:, None], (y - top).float()[:, None])


def _bilinear(image: torch.Tensor, taps: _Taps) -> torch.Tensor:
    """What `trellis_raster.sample_texture` gives with wrap "clamp", float32 [N, 4] in [0, 1], of an image that stays
    uint8 [H, W, 4]: of a large one few texels are looked at."""
    texels = image.view(torch.int32).view(-1)  # four bytes are moved as one
    a, b, c, d = (texels.index_select(0, t).view(torch.uint8).view(-1, 4).float() for t in taps.texels)
    above = a * (1 - taps.right) + b * taps.right
    below = c * (1 - taps.right) + d * taps.right
    return (above * (1 - taps.down) + below * taps.down) / 255


def _fold(x: torch.Tensor, wrap: str) -> torch.Tensor:
    if wrap == "repeat":
        return x - torch.floor(x)
    if wrap == "mirror":
        return 1 - (x - 2 * torch.floor(x / 2) - 1).abs()
    return x.clamp(0, 1)


def load_environment(path: Path | None, device: torch.device | str = "cpu") -> shade.EnvironmentLight:
    """The studio light, or a lat-long HDR or EXR file."""
    if path is None:
        return shade.EnvironmentLight.studio(device=device)
    return shade.EnvironmentLight.load(path).to(device)


def turntable_sheet(
    paths: Sequence[Path], light: shade.EnvironmentLight, *, views: int = 6, size: int = 384, mode: str = "shaded",
    device: torch.device | str = "cpu",
) -> Image.Image:  # fmt: skip
    """One row of `views` pictures a file, equally spaced around it and seen slightly from above, each row named.

    `light` must be on `device`, where the pictures are drawn.

    Raises:
        GlbError: a file that is not a usable GLB or has no faces.
    """
    from PIL import ImageDraw  # and fonts, which only this wants

    rows = []
    for path in paths:
        glb = read_glb(path)
        check_geometry(glb)
        renderer = Renderer(load_parts(glb), light, device)
        rows.append(torch.cat([renderer.draw(360 * i / views + 30, 20, size, mode).rgb for i in range(views)], 1))
    sheet = Image.fromarray(torch.cat(rows).cpu().numpy())
    draw = ImageDraw.Draw(sheet)
    for i, path in enumerate(paths):
        draw.text((8, i * size + 6), path.name, fill=(220, 220, 228))
    return sheet
