"""Pages that load nothing from a network, and a cache of executed notebooks for each package state.

- MathJax: script, fonts and TeX extensions are copied from the package ``sphinx-mathjax-offline``
  (only the parts that a page can ask for, 4 MB instead of 24).
- Thebe, which would load scripts from elsewhere, is dropped from every page.
- The cache of executed notebooks lives in a folder named by a digest of the package's files and of
  the versions below it: a change in the package is a fresh execution of the book.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from importlib.metadata import version
from pathlib import Path

from sphinx.application import Sphinx

MATHJAX_PARTS = [
    "tex-chtml.js",
    "a11y",
    "input/tex/extensions",
    "output/chtml/fonts/woff-v2",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
    "sre/mathmaps/nemeth.json",
]
EXECUTED_WITH = ["matplotlib", "numpy", "pandas", "scikit-learn", "torch"]


def keep_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy the parts of MathJax that pages use into the build."""
    if error is not None or app.builder.format != "html":
        return
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    source = Path(spec.origin).parent / "static" / "mathjax"
    copy_parts(source, Path(app.outdir) / "_static" / "mathjax", MATHJAX_PARTS)


def copy_parts(source: Path, target: Path, parts: list[str]) -> None:
    """Copy files and folders of one folder to the same places in another."""
    for part in parts:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy2(source / part, target / part)


def drop_thebe(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Leave out every script and style sheet of thebe."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            asset
            for asset in context.get(kind, [])
            if "thebe" not in f"{getattr(asset, 'filename', asset)}{vars(asset)}".lower()
        ]


def package_digest(root: Path) -> str:
    """Return a short digest of the package's files and of the versions it runs on."""
    digest = hashlib.sha256(" ".join(f"{name}={version(name)}" for name in EXECUTED_WITH).encode())
    for path in sorted((root / "crossattn").rglob("*.*")):
        if "__pycache__" in path.parts or not path.is_file():
            continue
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def cache_path(root: Path) -> Path:
    """Return the folder of executed notebooks for this state of the package."""
    path = root / "_build" / ".jupyter_cache" / package_digest(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def name_cache(app: Sphinx, config) -> None:
    """Keep executed notebooks apart by the state of the package."""
    config.nb_execution_cache_path = str(cache_path(Path(app.srcdir)))


def setup(app: Sphinx) -> dict:
    """Register."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("config-inited", name_cache, priority=100)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", keep_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
