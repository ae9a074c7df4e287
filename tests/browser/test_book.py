"""The built book in a headless browser, at the width of a desk and of a phone.

Without Chromium this module fails. `T2V_NO_BROWSER=1` leaves it out instead.
"""

import base64
import functools
import http.server
import io
import os
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import urljoin, urlparse

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
SHOTS = ROOT / "_build" / "screenshots"
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
CHROMIUM = next(
    filter(
        None,
        map(shutil.which, (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")),
    ),
    None,
)
if CHROMIUM is None:
    if os.environ.get("T2V_NO_BROWSER") != "1":
        raise RuntimeError("no Chromium was found: install it, name it in CHROMIUM, or set T2V_NO_BROWSER=1")
    pytest.skip("T2V_NO_BROWSER=1 and no Chromium", allow_module_level=True)
PAGES = sorted(
    str(path.relative_to(HTML)) for folder in ("book", "notebooks") for path in (HTML / folder).glob("*.html")
) or ["missing"]

# What reaches beyond the window without a box of its own to scroll in, so that nobody can read it.
CUT_OFF = """() => {
  const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const inBox = e => e && e.tagName != 'ARTICLE' && (scrolls(e) || inBox(e.parentElement));
  return [...document.querySelectorAll('article :is(p, li, td, dd, figure, img, pre, table, mjx-container)')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !inBox(e))
    .map(e => e.tagName + ' ' + e.textContent.slice(0, 40));
}"""
CHAPTER = "notebooks/01_videos_and_captions.html"
BROKEN_IMAGES = """async () => {
  const good = image => image.decode().then(() => image.naturalWidth > 0, () => false);
  const images = [...document.images];
  const answers = await Promise.all(images.map(good));
  return images.filter((_, i) => !answers[i]).map(image => image.src.slice(0, 80));
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    assert (HTML / "index.html").is_file(), "the book is not built: run `make book` first"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, address):
    """Open a page; gives it with what it asked for and complained about."""
    contexts = []

    def open_page(name, width="desk", **options):
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        context = browser.new_context(viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "response", lambda r: page.complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None
        )
        page.goto(urljoin(address, name), wait_until="load")
        page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise")
        page.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
        page.wait_for_timeout(200)
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_pages_are_there():
    assert {"book/intro.html", "notebooks/01_videos_and_captions.html"} <= set(PAGES)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_page(visit, address, name, width):
    page = visit(name, width)
    elsewhere = [u for u in page.asked if not u.startswith((address, "data:", "blob:", "about:"))]
    assert elsewhere == []
    assert page.complaints == []
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= WIDTHS[width][0] + 1, f"the page is {wide} pixels wide"
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(BROKEN_IMAGES) == []
    # The top of the page shows text, not an error, and formulae are typeset.
    assert len(page.inner_text("article")) > 300
    unset = page.evaluate(
        "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length"
    )
    assert unset == 0
    page.screenshot(path=SHOTS / f"{name.replace('/', '_')}-{width}.png", full_page=True)


def clips(page):
    """Sources of the pictures that should move."""
    return page.evaluate("[...document.querySelectorAll('img.t2v-moving')].map(i => i.src)")


@pytest.mark.parametrize(("name", "least"), [("book/intro.html", 12), (CHAPTER, 20)])
def test_clips_move(visit, address, name, least):
    page = visit(name)
    sources = clips(page)
    assert len(sources) >= least
    shown = page.evaluate(
        """[...document.querySelectorAll('img.t2v-moving')]
           .filter(i => i.getBoundingClientRect().width >= 96).length"""
    )
    assert shown == len(sources)
    for source in sources:
        if source.startswith("data:"):
            data = base64.b64decode(source.split(",", 1)[1])
        else:
            data = (HTML / urlparse(source).path.lstrip("/")).read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.is_animated and picture.n_frames > 1 and picture.info["loop"] == 0


def changes(page) -> bool:
    """Whether the first clip of the page looks different a little later."""
    box = page.locator(".t2v-player figure").first
    box.scroll_into_view_if_needed()
    first = box.screenshot()
    for _ in range(10):
        page.wait_for_timeout(150)
        if box.screenshot() != first:
            return True
    return False


def test_clips_play(visit):
    assert changes(visit("book/intro.html"))


def test_still_for_those_who_ask_for_less_motion(visit):
    page = visit("book/intro.html", reduced_motion="reduce")
    assert not changes(page)
    visible = "getComputedStyle(i).display != 'none'"
    assert page.evaluate(f"[...document.querySelectorAll('img.t2v-moving')].every(i => !({visible}))")
    assert page.evaluate(f"[...document.querySelectorAll('img.t2v-still')].every(i => {visible})")


def test_search_finds(visit):
    page = visit("search.html?q=circle")
    page.wait_for_selector("ul.search li", timeout=20_000)
    page.wait_for_selector("ul.search a[href*='01_videos_and_captions']", timeout=20_000)
    assert page.locator("input[type=search]:visible").count() <= 1


def test_solutions_are_folded_and_open(visit):
    page = visit("notebooks/01_videos_and_captions.html")
    folded = page.locator(".solution.dropdown")
    assert folded.count() == 5
    code = folded.first.locator("pre")
    assert not code.is_visible()
    folded.first.locator("button, summary").first.click()
    code.wait_for(state="visible", timeout=5_000)


def test_numbers_count_within_the_chapter(visit):
    page = visit(CHAPTER)
    assert page.locator("article h1").inner_text().startswith("1. Videos and captions")
    equations = page.locator("article .eqno").all_inner_texts()
    assert equations and [re.search(r"\(([\d.]+)\)", text)[1] for text in equations] == [
        f"1.{i}" for i in range(1, len(equations) + 1)
    ]
    exercises = page.locator(".exercise > .admonition-title").all_inner_texts()
    assert [re.search(r"Exercise ([\d.]+)", text)[1] for text in exercises] == [f"1.{i}" for i in range(1, 6)]


def test_a_citation_leads_to_an_entry_that_reads_like_it(visit):
    page = visit(CHAPTER)
    cited = page.evaluate(
        """[...document.querySelectorAll("article a.reference[href*='references.html#']")]
           .map(a => [a.innerText, a.getAttribute('href').split('#')[1]])"""
    )
    assert cited
    page = visit("book/references.html")
    assert page.locator(".citation > .label:visible").count() == 0
    for text, target in cited:
        name, year = re.fullmatch(r"(\S+).*, (\d{4}[a-z]?)", text).groups()
        entry = page.locator(f"[id='{target}']").inner_text()
        assert entry.startswith(name) and f"({year})" in entry


def test_printed_lines_wrap_at_the_width_of_a_desk(visit):
    page = visit(CHAPTER)
    wide = page.evaluate(
        """[...document.querySelectorAll('.cell_output pre')]
           .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 40))"""
    )
    assert wide == []


def test_facts_are_folded_and_failures_are_not(visit):
    page = visit("book/intro.html")
    failing = page.locator(".t2v-player .t2v-no")
    folded = page.locator(".t2v-player details .t2v-no")
    assert failing.count() == 2 * folded.count() == 2 * page.locator(".t2v-no:visible").count()
    first = page.locator(".t2v-player details").first
    assert not first.locator("li").first.is_visible()
    first.locator("summary").click()
    assert first.locator("li").first.is_visible()


def test_tables_are_as_wide_as_their_rows(visit):
    page = visit("book/intro.html")
    strips = page.evaluate(
        """[...document.querySelectorAll('table.table')].map(t =>
           t.getBoundingClientRect().right - t.querySelector('tr').getBoundingClientRect().right)"""
    )
    assert len(strips) == 2 and max(strips) < 2


def test_tables_can_be_read_in_the_dark(visit):
    page = visit(CHAPTER)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(500)
    colors = page.evaluate(
        """[...document.querySelectorAll('.t2v-table')].filter(t => t.offsetParent).map(t => [
           getComputedStyle(t.closest('.text_html')).backgroundColor,
           getComputedStyle(t.querySelector('caption') || t).color,
           getComputedStyle(t.closest('article')).color])"""
    )
    assert colors
    for box, text, body in colors:
        assert box == "rgba(0, 0, 0, 0)" and text == body
