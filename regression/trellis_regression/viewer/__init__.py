"""The rotatable view of GLBs: three.js (bundled, MIT) and a few lines of ours, for reports and for `trellis view`."""

from __future__ import annotations

from html import escape
from importlib.resources import files

_NOTHING_FROM_OUTSIDE = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src {own} data: blob:; base-uri 'none'; form-action 'none'"
)


def document(
    title: str, body: str, *, style: str = "", script: str = "", sound: bool = True, full: bool = False, own: str = ""
) -> str:
    """A whole page that can draw views and asks nobody for anything, whatever the GLBs in it refer to.

    Args:
        body: HTML of <main>.
        style, script: what the page has besides the viewer's own.
        sound: the colour of its icon.
        full: one view that fills the window.
        own: "'self'" for a page that reads from its own server.
    """
    colour = "%232e9e4f" if sound else "%23d93a2b"
    icon = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><circle cx='4' cy='4' r='4' fill='{colour}'/></svg>"
    )
    policy = _NOTHING_FROM_OUTSIDE.format(own=own)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:image/svg+xml,{escape(icon)}">'
        f"<style>{_text('viewer.css')}{style}</style></head>"
        f'<body class="{"full" if full else "page"}"><main>{body}</main>'
        f"<script>{_safe(_text('three.min.js'))}</script><script>{_safe(_text('viewer.js'))}\n{_safe(script)}</script></body></html>\n"
    )


def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _safe(script: str) -> str:
    """Inside a <script> element."""
    return script.replace("</script", "<\\/script")
