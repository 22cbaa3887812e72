"""The rotatable view of GLBs: three.js (bundled, MIT) and a few lines of ours, for reports and for `trellis view`."""

from __future__ import annotations

from importlib.resources import files


def script() -> str:
    """Both scripts, safe inside a <script> element."""
    folder = files(__package__)
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("three.min.js", "viewer.js")]
    return "\n".join(texts).replace("</script", "<\\/script")


def style() -> str:
    """The style of pages that hold a view."""
    return (files(__package__) / "viewer.css").read_text(encoding="utf-8")
