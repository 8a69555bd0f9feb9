"""Figures of notebooks: SVG, in which long lines are an image."""

import numpy as np
import pytest
from standin.commands import python

pytest.importorskip("IPython")
SHOWN = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import matplotlib, re
matplotlib.use("module://matplotlib_inline.backend_inline")
import matplotlib.pyplot as plt, numpy as np
from crossattn.figures import use_style
use_style()
fig, ax = plt.subplots(figsize=(4, 3))
ax.plot(np.random.default_rng(0).normal(size={points}))
ax.fill_between(np.arange({points}), np.random.default_rng(1).normal(size={points}))
ax.axhline(0.0, color="black")
data, metadata = shell.display_formatter.format(fig)
svg = data["image/svg+xml"]
letters = re.sub('base64,[^"]*', "", svg)
print(sorted(data), svg.count("<image"), len(letters) < 30_000, "stroke: #000000" in letters)
"""


@pytest.mark.parametrize(("points", "images"), [(20, 0), (20_000, 2)])
def test_a_notebook_gets_svg_in_which_long_lines_are_an_image(points, images):
    run = python(SHOWN.format(points=points), timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"['image/svg+xml', 'text/plain'] {images} True True"


def test_the_same_figure_is_the_same_bytes():
    import matplotlib.pyplot as plt

    from crossattn.figures import notebook_image, use_style

    use_style()
    drawn = []
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.plot(np.arange(4))
        drawn.append(notebook_image(figure)[0]["image/svg+xml"])
        plt.close(figure)
    assert drawn[0] == drawn[1]
