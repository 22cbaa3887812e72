"""The report and the viewer in a real browser, used as a person uses them: looked at, dragged, by keys, on a narrow screen."""

import base64
import io
import os
import threading
from itertools import pairwise

import browser as chromium
import numpy as np
import pytest
from PIL import Image
from trellis_regression.check import check, compare
from trellis_regression.inject import Model, inject
from trellis_regression.profile import Looks
from trellis_regression.report import page
from trellis_regression.viewer import serve

LOOKS = Looks(64, ((0, 0), (90, 0)))
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium for this file's tests."""
    program = chromium.find()
    if not program:
        if os.environ.get("TRELLIS_CI") == "1":
            pytest.fail("Chromium is missing; CI installs it (.ci/run)")
        pytest.skip("no Chromium here")
    opened = chromium.Browser(program, tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


def judged(controls, folder, fault, strength):
    """The robot with a fault in it, against the sound one."""
    path = folder / f"{fault}.glb"
    sound = folder / "sound.glb"
    sound.write_bytes(controls["robot"].path.read_bytes())
    path.write_bytes(inject(Model.of(controls["robot"].asset()), fault, strength).data)
    return compare(sound, path, looks=LOOKS)


@pytest.fixture(scope="module")
def floaters(controls, tmp_path_factory):
    """A fault that is seen in every picture."""
    return judged(controls, tmp_path_factory.mktemp("floaters"), "floaters", "40")


@pytest.fixture(scope="module")
def shell(controls, tmp_path_factory):
    """A fault that no picture shows: from outside both are the same."""
    return judged(controls, tmp_path_factory.mktemp("shell"), "double-shell", "100%")


@pytest.fixture
def report(browser, tmp_path):
    """Opens a report of some results; without WebGL unless it is asked for."""

    def show(*results, webgl=False, **how):
        path = tmp_path / "report.html"
        path.write_text(page(results), encoding="utf-8")
        browser.open(path.as_uri(), webgl=webgl, **how)
        return path.as_uri()

    return show


@pytest.fixture(scope="module")
def shell_report(shell, tmp_path_factory):
    """Where the report on a double shell is."""
    path = tmp_path_factory.mktemp("report") / "shell.html"
    path.write_text(page([shell]), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def turned(browser, shell_report):
    """The report on a double shell, drawn and in its first position."""
    if browser.run("location.href") != shell_report:
        browser.open(shell_report)
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    browser.run("[...document.querySelectorAll('.view button')].find(b => b.textContent === 'reset').click()")


def pane(browser, index):
    """The pixels of a view, as it is drawn now."""
    browser.run(PAINTED)
    data = browser.run(f"document.querySelectorAll('.view canvas')[{index}].toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")
    return np.asarray(picture).astype(int)


def changed(a, b):
    """The share of pixels that differ clearly."""
    return float((np.abs(a - b).max(-1) > 24).mean())


def test_both_assets_are_drawn_and_nothing_is_asked_of_anyone(report, browser, floaters):
    uri = report(floaters, webgl=True)
    assert browser.complaints == []
    assert {u for u in browser.requests if not u.startswith(("data:", "blob:"))} == {uri}
    for i in range(2):  # the robot's chest is turquoise: base colour about 130, 245, 230
        view = pane(browser, i)
        assert ((view[..., 1] > 150) & (view[..., 2] > 150) & (view[..., 0] < 0.75 * view[..., 1])).sum() > 1500
    box = browser.box(".verdict.fail")
    red = browser.picture(clip=box)
    assert (np.abs(red - [0x3D, 0x1A, 0x1A]).max(-1) < 3).mean() > 0.5


def test_a_page_may_not_ask_the_network_even_if_a_file_wants_it(report, browser, floaters):
    report(floaters)
    refused = browser.run(
        "Promise.race([new Promise(done => { document.addEventListener('securitypolicyviolation',"
        " e => done(e.blockedURI)); new Image().src = 'http://127.0.0.1:9/secret.png'; }),"
        " new Promise(done => setTimeout(() => done('asked'), 5000))])"
    )
    assert refused.startswith("http://127.0.0.1:9")
    assert browser.run("fetch('http://127.0.0.1:9/').then(() => 'asked', e => e.name)") == "TypeError"


def test_dragging_turns_both_views_together(turned, browser):
    before = [pane(browser, i) for i in range(2)]
    assert changed(*before) < 0.002  # from outside they are the same
    x, y, width, height = browser.box(".view canvas", 1)
    browser.drag(x + width / 2, y + height / 2, x + width / 2 + 90, y + height / 2 + 20)
    after = [pane(browser, i) for i in range(2)]
    assert min(changed(a, b) for a, b in zip(before, after, strict=True)) > 0.05
    assert changed(*after) < 0.002


def test_keys_turn_zoom_and_reset(turned, browser):
    first = pane(browser, 0)
    browser.run("document.querySelector('.view canvas').focus()")
    browser.press("ArrowRight")
    turned = pane(browser, 0)
    assert changed(first, turned) > 0.02
    browser.press("ArrowLeft")
    assert changed(first, pane(browser, 0)) < 0.002
    browser.press("ArrowUp")
    assert changed(first, pane(browser, 0)) > 0.02
    browser.press("Home")
    for _ in range(3):
        browser.press("+")
    covered = [(np.abs(p - [0x2B, 0x2D, 0x33]).max(-1) > 12).mean() for p in (first, pane(browser, 0))]
    assert covered[1] > 1.5 * covered[0]
    browser.press("Home")
    assert changed(first, pane(browser, 0)) < 0.002


def test_the_wheel_scrolls_the_page_until_a_view_was_clicked(turned, browser):
    first = pane(browser, 0)
    x, y, width, height = browser.box(".view canvas")
    at = browser.run("scrollY")
    browser.mouse("mouseWheel", x + width / 2, y + height / 2, deltaX=0, deltaY=60)
    browser.until(f"scrollY > {at}")
    assert changed(first, pane(browser, 0)) < 0.002
    browser.click(".view canvas")
    x, y, width, height = browser.box(".view canvas")
    at = browser.run("scrollY")
    browser.mouse("mouseWheel", x + width / 2, y + height / 2, deltaX=0, deltaY=-240)
    browser.run("new Promise(done => setTimeout(() => done(1), 300))")
    assert changed(first, pane(browser, 0)) > 0.01 and browser.run("scrollY") == at


def test_a_fault_that_no_picture_shows_is_said_and_cut_open(turned, browser):
    assert "look the same from every side" in browser.run("document.querySelector('.note').textContent")
    words = browser.run("[...document.querySelectorAll('.word')].map(w => w.textContent)")
    assert words == ["no visible difference"] * 6  # two cameras, three modes
    assert changed(pane(browser, 0), pane(browser, 1)) < 0.002
    browser.click(".note button")
    assert changed(pane(browser, 0), pane(browser, 1)) > 0.01


def test_a_difference_is_a_picture_and_the_worst_camera_is_marked(report, browser, floaters):
    report(floaters)
    assert browser.run("document.querySelectorAll('.word, .note').length") == 0
    assert browser.run("document.querySelectorAll('.cards:not([hidden]) .card.worst').length") == 1


def test_buttons_switch_modes_and_turn_to_a_side(report, browser, floaters):
    report(floaters, webgl=True)
    shaded = pane(browser, 0)
    browser.click(".modes button", 2)
    assert browser.run("[...document.querySelectorAll('.cards')].map(c => c.hidden)") == [True, True, False]
    assert browser.run("document.querySelectorAll('.modes [aria-pressed=true]').length") == 1
    browser.click(".cards:not([hidden]) .card button", 1)
    normals = pane(browser, 0)
    # From +x, the robot's side has a normal of (1, 0, 0), which is drawn as (255, 128, 128) in both.
    assert (np.abs(normals - [255, 128, 128]).max(-1) < 12).mean() > 0.03
    assert changed(shaded, normals) > 0.05
    assert browser.run("document.querySelector('.view [aria-pressed=true]').textContent") == "normals"


def test_the_turntable_turns_until_it_is_stopped(turned, browser):
    first = pane(browser, 0)
    spin = "[...document.querySelectorAll('.view button')].find(b => b.textContent === 'turntable')"
    browser.run(f"{spin}.click()")
    browser.run("new Promise(done => setTimeout(() => done(1), 1500))")
    assert changed(first, pane(browser, 0)) > 0.02
    browser.run(f"{spin}.click()")
    stopped = pane(browser, 0)
    browser.run("new Promise(done => setTimeout(() => done(1), 500))")
    assert changed(stopped, pane(browser, 0)) == 0


@pytest.mark.parametrize("width", [320, 500])
def test_nothing_is_cut_off_on_a_narrow_screen(report, browser, floaters, width):
    report(floaters, size=(width, 800))
    assert browser.run("document.documentElement.scrollWidth") <= width
    over = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => e.getClientRects().length && !e.closest('svg svg'))"
        f".filter(e => e.getBoundingClientRect().right > {width} + .5 || e.getBoundingClientRect().left < -.5)"
        ".map(e => e.tagName + '.' + e.className)"
    )
    assert over == []
    pictures = browser.run("[...document.querySelectorAll('.cards:not([hidden]) img')].map(i => i.clientWidth)")
    assert len(pictures) == 6 and min(pictures) >= width / 4
    # The ruler of a gate keeps its clean assets, its threshold and the candidate inside.
    rulers = browser.run("[...document.querySelectorAll('.gates td > svg')].map(e => e.clientWidth)")
    assert rulers and min(rulers) > 0.85 * width


def test_every_picture_and_view_says_what_it_is(report, browser, floaters, controls):
    alone = check(controls["vase"].path, looks=LOOKS, validate=False)
    report(floaters, alone)
    said = browser.run("[...document.querySelectorAll('section img')].map(i => i.alt)")
    assert all("," in alt for alt in said) and len(set(said[:18])) == 18
    assert {alt.split(",")[0] for alt in said} == {"golden", "candidate", "difference"}
    assert browser.run(
        "[...document.querySelectorAll('.index img')].every(i => i.alt === '' && i.closest('a').textContent)"
    )
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n.get("ignored")]
    for role in ("button", "link", "slider", "application", "image", "img"):
        assert all(name.strip() for r, name in roles if r == role), role
    assert sum(role == "application" for role, _ in roles) == 3
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))


def test_tab_goes_through_everything_in_reading_order_and_shows_where_it_is(report, browser, shell):
    report(shell)
    wanted = browser.run(
        "window.stops = [...document.querySelectorAll('button, canvas, input, a[href]')]"
        ".filter(e => e.getClientRects().length); stops.length"
    )
    for i in range(wanted):
        browser.press("Tab")
        assert browser.run("stops.indexOf(document.activeElement)") == i
        assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


CONTRAST = """(() => {
  const parse = (c) => { const v = c.match(/[0-9.]+/g).map(Number); return { rgb: v.slice(0, 3), a: v[3] ?? 1 }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = (e) => { for (let at = e; at; at = at.parentElement) {
    const c = parse(getComputedStyle(at).backgroundColor); if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
  const found = [];
  const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.textContent.trim() || !e.getClientRects().length || e.closest('svg, script')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).rgb), light(ground(e))].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), n.textContent.trim().slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
})()"""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_can_be_read_in_both_themes(report, browser, floaters, controls, theme):
    sound = compare(controls["leaf"].path, controls["leaf"].path, looks=LOOKS)
    report(floaters, sound, theme=theme)
    found = browser.run(CONTRAST)
    assert len(found) > 100 and found[0][0] >= 4.5, found[:5]
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (int(ground[4:].split(",")[0]) > 200) == (theme == "light")


def test_a_long_report_uses_one_context_and_loads_what_is_looked_at(report, browser, floaters):
    report(*[floaters] * 12, webgl=True)
    state = "[...document.querySelectorAll('.view')].map(v => v.dataset.state || '')"
    assert browser.run(state)[-1] == ""
    browser.run("document.querySelectorAll('.view')[11].scrollIntoView()")
    browser.until("document.querySelectorAll('.view')[11].dataset.state === 'ready'")
    assert (pane(browser, 23)[..., 1] > 150).sum() > 1500
    assert browser.complaints == []  # a browser complains about too many WebGL contexts


def test_without_webgl_the_report_says_so_and_keeps_its_pictures(report, browser, floaters):
    report(floaters)
    assert "no WebGL" in browser.run("document.querySelector('.view figcaption').textContent")
    assert browser.run("document.querySelector('.cards img').naturalWidth") == LOOKS.size
    browser.click(".cards:not([hidden]) .card button")  # has nothing to turn, and does no harm
    assert not any("TypeError" in c for c in browser.complaints)


@pytest.fixture
def served(controls, tmp_path):
    """A server of `trellis view` for two files, and one of them."""
    path = tmp_path / "<i>robot.glb"
    path.write_bytes(controls["robot"].path.read_bytes())
    server = serve.server([controls["vase"].path, path])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", path
    server.shutdown()
    thread.join()
    server.server_close()


def test_viewer_fills_the_window_and_asks_only_its_own_server(served, browser):
    address, path = served
    browser.open(address, size=(900, 600))
    assert browser.complaints == []
    assert sorted(u for u in browser.requests if not u.startswith(("data:", "blob:"))) == [
        address, f"{address}0.glb", f"{address}1.glb",
    ]  # fmt: skip
    assert browser.run("[...document.querySelectorAll('figcaption b')].map(b => b.textContent)")[1] == path.name
    for i in range(2):
        view = pane(browser, i)
        assert ((view.max(-1) - view.min(-1)) > 60).mean() > 0.03
    for size in ((900, 600), (500, 700)):
        browser.resize(*size)
        browser.run(PAINTED)
        assert browser.run("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == list(
            size
        )
        area = browser.run(
            "[...document.querySelectorAll('canvas')].reduce((s, c) => s + c.clientWidth * c.clientHeight, 0)"
        )
        assert area > 0.6 * size[0] * size[1]


def test_viewer_says_when_a_file_is_gone(served, browser):
    address, path = served
    path.unlink()
    browser.open(address)
    browser.until("document.querySelector('.view').dataset.state === 'failed'")
    captions = browser.run("[...document.querySelectorAll('figcaption')].map(c => c.textContent)")
    assert "faces" in captions[0] and "cannot be shown: the server says 410" in captions[1]
