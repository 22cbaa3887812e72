"""Arguments of ``trellis generate``, ``trellis batch`` and ``trellis memory``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trellis_regression.command import add_command, require_apart

from .options import add_glb, add_record, bounded, device, glb_options, require_results

if TYPE_CHECKING:
    from .generate import GenerateOptions

BACKGROUNDS = ("auto", "rembg", "birefnet", "keep")
TYPES = ("512", "1024", "1024_cascade", "1536_cascade")


def add_parsers(commands: Any) -> None:
    """Adds the commands."""
    generate = add_command(commands, "generate", "make a textured GLB from a picture of an object")
    generate.add_argument(
        "source", type=Path, metavar="IMAGE", help="a picture of one object, best with an alpha channel"
    )
    generate.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.glb", help="the GLB to write")
    _add_options(generate)
    add_record(generate).add_argument("--resume", action="store_true", help="take up the stages in --keep-stages")
    generate.set_defaults(run=_generate)

    batch = add_command(
        commands, "batch", "make GLBs of many pictures, one after another; after a stop the same command goes on"
    )
    batch.add_argument("sources", type=Path, nargs="+", metavar="IMAGE|DIR", help="pictures, and folders of pictures")
    batch.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a GLB and a manifest for each")
    batch.add_argument("--retry-failed", action="store_true", help="try again what an earlier run set aside")
    batch.add_argument(
        "--retries",
        type=bounded(0, 100),
        default=1,
        metavar="N",
        help="of a run that crashed, each in a new process (1)",
    )
    batch.add_argument(
        "--timeout", type=bounded(0, 100_000), default=60, metavar="MINUTES", help="of one picture; 0 for none (60)"
    )
    _add_options(batch)
    batch.set_defaults(run=_batch)

    memory = add_command(commands, "memory", "draw the memory of a run from its manifest")
    memory.add_argument("manifest", type=Path, metavar="MANIFEST", help="what `trellis generate --manifest` wrote")
    memory.add_argument("-o", "--out", type=Path, required=True, metavar="CHART.svg", help="the chart to write")
    memory.set_defaults(run=_memory)


def _add_options(parser: argparse.ArgumentParser) -> None:
    """How pictures become GLBs: the arguments of `_options`."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights",
        default="microsoft/TRELLIS.2-4B",
        metavar="DIR|ID",
        help="checkpoint folder or hub id (TRELLIS.2-4B)",
    )
    model.add_argument("--revision", help="of a hub id (by default a pinned one)")
    model.add_argument("--image-encoder", metavar="DIR|ID", help="DINOv3, if not the one that the checkpoint names")
    model.add_argument("--type", choices=TYPES, help="by default what the checkpoint names")
    model.add_argument(
        "--seed", type=bounded(0, 2**63 - 1), default=42, metavar="N", help="another object of the same picture (42)"
    )
    model.add_argument(
        "--steps", type=bounded(1, 1000), metavar="N", help="of every sampler (by default the checkpoint's)"
    )
    model.add_argument(
        "--max-tokens",
        type=bounded(1, 1 << 24),
        default=49_152,
        metavar="N",
        help="a cascade lowers its resolution at this (49152)",
    )
    model.add_argument(
        "--background", choices=BACKGROUNDS, default="auto", help="how an opaque picture's object is found (auto)"
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", type=device, help="by default the first CUDA device, else the CPU")
    machine.add_argument("--vram-budget", type=_gibibytes, metavar="GIB", help="by default what is free now")
    machine.add_argument("--attention", default="auto", metavar="BACKEND", help="by default the fastest that works")
    add_glb(parser, faces=200_000)


def _gibibytes(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"expected GiB from 0.5 to 4096, got {text}")
    return value


_gibibytes.__name__ = "number"


def _generate(arguments: argparse.Namespace) -> None:
    from .attention import require_backend
    from .generate import generate
    from .manifest import write_manifest
    from .store import RUN, StageStore

    if arguments.resume and not arguments.keep_stages:
        raise ValueError("--resume: it needs --keep-stages DIR, the folder to take up")
    require_backend(arguments.attention)
    require_results(arguments)
    if arguments.keep_stages:
        if arguments.manifest:
            require_apart("--manifest", arguments.manifest, arguments.keep_stages / RUN)
        store = StageStore(arguments.keep_stages, resume=arguments.resume)
        if arguments.resume:  # before anything that takes long
            store.kept()
        else:
            store.require_own()
    facts = generate(
        arguments.source, arguments.out, _options(arguments), keep_stages=arguments.keep_stages, resume=arguments.resume,
        hashes=arguments.manifest is not None, quiet=arguments.quiet,
    )  # fmt: skip
    if arguments.manifest:
        write_manifest(facts, arguments.manifest)
    if not arguments.quiet:
        print(f"{arguments.out}: {facts['output']['faces']:,} faces, {facts['seconds']:.1f} s")


def _options(arguments: argparse.Namespace) -> GenerateOptions:
    from .generate import GenerateOptions

    return GenerateOptions(
        arguments.weights, arguments.revision, arguments.image_encoder, arguments.type, arguments.seed, arguments.steps,
        arguments.max_tokens, arguments.background, arguments.attention, arguments.device, arguments.vram_budget,
        glb_options(arguments),
    )  # fmt: skip


def _batch(arguments: argparse.Namespace) -> int:
    from .attention import require_backend
    from .batch.command import run

    require_backend(arguments.attention)
    return run(
        arguments.sources, arguments.out, _options(arguments), retries=arguments.retries,
        timeout=60.0 * arguments.timeout or None, retry_failed=arguments.retry_failed,
    )  # fmt: skip


def _memory(arguments: argparse.Namespace) -> None:
    from trellis_regression.whole import write_whole

    from .arguments import require_suffix, require_writable
    from .memory.chart import chart

    require_apart("--out", arguments.out, arguments.manifest)
    require_writable("--out", arguments.out)
    require_suffix("--out", arguments.out, ".svg", "an SVG")
    try:
        facts = json.loads(arguments.manifest.read_text())
    except ValueError as error:
        raise ValueError(f"{arguments.manifest}: not a manifest: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{arguments.manifest}: not a manifest")
    try:
        picture = chart(facts)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{arguments.manifest}: its memory ledger is not as `trellis generate` writes one: {error}"
        ) from None
    write_whole(arguments.out, lambda file: file.write_text(picture))
    print(f"{arguments.out}: {len(facts['memory']['stages'])} stages")
