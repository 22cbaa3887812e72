"""Where downloaded models lie."""

from __future__ import annotations

from pathlib import Path

from .context import Context

MAIN = "microsoft/TRELLIS.2-4B"
STRUCTURE = "microsoft/TRELLIS-image-large"
REVISIONS = {
    MAIN: "af44b45f2e35a493886929c6d786e563ec68364d",
    STRUCTURE: "25e0d31ffbebe4b5a97464dd851910efc3002d96",
    "facebook/dinov3-vitl16-pretrain-lvd1689m": "ea8dc2863c51be0a264bab82070e3e8836b02d51",
}
"""Revisions whose files the lists of keys were taken from."""


def hub_folder(context: Context) -> Path:
    env = context.machine.env
    if cache := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache)
    home = env.get("HF_HOME")
    if home:
        return Path(home) / "hub"
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else context.machine.home / ".cache") / "huggingface" / "hub"


def has_token(context: Context) -> bool:
    env = context.machine.env
    return (
        bool(env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN"))
        or (hub_folder(context).parent / "token").is_file()
    )


def snapshots(context: Context, repository: str) -> list[Path]:
    return sorted(
        p
        for p in (hub_folder(context) / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*")
        if p.is_dir()
    )


def has_weights(folder: Path) -> bool:
    return any(
        f.stat().st_size > 0
        for pattern in ("*.safetensors", "*/*.safetensors", "*.bin")
        for f in folder.glob(pattern)
        if f.is_file()
    )


def model_folders(context: Context) -> list[Path]:
    """Folders that hold checkpoints of the family."""
    if context.models is not None:
        return [context.models]
    found = [p for name in (MAIN, STRUCTURE) for p in snapshots(context, name)]
    if comfy := context.machine.env.get("COMFYUI_PATH"):
        found += sorted(p for p in (Path(comfy) / "models").glob("*/TRELLIS*") if p.is_dir())
    return found
