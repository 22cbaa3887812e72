"""Settings of torch's allocator and of CUDA that the environment carries."""

from __future__ import annotations

import re
import shlex

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, Outcome

ID = "memory-settings"
_KNOWN = {
    "expandable_segments", "max_split_size_mb", "roundup_power2_divisions", "garbage_collection_threshold", "backend",
    "max_non_split_rounding_mb", "pinned_use_cuda_host_register", "pinned_num_register_threads", "release_lock_on_cudamalloc",
    "release_lock_on_hipmalloc", "graph_capture_record_stream_reuse", "pinned_reserve_segment_size_mb", "pinned_use_background_threads",
    "per_process_memory_fraction", "throw_on_cudamalloc_oom", "pinned_max_round_threshold_mb", "pinned_max_power2_size_mb",
    "enable_hardware_error_logging",
}  # fmt: skip


def run(context: Context) -> Outcome:
    env = context.machine.env
    findings: list[Finding] = []
    values = {n: env[n] for n in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF") if env.get(n)}
    for name, value in values.items():
        pairs = [p.partition(":") for p in re.split(r",(?![^\[]*\])", value.replace(" ", "")) if p]
        options = {key: setting for key, _, setting in pairs}
        unknown = [o for o in options if o not in _KNOWN]
        if unknown:
            findings.append(
                context.finding(
                    ID,
                    "error",
                    f"{name} has an option that torch does not know: {', '.join(unknown)}",
                    seen=[Evidence(f"{name}={value}")],
                    leads_to="'Unrecognized CachingAllocator option' at the first CUDA call",
                    remedy=[f"unset {name}"],
                )
            )
        if options.get("expandable_segments", "").lower() == "true" and context.machine.is_wsl:
            findings.append(
                context.finding(
                    ID,
                    "warning",
                    "expandable_segments is on under WSL2, where the driver does not fully support it",
                    seen=[Evidence(f"{name}={value}")],
                    leads_to="out of memory although memory is free, or a crash at the end of a job",
                    remedy=[f"unset {name}"],
                )
            )
    newer = env.get("PYTORCH_ALLOC_CONF")
    # 2.8 does not know the name, and 2.9 passes over what it says of segments on CUDA (pytorch issue 183387).
    if newer and not env.get("PYTORCH_CUDA_ALLOC_CONF") and context.torch and context.torch.key < (2, 11):
        findings.append(
            context.finding(
                ID,
                "warning",
                f"torch {context.torch.short} does not heed PYTORCH_ALLOC_CONF on CUDA; the name before 2.11 is PYTORCH_CUDA_ALLOC_CONF",
                seen=[Evidence(f"PYTORCH_ALLOC_CONF={newer}")],
                leads_to="the setting has no effect, and nothing says so",
                remedy=[f"export PYTORCH_CUDA_ALLOC_CONF={shlex.quote(newer)}"],
            )
        )
    if env.get("PYTORCH_NO_CUDA_MEMORY_CACHING") == "1":
        findings.append(
            context.finding(
                ID,
                "warning",
                "torch's caching allocator is switched off",
                seen=[Evidence("PYTORCH_NO_CUDA_MEMORY_CACHING=1")],
                leads_to="every operation waits for cudaMalloc: many times slower",
                remedy=["unset PYTORCH_NO_CUDA_MEMORY_CACHING"],
            )
        )
    if env.get("CUDA_LAUNCH_BLOCKING") == "1":
        findings.append(
            context.finding(
                ID,
                "note",
                "every kernel waits for the one before (CUDA_LAUNCH_BLOCKING=1)",
                seen=[Evidence("CUDA_LAUNCH_BLOCKING=1")],
                leads_to="slower; of use only for finding a failing kernel",
                remedy=["unset CUDA_LAUNCH_BLOCKING"],
            )
        )
    return Outcome("; ".join(f"{n}={v}" for n, v in values.items()) or "torch's defaults", tuple(findings))


CHECK = Check(ID, "Allocator settings", "error", run)
