"""The report and the viewer: self-contained, nothing a file says becomes markup, and they draw in a real browser."""

import os
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image
from trellis_regression.check import check, compare
from trellis_regression.inject import Model, inject
from trellis_regression.profile import Looks
from trellis_regression.report import page
from trellis_regression.viewer import serve

LOOKS = Looks(64, ((0, 0), (90, 0)))


@pytest.fixture(scope="module")
def failed(controls, tmp_path_factory):
    """A robot with floating triangles against its golden."""
    control = controls["robot"]
    path = tmp_path_factory.mktemp("bad") / "<b>bad.glb"
    path.write_bytes(inject(Model.of(control.asset()), "floaters", "40").data)
    return compare(control.golden_path, path, looks=LOOKS)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that draws WebGL in software."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        if os.environ.get("TRELLIS_CI") == "1":
            pytest.fail("Chromium is missing; CI installs it (.ci/run)")
        pytest.skip("no Chromium here")

    def shoot(url, out, size=(1100, 1500)):
        done = subprocess.run(
            [
                found, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
                "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--hide-scrollbars", f"--user-data-dir={out.parent / 'profile'}", f"--window-size={size[0]},{size[1]}",
                "--virtual-time-budget=8000", f"--screenshot={out}", "--enable-logging=stderr", url,
            ],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "rror" in line]
        assert not complaints, complaints
        return np.asarray(Image.open(out).convert("RGB")).astype(int)

    return shoot


def test_report_is_one_file_that_needs_nothing_else(failed):
    html = page([failed])
    without_code = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert 'src="http' not in html and 'href="http' not in html
    assert all(u.startswith("data:image/png") for u in re.findall(r'src="([^"]*)"', without_code))
    assert "40 small pieces float away" in html
    assert html.count("data:model/gltf-binary") == 2 and "floaters" in html


def test_what_a_file_says_is_text(failed):
    html = page([failed])
    assert "<b>bad.glb" not in re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert "&lt;b&gt;bad.glb" in html


def test_report_on_nothing_to_see(controls, tmp_path):
    path = tmp_path / "empty.glb"
    path.write_bytes(inject(Model.of(controls["robot"].asset()), "empty", "no mesh").data)
    html = page([check(path, looks=LOOKS)])
    assert "there is no surface to draw" in html and "the file holds no surface" in html


def test_report_in_a_browser_shows_both_assets_in_three_dimensions(failed, browser, tmp_path):
    report = tmp_path / "report.html"
    report.write_text(page([failed]), encoding="utf-8")
    picture = browser(report.as_uri(), tmp_path / "shot.png")
    # The robot's turquoise chest (base colour about 130, 245, 230) is drawn by WebGL in both halves of the view.
    view = picture[230:700]
    turquoise = (view[..., 1] > 150) & (view[..., 2] > 150) & (view[..., 0] < 0.75 * view[..., 1])
    middle = view.shape[1] // 2
    assert turquoise[:, :middle].sum() > 1500 and turquoise[:, middle:].sum() > 1500
    # The verdict's red banner is above it.
    assert ((picture[:230, :, 0] > 50) & (picture[:230, :, 1] < 40)).sum() > 10_000


@pytest.fixture
def served(controls):
    server = serve.server([controls["vase"].path])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_viewer_serves_its_files_and_nothing_else(served, controls):
    assert urllib.request.urlopen(f"{served}/0.glb").read() == controls["vase"].path.read_bytes()
    assert b"trellisView" in urllib.request.urlopen(served).read()
    for path in ("/1.glb", "/../../etc/passwd", "/viewer.js"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(served + path)
    request = urllib.request.Request(served + "/0.glb", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)


def test_viewer_draws_in_a_browser(served, browser, tmp_path):
    picture = browser(served, tmp_path / "view.png", (700, 600))
    colourful = (picture.max(-1) - picture.min(-1)) > 60
    assert colourful[80:540].sum() > 5000
