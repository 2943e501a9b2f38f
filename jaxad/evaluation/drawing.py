"""How all figures look, and how they become PNG bytes, the same bytes for the same input.

They are drawn for the width of a phone: about 5 inches wide with 12 point text, names left to the
caption beside them. Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, VERMILION, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#767676"

SIZE, SQUARE = (5.2, 3.1), (5.2, 4.2)
STYLE = {
    "figure.dpi": 160,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.labelsize": 12,
    "legend.fontsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E0E0E0",
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "text.parse_math": False,  # Names of metrics and stages may hold any sign.
}


def figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of a size in inches, and its axes."""
    drawn = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.add_subplot()


def unit_square(drawn: Figure, axes: Axes, legend: str) -> bytes:
    """The PNG of axes that run from 0 to 1, with a legend at that place."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc=legend)
    return png(drawn)


def png(drawn: Figure) -> bytes:
    """The bytes of a figure."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
