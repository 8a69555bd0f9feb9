"""Slides: cut from the rendered pages, complete in themselves, without exercises and solutions."""

import pytest
from bs4 import BeautifulSoup
from check_links import wrong_in_styles
from notebooks import ROOT
from slides import copy_reveal, cut, main, to_slides

CHAPTER = ROOT / "book" / "foundations" / "02_scaled_dot_product_attention.ipynb"
PAGE = """
<head><link rel="stylesheet" href="../_static/book.css"></head>
<article><section><h1>Title<a class="headerlink" href="#title">#</a></h1><p>card</p>
<section><h2>One</h2><p>text <a href="#eq-1">(1)</a></p>
<div class="cell">code<img src="../_images/a.png"><img class="only-dark" src="b.png"></div>
<p>after</p>
<div class="cell">more</div><section><h3>Deep</h3><a href="https://example.org">x</a></section>
</section>
<section><h2>Exercises</h2><div class="exercise">do</div><div class="cell tag_solution">done</div>
</section></section></article>
"""


def test_sections_become_columns_and_code_begins_slides(tmp_path):
    page = tmp_path / "book" / "one.html"
    page.parent.mkdir()
    page.write_text(PAGE)
    soup = BeautifulSoup(to_slides(page, tmp_path / "slides"), "html.parser")
    columns = soup.select_one(".slides").find_all("section", recursive=False)
    texts = [
        [slide.get_text(" ", strip=True) for slide in column.find_all("section", recursive=False)]
        for column in columns
    ]
    assert texts == [["Title card"], ["One text (1)", "code after", "more", "Deep x"]]
    addresses = [tag.get("href") or tag.get("src") for tag in soup.select(".slides [href], img")]
    assert addresses == ["../book/one.html#eq-1", "../_images/a.png", "https://example.org"]
    assert soup.title.text == "Title" and soup.link["href"] == "../_static/book.css"


def test_a_section_that_begins_with_code_has_no_empty_slide():
    section = BeautifulSoup("<section><div class='cell'>a</div></section>", "html.parser").section
    assert [len(slide) for slide in cut(section)] == [1]


def test_what_is_not_there_is_named(tmp_path, capsys):
    assert main([str(ROOT / "book" / "none.ipynb"), "--book", str(tmp_path)]) == 2
    assert main([str(CHAPTER), "--book", str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: there is no ")
    assert second.startswith("error: ") and second.endswith("run `make book` first")


def test_what_is_copied_loads_nothing_from_elsewhere(tmp_path):
    copy_reveal(tmp_path)
    assert wrong_in_styles(tmp_path) == []
    assert (tmp_path / "reveal" / "dist" / "reveal.js").is_file()


@pytest.mark.browser
def test_slides_are_shown_without_a_network(browser, html, serve, tmp_path):
    for part in html.iterdir():
        if part.name != "slides":
            (tmp_path / part.name).symlink_to(part)
    assert main([str(CHAPTER), "--book", str(tmp_path)]) == 0
    with serve(tmp_path) as address:
        browser.visit(f"{address}slides/{CHAPTER.stem}.html")
        browser.wait_for("window.Reveal && Reveal.isReady()")
        assert browser.evaluate("Reveal.getTotalSlides()") > 30
        browser.evaluate("Reveal.next()")
        browser.wait_for("Reveal.getCurrentSlide().checkVisibility()")
        state = browser.evaluate(
            "({math: $$('.slides .math').length,"
            " rendered: $$('.slides mjx-container').length,"
            " images: [...document.images].filter(i => i.complete && i.naturalWidth).length,"
            " hidden: $$('.exercise, .tag_solution').length})"
        )
        assert state["rendered"] >= state["math"] > 50
        assert state["images"] >= 3 and state["hidden"] == 0
        assert browser.from_elsewhere() == browser.complaints() == []
