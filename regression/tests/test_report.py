"""The report and the viewer: self-contained, nothing a file says becomes markup, and they draw in a real browser."""

import re
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import torch
from trellis_regression.check import check, compare
from trellis_regression.inject import Model, inject
from trellis_regression.profile import Looks
from trellis_regression.render import NOTHING
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


@pytest.mark.parametrize("broken", ["empty", "elsewhere"])
def test_where_nothing_is_to_be_seen_it_is_said_and_shown(controls, tmp_path, broken):
    """Without a surface, and with one that lies where no camera looks: the golden's own shape is what differs, all of it."""
    model, path = Model.of(controls["robot"].asset()), tmp_path / "x.glb"
    far = replace(model, positions=model.positions + np.float32(9 * model.extent))
    path.write_bytes(inject(model, "empty", "no mesh").data if broken == "empty" else far.write())
    result = compare(controls["robot"].path, path, looks=LOOKS)
    for view in result.evidence.views:
        covered = (view.golden != torch.tensor(NOTHING, dtype=torch.uint8)).any(-1)
        assert (view.error[covered] > 0.5).float().mean() > 0.9
        assert float(view.error[:6, :6].max()) < 1e-6  # away from it both are the same background
    html = page([result])
    assert "The candidate shows nothing from any side" in html
    assert html.count(f"<p>{'no surface' if broken == 'empty' else 'nothing in sight'}</p>") == 6


def test_an_asset_that_is_seen_is_not_said_to_be_missing(failed):
    assert "shows nothing" not in page([failed]) and "nothing in sight" not in page([failed])


def test_what_could_not_be_judged_is_in_the_report_of_the_set(failed):
    html = page([failed], title="Set", unusable={"<chair>": "no golden <chair>"})
    assert "2 of 2 failed" in html and "&lt;chair&gt;" in html and "no golden &lt;chair&gt;" in html
    assert "no golden chair" in page([], unusable={"chair": "no golden chair"})
    assert "<chair>" not in re.sub(r"<script.*?</script>", "", html, flags=re.S)


def test_a_passing_asset_has_a_green_page_and_a_failing_one_names_its_gate_in_the_title(failed, controls):
    sound = compare(controls["vase"].path, controls["vase"].path, looks=LOOKS)
    html = page([sound])
    assert "<title>✓ vase" in html.replace(controls["vase"].path.name, "vase.glb") and "none fired" in html
    assert 'class="verdict fail"' not in html
    assert "<title>✗ " in page([failed]) and "all 2 passed" in page([sound, sound])


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


def test_a_port_that_is_taken_is_named(served, controls):
    port = int(served.rsplit(":", 1)[1])
    with pytest.raises(OSError, match=r"in use: '--port \d+'"):
        serve.server([controls["vase"].path], port)
