"""As nvdiffrec_render.light."""

from __future__ import annotations

import torch
import trellis_shade
from trellis_compat._missing import Served

__all__ = ["EnvironmentLight"]


class EnvironmentLight(Served):
    """A cube map as a light.

    Args:
        base: float32 [6, n, n, 3], n a power of two from 16 on; faces +x, -x, +y, -y, +z, -z as in OpenGL.
    """

    def __init__(self, base: torch.Tensor) -> None:
        self.base = base.detach().float()
        self._light: trellis_shade.EnvironmentLight | None = None

    def build_mips(self, cutoff: float = 0.99) -> None:
        """Filters `base` for `shade`; to be called again when it was changed. (`cutoff` belongs to upstream's filter.)"""
        self._light = trellis_shade.EnvironmentLight.from_cube(self.base)

    @torch.no_grad()
    def shade(
        self,
        gb_pos: torch.Tensor,
        gb_normal: torch.Tensor,
        kd: torch.Tensor,
        ks: torch.Tensor,
        view_pos: torch.Tensor,
        specular: bool = True,
    ) -> torch.Tensor:
        """Light that surface points send to the viewer.

        Args:
            gb_pos, gb_normal: [..., 3].
            kd: [..., 3], base colour, linear.
            ks: [..., 3], (occlusion, roughness, metallic); 0 is no occlusion.
            view_pos: [..., 3], of each point, or of all.
            specular: False leaves diffuse light alone, on `kd` whatever the material.

        Returns:
            float32 [..., 3], linear. No gradients.
        """
        if self._light is None:
            raise RuntimeError("EnvironmentLight.shade: call build_mips() first")
        position, normal, color, material, view = (
            (t.float() + torch.zeros_like(gb_pos)).contiguous() for t in (gb_pos, gb_normal, kd, ks, view_pos)
        )
        visible = 1 - material[..., :1]
        if not specular:
            return self._light.irradiance(normal) * color * visible
        return self._light.shade(
            position, normal, color, material[..., 2:3], material[..., 1:2], view, occlusion=visible
        )
