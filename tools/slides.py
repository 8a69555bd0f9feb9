"""Turn chapters into slides: a column for each section, a slide for each cell of code.

Usage: ``python tools/slides.py CHAPTER.ipynb ...`` after ``make book``. Slides are cut from the
rendered pages and lie beside them in ``_build/html/slides``: figures, mathematics and references
are those of the book. Exercises and solutions are left out. reveal.js is copied from the package
sphinx-revealjs, so a page loads nothing from elsewhere.
"""

import argparse
import os
import sys
from importlib.resources import files
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from notebooks import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from offline import copy_parts

BOOK = ROOT / "_build" / "html"
REVEAL = ["dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "dist/theme/fonts"]
REVEAL += ["plugin/notes", "LICENSE"]
LEFT_OUT = ".exercise, .solution, .tag_solution, .headerlink, script, .ca-map, img.only-dark"
PAGE = """<!doctype html>
<html lang="en" data-theme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{styles}
<link rel="stylesheet" href="reveal/dist/reveal.css">
<link rel="stylesheet" href="reveal/dist/theme/white.css">
<style>
.reveal {{ font-size: 24px }}
.reveal .slides {{ text-align: left }}
.reveal .slides section {{ max-height: 100%; overflow-y: auto }}
.reveal h1, .reveal h2, .reveal h3 {{ text-transform: none; font-size: 1.6em }}
.reveal pre {{ width: 100%; margin: 0; box-shadow: none; font-size: .75em }}
.reveal img {{ max-height: 520px; max-width: 100%; margin: 0 auto; display: block }}
.reveal table {{ font-size: .85em }}
</style>
</head><body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script>window.MathJax = {{"options": {{"processHtmlClass": "math|output_area"}}}}</script>
<script defer src="../_static/mathjax/tex-chtml.js"></script>
<script src="reveal/dist/reveal.js"></script>
<script src="reveal/plugin/notes/notes.js"></script>
<script>
Reveal.initialize({{
  width: 1100, height: 760, center: false, hash: true, slideNumber: "c/t", plugins: [RevealNotes],
}});
</script>
</body></html>
"""


def is_new_slide(part: Tag) -> bool:
    """Tell whether a part of a section begins a slide: code, a figure, a section below."""
    return part.name == "section" or "cell" in part.get("class", [])


def cut(section: Tag) -> list[list[Tag]]:
    """Cut a section into slides; text stays with what stands above it."""
    slides: list[list[Tag]] = [[]]
    for part in section.find_all(recursive=False):
        if is_new_slide(part) and slides[-1]:
            slides.append([])
        slides[-1].append(part)
    return slides


def is_only_heading(slides: list[list[Tag]]) -> bool:
    """Tell whether nothing is left of a section but its heading."""
    return len(slides) == 1 and all(part.name in ("h1", "h2", "h3") for part in slides[0])


def rebase(tag: Tag, page: Path, out: Path) -> None:
    """Make the addresses of a page's element right for a page in another folder."""
    for name in ("href", "src"):
        address = tag.get(name)
        if not address or ":" in address.split("/")[0] or address.startswith("//"):
            continue
        path, mark, anchor = address.partition("#")
        target = page.parent / path if path else page
        tag[name] = Path(os.path.relpath(target, out)).as_posix() + mark + anchor


def to_slides(page: Path, out: Path) -> str:
    """Return the slides of one rendered chapter, as a page that will lie in ``out``."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    chapter = soup.select_one("article section")
    for tag in chapter.select(LEFT_OUT):
        tag.decompose()
    styles = soup.select("head link[rel=stylesheet], head link[rel=icon]")
    for tag in [*styles, *chapter.select("[href], [src]")]:
        rebase(tag, page, out)
    sections = [part.extract() for part in chapter.find_all("section", recursive=False)]
    columns = []
    for section in (chapter, *sections):
        slides = cut(section)
        if not is_only_heading(slides):
            inner = ("\n".join(map(str, parts)) for parts in slides)
            columns.append("\n".join(f"<section>\n{text}\n</section>" for text in inner))
    return PAGE.format(
        title=chapter.h1.get_text(),
        styles="\n".join(map(str, styles)),
        slides="\n".join(f"<section>\n{column}\n</section>" for column in columns),
    )


def copy_reveal(out: Path) -> None:
    """Copy the parts of reveal.js that slides use into a folder."""
    source = files("sphinx_revealjs") / "_static" / "revealjs"
    copy_parts(Path(str(source)), out / "reveal", REVEAL)


def main(arguments: list[str] | None = None) -> int:
    """Write one page a chapter; 2 where a file is not there or was not rendered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--book", type=Path, default=BOOK, help="the rendered book")
    options = parser.parse_args(arguments)
    out = options.book.resolve() / "slides"
    for path in options.chapters:
        page = options.book.resolve() / path.resolve().relative_to(ROOT).with_suffix(".html")
        if not path.is_file():
            print(f"error: there is no {path}", file=sys.stderr)
            return 2
        if not page.is_file():
            print(f"error: {path} is not rendered: run `make book` first", file=sys.stderr)
            return 2
        copy_reveal(out)
        target = out / f"{path.stem}.html"
        target.write_text(to_slides(page, out), encoding="utf-8")
        print(os.path.relpath(target))
    return 0


if __name__ == "__main__":
    sys.exit(main())
