"""Draws figures as inline SVG in the colours of the page's style sheet."""
from __future__ import annotations

import io
import re
from html import escape

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tfrecal.report.lines import Line

#: (name in the style sheet, dashes, marker); the last is for all others.
STYLES = [("--ink", (0, (5, 2)), ""), ("--soft", (0, (1.2, 1.6)), "")] + [
    (f"--c{n}", "-", marker) for n, marker in enumerate("osD^vP")] + [
    ("--other", "-", "")]
OTHER = len(STYLES) - 1
# Colours that no drawing uses; each is replaced by a name of the style sheet.
_STAND_INS = {name: f"#0{n:x}a7e{n:x}"
              for n, name in enumerate(["--grid", "--text"]
                                       + [style[0] for style in STYLES])}
_SETTINGS = {
    "svg.hashsalt": "tfrecal", "svg.fonttype": "none", "font.size": 10,
    "text.parse_math": False, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.8,
    "text.color": _STAND_INS["--text"],
    "axes.labelcolor": _STAND_INS["--text"],
    "axes.edgecolor": _STAND_INS["--grid"],
    "xtick.color": _STAND_INS["--grid"],
    "ytick.color": _STAND_INS["--grid"],
    "xtick.labelcolor": _STAND_INS["--text"],
    "ytick.labelcolor": _STAND_INS["--text"],
    "axes.grid": True, "grid.color": _STAND_INS["--grid"],
    "grid.linewidth": 0.6}


def learning_curves(lines: list[Line], axis: str, metric: str, key: str,
                    about: str) -> str:
    """Draws a metric over labels, cost or time.

    Args:
        lines: the curves; "other" ones first, so that they lie below.
        axis, metric: names for people.
        key: the key of the figure, unique on the page.
        about: text for readers who cannot see the figure.

    Returns:
        An `<svg>` element.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            _draw(axes, line)
        values = np.concatenate([line.y for line in lines])
        margin = 0.12 * (np.ptp(values) or abs(values[0]) or 1)
        # The axis follows the curves: a band of two seeds can be wider than
        # all curves together.
        axes.set_ylim(values.min() - margin, values.max() + margin)
        axes.set_xlabel(axis)
        axes.set_ylabel(metric)
        axes.xaxis.set_major_locator(
            matplotlib.ticker.MaxNLocator(5, min_n_ticks=3))
        if max(line.x.max() for line in lines) >= 10000:
            axes.xaxis.set_major_formatter(
                matplotlib.ticker.EngFormatter(sep=""))
        return _svg(figure, key, about)


def calibration(lines: list[Line], key: str, about: str) -> str:
    """Draws observed over predicted probability, with the diagonal."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(4.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=_STAND_INS["--grid"], linewidth=1.2)
        for line in lines:
            _draw(axes, line)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability",
                 ylabel="observed share")
        return _svg(figure, key, about)


def sample(style: int) -> str:
    """Draws a short stroke of a style, for a legend."""
    name, dashes, marker = STYLES[style]
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(0.42, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(-1, 1))
        axes.plot([0, 0.5, 1], [0, 0, 0], color=_STAND_INS[name],
                  linestyle=dashes, linewidth=2, marker=marker, markersize=6,
                  markevery=[1])
        return _svg(figure, f"k{style}", "")


def _draw(axes, line: Line) -> None:
    name, dashes, marker = STYLES[line.style]
    colour, other = _STAND_INS[name], line.style == OTHER
    axes.plot(line.x, line.y, color=colour, linestyle=dashes,
              linewidth=1 if other else 1.9, marker=marker, markersize=3.6)
    if line.low is not None and not other:
        axes.fill_between(line.x, line.low, line.high, color=colour,
                          alpha=0.14, linewidth=0)
    if line.size is not None:
        axes.scatter(line.x, line.y, s=8 + 70 * line.size, color=colour,
                     alpha=0.35, linewidth=0)


def _svg(figure: Figure, key: str, about: str) -> str:
    """Returns the figure's `<svg>`, as wide as its place.

    `key` makes the names inside unique on the page.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True,
                   metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text,
                  flags=re.S)
    # Hundredths of a point are enough; numbers between tags are labels.
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(
        r"(\.\d\d)\d+", r"\1", tag[0]), text)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"',
                  lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'\bid="|url\(#|href="#', lambda m: m[0] + key + "-", text)
    for name, colour in _STAND_INS.items():
        text = text.replace(colour, f"var({name})")
    role = (f'role="img" aria-label="{escape(about)}"' if about
            else 'aria-hidden="true"')
    box = re.search(r'viewBox="[^"]*"', text)[0]
    return ('<svg xmlns="http://www.w3.org/2000/svg" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink" {box} {role}>'
            + text[text.index(">") + 1:].strip())
