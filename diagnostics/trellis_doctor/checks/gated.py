"""Models that need an approval by their owner."""

from __future__ import annotations

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, Outcome
from ..hub import has_token, has_weights, hub_folder, snapshots

ID = "gated-model"
# Gated repository -> what it is for, and a free choice in its place.
GATED = {
    "facebook/dinov3-vitl16-pretrain-lvd1689m": ("the image encoder", "timm/vit_large_patch16_dinov3.lvd1689m"),
    "briaai/RMBG-2.0": ("background removal", "ZhengPeng7/BiRefNet"),
}


def run(context: Context) -> Outcome:
    findings: list[Finding] = []
    ready = []
    for repository, (purpose, free) in GATED.items():
        found = snapshots(context, repository)
        if any(has_weights(s) for s in found):
            ready.append(repository)
            continue
        if any(has_weights(s) for s in snapshots(context, free)):
            ready.append(free)
            continue
        refused = bool(found)
        if not refused and has_token(context):
            ready.append(f"{repository} (not downloaded yet)")
            continue
        seen = [Evidence(f"no weights below {hub_folder(context)}", file=str(hub_folder(context)))]
        seen.append(
            Evidence("its folder exists without weights: the download was refused" if refused else "no access token")
        )
        findings.append(
            context.finding(
                ID,
                "error" if refused else "note",
                f"{repository} ({purpose}) {'was not downloaded whole' if refused else 'needs an approval'}",
                seen=seen,
                leads_to="401 or 403 (GatedRepoError) when the pipeline is loaded",
                remedy=[
                    f"# ask for access on the model page {repository} of the hub, then",
                    "hf auth login",
                    f"hf download {repository}",
                    f"# or, without approval: hf download {free}",
                ],
            )
        )
    return Outcome(", ".join(ready) or "none downloaded", tuple(findings))


CHECK = Check(ID, "Gated models", "error", run, ("gated-model",))
