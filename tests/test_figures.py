"""Figures of notebooks: SVG where that is small, a sharp PNG where it is not."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("IPython")
SHOWN = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import matplotlib
matplotlib.use("module://matplotlib_inline.backend_inline")
import matplotlib.pyplot as plt, numpy as np
from crossattn.figures import use_style
use_style()
fig, ax = plt.subplots(figsize=(4, 3))
ax.plot(np.random.default_rng(0).normal(size={points}), ".")
data, metadata = shell.display_formatter.format(fig)
print(*sorted(set(data) - {{"text/plain"}}), len(list(data.values())[0]))
if "image/png" in data:
    import base64, io; from PIL import Image
    raw = data["image/png"]
    raw = base64.b64decode(raw) if isinstance(raw, str) else raw
    print(Image.open(io.BytesIO(raw)).size[0] // 2 == metadata["image/png"]["width"] > 400)
"""


@pytest.mark.parametrize(("points", "kind"), [(20, "image/svg+xml"), (20_000, "image/png")])
def test_a_notebook_gets_svg_unless_it_is_large(points, kind):
    command = [sys.executable, "-c", SHOWN.format(points=points)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == kind
    assert kind == "image/svg+xml" or run.stdout.split()[-1] == "True"


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
