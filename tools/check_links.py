"""Check the built book: every internal link and anchor exists, nothing is loaded from elsewhere.

Links *to* other sites are fine; scripts, styles, images and frames *from* other sites are not: a
difference that neither LinkChecker nor Sphinx's linkcheck makes.
Usage: ``python tools/check_links.py _build/html``; exit code 1 where something is wrong.
"""

import re
import sys
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script", "img", "iframe", "source", "video", "audio", "embed", "object", "track", "link"}
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "author", "copyright", "genindex"}
STYLE_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Page(HTMLParser):
    """The anchors of one page and its links: addresses, and whether a browser loads them itself."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        """Note anchors and addresses."""
        values = {name: value for name, value in attributes if value}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        relation = set(values.get("rel", "").split())
        loaded = tag in LOADED and not relation & NOT_LOADED
        addresses = [values[key] for key in ("href", "src", "poster", "data") if key in values]
        if "srcset" in values:
            addresses += [choice.split()[0] for choice in values["srcset"].split(",")]
        self.links += [(address, loaded) for address in addresses]


def is_elsewhere(address: str) -> bool:
    """Tell whether an address leaves the book."""
    parts = urlsplit(address)
    return bool(parts.netloc or parts.scheme) and parts.scheme not in {"data", "blob"}


def wrong_in_pages(root: Path) -> list[str]:
    """Return one line for each link that leads nowhere or loads from elsewhere."""
    paths = [path for path in root.rglob("*.html") if "_static" not in path.parts]
    with ProcessPoolExecutor() as pool:
        parsed = pool.map(Page, paths, chunksize=8)
        pages = {path.resolve(): page for path, page in zip(paths, parsed, strict=True)}
    wrong = []
    for path, page in pages.items():
        here = path.relative_to(root.resolve()).as_posix()
        for address, loaded in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if loaded and is_elsewhere(address):
                    wrong.append(f"{here}: loads {address}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists():
                wrong.append(f"{here}: no page {address}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                wrong.append(f"{here}: no anchor {address}")
    return sorted(set(wrong))


def wrong_in_styles(root: Path) -> list[str]:
    """Return one line for each style sheet that loads from elsewhere or loads nothing."""
    wrong = []
    for path in root.rglob("*.css"):
        for found in STYLE_URL.findall(path.read_text(encoding="utf-8")):
            address = (found[0] or found[1]).strip()
            file = path.parent / unquote(urlsplit(address).path)
            if is_elsewhere(address):
                wrong.append(f"{path.relative_to(root)}: loads {address}")
            elif not address.startswith(("data:", "#")) and not file.exists():
                wrong.append(f"{path.relative_to(root)}: no file {address}")
    return sorted(set(wrong))


def main(folder: str) -> int:
    """Print what is wrong in a built book."""
    root = Path(folder)
    if not (root / "index.html").exists():
        print(f"error: no built book in {folder}; run `make book`", file=sys.stderr)
        return 2
    wrong = wrong_in_pages(root) + wrong_in_styles(root)
    for line in wrong:
        print(line)
    count = len(list(root.rglob("*.html")))
    print(f"links: {count} pages, {len(wrong)} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["_build/html"]))
