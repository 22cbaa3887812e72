"""Which attention will be used, and what it costs in memory."""

from __future__ import annotations

from ..check import Check
from ..context import Context, TorchFacts
from ..finding import Evidence, NotApplicableError, Outcome
from ..site import Distribution, normalised
from ..symbols import is_torch_linked, misfit

ID = "flash-attn-absent"
_HEADS, _TOKENS = 12, 49_152  # of the largest flow model, and the limit of its cascade
_FLASH = {
    "flash-attn": {
        "flash_attn": "its package folder is missing",
        "flash_attn_2_cuda": "its compiled half (flash_attn_2_cuda) is missing: the build was skipped",
    },
    "flash-attn-3": {
        "flash_attn_interface": "its module flash_attn_interface is missing",
        "flash_attn_3": "its compiled half (flash_attn_3) is missing",
    },
    "flash-attn-4": {
        "flash_attn.cute": "its package folder flash_attn/cute is missing",
        "nvidia_cutlass_dsl": "its compiler (nvidia-cutlass-dsl) is missing",
        "quack": "quack-kernels, which it imports, is missing",
        "tvm_ffi": "apache-tvm-ffi, which calls its kernels, is missing",
    },
}
"""For each distribution what it cannot do without, and what is said where that is not there."""
_OLDEST_FLASH, _OLDEST_EFFICIENT = (8, 0), (5, 0)


def run(context: Context) -> Outcome:
    torch, gpus = context.torch, context.machine.gpus
    if torch is None:
        raise NotApplicableError("torch is not installed")
    flashes = [d for d in map(context.site.get, _FLASH) if d]
    packages = [*flashes, *(d for d in [context.site.get("xformers")] if d)]
    matrix = _HEADS * _TOKENS**2 * 2
    if torch.cuda is None or not gpus:
        return Outcome("torch's own attention on the CPU (flash-attn and xformers need a GPU)")
    oldest = min(g.capability for g in gpus)
    unfit = {d.text: why for d in flashes if (why := _unfit(context, d))}
    findings = [
        context.finding(
            ID,
            "error",
            f"{d.text} is installed but cannot serve: {unfit[d.text]}",
            seen=[Evidence(unfit[d.text], file=str(d.folder), version=d.version)],
            leads_to="code that tries flash-attn first fails, or takes a slower path without a word",
            remedy=[
                context.pip("uninstall", "-y", d.name),
                f"# or build it for this torch: nox -s flash_attn -- --row {context.row.name if context.row else 'ROW'}"
                if normalised(d.name) == "flash-attn"
                else f"# or install it whole: {context.pip('install', '--force-reinstall', f'{d.name}=={d.version}')}",
            ],
        )
        for d in flashes
        if d.text in unfit
    ]
    lacking = {d.name: what for d in packages if (what := _lacks(context, torch, d))}
    usable = [d.text for d in packages if d.name not in lacking and d.text not in unfit]
    refused = "".join(f"; {name} cannot load here: it lacks {what}" for name, what in lacking.items())
    if usable and oldest >= _OLDEST_FLASH:
        return Outcome(f"{', '.join(usable)}{refused}; no attention matrix is stored", tuple(findings))
    if oldest >= _OLDEST_FLASH:
        none = f"{', '.join(d.text for d in flashes)} cannot serve" if flashes else "flash-attn is not installed"
        summary = f"{none}; torch's own flash kernel serves dense batches"
        cost = (
            "packed sequences of different lengths run one by one: slower, with a padded copy where code batches them"
        )
        severity = "note"
    elif oldest >= _OLDEST_EFFICIENT:
        summary = f"no flash kernel runs on capability {oldest[0]}.{oldest[1]}; torch's memory-efficient kernel is used"
        cost = "about 2 times slower; bf16 is emulated"
        severity = "note"
    else:
        summary = "torch's plain attention is used"
        cost = "see below"
        severity = "warning"
    size = f"{matrix / 2**30:.0f} GiB ({_HEADS} heads, 2 bytes)"
    plain = f"where a mask or dtype forces the plain path, the scores of {_TOKENS} tokens alone take {size}"
    memory = min(g.memory for g in gpus)
    if not flashes and context.site.module("trellis2") is not None:
        severity = "warning"  # upstream's default backend is flash_attn, and it has no varlen path over torch's own
        summary = "flash-attn is not installed, and the upstream pipeline here asks for it by default"
    findings.append(
        context.finding(
            ID,
            "warning" if severity == "warning" else "note",
            summary,
            seen=[
                Evidence(f"packages: {', '.join(d.text for d in packages) or 'none'}"),
                Evidence(f"GPU memory {memory / 2**30:.0f} GiB"),
            ],
            leads_to=f"{cost}; {plain}",
            remedy=[
                f"nox -s flash_attn -- --row {context.row.name}"
                if context.row
                else "# nox -s flash_attn -- --row ROW builds it for a row's torch"
            ],
        )
    )
    return Outcome(f"torch {torch.short} scaled_dot_product_attention{refused}", tuple(findings))


def _lacks(context: Context, torch: TorchFacts, package: Distribution) -> str:
    """What a package's compiled half asks for and does not get; the check abi-mismatch tells of it in full."""
    for path, facts in context.readable():
        if (
            context.site.owner(path) is package
            and is_torch_linked(facts)
            and (found := misfit(context, torch, path, facts))
        ):
            return ", ".join(found.libraries) or f"{len(found.symbols)} symbols of torch"
    return ""


def _unfit(context: Context, flash: Distribution) -> str | None:
    """Why an installed flash-attn cannot work here."""
    for module, what in _FLASH[normalised(flash.name)].items():
        if context.site.module(module) is None:
            return what
    oldest = min(g.capability for g in context.machine.gpus)
    if oldest < _OLDEST_FLASH:
        return f"it needs a GPU of capability 8.0 or newer, this one is {oldest[0]}.{oldest[1]}"
    return None


CHECK = Check(ID, "Attention", "error", run, ("flash-attn-absent",))
