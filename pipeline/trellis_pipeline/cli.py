"""The ``trellis`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trellis_regression.command import Parser, Version, add_command, in_one_line
from trellis_regression.pipe import quiet

from .arguments import require_suffix, require_writable
from .generate_command import add_parsers
from .options import add_glb, add_record, bounded, device, glb_options, require_results


@quiet
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Exit status: 0 done, 1 a picture of a batch failed, 2 unusable input or arguments (one line on
    standard error), 130 Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        status: int | None = arguments.run(arguments)
    except BrokenPipeError:
        raise
    # By the rule of all our packages a ValueError names an argument or input that cannot be served (GlbError is one),
    # NotImplementedError an operation that the device has no kernel for, and ImportError what is to be installed.
    except (ValueError, NotImplementedError, ImportError, OSError) as error:
        print(f"trellis: error: {in_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # files appear under their names when they are whole, so there is nothing to clear up
        print("trellis: interrupted", file=sys.stderr)
        return 130
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="trellis", description="Textured 3-D assets, with nothing silent on the way.")
    parser.add_argument("--version", action=Version, const="trellis-pipeline", help="show the version and end")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    remake = add_command(commands, "remake", "take a GLB through voxels and back out as a new GLB")
    remake.add_argument("source", type=Path, metavar="IN.glb", help="any GLB; --out is another file")
    remake.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.glb", help="the GLB to write")
    remake.add_argument(
        "--resolution", type=bounded(8, 2048), default=256, metavar="N", help="voxels along the longest side (256)"
    )
    remake.add_argument("--device", type=device, default="cpu", help="where the work is done (cpu)")
    add_glb(remake, faces=50_000)
    add_record(remake)
    remake.set_defaults(run=_remake)

    render = add_command(commands, "render", "render GLBs as a turntable, one row a file")
    render.add_argument("sources", type=Path, nargs="+", metavar="FILE.glb", help="any GLBs")
    render.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.png", help="the picture to write")
    render.add_argument("--views", type=bounded(1, 64), default=6, metavar="N", help="views around the object (6)")
    render.add_argument(
        "--size", type=bounded(16, 4096), default=384, metavar="N", help="side of a view in pixels (384)"
    )
    modes = ("shaded", "base_color", "normal")
    render.add_argument("--mode", choices=modes, default="shaded", help="what a pixel shows (shaded)")
    render.add_argument(
        "--environment", type=Path, metavar="FILE.hdr", help="light from a lat-long HDR or EXR (a studio by default)"
    )
    render.add_argument("--device", type=device, default="cpu", help="where the pictures are drawn (cpu)")
    render.set_defaults(run=_render)

    add_parsers(commands)
    view = add_command(commands, "view", "look at GLBs side by side in the browser, served on this machine only")
    view.add_argument("sources", type=Path, nargs="+", metavar="FILE.glb", help="any GLBs")
    view.add_argument("--port", type=bounded(0, 65535), default=0, metavar="N", help="port on 127.0.0.1 (a free one)")
    view.add_argument("--no-browser", action="store_true", help="print the address only")
    view.set_defaults(run=_view)
    return parser


def _remake(arguments: argparse.Namespace) -> None:
    from .manifest import write_manifest
    from .remake import RemakeOptions, remake

    require_results(arguments)
    options = RemakeOptions(**vars(glb_options(arguments)), resolution=arguments.resolution, device=arguments.device)
    facts = remake(arguments.source, arguments.out, options, keep_stages=arguments.keep_stages, quiet=arguments.quiet)
    if arguments.manifest:
        write_manifest(facts, arguments.manifest)
    if not arguments.quiet:
        print(f"{arguments.out}: {facts['stages']['write']['faces']:,} faces, {facts['seconds']:.1f} s")


def _render(arguments: argparse.Namespace) -> None:
    from trellis_regression.render import load_environment, turntable_sheet
    from trellis_regression.whole import write_whole

    require_suffix("--out", arguments.out, ".png", "a PNG")
    require_writable("--out", arguments.out)
    if arguments.environment and not arguments.environment.is_file():
        raise ValueError(f"--environment: {arguments.environment}: there is no such file")
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
