"""The package in the book: its source where a chapter asks for it, its public names on one page.

Directives
----------
``{source} crossattn.attention.functional.scaled_dot_product_attention``
    The source of one object, read from the package by the build. Docstrings are cut to their first
    line unless ``:docstring: full`` is given.
``{public-api} bars``
    The public names of one or several rooms, through autodoc.

References
----------
A role such as ``{func}`` or ``{class}`` may name anything of the package: a public name under its
short or its full path, which links to the reference page, or an internal one, which is shown as
code. A name that does not exist stays a warning, so that a typing error fails the build. Bare
words in the type field of a docstring are prose: the known ones become links.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from plan import planned_titles
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.intersphinx import missing_reference as intersphinx_reference
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import crossattn.errors

TYPE_WORDS = {
    "Axes": "matplotlib.axes.Axes",
    "DataFrame": "pandas.DataFrame",
    "DatetimeIndex": "pandas.DatetimeIndex",
    "Figure": "matplotlib.figure.Figure",
    "Generator": "numpy.random.Generator",
    "Index": "pandas.Index",
    "Module": "torch.nn.Module",
    "MultiIndex": "pandas.MultiIndex",
    "Path": "pathlib.Path",
    "Series": "pandas.Series",
    "Tensor": "torch.Tensor",
    "Timestamp": "pandas.Timestamp",
    "array": "numpy.ndarray",
    "array-like": "numpy.ndarray",
    "bool": "bool",
    "dict": "dict",
    "float": "float",
    "int": "int",
    "list": "list",
    "matplotlib Axes": "matplotlib.axes.Axes",
    "matplotlib Figure": "matplotlib.figure.Figure",
    "ndarray": "numpy.ndarray",
    "str": "str",
    "tuple": "tuple",
}


def exports() -> dict[str, list[str]]:
    """Return the public names of the package by module, as its stub lists them."""
    stub = Path(crossattn.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {node.module: [alias.name for alias in node.names] for node in imports}


EXPORTS = exports()


def find_object(name: str):
    """Import the object with this dotted name; None where there is no such thing."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[cut:]:
                annotations = getattr(found, "__annotations__", {})
                found = annotations[part] if part in annotations else getattr(found, part)
        except AttributeError:
            return None
        return found
    return None


def without_docstrings(source: str) -> str:
    """Cut every docstring to its first line."""
    lines, tree = source.splitlines(), ast.parse(source)
    for node in sorted(ast.walk(tree), key=lambda n: -getattr(n, "lineno", 0)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        place = node.body[0]
        opening = lines[place.lineno - 1]
        quotes = opening.lstrip().lstrip("r")[:3]
        if place.end_lineno > place.lineno:
            lines[place.lineno - 1 : place.end_lineno] = [opening.rstrip() + quotes]
    return "\n".join(lines)


class Source(SphinxDirective):
    """Show the source of an object of the package."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 - docutils reads it from the class
        "docstring": lambda word: directives.choice(word, ("first-line", "full")),
    }

    def run(self) -> list[nodes.Node]:
        """Return the code block, with a caption that names the file."""
        name = self.arguments[0]
        found = find_object(name)
        if found is None:
            raise self.error(f"{name} is not in the package")
        path = Path(inspect.getsourcefile(found))
        self.env.note_dependency(str(path))
        code = textwrap.dedent(inspect.getsource(found)).rstrip()
        if self.options.get("docstring") != "full":
            code = without_docstrings(code)
        literal = nodes.literal_block(code, code, language="python")
        literal["classes"].append("package-source")
        where = path.relative_to(Path(crossattn.__file__).parent.parent).as_posix()
        caption = nodes.caption(where, "", nodes.literal(where, where))
        wrapper = nodes.container("", caption, literal, literal_block=True)
        wrapper["classes"] += ["literal-block-wrapper", "package-source"]
        self.set_source_info(wrapper)
        return [wrapper]


def members_of(module: str) -> list[str]:
    """Return what a module defines and does not hide, beyond the public names."""
    return [
        f"{module}.{name}"
        for name, member in vars(find_object(module)).items()
        if getattr(member, "__module__", None) == module
        and not name.startswith("_")
        and (inspect.isclass(member) or inspect.isfunction(member))
        and name not in dir(crossattn)
    ]


class PublicApi(SphinxDirective):
    """Document the public names of rooms, with ``:also:`` by path, all of ``:modules:``."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 - docutils reads it from the class
        "also": directives.unchanged,
        "modules": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText for autodoc and parse it."""
        tops = self.arguments[0].split(",")
        paths = [
            (f"crossattn.{name}", f"crossattn.{module}.{name}")
            for module, names in EXPORTS.items()
            for name in names
            if module.split(".")[0] in tops and module != "errors"
        ]
        paths += [(name, name) for name in self.options.get("also", "").split()]
        lines = [".. py:currentmodule:: crossattn", ""]
        for shown, path in paths:
            lines += [*self.entry(shown, path), ""]
        for module in filter(find_object, self.options.get("modules", "").split()):
            about = inspect.getdoc(find_object(module)).splitlines()[0]
            lines += [f".. py:module:: {module}", "", f".. rubric:: ``{module}``", "", about, ""]
            for path in members_of(module):
                lines += [*self.entry(path, path), ""]
        self.env.note_dependency(crossattn.__file__)
        block = StringList()
        for line in ("```{eval-rst}", *lines, "```"):
            block.append(line, self.env.doc2path(self.env.docname), self.lineno)
        container = nodes.container()
        self.state.nested_parse(block, self.content_offset, container)
        return container.children

    @staticmethod
    def entry(shown: str, path: str) -> list[str]:
        """Return the autodoc directive for one name."""
        found = find_object(path)
        if found is None:
            return []
        if inspect.isclass(found) and found.__module__.startswith("crossattn"):
            kind = "autoexception" if issubclass(found, BaseException) else "autoclass"
            return [f".. {kind}:: {shown}", "   :members:"]
        if inspect.isfunction(found):
            return [f".. autofunction:: {shown}"]
        lines = [f".. py:data:: {shown}"]
        alias = (
            f"{found.__module__.split('.')[0]}.{found.__qualname__}"
            if inspect.isclass(found)
            else ""
        )
        lines.append(f"   :value: {alias or repr(found).replace('pandas.core.frame.', 'pandas.')}")
        return [*lines, "", f"   {comment_above(path)}"]


def comment_above(path: str) -> str:
    """Return the comment right above the assignment of a name, as its description."""
    room, name = path.rsplit(".", 1)
    for module in sorted(m for m in sys.modules if m == room or m.startswith(f"{room}.")):
        lines = inspect.getsource(sys.modules[module]).splitlines()
        for place, line in enumerate(lines):
            if re.match(rf"{name}\b.*=", line):
                above = place
                while above and lines[above - 1].startswith("#"):
                    above -= 1
                said = " ".join(text.lstrip("#: ") for text in lines[above:place])
                return f"{said} Defined in ``{module}``.".strip()
    return f"Defined in ``{room}``."


def tidy_docstring(app: Sphinx, what, name, found, options, lines: list[str]) -> None:
    """Make the docstrings' conventions into links, and keep initials from becoming lists."""
    chapters = {title.lower(): path for path, title in planned_titles(Path(app.srcdir)).items()}
    for place, line in enumerate(lines):
        line = re.sub(r"^(\s*)([A-Z])\. (?=[A-Z])", r"\1\2\\. ", line)
        built = re.match(r"(\s*)Built in chapter:?\s+[\"']?(.+?)[\"']?\.?$", line)
        if built and (path := chapters.get(built[2].lower())):
            line = f"{built[1]}*Built in chapter* :doc:`/{path}`."
        lines[place] = line


def public_name(target: str) -> str:
    """Return the documented name for a path into the package, or the path itself."""
    for module, names in EXPORTS.items():
        for name in names:
            for path in (f"crossattn.{module}.{name}", name):
                if target == path or target.startswith(path + "."):
                    return f"crossattn.{name}" + target[len(path) :]
    error = target.removeprefix("crossattn.").removeprefix("errors.")
    return f"crossattn.errors.{error}" if hasattr(crossattn.errors, error) else target


def documented_name(target: str, objects: dict) -> str:
    """Return the documented path of something with several, or of a module's first name."""
    found = find_object(target) if target.startswith("crossattn.") else None
    if inspect.ismodule(found):
        for name in objects:
            home = getattr(find_object(name), "__module__", "") if "." in name else ""
            if f"{home}.".startswith(f"{target}."):
                return name
    home, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    return public_name(f"{home}.{name}")


def somewhere_in_package(target: str) -> bool:
    """Tell whether the package has this name: by its path, or bare in any loaded module."""
    if target.startswith("crossattn."):
        return find_object(target) is not None
    head = target.split(".")[0]
    homes = [name for name in sys.modules if name.startswith("crossattn") and "." in name]
    return any(
        head in vars(sys.modules[home]) and find_object(f"{home}.{target}") is not None
        for home in homes
    )


def resolve(app: Sphinx, env, node, contnode):
    """Find what a reference to Python means; None leaves Sphinx to warn."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    objects = env.get_domain("py").objects
    documented = objects.get(public_name(target)) or objects.get(documented_name(target, objects))
    if documented is not None:
        return make_refnode(
            app.builder, node["refdoc"], documented.docname, documented.node_id, contnode, target
        )
    if target in TYPE_WORDS:
        node["reftarget"] = TYPE_WORDS[target]
        return intersphinx_reference(app, env, node, contnode) or contnode
    if somewhere_in_package(target):
        return contnode
    is_path = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", target)
    prose = not is_path and node.get("reftype") in {"class", "obj"}
    return contnode if prose else None


def add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Give each documented object an anchor under its short and under its full path."""
    for signature in doctree.findall(addnodes.desc_signature):
        module, name = signature.get("module") or "", signature.get("fullname")
        found = find_object(f"{module}.{name}") if module.startswith("crossattn") else None
        home = getattr(found, "__module__", module)
        for anchor in (f"crossattn.{name}", f"{home}.{name}"):
            if found is not None and anchor not in signature["ids"]:
                signature["ids"].append(anchor)


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("source", Source)
    app.add_directive("public-api", PublicApi)
    app.connect("autodoc-process-docstring", tidy_docstring, priority=100)
    app.connect("doctree-read", add_anchors)
    app.connect("missing-reference", resolve, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
