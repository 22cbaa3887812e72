"""Environment lighting, PBR shading, tone mapping; see the package's README.

For an argument that cannot serve, every function raises TypeError (its kind, its dtype) or ValueError (its shape, device
or values), and names it, what was expected and what came. Their docstrings say what they raise besides.
"""

from ._color import linear_to_srgb, srgb_to_linear, tonemap
from ._environment import EnvironmentLight
from ._images import read_radiance
from ._library import EXTENSION

__all__ = ["EXTENSION", "EnvironmentLight", "linear_to_srgb", "read_radiance", "srgb_to_linear", "tonemap"]
