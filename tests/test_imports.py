"""Import rules that import-linter cannot state; its contracts are in ``pyproject.toml``."""

import ast
from pathlib import Path

import crossattn

PACKAGE = Path(crossattn.__file__).parent


def imports_of_the_root(source: str) -> list[str]:
    """Return what a module imports from the root package or relatively, at any depth."""
    taken = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            taken += [alias.name for alias in node.names if alias.name == "crossattn"]
        elif isinstance(node, ast.ImportFrom) and (node.level or node.module == "crossattn"):
            taken += [alias.name for alias in node.names]
    return taken


def test_modules_import_each_other_and_not_the_root_package():
    """The root exports names of every layer, which hides an import of a higher one.

    The commands stand above all of them.
    """
    found = {
        path.relative_to(PACKAGE).as_posix(): taken
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "cli"
        and (taken := imports_of_the_root(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_lazy_and_relative_imports_of_the_root_are_found():
    lazy = "def f():\n    import crossattn as ca\n    from crossattn import predict\n"
    assert sorted(imports_of_the_root(lazy + "from .. import x")) == ["crossattn", "predict", "x"]
    assert imports_of_the_root("import crossattn.data\nfrom crossattn.data import Panel") == []
