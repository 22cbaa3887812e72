"""`trellis view`: GLBs in the browser, served on loopback."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ..glb import check_geometry, read_glb
from . import document


def page(names: Sequence[str]) -> str:
    """The page that shows the files at /0.glb, /1.glb, ..."""
    assets = json.dumps([{"name": n, "glb": f"/{i}.glb"} for i, n in enumerate(names)]).replace("<", "\\u003c")
    title = ", ".join(names)
    return document(
        title, f'<h1>{escape(title)}</h1><div class="view"></div>', own="'self'", full=True,
        script=f"trellisView(document.querySelector('.view'), {assets});",
    )  # fmt: skip


def server(paths: Sequence[Path], port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that shows these files and nothing else; port 0 takes a free one.

    Raises:
        GlbError: a file that is not a GLB with triangles.
        OSError: the port is taken.
    """
    for path in paths:
        check_geometry(read_glb(path))
    contents = {f"/{i}.glb": path for i, path in enumerate(paths)}
    html = page([p.name for p in paths]).encode(errors="backslashreplace")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Only this machine's own names: another site's page must not be able to read files through a rebound name.
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in ("127.0.0.1", "localhost"):
                self.send_error(403)
            elif self.path == "/":
                self._send(html, "text/html; charset=utf-8")
            elif self.path in contents:
                try:
                    data = contents[self.path].read_bytes()  # each time: reloading shows what was exported anew
                except OSError as error:
                    self.send_error(410, f"cannot be read any more: {error.strerror}")
                else:
                    self._send(data, "model/gltf-binary")
            else:
                self.send_error(404)

        def _send(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            with contextlib.suppress(ConnectionError):  # the tab was closed meanwhile
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Nothing: the terminal belongs to whoever started it."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"--port {port}") from error
