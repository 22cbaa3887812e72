"""Pictures of GLB files from fixed cameras, by our own rasteriser and shading: for eyes and for image gates alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trellis_raster as raster
import trellis_shade as shade
from PIL import Image, ImageDraw

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
        materials: list[Material] = []
        for part in parts:
            if not any(part.material is m for m in materials):
                materials.append(part.material)
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
        self._normals = joined([p.normals for p in parts], 3, 0.0)
        self._colors = joined([p.colors for p in parts], 4, 1.0)
        self._faces = torch.cat([_there(p.faces, device) + o for p, o in zip(parts, offsets[:-1], strict=True)])
        index = [next(i for i, m in enumerate(materials) if m is p.material) for p in parts]
        self._material_of_face = torch.cat([
            torch.full((len(p.faces),), i, device=device) for p, i in zip(parts, index, strict=True)
        ])  # fmt: skip
        self._uv = {s: joined([p.uvs.get(s) for p in parts], 2, 0.0) for s in uv_sets}
        self._images = images or (lambda t: _there(t.image, device))
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
        x, y, z = self._positions.unbind(1)
        # Written out: a matrix product rounds in its own way on every device.
        clip = torch.stack([x * a + y * b + (z * c + d) for a, b, c, d in matrix.tolist()], 1)[None]
        faces, material_of_face = self._faces, self._material_of_face
        if not self._all_double_sided:
            kept = self._facing(eye)
            faces, material_of_face = faces[kept].contiguous(), material_of_face[kept]
        colours = [torch.zeros(fine, fine, 3, device=clip.device) for _ in modes]
        through = torch.ones(fine, fine, 1, device=clip.device)
        opaque = all(m.alpha_mode == "OPAQUE" for m in self._materials)
        rast = None
        for _ in range(1 if opaque else _LAYERS):
            rast = raster.rasterize(clip, faces, (fine, fine), peel=rast)
            hit = rast[0, ..., 3] > 0
            if not bool(hit.any()):
                break
            shown, alpha = self._shade(rast, faces, material_of_face, eye, modes)
            for colour, layer in zip(colours, shown, strict=True):
                colour += through * alpha * layer
            through = through * (1 - alpha)
        background = through * torch.tensor(_BACKGROUND, device=clip.device)
        pictures = []
        for colour in colours:
            whole = torch.cat([colour + background, 1 - through], 2)
            whole = whole.view(size, _SUPERSAMPLE, size, _SUPERSAMPLE, 4).mean((1, 3))
            pictures.append(Picture((whole[..., :3].clamp(0, 1) * 255).round().to(torch.uint8), whole[..., 3]))
        return pictures

    def _facing(self, eye: torch.Tensor) -> torch.Tensor:
        p = self._positions[self._faces.long()]
        normal = torch.linalg.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        towards: torch.Tensor = (normal * (eye - p[:, 0])).sum(1) > 0
        return self._double_sided_face | towards

    def _shade(
        self, rast: torch.Tensor, faces: torch.Tensor, material_of_face: torch.Tensor, eye: torch.Tensor,
        modes: Sequence[str],
    ) -> tuple[list[torch.Tensor], torch.Tensor]:  # fmt: skip
        """Display colour [H, W, 3] in each mode, and coverage [H, W, 1], of one layer."""

        def at(values: torch.Tensor) -> torch.Tensor:
            return raster.interpolate(values[None].contiguous(), rast, faces)[0]

        face = rast[0, ..., 3].long() - 1
        hit = face >= 0
        material = torch.where(hit, material_of_face[face.clamp_min(0)], -1)
        position, normal = at(self._positions), torch.nn.functional.normalize(at(self._normals), dim=-1)
        normal = torch.where(((eye - position) * normal).sum(-1, keepdim=True) < 0, -normal, normal)
        uvs = {s: at(uv) for s, uv in self._uv.items()}
        base, metallic, roughness, emissive, occlusion = self._surface(material, uvs, at(self._colors))
        alpha = base[..., 3:] * hit[..., None]
        for i, m in enumerate(self._materials):
            mine = (material == i)[..., None]
            if m.alpha_mode == "OPAQUE":
                alpha = torch.where(mine, hit[..., None].float(), alpha)
            elif m.alpha_mode == "MASK":
                alpha = torch.where(mine, (alpha >= m.alpha_cutoff).float(), alpha)
        shown = []
        for mode in modes:
            if mode == "normal":
                shown.append(normal / 2 + 0.5)
            elif mode == "base_color":
                shown.append(shade.linear_to_srgb(base[..., :3]))
            else:
                assert self._light is not None  # draw_modes() has checked
                lit = (
                    self._light.shade(position, normal, base[..., :3].contiguous(), metallic, roughness, eye)
                    * occlusion
                    + emissive
                )
                shown.append(shade.linear_to_srgb(shade.tonemap(lit)))
        return shown, alpha

    def _surface(
        self, material: torch.Tensor, uvs: dict[int, torch.Tensor], vertex_color: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Linear base colour [H, W, 4], metallic, roughness [H, W, 1], emissive [H, W, 3] and occlusion [H, W, 1]."""
        shape = (*material.shape, 1)
        base, emissive = vertex_color.clone(), torch.zeros(*material.shape, 3, device=material.device)
        metallic, roughness, occlusion = (torch.ones(shape, device=material.device) for _ in range(3))
        for i, m in enumerate(self._materials):
            mine = (material.view(-1) == i).nonzero()[:, 0]  # pixels, by number
            if not len(mine):
                continue

            def look_up(name: str, m: Material = m, mine: torch.Tensor = mine) -> torch.Tensor | None:
                texture = m.textures.get(name)
                return None if texture is None else self._sample(texture, _pixels(uvs[texture.uv_set])[mine])

            def put(into: torch.Tensor, values: torch.Tensor, mine: torch.Tensor = mine) -> None:
                _pixels(into)[mine] = values

            factor = torch.tensor(m.base_color, device=base.device)
            colour = _pixels(base)[mine] * factor
            if (t := look_up("baseColorTexture")) is not None:
                colour = colour * torch.cat([shade.srgb_to_linear(t[:, :3]), t[:, 3:]], 1)
            put(base, colour)
            one = torch.ones(1, 1, device=base.device)
            surface = look_up("metallicRoughnessTexture")
            put(roughness, m.roughness * (surface[:, 1:2] if surface is not None else one))
            put(metallic, m.metallic * (surface[:, 2:3] if surface is not None else one))
            if (t := look_up("occlusionTexture")) is not None:
                put(occlusion, t[:, :1])
            glow = torch.tensor(m.emissive, device=base.device).expand(len(mine), 3)
            if (t := look_up("emissiveTexture")) is not None:
                glow = glow * shade.srgb_to_linear(t[:, :3])
            put(emissive, glow)
        return base, metallic, roughness, emissive, occlusion

    def _sample(self, texture: Texture, uv: torch.Tensor) -> torch.Tensor:
        """Texels [N, 4] in [0, 1] at uv [N, 2]."""
        (a, b, c), (d, e, f) = texture.transform.tolist()
        u, v = uv.unbind(1)
        folded = [_fold(x, texture.wrap[k]) for k, x in enumerate((u * a + v * b + c, u * d + v * e + f))]
        key = id(texture.image)
        if key not in self._sent:
            self._sent[key] = self._images(texture)
        return _bilinear(self._sent[key], *folded)


def _pixels(picture: torch.Tensor) -> torch.Tensor:
    """[H, W, C] as [H W, C]."""
    return picture.view(-1, picture.shape[-1])


def _bilinear(image: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """What `trellis_raster.sample_texture` gives with wrap "clamp", float32 [N, 4] in [0, 1] at u, v [N] in [0, 1], of an
    image that stays uint8 [H, W, 4]: of a large one few texels are looked at."""
    height, width = image.shape[:2]
    x, y = (t.nan_to_num(0.0, 0.0, 0.0).double() * n - 0.5 for t, n in ((u, width), (v, height)))
    left, top = x.floor(), y.floor()
    ax, ay = (x - left).float()[:, None], (y - top).float()[:, None]

    texels = image.view(torch.int32).view(-1)  # four bytes are moved as one

    def at(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        texel = row.long().clamp(0, height - 1) * width + column.long().clamp(0, width - 1)
        return texels[texel].view(torch.uint8).view(-1, 4).float()

    above = at(top, left) * (1 - ax) + at(top, left + 1) * ax
    below = at(top + 1, left) * (1 - ax) + at(top + 1, left + 1) * ax
    return (above * (1 - ay) + below * ay) / 255


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
