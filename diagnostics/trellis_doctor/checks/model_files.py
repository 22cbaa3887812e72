"""Checkpoints on disk: whole, and with exactly the keys and shapes that the models have."""

from __future__ import annotations

import functools
import json
import re
import struct
from pathlib import Path

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from ..hub import REVISIONS, model_folders
from ..matrix import HERE

ID = "model-files"
_TYPES = {
    "F16": "f16",
    "BF16": "bf16",
    "F32": "f32",
    "F64": "f64",
    "I64": "i64",
    "I32": "i32",
    "U8": "u8",
    "BOOL": "bool",
}
# Tables computed from the configuration; a file may hold them or not.
_COMPUTED = re.compile(r"(^|\.)(pos_emb|rope_phases|rope_embedder|freqs)")
_SHOWN = 12
Keys = dict[str, tuple[str, tuple[int, ...]]]


class CheckpointError(Exception):
    """The file is no whole safetensors file; the text says why."""


@functools.cache
def expected() -> dict[str, Keys]:
    """Keys of each known checkpoint by stem: name -> (type, shape)."""
    lists = {}
    for file in sorted((HERE / "facts" / "checkpoints").glob("*.keys.txt")):
        keys: Keys = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                name, kind, shape = line.split("\t")
                keys[name] = (kind, tuple(int(n) for n in shape.strip("[] ").split(",") if n.strip()))
        lists[file.name.removesuffix(".keys.txt")] = keys
    return lists


def list_for(stem: str) -> Keys | None:
    """The list of a checkpoint; the 1024 models have the layout of the 512 ones."""
    return expected().get(stem) or expected().get(stem.replace("_1024_", "_512_"))


def read_header(file: Path) -> Keys:
    """Keys of a safetensors file, which must be as long as its header says. Raises CheckpointError."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(8)
            if head.startswith(b"version "):
                raise CheckpointError(
                    "it is a Git LFS pointer, not the weights: run `git lfs pull`, or download it again"
                )
            if len(head) < 8:
                raise CheckpointError(f"it is {size} bytes long")
            (length,) = struct.unpack("<Q", head)
            if length > min(size - 8, 100 << 20):
                raise CheckpointError(
                    f"it is cut off or no safetensors file: {size} bytes, its header alone claims {length}"
                )
            header = json.loads(stream.read(length))
        keys: Keys = {}
        end = 0
        for name, entry in header.items():
            if name != "__metadata__":
                keys[name] = (_TYPES.get(entry["dtype"], str(entry["dtype"])), tuple(int(n) for n in entry["shape"]))
                end = max(end, int(entry["data_offsets"][1]))
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise CheckpointError("its header is damaged") from None
    if 8 + length + end != size:
        raise CheckpointError(f"it is {size} bytes long; its header says {8 + length + end}")
    return keys


def run(context: Context) -> Outcome:
    folders = model_folders(context)
    if not folders:
        raise NotApplicableError("no model folder was found (name one with --models)")
    findings: list[Finding] = []
    read = 0
    for folder in folders:
        if not folder.is_dir():
            findings.append(
                _finding(context, "error", f"{folder} is not a folder", [Evidence("not a folder", file=str(folder))])
            )
            continue
        files = {p.stem: p for p in sorted([*folder.glob("ckpts/*.safetensors"), *folder.glob("*.safetensors")])}
        for stem in _wanted(folder):
            if stem not in files:
                findings.append(
                    _finding(
                        context,
                        "error",
                        f"{stem}.safetensors is missing",
                        [Evidence("named in pipeline.json", file=str(folder))],
                    )
                )
        for stem, file in files.items():
            read += 1
            findings += _one(context, stem, file)
        repository = next((r for r in REVISIONS if f"models--{r.replace('/', '--')}" in folder.parts), None)
        if repository and folder.name != REVISIONS[repository]:
            text = f"{repository} at revision {folder.name[:12]}; these checks know {REVISIONS[repository][:12]}"
            findings.append(_finding(context, "note", text, [Evidence(text, file=str(folder), version=folder.name)]))
    return Outcome(f"{read} checkpoint files in {', '.join(map(str, folders))}", tuple(findings))


def _wanted(folder: Path) -> list[str]:
    """Stems of the checkpoints that pipeline.json names in this folder."""
    try:
        models = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))["args"]["models"]
        return [Path(reference).name for reference in models.values() if str(reference).count("/") <= 1]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _one(context: Context, stem: str, file: Path) -> list[Finding]:
    try:
        keys = read_header(file)
    except CheckpointError as error:
        return [_finding(context, "error", f"{file.name}: {error}", [Evidence(str(error), file=str(file))])]
    wanted = list_for(stem)
    if wanted is None and "blocks.0.attn.qkv.weight" in keys and "blocks.0.gamma_1" in keys:
        wanted = expected()["dinov3"]
    if wanted is None:
        return []
    missing = [k for k in wanted if k not in keys]
    extra = [k for k in keys if k not in wanted and not _COMPUTED.search(k)]
    shapes = [k for k in wanted if k in keys and keys[k][1] != wanted[k][1]]
    if not (missing or extra or shapes):
        return []
    seen = [Evidence(f"missing: {k} {list(wanted[k][1])}", file=str(file), symbol=k) for k in missing[:_SHOWN]]
    seen += [Evidence(f"unexpected: {k} {list(keys[k][1])}", file=str(file), symbol=k) for k in extra[:_SHOWN]]
    seen += [
        Evidence(f"{k} is {list(keys[k][1])}, expected {list(wanted[k][1])}", file=str(file), symbol=k)
        for k in shapes[:_SHOWN]
    ]
    counts = f"{len(missing)} keys missing, {len(extra)} unexpected, {len(shapes)} of another shape"
    summary = f"{file.name} is not the checkpoint its name says: {counts}"
    return [_finding(context, "error", summary, seen)]


def _finding(context: Context, severity: str, summary: str, seen: list[Evidence]) -> Finding:
    return context.finding(
        ID,
        "error" if severity == "error" else "note",
        summary,
        seen=seen,
        leads_to="loading stops with an error; a loader that is not strict leaves random weights in place"
        if severity == "error"
        else "results may differ from the published ones",
        remedy=[
            "# download the file again; with the hub's own tool, which checks it:",
            "hf download microsoft/TRELLIS.2-4B --force-download" if severity == "error" else "# nothing is needed",
        ],
    )


CHECK = Check(ID, "Model files", "error", run, ("strict-false",))
