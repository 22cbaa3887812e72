"""Injectors: each puts one known fault into a finished, sound GLB, at several strengths.

They know nothing of the detectors, and leave the rest of the asset sound: a mesh that changes gets new charts and
textures baked from the original, so that no detector can go by the traces of the injection.
"""

from .catalogue import ALL, BY_NAME, Injected, Injector, inject
from .hidden import IN_THE_ROAD, why_hidden
from .model import Model

__all__ = ["ALL", "BY_NAME", "IN_THE_ROAD", "Injected", "Injector", "Model", "inject", "why_hidden"]
