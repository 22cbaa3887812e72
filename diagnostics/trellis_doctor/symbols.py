"""Whether a library fits the installed torch, judged by names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .context import Context, TorchFacts
from .elf import LibraryFacts
from .finding import Evidence

TORCH_SYMBOL = re.compile(r"_Z[A-Z]*(?:3c10|2at|5torch|6caffe2)|aoti_torch_|torch_(?!audio)|THP[A-Z]")
_TORCH_LIBRARY = re.compile(r"lib(torch|c10|shm)\w*\.so")
_GPU_LIBRARY = re.compile(
    r"lib(torch|c10|cudart|cudnn|cublas|cublasLt|cufft|curand|cusparse|cusolver|nccl|nvrtc)[\w-]*\.so"
)
_OF_CUDA_BUILD = re.compile(r"_ZNK?3c104cuda|_ZNK?2at4cuda|torch_.*cuda|aoti_torch_.*cuda|torch_c10_cuda")
_CUDA_OF_TORCH = ("libtorch_cuda.so", "libc10_cuda.so")


@dataclass(frozen=True)
class Misfit:
    """What a torch-linked library asks for and does not get."""

    library: Path
    symbols: tuple[str, ...]
    libraries: tuple[str, ...]
    wants_cuda_build: bool

    @property
    def has_other_symbols(self) -> bool:
        """Whether symbols are missing that are not those of a CUDA build."""
        return any(not _OF_CUDA_BUILD.match(s) for s in self.symbols)


def torch_references(facts: LibraryFacts) -> list[str]:
    return [n for n in facts.undefined if TORCH_SYMBOL.match(n)]


def is_torch_linked(facts: LibraryFacts) -> bool:
    return any(_TORCH_LIBRARY.match(n) for n in facts.needed) or bool(torch_references(facts))


def linked_libraries(context: Context, torch: TorchFacts) -> list[tuple[Path, LibraryFacts]]:
    """The environment's libraries that were built against some torch, torch's own left out."""
    own = torch.folder
    return [(p, f) for p, f in context.readable() if not p.is_relative_to(own) and is_torch_linked(f)]


def misfit(context: Context, torch: TorchFacts, path: Path, facts: LibraryFacts) -> Misfit | None:
    """What `path` lacks in this environment, or None."""
    wanted = set(torch_references(facts))
    absent: list[str] = []
    siblings: list[Path] = []
    folders = context.search_path(path, facts)
    for name in facts.needed:
        found = next((f / name for f in folders if (f / name).exists()), None)
        if found is None:
            # A package may keep its own libraries in another folder of itself, loaded by its __init__.py.
            found = next((p for p in context.site.libraries if p.name == name), None)
        if found is None and _GPU_LIBRARY.match(name):
            absent.append(name)
        elif found is not None and not found.is_relative_to(torch.folder):
            siblings.append(found)
    missing = wanted - context.defined_in(wanted, [*torch.libraries, *siblings])
    if not missing and not absent:
        return None
    cuda = torch.cuda is None and (
        any(n in _CUDA_OF_TORCH for n in absent) or any(_OF_CUDA_BUILD.match(n) for n in missing)
    )
    return Misfit(path, tuple(sorted(missing)), tuple(absent), cuda)


def evidence(context: Context, misfits: Iterable[Misfit], limit: int = 12) -> list[Evidence]:
    """What was seen, most telling first, at most `limit` symbols of each library."""
    seen = []
    for item in misfits:
        file = str(item.library)
        name = context.shown(item.library)
        for needed in item.libraries:
            seen.append(Evidence(f"{name} needs {needed}, which is nowhere in this environment", file=file))
        if item.symbols:
            count = len(item.symbols)
            text = f"{name} needs {count} symbol{'s' * (count > 1)} of torch that the installed torch does not have"
            seen.append(Evidence(text, file=file))
        for symbol in item.symbols[:limit]:
            seen.append(Evidence(f"missing: {symbol}", file=file, symbol=symbol))
    return seen
