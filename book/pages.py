"""Open every page of the site in a browser and look for what a reader would trip over.

::

    python book/pages.py            light, dark and narrow; needs Chromium and the packages of the extra ``book``
    python book/pages.py --shots DIR    keep pictures of the pages

A page must not ask the network for anything, must not log an error, must not be wider than the screen; the explorables
must answer to the keyboard; axe-core, where it is installed (``npm install axe-core``), must find nothing serious.
What the site itself offers must work: next and previous, search, the switch to dark, answers that unfold.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

BOOK = Path(__file__).resolve().parent
SITE = BOOK / "_build" / "html"
VIEWS = (("light", 1280), ("dark", 1280), ("light", 390))
OVERFLOWING = """() => [...document.querySelectorAll('article *')].filter(
  e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('svg, pre, .scroll, .math, table, mjx-container')
).slice(0, 5).map(e => e.tagName + ' ' + e.className)"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def pages() -> list[Path]:
    """Return the pages that a reader can reach by the table of contents."""
    return sorted(p for p in SITE.glob("*.html") if p.name not in ("genindex.html", "search.html", "py-modindex.html"))


def problems(shots: Path | None, views: tuple[tuple[str, int], ...] = VIEWS) -> list[str]:
    """Return a line for everything that is wrong, empty if all is well."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium found; Debian: apt-get install chromium")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        for path in pages():
            for scheme, width in views:
                where = f"{path.name} ({scheme}, {width} px)"
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                found += [f"{where}: {line}" for line in _look(context, server.server_port, path, shots, scheme, width)]
                context.close()
        found += _site(browser.new_page(), f"http://127.0.0.1:{server.server_port}/")
        browser.close()
    server.shutdown()
    return found


def _look(context: Any, port: int, path: Path, shots: Path | None, scheme: str, width: int) -> list[str]:
    found: list[str] = []
    home = f"http://127.0.0.1:{port}/"
    page = context.new_page()
    page.on("console", lambda message: found.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(f"script: {error}"))
    page.on(
        "request",
        lambda request: (
            found.append(f"asks for {request.url}") if not request.url.startswith((home, "data:", "blob:")) else None
        ),
    )
    page.goto(home + path.name, wait_until="load")
    page.wait_for_timeout(800)
    if page.evaluate("document.documentElement.scrollWidth") > width:
        found.append(f"wider than the screen: {page.evaluate(OVERFLOWING)}")
    for explorable in page.query_selector_all(".explorable"):
        found += _by_keyboard(page, explorable)
    for axe in (BOOK.parent / "node_modules", Path.home() / "node_modules", Path("/usr/lib/node_modules")):
        script = axe / "axe-core" / "axe.min.js"
        if script.is_file():
            page.evaluate(script.read_text())
            result = page.evaluate("axe.run()")
            found += [
                f"axe: {v['id']}, {v['nodes'][0]['html'][:90]}"
                for v in result["violations"]
                if v["impact"] in ("serious", "critical")
            ]
            break
    if shots is not None:
        shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(shots / f"{path.stem}-{scheme}-{width}.png"), full_page=True)
    return found


def _site(page: Any, home: str) -> list[str]:
    """Walk through the chapters, search, switch to dark and unfold an answer."""
    found = []
    chapters = [path.name for path in pages() if path.name[:2].isdigit()]
    page.goto(home + "index.html", wait_until="load")
    for direction, way in (("next", chapters), ("prev", [*reversed(chapters[:-1]), "index.html"])):
        for name in way:
            link = page.query_selector(f"a.{'right-next' if direction == 'next' else 'left-prev'}")
            if link is None:
                found.append(f"{page.url}: no link to {name} ({direction})")
                break
            link.click()
            page.wait_for_load_state("load")
            if not page.url.endswith("/" + name):
                found.append(f"{direction} leads to {page.url}; expected {name}")
    page.goto(home + "search.html?q=RoIAlign", wait_until="load")
    page.wait_for_timeout(1500)
    hits = page.eval_on_selector_all("#search-results li a", "links => links.map(a => a.getAttribute('href'))")
    if not any(hit.startswith("08") for hit in hits):
        found.append(f"a search for RoIAlign finds {hits[:5]}; expected the chapter on it")
    page.goto(home + chapters[0], wait_until="load")
    for mode in ("dark", "light"):
        page.click("button.theme-switch-button >> visible=true")
        page.click(f"button.theme-change-button[data-mode={mode}] >> visible=true", timeout=5000)
        if page.evaluate("document.documentElement.dataset.theme") != mode:
            found.append(f"the switch of the colours does not turn the page {mode}")
    for name in chapters:
        page.goto(home + name, wait_until="load")
        page.eval_on_selector("details summary", "summary => summary.click()")
        if not page.evaluate("document.querySelector('details').open"):
            found.append(f"{name}: an answer does not unfold")
    return found


def _by_keyboard(page: Any, explorable: Any) -> list[str]:
    """Press an arrow on everything that can be moved and see that the live picture changes."""
    found = []
    name = explorable.get_attribute("id")
    movable = explorable.query_selector_all("[role=slider], input[type=range], select")
    if not movable:
        return [f"{name}: nothing in it can be focused and moved"]
    for number, element in enumerate(movable):
        answers = False
        for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):  # at its end a slider answers to one of two
            before, value = explorable.inner_html(), element.evaluate("e => e.value")
            element.focus()
            page.keyboard.press(key)
            page.wait_for_timeout(30)
            answers |= explorable.inner_html() != before or element.evaluate("e => e.value") != value
        if not answers:
            found.append(f"{name}: control {number} does not answer to the arrow keys")
    return found


def main() -> int:
    """Look at all pages and say what is wrong."""
    parser = argparse.ArgumentParser(description="Look at the pages of the site in a browser.")
    parser.add_argument("--site", action="store_true", help="only what the site itself offers")
    parser.add_argument("--shots", type=Path, metavar="DIR", help="keep pictures of the pages")
    args = parser.parse_args()
    if not pages():
        sys.exit("there is no site; python book/press.py site builds it")
    found = problems(args.shots, views=() if args.site else VIEWS)
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    print(f"{len(pages())} pages in {0 if args.site else len(VIEWS)} views: {len(found) or 'no'} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
