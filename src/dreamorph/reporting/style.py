"""One look for all figures: safe for the colour-blind, and never by colour alone."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, GRID = "#1b1f24", "#5c6570", "#d5dae0"


class Mark(NamedTuple):
    """How something is drawn and called."""

    name: str
    colour: str
    symbol: str


#: Okabe and Ito's palette; symbols differ as well.
_ARMS = {
    "none": Mark("no augmentation", "#6e7781", "o"),
    "classic": Mark("affine maps alone", "#56b4e9", "s"),
    "elastic": Mark("random warp", "#0072b2", "D"),
    "dream": Mark("dream", "#d55e00", "P"),
    "learned": Mark("learned warp", "#cc79a7", "X"),
    "atlas": Mark("multi-atlas fusion (plain)", "#009e73", "^"),
}
_LABEL_COLOURS = ("#ffb000", "#56b4e9", "#f0e442", "#ff7fb2", "#2ee6a8", "#ff8c42", "#ffffff")
_LABEL_LINES = ("solid", (0, (4, 1.5)), (0, (1.2, 1.2)), "dashdot")
CLASS_MARKS = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#5c6570", "v"),
)  # fmt: skip

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "dreamorph",
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Draw inside the house style, whatever the process's own settings are."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(_RC):
            return function(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that belongs to nobody's global state."""
    return Figure(figsize=(width, height), layout="constrained")


def arm_mark(arm: str) -> Mark:
    """How an arm is drawn; an unknown one is a plain baseline."""
    network, plus, _ = arm.partition("+atlas")
    if plus and network in _ARMS:
        alone = _ARMS[network]
        return Mark(f"{alone.name} and fusion", alone.colour, "*")
    return _ARMS.get(arm, Mark(f"{arm.replace('_', ' ')} (plain)", "#009e73", "^"))


def arm_name(arm: str) -> str:
    """What an arm is called in sentences and tables."""
    return arm_mark(arm).name


def label_line(label: int) -> tuple[str, Any]:
    """Colour and line style of a label's contour."""
    index = label - 1
    return (
        _LABEL_COLOURS[index % len(_LABEL_COLOURS)],
        _LABEL_LINES[index % len(_LABEL_LINES)],
    )


def plain(text: object, longest: int = 32) -> str:
    """Text from outside made safe for a figure: no mathematics, no missing glyph, not too long."""
    known = _glyphs()
    line = " ".join(str(text).split())
    line = "".join(c if ord(c) in known else "?" for c in line)
    if len(line) > longest:
        line = line[: longest - 1] + "…"
    return line.replace("$", r"\$")


def horizontal_grid(ax: Axes) -> None:
    """Light lines to read values by."""
    ax.grid(axis="y", color=GRID, linewidth=0.7)


@functools.lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return frozenset(font.get_charmap())
