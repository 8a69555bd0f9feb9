"""Bibliography style ``author_year``: an entry is labelled as the text cites it, [Engle, 2002]."""

from __future__ import annotations

from types import SimpleNamespace

from pybtex.backends.plaintext import Backend
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinxcontrib.bibtex.style.referencing import PersonStyle
from sphinxcontrib.bibtex.style.template import join, year


class AuthorYearLabels(BaseLabelStyle):
    """Labels of the form that the reference style of the same name writes."""

    def format_labels(self, sorted_entries):
        """Yield a label for each entry."""
        person = PersonStyle()
        label = join(sep=", ")[person.author_or_editor_or_title(full=False), year]
        for entry in sorted_entries:
            data = {"entry": entry, "style": SimpleNamespace(person=person)}
            yield label.format_data(data).render_as("plaintext")


class AuthorYearStyle(Style):
    """The plain style, sorted by author and year, with these labels."""

    default_label_style = AuthorYearLabels


def setup(app: Sphinx) -> dict:
    """Register the style; a second call, in the same process, changes nothing.

    Each citation asks for the backend: registered here, it is not looked for in all distributions.
    """
    register_plugin("pybtex.backends", "plaintext", Backend, force=True)
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle, force=True)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
