"""Print the built book as one PDF, ``_build/book.pdf``: every page in reading order, links within.

All articles become one document, whose links and anchors stay inside it; Chromium prints it with
the print rules of ``book.css``. The pages must be there: ``make book``.
"""

import os
import posixpath
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup
from notebooks import ROOT, toc_files

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
LEFT_OUT = {"book/appendices/internal_api", "book/appendices/execution"}  # to look up, not to read
UNPRINTED = (
    "script, .headerlink, .toctree-wrapper, .prev-next-area, button, .ca-map, .viewcode-link, "
    "details.hide:has(+ .cell_output), style, img.only-dark"
)
ATTRIBUTES = {"a": "href", "img": "src"}


def place_of(page: str, fragment: str = "") -> str:
    """Return the anchor, in the document, of a page or of an anchor in it."""
    name = page.removesuffix(".html").replace("/", "-")
    return f"{name}--{fragment}" if fragment else name


def printed_article(html: Path, page: str, pages: set[str]):
    """Return the article of a page with its anchors, links and images made the document's own."""
    article = BeautifulSoup((html / page).read_text("utf-8"), "lxml").select_one("article")
    for part in article.select(UNPRINTED):
        part.decompose()
    for details in article.select("details"):
        details["open"] = ""
        if title := details.select_one("summary .expanded"):
            title.string = title.text.removeprefix("Hide ").removeprefix("the ").capitalize()
    for part in article.select("[id]"):
        part["id"] = place_of(page, part["id"])
    for part in article.select("a[href], img[src]"):
        name = ATTRIBUTES[part.name]
        link = urlsplit(part[name])
        if link.scheme:
            continue
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link.path))
        target = target if link.path else page
        if part.name == "img":
            part[name] = f"html/{target}"
            part["loading"] = "eager"
        elif target in pages:
            part[name] = "#" + place_of(target, link.fragment)
        else:
            part.unwrap()
    article["id"] = place_of(page)
    return article


def document(html: Path, names: list[str]) -> str:
    """Return the whole book as one HTML page, to be written beside the folder of the pages."""
    pages = [f"{name}.html" for name in names if (html / f"{name}.html").exists()]
    first = BeautifulSoup((html / pages[0]).read_text("utf-8"), "lxml")
    head = []
    for part in first.select("head link[rel=stylesheet], head script, body > script, title"):
        address = part.get("href") or part.get("src")
        if address:
            local = posixpath.normpath(posixpath.join(posixpath.dirname(pages[0]), address))
            part["href" if part.name == "link" else "src"] = f"html/{local}"
        if part.name != "script" or "mathjax" in str(part).lower():
            head.append(str(part))
    articles = (str(printed_article(html, page, set(pages))) for page in pages)
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"{''.join(head)}</head><body class='ca-print'>{''.join(articles)}</body></html>"
    )


def print_pdf(page: Path, target: Path) -> None:
    """Print one page to PDF with headless Chromium."""
    asked = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else BROWSERS
    browser = next(filter(None, map(shutil.which, asked)), None)
    if browser is None:
        sys.exit("error: printing needs Chromium; set CHROMIUM to its path")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--allow-file-access-from-files"),
            *("--no-pdf-header-footer", "--generate-pdf-document-outline"),
            *("--virtual-time-budget=600000", "--timeout=600000"),
            *(f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.as_uri()),
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def main() -> int:
    """Write ``_build/book.html`` and print it."""
    html, target = ROOT / "_build" / "html", ROOT / "_build" / "book.pdf"
    if not (html / "index.html").exists():
        sys.exit("error: no pages in _build/html; run `make book` first")
    names = [name for name in toc_files("_toc.yml") if name not in LEFT_OUT]
    page = target.with_suffix(".html")
    page.write_text(document(html, names), encoding="utf-8")
    print_pdf(page, target)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
