"""The rendered book, page by page, in a real headless browser."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
import yaml
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
CONTRAST = """
(() => {
  const rgb = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e)
    .backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
  const kinds = ['article p', 'article a', 'article code', 'article td', 'article th',
    'article figcaption', 'article .admonition-title', 'article .highlight pre span',
    '.bd-sidebar-primary a', '.bd-sidebar-secondary a', 'article dd p', 'article h2'];
  const low = [];
  for (const kind of kinds) for (const e of document.querySelectorAll(kind)) {
    if (!e.checkVisibility() || !e.textContent.trim() || e.matches('.headerlink')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${kind} ${ratio.toFixed(2)} ${e.textContent.trim().slice(0, 30)}`);
  }
  return low;
})()
"""


@pytest.fixture(scope="module", params=PAGES)
def page(request, browser, site):
    """One page of the table of contents, open, with its state in the browser."""
    browser.visit(site + request.param)
    browser.evaluate(LOAD_IMAGES)
    return {"name": request.param, **browser.evaluate(STATE)}


def test_nothing_comes_from_elsewhere(page, browser, site):
    own = (site, "data:", "blob:", "about:")
    assert [address for address in browser.requested() if not address.startswith(own)] == []


def test_the_console_is_silent(page, browser):
    assert browser.complaints() == []


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


def test_a_broken_page_would_be_noticed(browser, broken):
    browser.visit(broken + "index.html")
    assert "https://example.org/elsewhere.js" in browser.requested()
    complaints = "\n".join(browser.complaints())
    for part in ("mine", "thrown", "404", "not loaded"):
        assert part in complaints, part


def test_chapters_have_mathematics_and_figures(browser, site):
    browser.visit(site + CHAPTER_2)
    state = browser.evaluate(STATE)
    assert state["rendered"] > 50
    assert browser.evaluate("document.querySelectorAll('figure img').length") >= 3
    fonts = "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    assert any(family.startswith("MJX") for family in browser.evaluate(fonts))


def test_solutions_open_at_a_click(browser, site):
    browser.visit(site + CHAPTER_2)
    browser.evaluate("document.querySelector('.tag_solution summary').click()")
    shown = "document.querySelector('.tag_solution .cell_input').checkVisibility()"
    browser.wait_for(shown)


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
    browser.wait_for("document.querySelector('#search-results li a')")
    found = (
        "[...document.querySelectorAll('#search-results li a')]"
        f".some(a => a.getAttribute('href').includes('/{FOUND[word]}'))"
    )
    browser.wait_for(found)
    own = [address for address in browser.requested() if address.startswith((site, "data:"))]
    assert own == browser.requested() and browser.complaints() == []


@pytest.mark.parametrize("name", ["book/index.html", CHAPTER_2, "book/appendices/api.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(browser, site, scheme, name):
    browser.visit(site + name, dark=scheme == "dark")
    assert browser.evaluate("document.documentElement.dataset.theme") == scheme
    assert browser.evaluate(CONTRAST) == [], "contrast below 4.5 to 1"


OVERFLOW = """
(() => {
  const wide = [...document.querySelectorAll('article mjx-container[display=true]')].filter(e => {
    const box = e.closest('div.math') ?? e;
    return box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === 'visible';
  });
  const scrolling = [...document.querySelectorAll('article p > .math mjx-container')].filter(e =>
    getComputedStyle(e).overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1
    && e.scrollWidth < e.closest('p').clientWidth);
  return { page: document.documentElement.scrollWidth, clipped: wide.map(e => e.textContent),
    scrolling: scrolling.map(e => e.textContent) };
})()
"""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1300, False)])
def test_nothing_is_cut_off_or_scrolls_sideways(browser, site, name, width, dark):
    browser.visit(site + name, width=width, dark=dark)
    state = browser.evaluate(OVERFLOW)
    assert state["page"] <= width and state["clipped"] == []
    assert state["scrolling"] == [], "a formula in a line that fits has a scroll bar"
    assert browser.complaints() == []


KINDS = {
    "chapter": CHAPTER_2,
    "explorer of attention": "book/evidence/16_attention_is_not_explanation.html",
    "glossary": "book/appendices/glossary.html",
    "references": "book/appendices/references.html",
    "assignment": "book/assignments/release/ps1/ps1.html",
    "search": "search.html?q=softmax",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1300, False)])
def test_every_kind_of_page_is_accessible(browser, site, accessibility, kind, width, dark):
    """Header, side columns and article; the explorers' own pages have a test of their own."""
    browser.visit(site + KINDS[kind], width=width, dark=dark)
    assert accessibility(browser, "document") == []


def test_the_reference_is_accessible(browser, site, accessibility):
    browser.visit(site + "book/appendices/api.html")  # a section of it: all of it takes a minute
    assert accessibility(browser, "document.querySelector('article section section')") == []


def test_code_is_large_on_a_desktop_and_fits(browser, site):
    browser.visit(site + CHAPTER_2, width=1300)
    code = "[...document.querySelectorAll('.cell_input pre')].filter(e => e.checkVisibility())"
    assert browser.evaluate(f"parseFloat(getComputedStyle({code}[0]).fontSize)") >= 13.5
    assert browser.evaluate(f"{code}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0


def test_chapters_open_with_the_map_of_the_model(browser, site):
    browser.visit(site + CHAPTER_2, width=390)
    here = "document.querySelector('.ca-map a[aria-current=page]')"
    assert browser.evaluate(f"{here}.textContent.trim().endsWith('2')")
    assert browser.evaluate("document.querySelector('.ca-map').getBoundingClientRect().top") < 1000
    links = browser.evaluate("[...document.querySelectorAll('.ca-map a')].map(a => a.href.baseVal)")
    names = {path.rpartition("/")[2] for path in CHAPTERS if path.rpartition("/")[2][0].isdigit()}
    assert {link.rpartition("/")[2] for link in links if link != "#"} == names - {
        CHAPTER_2.rpartition("/")[2]
    }


def test_a_chapter_can_be_launched_downloaded_and_mended(browser, site, html):
    options = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    address = options["html_theme_options"]["repository_url"]
    owner = address.removeprefix("https://github.com/")
    notebook = CHAPTER_2.replace(".html", ".ipynb")
    browser.visit(site + CHAPTER_2)
    links = browser.evaluate(
        "[...document.querySelectorAll('.bd-header-article a')].map(a => a.href)"
    )
    links = [unquote(link) for link in links]
    for wanted in (
        f"https://colab.research.google.com/github/{owner}/blob/main/{notebook}",
        f"https://mybinder.org/v2/gh/{owner}/main?urlpath=lab/tree/{notebook}",
        f"{address}/edit/main/{notebook}",
        f"{site}_sources/{notebook}",
    ):
        assert wanted in links
    assert any(link.startswith(f"{address}/issues/new") for link in links)
    assert (ROOT / notebook).exists() and (html / "_sources" / notebook).exists()


def test_the_largest_page_is_below_three_megabytes(html):
    sizes = {name: (html / name).stat().st_size for name in PAGES}
    name = max(sizes, key=sizes.get)
    assert sizes[name] < 3e6, name


def test_the_landing_page_tells_what_is_written(browser, site):
    browser.visit(site + "book/index.html")
    links = "[...document.querySelectorAll('.plan a')].map(a => a.getAttribute('href'))"
    written = browser.evaluate(links)
    assert [f"book/{link}" for link in written] == [c for c in CHAPTERS if "/course/" not in c]
    assert browser.evaluate("document.querySelectorAll('.plan li').length") == len(written)
