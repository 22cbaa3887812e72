"""The image side: a picture -> a square on black -> DINOv3 features."""

from .features import ImageEncoder, load_image_encoder, require_transformers
from .prepare import PreparedImage, is_opaque, open_image, prepare

__all__ = [
    "ImageEncoder",
    "PreparedImage",
    "is_opaque",
    "load_image_encoder",
    "open_image",
    "prepare",
    "require_transformers",
]
