"""A picture of a dashboard from what its queries answered: the panels where Grafana has them, drawn plainly."""

import re
from html import escape

from .panels import GREY, INK, PAPER, Area, heatmap, label, stat, states, timeseries

WIDTH, MARGIN, HEAD = 1560, 20, 64
COLUMN, LINE, GAP = (WIDTH - 2 * MARGIN) / 24, 33, 10


def dashboard(what, answers, names, start, stop):
    """The whole picture, as SVG."""
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in what["panels"])
    height = HEAD + bottom * LINE + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#f4f5f7"/>',
        label(MARGIN + 4, 30, what["title"], size=20, weight="bold"),
        label(MARGIN + 4, 50, f"{what['description']} Drawn by deploy/check from the panels' own queries: "
              f"{stop - start:.0f} seconds of load on one coordinator and one runner.", fill=GREY),
    ]
    for panel in what["panels"]:
        at = panel["gridPos"]
        x, y = MARGIN + at["x"] * COLUMN, HEAD + at["y"] * LINE
        if panel["type"] == "row":
            parts.append(label(x + 4, y + 21, panel["title"], size=14, weight="bold", fill=INK))
            continue
        card = Area(x + GAP / 2, y + GAP / 2, at["w"] * COLUMN - GAP, at["h"] * LINE - GAP)
        parts.append(
            f'<rect x="{card.x:.1f}" y="{card.y:.1f}" width="{card.w:.1f}" height="{card.h:.1f}" rx="4" fill="{PAPER}" '
            f'stroke="#d8dce2"><title>{escape(panel["description"])}</title></rect>'
        )
        parts.append(label(card.x + 12, card.y + 21, panel["title"], size=13, weight="bold"))
        series = named(answers.get(panel["id"], []), names, stop)
        if not series:
            parts.append(label(card.x + card.w / 2, card.y + card.h / 2 + 6, "no data", fill=GREY, anchor="middle"))
            continue
        draw = {"timeseries": timeseries, "stat": stat, "heatmap": heatmap, "state-timeline": states}[panel["type"]]
        parts += draw(panel, series, card, start, stop)
    return "\n".join([*parts, "</svg>", ""])


def named(answers, names, stop):
    """Each series by its legend, where instances have names instead of ports: values by their time, until then."""
    series = []
    for target, found in answers:
        for metric, points in found:
            values = {at: value for at, value in points if at <= stop}
            words = {key: names.get(value, value) for key, value in metric.items()}
            name = re.sub(r"\{\{(\w+)\}\}", lambda key: words.get(key[1], ""), target["legendFormat"])
            if values:
                series.append((name, values))
    return series
