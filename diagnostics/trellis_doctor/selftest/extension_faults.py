"""Environments of the self-test in which our own extensions are damaged or give wrong answers."""

from __future__ import annotations

from . import stubs
from .bench import Bench
from .environment import environment


@environment("extensions of different versions", "extensions")
def _(b: Bench) -> None:
    b.healthy().remove("trellis-mesh")
    b.extension("mesh", version="0.2.0")


@environment("extension's header and library differ", "extensions")
def _(b: Bench) -> None:
    b.healthy()
    with (b.site / "trellis_voxel/include/trellis_voxel.h").open("a") as header:
        header.write("TK_API int tk_voxel_new(int device, void* stream);\n")


@environment("extension's library lacks a function", "extensions")
def _(b: Bench) -> None:
    b.healthy().extension("raster", symbols=["tk_raster_run"])


@environment("extension's library cut off", "extensions", "unreadable-library")
def _(b: Bench) -> None:
    file = b.healthy().site / "trellis_shade/lib/_cpu.so"
    file.write_bytes(file.read_bytes()[:100])


@environment("an operation gives wrong values", "known-answer")
def _(b: Bench) -> None:
    b.healthy().extension("mesh", _broken("mesh", "return _ANSWERS[name]", "return [[0.0, 1.0, 0.0]] * 4"))
    b.live = True


@environment("one operation of many gives wrong values on the GPU alone", "known-answer")
def _(b: Bench) -> None:
    b.healthy().extension(
        "raster",
        _broken("raster", "        _same(*tensors)\n", "        _same(*tensors)\n" + _ON_GPU.format(deed="return 7")),
    )
    b.live = True


@environment("an operation aborts", "known-answer")
def _(b: Bench) -> None:
    deed = "        self.path == 'mesh_to_dual_grid' and __import__('os').abort()\n"
    b.healthy().extension("voxel", _broken("voxel", "        _same(*tensors)\n", deed + "        _same(*tensors)\n"))
    b.live = True


@environment("an operation loses the GPU", "known-answer")
def _(b: Bench) -> None:
    deed = "raise RuntimeError('CUDA error: an illegal memory access was encountered')"
    b.healthy().extension(
        "raster",
        _broken("raster", "        _same(*tensors)\n", "        _same(*tensors)\n" + _ON_GPU.format(deed=deed)),
    )
    b.live = True


@environment("an operation takes mesh and tensor on different devices", "known-answer")
def _(b: Bench) -> None:
    b.healthy().extension("mesh", _broken("mesh", "        _same(*tensors)\n", ""))
    b.live = True


@environment("grid sampling takes values and coords on different devices", "known-answer")
def _(b: Bench) -> None:
    one = "        self.path == 'grid_sample_3d' or _same(*tensors)\n"
    b.healthy().extension("sparse", _broken("sparse", "        _same(*tensors)\n", one))
    b.live = True


@environment("a package that an extension imports is missing", "known-answer")
def _(b: Bench) -> None:
    b.healthy().extension("voxel", "import zstandard_of_nowhere\n" + stubs.EXTENSIONS["voxel"])
    b.live = True


_ON_GPU = """        if self.path == 'nearest_texel' and any(t.device == 'cuda' for t in tensors):
            {deed}
"""


def _broken(name: str, part: str, instead: str) -> str:
    """The source of an extension's stand-in with one thing wrong."""
    source = stubs.EXTENSIONS[name]
    assert part in source
    return source.replace(part, instead)
