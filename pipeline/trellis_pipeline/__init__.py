"""From images and foreign assets to textured GLB files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asset import Asset, GlbOptions
    from .pipeline import Pipeline

__all__ = ["Asset", "GlbOptions", "Pipeline"]


def __getattr__(name: str) -> Any:
    """The pipeline's classes, imported when asked for: the command's other parts do without the models."""
    if name == "Pipeline":
        from .pipeline import Pipeline

        return Pipeline
    if name in ("Asset", "GlbOptions"):
        from . import asset

        return getattr(asset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
