"""Environment lights: made from images, rotated, looked up, and shading surfaces."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import torch
from trellis_native import check

from . import _ops, _procedural
from ._images import read_radiance

_SMALLEST = 8  # side of the roughest level
_TABLE_SIDE = 64
_DIFFUSE_SIDE = 32  # of the irradiance, and of the cube it is taken from

Rotation = tuple[float, float, float, float, float, float, float, float, float]
_NO_ROTATION: Rotation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, repr=False)
class EnvironmentLight:
    """Light from infinitely far, ready for shading by the split-sum approximation.

    World axes: y is up. Cube faces are +x, -x, +y, -y, +z, -z, oriented as in OpenGL. Make one with `from_latlong`,
    `from_cube`, `load`, `studio` or `gradient_sky`.

    Attributes:
        specular: float32 [texels, 3], `levels` cubes of sides `side`, side / 2, ... one after the other: the
            environment seen in mirrors of roughness 0, 1 / (levels - 1), ..., 1.
        diffuse: float32 [6, n, n, 3], irradiance divided by pi.
        table: float32 [m, m, 2], scale and bias of F0 by roughness (rows) and cosine to the viewer (columns), both
            from 0 to 1.
        rotation: how the light was turned: a rotation matrix by rows, from the light's axes to the world's.
    """

    specular: torch.Tensor
    side: int
    levels: int
    diffuse: torch.Tensor
    table: torch.Tensor
    rotation: Rotation = _NO_ROTATION

    def __repr__(self) -> str:
        return (
            f"EnvironmentLight(side={self.side}, levels={self.levels}, device={self.device}, rotation={self.rotation})"
        )

    @property
    def device(self) -> torch.device:
        return self.specular.device

    def to(self, device: torch.device | str) -> EnvironmentLight:
        """The same light on another device."""
        return replace(
            self, specular=self.specular.to(device), diffuse=self.diffuse.to(device), table=self.table.to(device)
        )

    # ---- making one --------------------------------------------------------------------------------------------

    @staticmethod
    def from_latlong(hdr: torch.Tensor, *, resolution: int = 256, samples: int = 1024) -> EnvironmentLight:
        """A light from a latitude-longitude image.

        Args:
            hdr: float32 [H, W, 3], linear radiance, finite. Row 0 is straight up (+y); the middle column is -z, and
                +x lies to the right of it (P. Debevec's convention for light probes).
            resolution: side of the sharpest cube, a power of two from 16 to 4096.
            samples: directions per texel of the roughest level, halved from level to level towards the sharp ones (but
                at least 32); more is smoother and slower.

        Raises:
            TypeError, ValueError: an argument of another type, shape or range than stated.

        Source: Karis, Real shading in Unreal Engine 4, SIGGRAPH 2013; Krivanek and Colbert, Real-time shading with
            filtered importance sampling, EGSR 2008.
        """
        hdr = check.tensor("hdr", hdr, dtype=torch.float32, shape=["H", "W", 3]).detach()
        resolution = check.positive_int("resolution", resolution, minimum=16, maximum=4096)
        if resolution & (resolution - 1):
            raise ValueError(f"resolution: expected a power of two, got {resolution}")
        samples = check.positive_int("samples", samples, maximum=1 << 20)
        if hdr.numel() == 0:
            raise ValueError(f"hdr: expected at least one pixel, got {hdr.shape[0]} x {hdr.shape[1]}")
        if not bool(torch.isfinite(hdr).all()):
            raise ValueError("hdr: expected finite values, got NaN or infinity")
        return EnvironmentLight._prefiltered(_ops.latlong_to_cube(hdr, resolution), samples)

    @staticmethod
    def from_cube(cube: torch.Tensor, *, samples: int = 1024) -> EnvironmentLight:
        """A light from a cube map.

        Args:
            cube: float32 [6, n, n, 3], linear radiance, finite; n a power of two from 16 to 4096. Faces are +x, -x, +y,
                -y, +z, -z, oriented as in OpenGL.
            samples: as for `from_latlong`.

        Raises:
            TypeError, ValueError: an argument of another type, shape or range than stated.
        """
        cube = check.tensor("cube", cube, dtype=torch.float32, shape=[6, "n", "n", 3]).detach()
        side = cube.shape[1]
        if not 16 <= side <= 4096 or side & (side - 1):
            raise ValueError(f"cube: expected a side that is a power of two from 16 to 4096, got {side}")
        samples = check.positive_int("samples", samples, maximum=1 << 20)
        if not bool(torch.isfinite(cube).all()):
            raise ValueError("cube: expected finite values, got NaN or infinity")
        return EnvironmentLight._prefiltered(cube, samples)

    @staticmethod
    def _prefiltered(cube: torch.Tensor, samples: int) -> EnvironmentLight:
        resolution = cube.shape[1]
        cubes = [cube]
        while cubes[-1].shape[1] > 1:
            cubes.append(_ops.halve_cube(cubes[-1]))
        pyramid = torch.cat([cube.view(-1, 3) for cube in cubes])
        levels = int(math.log2(resolution // _SMALLEST)) + 1
        specular = [cubes[0]]
        for level in range(1, levels):
            # A sharper level has a narrower lobe and four times the texels, and makes do with fewer samples.
            count = max(32, samples >> (levels - 1 - level))
            lobe = _ops.lobe(cube, level / (levels - 1), count, resolution)
            specular.append(_ops.prefilter(pyramid, resolution, len(cubes), lobe, resolution >> level))
        source = next(cube for cube in cubes if cube.shape[1] <= _DIFFUSE_SIDE)
        return EnvironmentLight(
            specular=torch.cat([cube.view(-1, 3) for cube in specular]),
            side=resolution,
            levels=levels,
            diffuse=_ops.irradiance(source, _DIFFUSE_SIDE),
            table=_ops.brdf_table(cube, _TABLE_SIDE),
        )

    @staticmethod
    def load(path: str | os.PathLike[str], *, resolution: int = 256, samples: int = 1024) -> EnvironmentLight:
        """A light from a Radiance .hdr or OpenEXR .exr file with a latitude-longitude image; see `from_latlong`.

        Negative values, which resampling leaves in such files, are taken as 0.

        Raises:
            ImportError: the reader is not installed: ``pip install "trellis-shade[hdr]"``.
            FileNotFoundError, ValueError: no such file; not an image, or not an RGB one with finite values.
        """
        return EnvironmentLight.from_latlong(read_radiance(path), resolution=resolution, samples=samples)

    @staticmethod
    def studio(*, resolution: int = 256, device: torch.device | str = "cpu") -> EnvironmentLight:
        """A photographer's studio: a large soft box up to the right, a weaker one to the left, a strip behind, grey walls."""
        return EnvironmentLight.from_latlong(_procedural.studio().to(device), resolution=resolution)

    @staticmethod
    def gradient_sky(
        *,
        zenith: tuple[float, float, float] = (0.25, 0.45, 0.9),
        horizon: tuple[float, float, float] = (0.9, 0.95, 1.0),
        ground: tuple[float, float, float] = (0.25, 0.22, 0.2),
        resolution: int = 64,
    ) -> EnvironmentLight:
        """A sky that goes from `horizon` to `zenith`, over a ground of one colour (linear RGB)."""
        image = _procedural.gradient_sky(zenith=zenith, horizon=horizon, ground=ground)
        return EnvironmentLight.from_latlong(image, resolution=resolution)

    def rotated(self, rotation: float | torch.Tensor) -> EnvironmentLight:
        """The light turned, after any turn it already has.

        Args:
            rotation: degrees about +y, counterclockwise seen from above, or a rotation matrix [3, 3].

        Raises:
            TypeError, ValueError: neither of these (a matrix must be orthonormal with determinant 1).
        """
        if isinstance(rotation, torch.Tensor):
            if list(rotation.shape) != [3, 3] or not rotation.is_floating_point():
                raise ValueError(
                    f"rotation: expected a floating-point [3, 3], got {rotation.dtype} {list(rotation.shape)}"
                )
            turn = rotation.detach().cpu().double()
            exact = torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
            if not exact or float(torch.linalg.det(turn)) < 0:
                raise ValueError("rotation: expected an orthonormal matrix with determinant 1")
        else:
            angle = math.radians(check.number("rotation", rotation))
            c, s = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)
        combined = turn @ torch.tensor(self.rotation, dtype=torch.float64).view(3, 3)
        a, b, c_, d, e, f, g, h, i = combined.flatten().tolist()
        return replace(self, rotation=(a, b, c_, d, e, f, g, h, i))

    # ---- using it ----------------------------------------------------------------------------------------------

    def radiance(self, directions: torch.Tensor, roughness: float | torch.Tensor = 0.0) -> torch.Tensor:
        """What is seen in a direction: the environment itself, or in a mirror of some roughness.

        Args:
            directions: float32 [..., 3], of any length; one that is zero or not finite gives 0.
            roughness: a number, or float32 [...], in [0, 1].

        Returns:
            float32 [..., 3], linear.
        """
        directions = self._check("directions", directions, 3)
        shape = directions.shape[:-1]
        if isinstance(roughness, torch.Tensor):
            rough = self._check_scalar("roughness", roughness, shape, directions)
        else:
            value = check.number("roughness", roughness, minimum=0, maximum=1)
            rough = directions.new_full((math.prod(shape),), value)
        local = self._to_light(directions)
        out: torch.Tensor = _ops.sample_cube(self.specular, self.side, self.levels, local, rough * (self.levels - 1))
        return out.view(directions.shape)

    def irradiance(self, directions: torch.Tensor) -> torch.Tensor:
        """Light that falls on a surface with these normals, divided by pi: float32 [..., 3] to [..., 3]."""
        directions = self._check("directions", directions, 3)
        local = self._to_light(directions)
        out: torch.Tensor = _ops.sample_cube(self.diffuse.view(-1, 3), self.diffuse.shape[1], 1, local, None)
        return out.view(directions.shape)

    def shade(
        self,
        position: torch.Tensor,
        normal: torch.Tensor,
        base_color: torch.Tensor,
        metallic: torch.Tensor | float,
        roughness: torch.Tensor | float,
        view_position: torch.Tensor,
        *,
        occlusion: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Light that surface points send to the viewer: the metallic-roughness model of glTF 2.0 under this light.

        Args:
            position, normal: float32 [..., 3] in world units and axes. A normal may have any length; where it is zero
                or not finite the result is 0 (so empty pixels of a picture stay black).
            base_color: float32 [..., 3], linear.
            metallic, roughness: numbers, or float32 [...] or [..., 1]; clamped to [0, 1].
            view_position: float32 [3], or [..., 3] for one each.
            occlusion: float32 [...] or [..., 1], share of the environment that is not hidden.

        Returns:
            float32 [..., 3], linear RGB. No gradient.

        Raises:
            TypeError, ValueError: an argument of another type, shape, device or range than stated.

        Source: split sum of Karis (SIGGRAPH 2013), GGX with height-correlated Smith masking, and the multiple scattering
            of Fdez-Aguera (JCGT 2019), which conserves energy exactly: white in white is white at any roughness.
        """
        position = self._check("position", position, 3)
        shape = position.shape[:-1]
        normal = self._check("normal", normal, 3, shape)
        base_color = self._check("base_color", base_color, 3, shape)
        metal = self._check_scalar("metallic", metallic, shape, position)
        rough = self._check_scalar("roughness", roughness, shape, position)
        if isinstance(view_position, torch.Tensor) and view_position.dim() == 1:
            view = check.tensor("view_position", view_position, dtype=torch.float32, shape=[3], like=position).detach()
        else:
            view = self._check("view_position", view_position, 3, shape).view(-1, 3)
        r = self.rotation
        rgb: torch.Tensor = _ops.shade(
            self.specular,
            self.side,
            self.levels,
            self.diffuse,
            self.table,
            [r[0], r[3], r[6], r[1], r[4], r[7], r[2], r[5], r[8]],  # the inverse of a rotation is its transpose
            position.view(-1, 3),
            normal.view(-1, 3),
            base_color.view(-1, 3),
            metal,
            rough,
            view,
        )
        if occlusion is not None:
            rgb = rgb * self._check_scalar("occlusion", occlusion, shape, position)[:, None]
        return rgb.view(*shape, 3)

    def _to_light(self, directions: torch.Tensor) -> torch.Tensor:
        flat = directions.view(-1, 3)
        if self.rotation == _NO_ROTATION:
            return flat
        return flat @ torch.tensor(self.rotation, dtype=torch.float32, device=flat.device).view(3, 3)

    def _check(self, name: str, value: torch.Tensor, last: int, lead: torch.Size | None = None) -> torch.Tensor:
        if lead is None:
            if isinstance(value, torch.Tensor) and (value.dim() < 1 or value.shape[-1] != last):
                raise ValueError(f"{name}: expected shape [..., {last}], got {list(value.shape)}")
            lead = value.shape[:-1] if isinstance(value, torch.Tensor) else torch.Size()
        value = check.tensor(name, value, dtype=torch.float32, shape=[*lead, last], like=self.specular)
        if torch.is_grad_enabled() and value.requires_grad:
            raise ValueError(f"{name}: requires a gradient, but shading has none; pass {name}.detach()")
        return value.detach()

    def _check_scalar(
        self, name: str, value: torch.Tensor | float, lead: torch.Size, like: torch.Tensor
    ) -> torch.Tensor:
        if not isinstance(value, torch.Tensor):
            return like.new_full((math.prod(lead),), check.number(name, value))
        if list(value.shape) == list(lead):
            value = value[..., None]
        return self._check(name, value, 1, lead).view(-1)
