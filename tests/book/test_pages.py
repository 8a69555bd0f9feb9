"""The rendered book, page by page, in a real headless browser."""

import re
from urllib.parse import unquote

import pytest
import yaml
from bs4 import BeautifulSoup
from check_links import main as check_links
from notebooks import ROOT, chapters, toc_files

pytestmark = pytest.mark.browser
PAGES = [f"{name}.html" for name in toc_files("_toc.yml")]
CHAPTERS = [path.relative_to(ROOT).with_suffix(".html").as_posix() for path in chapters()]
CHAPTER_2 = "book/foundations/02_scaled_dot_product_attention.html"

STATE = """
(() => {
  const article = document.querySelector('article.bd-article').cloneNode(true);
  article.querySelectorAll('pre, code, script, style, mjx-container').forEach(e => e.remove());
  const silent = i => !(i.getAttribute('alt') ?? '').trim() || /[\\/]|\\.png$/.test(i.alt);
  const images = [...document.images];
  return {
    title: document.title,
    headings: document.querySelectorAll('article h1').length,
    math: document.querySelectorAll('article span.math, article div.math').length,
    rendered: document.querySelectorAll('article mjx-container').length,
    unread: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
    spoken: document.querySelectorAll('article mjx-assistive-mml').length,
    broken: images.filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
    silent: images.filter(silent).map(i => i.src),
    shown: [...document.querySelectorAll('.tag_solution .cell_input')]
      .filter(e => e.checkVisibility()).length,
    text: article.textContent,
  };
})()
"""
LOAD_IMAGES = """
Promise.all([...document.images].map(image => {
  image.loading = 'eager';
  return image.decode().catch(() => 0);
})).then(() => 1)
"""
RAW_MARKUP = re.compile(
    r":::|```|\$\$|\{(?:cite|doc|eq|numref|ref|term|func|class|mod|meth|exercise|admonition)[:}\w]*"
    r"|\]\(|undefined reference|<Axes|<matplotlib|\bTraceback\b"
)
LAYOUT = """
(() => {
  const seen = e => e.checkVisibility() && !e.closest('.sr-only, .ca-hidden, .visually-hidden');
  const wide = e => e.scrollWidth > e.clientWidth + 1;
  const overflow = e => getComputedStyle(e).overflowX;
  const found = { page: document.documentElement.scrollWidth };
  const list = (kind, where, fault) => {
    found[kind] = [...document.querySelectorAll(where)].filter(e => seen(e) && fault(e))
      .map(e => `${e.localName}.${e.className} ${e.textContent.trim().slice(0, 60)}`);
  };
  list('clipped', 'article mjx-container', e => {
    const box = e.closest('.math') ?? e, [ink, frame] = [e.querySelector('mjx-math'), box]
      .map(part => part.getBoundingClientRect());
    const scrolls = [e, box].some(part => ['auto', 'scroll'].includes(overflow(part)));
    return !scrolls && ink.right > frame.right + 2
      || overflow(box) !== 'visible' && (ink.top < frame.top - 2 || ink.bottom > frame.bottom + 2);
  });
  list('scrolling', 'article p > .math mjx-container', e =>
    overflow(e) !== 'visible' && wide(e) && e.scrollWidth < e.closest('p').clientWidth);
  list('cut', 'article *:not(.math, mjx-container *, svg *, input)', e => e.clientWidth
    && ['hidden', 'clip'].includes(overflow(e)) && wide(e));
  list('code', '.cell_input pre', wide);
  return found;
})()
"""
# a change of scheme would fade over half a second, redrawn sixty times a second
STILL = """
document.adoptedStyleSheets.length || document.adoptedStyleSheets.push(new CSSStyleSheet()) &&
  document.adoptedStyleSheets[0].replaceSync(
    '*, ::before, ::after { transition: none !important; animation: none !important }')
"""
SCHEMES = ["light", "dark"]
# one step each: where width and scheme change together, a page takes longest to draw
VIEWS = [(390, False), (1300, False), (1300, True), (390, True)]


def look(browser, width, dark) -> str:
    """Set width and scheme of the open page, wait until it has settled, and name the view."""
    browser.evaluate(STILL)
    browser.look(width, dark)
    theme = f"document.documentElement.dataset.theme === '{SCHEMES[dark]}'"
    browser.wait_for(f"{theme} && document.getAnimations().every(a => a.playState !== 'running')")
    return f"{width} {SCHEMES[dark]}"


def layouts(browser) -> dict:
    """Return the layout of the open page at each width in each scheme."""
    return {look(browser, *view): browser.evaluate(LAYOUT) for view in VIEWS}


def faults(browser, accessibility) -> dict:
    """Return what axe-core finds at both widths and in both schemes, in two runs.

    What depends on the width does not depend on the scheme. To be called last: it thins the page.
    """
    return {look(browser, *view): accessibility(browser) for view in (VIEWS[-1], VIEWS[1])}


@pytest.fixture(scope="module", params=PAGES)
def page(request, browser, site, accessibility):
    """One page of the table of contents: loaded once, then looked at in all views."""
    browser.visit(site + request.param, width=VIEWS[0][0])
    browser.evaluate(LOAD_IMAGES)
    state = {"name": request.param, **browser.evaluate(STATE)}
    state["layouts"] = layouts(browser)
    state["elsewhere"], state["complaints"] = browser.from_elsewhere(), browser.complaints()
    return {**state, "faults": faults(browser, accessibility)}


def test_nothing_comes_from_elsewhere(page):
    assert page["elsewhere"] == []


def test_the_console_is_silent(page):
    assert page["complaints"] == []


def test_nothing_is_cut_off_or_scrolls_sideways(page):
    for view, layout in page["layouts"].items():
        assert layout["page"] <= int(view.split()[0]), f"{view}: the page scrolls sideways"
        assert layout["clipped"] == [], f"{view}: an equation is cut off"
        assert layout["cut"] == [], f"{view}: what is wider than its box is cut off"
        assert layout["scrolling"] == [], f"{view}: a formula in a line that fits has a scroll bar"
    assert page["layouts"]["1300 light"]["code"] == [], "a line of code does not fit"


def test_no_serious_fault_of_accessibility(page):
    assert not any(page["faults"].values()), page["faults"]


def test_mathematics_is_rendered(page):
    assert page["rendered"] >= page["math"], "an expression was left as TeX"
    assert page["unread"] == 0, "MathJax could not read an expression"
    assert page["spoken"] == page["rendered"], "an expression has nothing for a screen reader"


def test_images_are_loaded_and_described(page):
    assert page["broken"] == []
    assert page["silent"] == [], "an image without a text that says what it shows"


def test_no_markup_is_left_raw(page):
    found = RAW_MARKUP.search(page["text"])
    where = page["text"][max(0, found.start() - 60) : found.end() + 60] if found else ""
    assert found is None, f"raw markup in {page['name']}: ...{where}..."


def test_one_title_and_hidden_solutions(page):
    assert page["headings"] == 1 and page["title"]
    assert page["shown"] == 0, "a solution is open before the reader asks"


def test_a_broken_page_would_be_noticed(browser, broken, accessibility):
    browser.visit(broken + "index.html")
    assert browser.from_elsewhere() == ["https://example.org/elsewhere.js"]
    complaints = "\n".join(browser.complaints())
    for part in ("mine", "thrown", "404", "not loaded"):
        assert part in complaints, part
    layout = browser.evaluate(LAYOUT)
    assert layout["page"] > 1400 and len(layout["clipped"]) == len(layout["cut"]) == 1
    found = "\n".join(accessibility(browser))
    for part in ("color-contrast", "image-alt", "as dark as paper"):
        assert part in found, part


def test_chapters_have_mathematics_and_figures(browser, site):
    browser.visit(site + CHAPTER_2)
    state = browser.evaluate(STATE)
    assert state["rendered"] > 50
    assert browser.evaluate("$$('figure img').length") >= 3
    fonts = "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    assert any(family.startswith("MJX") for family in browser.evaluate(fonts))


def test_solutions_open_at_a_click(browser, site):
    browser.visit(site + CHAPTER_2)
    browser.evaluate("$('.tag_solution summary').click()")
    browser.wait_for("$('.tag_solution .cell_input').checkVisibility()")


def test_every_page_is_there(html):
    assert [name for name in PAGES if not (html / name).exists()] == []


def test_links_and_anchors_lead_somewhere(html, capsys):
    assert check_links(str(html)) == 0, capsys.readouterr().out


FOUND = {
    "softmax": "02_scaled",
    "equivariance": "02_scaled",
    "heads": "03_multi_head",
    "positional": "04_positions",
    "lag": "05_lag",
    "sectors": "06_hierarchy",
    "routers": "07_many",
    "daylight": "08_data",
    "oracle": "09_the_simulated",
    "RSI": "10_features",
    "embargo": "11_windows",
    "safetensors": "13_training",
    "lasso": "14_honest",
    "calibration": "15_prediction",
    "gradients": "16_attention",
    "Granger": "17_who",
    "leak": "18_the_bug",
    "turnover": "19_portfolio",
    "Sortino": "20_backtesting",
    "walk-forward": "21_regimes",
}


@pytest.mark.parametrize("word", FOUND)
def test_search_finds_a_word(browser, site, word):
    browser.visit(f"{site}search.html?q={word}")
    browser.wait_for(f"$('#search-results li a[href*=\"/{FOUND[word]}\"]')")
    assert browser.from_elsewhere() == browser.complaints() == []


def test_pages_that_sphinx_adds_are_as_good(browser, site, html, accessibility):
    """Search, indexes and, of some 130 pages of source, every tenth."""
    sources = sorted(path.relative_to(html).as_posix() for path in html.glob("_modules/**/*.html"))
    for name in ("search.html?q=softmax", "genindex.html", "py-modindex.html", *sources[::10]):
        browser.visit(site + name, width=VIEWS[0][0])
        found = layouts(browser)
        assert all(layout["page"] <= int(view.split()[0]) for view, layout in found.items()), name
        assert browser.complaints() == [] and not any(faults(browser, accessibility).values()), name


def test_code_is_large_on_a_desktop(browser, site):
    browser.visit(site + CHAPTER_2, width=1300)
    size = "getComputedStyle($('.cell_input pre')).fontSize"
    assert browser.evaluate(f"parseFloat({size})") >= 13.5


def test_chapters_open_with_the_map_of_the_model(browser, site):
    browser.visit(site + CHAPTER_2, width=390)
    here = "$('.ca-map a[aria-current=page]')"
    assert browser.evaluate(f"{here}.textContent.trim().endsWith('2')")
    assert browser.evaluate("$('.ca-map').getBoundingClientRect().top") < 1000
    links = browser.evaluate("$$('.ca-map a').map(a => a.href.baseVal.split('/').pop())")
    names = {name for path in CHAPTERS if (name := path.rpartition("/")[2])[0].isdigit()}
    assert set(links) - {"#"} == names - {CHAPTER_2.rpartition("/")[2]}


def test_a_chapter_can_be_launched_downloaded_and_mended(browser, site, html):
    options = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    address = options["html_theme_options"]["repository_url"]
    owner = address.removeprefix("https://github.com/")
    notebook = CHAPTER_2.replace(".html", ".ipynb")
    browser.visit(site + CHAPTER_2)
    links = browser.evaluate("$$('.bd-header-article a').map(a => decodeURIComponent(a.href))")
    for wanted in (
        f"https://colab.research.google.com/github/{owner}/blob/main/{notebook}",
        f"https://mybinder.org/v2/gh/{owner}/main?urlpath=lab/tree/{notebook}",
        f"{address}/edit/main/{notebook}",
        f"{site}_sources/{notebook}",
    ):
        assert wanted in links
    assert any(link.startswith(f"{address}/issues/new") for link in links)
    assert (ROOT / notebook).exists() and (html / "_sources" / notebook).exists()


def test_the_largest_page_is_below_three_megabytes_with_its_images(html):
    for path in html.rglob("*.html"):
        images = set(re.findall(r'<img[^>]*\ssrc="([^":]+)"', path.read_text(encoding="utf-8")))
        files = [path, *(path.parent / unquote(image) for image in images)]
        assert sum(file.stat().st_size for file in files) < 3e6, path


def test_citations_read_as_their_entries_are_labelled(html):
    def parsed(name):
        return BeautifulSoup((html / name).read_text(encoding="utf-8"), "lxml")

    entries = parsed("book/appendices/references.html").select("div.citation")
    labels = {entry["id"]: entry.span.text.strip("[]") for entry in entries}
    cited = set()
    for chapter in CHAPTERS:
        for citation in parsed(chapter).select(".bibtex-citation"):
            text = " ".join(citation.text.split()).replace(" [", ", ").replace("]", "")
            anchors = {link["href"].rpartition("#")[2] for link in citation.select("a")}
            assert all(labels[anchor] in text for anchor in anchors), f"{chapter}: {citation.text}"
            cited |= anchors
    assert len(cited) > 90 and len(set(labels.values())) == len(labels)


def test_the_landing_page_tells_what_is_written(browser, site):
    browser.visit(site + "book/index.html")
    written = browser.evaluate("$$('.plan a').map(a => a.getAttribute('href'))")
    assert [f"book/{link}" for link in written] == [c for c in CHAPTERS if "/course/" not in c]
    assert browser.evaluate("$$('.plan li').length") == len(written)
