"""The ``trellis`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from trellis_regression.pipe import quiet

from .arguments import device_of, require_apart, require_glb, require_suffix, require_writable
from .export.gltf import ALPHA_MODES, IMAGE_FORMATS
from .generate_command import add_parsers

MAX_RESOLUTION, MAX_TEXTURE = 2048, 16384


class UsageError(ValueError):
    """An argument that cannot be served; the text is shown as it is."""


@quiet
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit status: 0 done, 1 a picture of a batch failed, 2 unusable input or arguments (one line on
    standard error), 130 Ctrl-C."""
    if hasattr(sys.stdout, "reconfigure"):  # a file's name may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status: int | None = arguments.run(arguments)
    # By the rule of all our packages a ValueError names an argument or input that cannot be served (GlbError and
    # UsageError are two), and NotImplementedError an operation that the device has no kernel for.
    except (ValueError, NotImplementedError) as error:
        print(f"trellis: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # files appear under their names when they are whole, so there is nothing to clear up
        print("trellis: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"trellis: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    return status or 0


def _bounded(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, got {value}")
        return value

    convert.__name__ = "int"
    return convert


def _device(text: str) -> str:
    try:
        device_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ")) from None
    return text


def _version() -> str:
    try:
        return version("trellis-pipeline")
    except PackageNotFoundError:
        return "(from sources that are not installed)"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the page of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="trellis", description="Textured 3-D assets, with nothing silent on the way.")
    parser.add_argument("--version", action="version", version=f"trellis {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    remake = commands.add_parser("remake", help="take a GLB through voxels and back out as a new GLB")
    remake.add_argument("source", type=Path, metavar="IN.glb")
    remake.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.glb")
    remake.add_argument(
        "--resolution", type=_bounded(8, MAX_RESOLUTION), default=256, help="voxels along the longest side (256)"
    )
    remake.add_argument(
        "--faces", type=_bounded(4, 100_000_000), default=50_000, help="at most this many faces (50000)"
    )
    remake.add_argument("--texture", type=_bounded(16, MAX_TEXTURE), default=2048, help="texture side in texels (2048)")
    remake.add_argument(
        "--min-fraction", type=float, default=1e-5, help="drop components smaller than this share of the whole (1e-5)"
    )
    remake.add_argument(
        "--remesh", action="store_true", help="close the surface anew: one watertight shell without inner layers"
    )
    remake.add_argument("--unwrap", choices=("fast", "xatlas"), default="fast")
    remake.add_argument("--alpha", choices=ALPHA_MODES, default="auto")
    remake.add_argument("--format", choices=IMAGE_FORMATS, default="png", help="texture images (png)")
    remake.add_argument("--device", type=_device, default="cpu")
    remake.add_argument("--manifest", type=Path, metavar="FILE", help="write what was done as JSON")
    remake.add_argument("--keep-stages", type=Path, metavar="DIR", help="keep every stage as .safetensors")
    remake.add_argument("-q", "--quiet", action="store_true")
    remake.set_defaults(run=_remake)

    render = commands.add_parser("render", help="render GLBs as a turntable, one row a file")
    render.add_argument("sources", type=Path, nargs="+", metavar="FILE.glb")
    render.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.png")
    render.add_argument("--views", type=_bounded(1, 64), default=6, help="views around the object (6)")
    render.add_argument("--size", type=_bounded(16, 4096), default=384, help="side of a view in pixels (384)")
    render.add_argument("--mode", choices=("shaded", "base_color", "normal"), default="shaded")
    render.add_argument(
        "--environment", type=Path, metavar="FILE.hdr", help="light from a lat-long HDR or EXR (a studio by default)"
    )
    render.add_argument("--device", type=_device, default="cpu", help="where the pictures are drawn (cpu)")
    render.set_defaults(run=_render)

    add_parsers(commands, _bounded, _device)
    view = commands.add_parser("view", help="look at GLBs side by side in the browser, served on this machine only")
    view.add_argument("sources", type=Path, nargs="+", metavar="FILE.glb")
    view.add_argument("--port", type=_bounded(0, 65535), default=0, help="port on 127.0.0.1 (a free one)")
    view.add_argument("--no-browser", action="store_true", help="print the address only")
    view.set_defaults(run=_view)
    return parser


def _remake(arguments: argparse.Namespace) -> None:
    from .manifest import write_manifest
    from .remake import RemakeOptions, remake

    require_glb("--out", arguments.out)
    require_apart("--out", arguments.out, arguments.source)
    require_writable("--out", arguments.out)
    if arguments.manifest:
        require_apart("--manifest", arguments.manifest, arguments.source, arguments.out)
        require_writable("--manifest", arguments.manifest)
    if arguments.keep_stages:
        require_writable("--keep-stages", arguments.keep_stages, folder=True)
    if not 0 <= arguments.min_fraction < 1:
        raise UsageError(f"--min-fraction: expected a share in [0, 1), got {arguments.min_fraction}")
    options = RemakeOptions(
        arguments.resolution, arguments.faces, arguments.texture, arguments.min_fraction,
        arguments.unwrap, arguments.alpha, arguments.format, arguments.device, arguments.remesh,
    )  # fmt: skip
    facts = remake(arguments.source, arguments.out, options, keep_stages=arguments.keep_stages, quiet=arguments.quiet)
    if arguments.manifest:
        write_manifest(facts, arguments.manifest)
    if not arguments.quiet:
        print(f"{arguments.out}: {facts['stages']['write']['faces']:,} faces, {facts['seconds']:.1f} s")


def _render(arguments: argparse.Namespace) -> None:
    from trellis_regression.render import load_environment, turntable_sheet

    from .artifacts import write_whole

    require_suffix("--out", arguments.out, ".png", "a PNG")
    require_writable("--out", arguments.out)
    if arguments.environment and not arguments.environment.is_file():
        raise UsageError(f"--environment: {arguments.environment}: there is no such file")
    image = turntable_sheet(
        arguments.sources, load_environment(arguments.environment, arguments.device),
        views=arguments.views, size=arguments.size, mode=arguments.mode, device=arguments.device,
    )  # fmt: skip
    write_whole(arguments.out, lambda file: image.save(file, "PNG"))
    print(f"{arguments.out}: {image.width} x {image.height}")


def _view(arguments: argparse.Namespace) -> None:
    import webbrowser

    from trellis_regression.viewer.serve import server

    with server(arguments.sources, arguments.port) as serving:
        address = f"http://127.0.0.1:{serving.server_address[1]}/"
        print(f"{address}  (stop with Ctrl-C)", flush=True)
        if not arguments.no_browser:
            webbrowser.open(address)
        serving.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
