"""One named detector for each fault that a GLB can show; `ALL` is the list, in the order of the report."""

from .base import Detector
from .catalogue import ALL, BY_NAME

__all__ = ["ALL", "BY_NAME", "Detector"]
