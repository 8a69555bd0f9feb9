"""One document out of many pages: links and anchors stay within it."""

from print_book import document, place_of

HEAD = '<html><head><title>T</title><link rel="stylesheet" href="../_static/a.css"></head><body>'
PAGES = {
    "book/a": '<h1 id="top">A<a class="headerlink" href="#top">#</a></h1>'
    '<a href="b.html#there">b</a>'
    '<a href="#top">up</a><a href="https://example.org/">out</a><a href="c.html">left out</a>'
    '<img class="only-light" src="../_images/x.svg"><img class="only-dark" src="../_images/y.svg">',
    "book/b": '<p id="there">B</p><details class="hide"><summary><p class="expanded">Hide the '
    "solution</p></summary>x = 1</details><script>alert(1)</script>",
}


def test_links_and_images_are_the_documents_own(tmp_path):
    for name, body in PAGES.items():
        path = tmp_path / f"{name}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{HEAD}<article class=bd-article>{body}</article></body></html>")
    text = document(tmp_path, list(PAGES))
    assert f'href="#{place_of("book/b.html", "there")}"' in text and 'id="book-b--there"' in text
    assert 'href="#book-a--top">up' in text and 'href="https://example.org/"' in text
    assert "left out" in text and "c.html" not in text
    assert 'src="html/_images/x.svg"' in text and "y.svg" not in text
    assert 'href="html/_static/a.css"' in text
    assert "alert(1)" not in text and "headerlink" not in text
    assert '<details class="hide" open="">' in text and ">Solution</p>" in text
