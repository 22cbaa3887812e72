"""Environment lighting under nvdiffrec_render's names, by trellis_shade."""

from . import light

__all__ = ["light"]
