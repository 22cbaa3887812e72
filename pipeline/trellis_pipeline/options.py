"""Options that several commands of ``trellis`` share: their types, and what is looked at before work that takes long."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trellis_regression.command import require_apart

from .arguments import device_of, require_glb, require_writable
from .asset import FACES, TEXTURE, UNWRAPS, GlbOptions
from .export.gltf import ALPHA_MODES, IMAGE_FORMATS


def bounded(low: int, high: int) -> Callable[[str], int]:
    """The type of a whole number from `low` to `high`."""

    def convert(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, got {value}")
        return value

    convert.__name__ = "int"
    return convert


def device(text: str) -> str:
    """The type of a device that is here."""
    try:
        device_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ")) from None
    return text


def fraction(text: str) -> float:
    """The type of a share of a whole."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share in [0, 1), got {text}")
    return value


def add_glb(command: argparse.ArgumentParser, *, faces: int) -> None:
    """Adds how voxels become a GLB: the arguments of `glb_options`. `faces` is the bound where none is given."""
    result = command.add_argument_group("result")
    most = f"at most this many faces ({faces})"
    result.add_argument("--faces", type=bounded(*FACES), default=faces, metavar="N", help=most)
    side = "texture side in texels (2048)"
    result.add_argument("--texture", type=bounded(*TEXTURE), default=2048, metavar="N", help=side)
    result.add_argument(
        "--min-fraction",
        type=fraction,
        default=1e-5,
        metavar="SHARE",
        help="drop components smaller than this share of the whole (1e-5)",
    )
    result.add_argument(
        "--remesh", action="store_true", help="close the surface anew: one watertight shell without inner layers"
    )
    result.add_argument("--unwrap", choices=UNWRAPS, default="fast", help="how UVs are made (fast)")
    result.add_argument("--alpha", choices=ALPHA_MODES, default="auto", help="of the material (auto)")
    result.add_argument("--format", choices=IMAGE_FORMATS, default="png", help="texture images (png)")


def add_record(command: argparse.ArgumentParser) -> Any:
    """Adds what is written of one run beside its GLB, and returns the group of these options."""
    record = command.add_argument_group("record")
    record.add_argument("--manifest", type=Path, metavar="FILE", help="write what was done as JSON")
    record.add_argument("--keep-stages", type=Path, metavar="DIR", help="keep every stage as .safetensors")
    record.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    return record


def glb_options(arguments: argparse.Namespace) -> GlbOptions:
    """What the options of `add_glb` ask for."""
    return GlbOptions(
        arguments.faces, arguments.texture, arguments.min_fraction, arguments.remesh, arguments.unwrap, arguments.alpha,
        arguments.format,
    )  # fmt: skip


def require_results(arguments: argparse.Namespace) -> None:
    """Raises ValueError where --out, a GLB, or what `add_record` adds cannot be written, or would take the place of another file."""
    require_writable("--out", arguments.out)
    require_glb("--out", arguments.out)
    require_apart("--out", arguments.out, arguments.source)
    if arguments.keep_stages:
        require_writable("--keep-stages", arguments.keep_stages, folder=True)
    if arguments.manifest:
        require_apart("--manifest", arguments.manifest, arguments.source, arguments.out)
        require_writable("--manifest", arguments.manifest, stream=True)
