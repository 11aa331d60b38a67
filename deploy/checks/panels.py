"""Kinds of panels as SVG: lines, one number, states over time, a histogram over time."""

from html import escape
from typing import NamedTuple

from . import scale

PAPER, INK, GREY, GRID, BLUE = "#ffffff", "#24292f", "#68707a", "#e8ebef", "#3867c8"
PALETTE = ("#3867c8", "#e08a00", "#2f9e58", "#c93f3f", "#8250c4", "#1f9fb0", "#b5651d", "#d1559b", "#7f8792", "#a3a31a")
# The same end has the same colour in every panel.
COLOURS = {
    "completed": "#2f9e58", "cancelled": "#9aa1ab", "exit_code": "#e08a00", "signal": "#b5651d", "timeout": "#3867c8",
    "cpu_time": "#1f9fb0", "out_of_memory": "#8250c4", "sandbox_error": "#c93f3f", "runner_lost": "#d1559b",
    "runner_out_of_memory": "#a3a31a", "failed": "#c93f3f", "p50": "#7fa3e6", "p90": "#3867c8", "p99": "#1d3a7a",
    "all": "#9aa1ab",
}
NAMED = {"green": "#2f9e58", "red": "#c93f3f", "orange": "#e08a00", "blue": BLUE, "transparent": "none"}
SMALL = 6.4  # a letter's width at the smallest size, about


class Area(NamedTuple):
    x: float
    y: float
    w: float
    h: float


def label(x, y, text, size=11, fill=INK, anchor="start", weight="normal"):
    more = "" if anchor == "start" else f' text-anchor="{anchor}"'
    more += "" if weight == "normal" else f' font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{more}>{escape(text)}</text>'


def line(x1, y1, x2, y2, stroke, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"{more}/>'


def times(area, start, stop):
    """Ticks of the time, in seconds since the start."""
    parts = []
    step = scale.nice((stop - start) / 5)
    for at in range(int((stop - start) / step) + 1):
        x = area.x + area.w * at * step / (stop - start)
        parts.append(line(x, area.y, x, area.y + area.h, GRID))
        parts.append(label(x, area.y + area.h + 14, f"{at * step:g} s", size=10, fill=GREY, anchor="middle"))
    return parts


def colours(series):
    """One for each name; those without a fixed one get what is left, in order."""
    taken = {COLOURS[name] for name, _ in series if name in COLOURS}
    free = [colour for colour in PALETTE if colour not in taken] or list(PALETTE)
    chosen, at = [], 0
    for name, _ in series:
        if name not in COLOURS:
            at += 1
        chosen.append(COLOURS.get(name) or free[(at - 1) % len(free)])
    return chosen


def legend(series, paints, card):
    """Lines of names, from the bottom up, and how high they are."""
    shown = [(name, paint) for (name, values), paint in zip(series, paints) if any(values.values())]
    zero = len(series) - len(shown)
    words = shown + ([(f"{zero} at 0" if shown or zero > 1 else f"{series[0][0]}: 0", None)] if zero else [])
    rows, x = [[]], 0
    for name, paint in words:
        width = 26 + SMALL * len(name)
        if x + width > card.w - 20 and rows[-1]:
            rows.append([])
            x = 0
        rows[-1].append((x, name, paint))
        x += width
    parts = []
    for at, row in enumerate(rows):
        y = card.y + card.h - 10 - 15 * (len(rows) - 1 - at)
        for x, name, paint in row:
            x += card.x + 12
            if paint:
                parts.append(f'<rect x="{x:.1f}" y="{y - 8:.1f}" width="11" height="7" rx="1.5" fill="{paint}"/>')
            parts.append(label(x + (15 if paint else 0), y, name, size=10.5, fill=INK if paint else GREY))
    return parts, 15 * len(rows)


def stacked(series):
    """Each on top of those before it: lower and upper edge."""
    ats = sorted({at for _, values in series for at in values})
    below = dict.fromkeys(ats, 0.0)
    layers = []
    for name, values in series:
        above = {at: below[at] + values.get(at, 0.0) for at in ats}
        layers.append((name, below, above))
        below = above
    return layers


def timeseries(panel, series, card, start, stop):
    default = panel["fieldConfig"]["defaults"]
    unit, custom = default["unit"], default["custom"]
    stack = custom["stacking"]["mode"] == "normal"
    paints = colours(series)
    parts, below = legend(series, paints, card)
    area = Area(card.x + 74, card.y + 34, card.w - 90, card.h - 34 - below - 30)
    layers = stacked(series) if stack else [(name, None, values) for name, values in series]
    highest = max((max(values.values()) for _, _, values in layers if values), default=0)
    limits = [step["value"] for step in default.get("thresholds", {}).get("steps", []) if step["value"] is not None]
    if unit == "short" and 0 < highest < 4:
        highest = 4
    end, ticks = scale.top(highest * 1.05, unit)
    axis = times(area, start, stop)
    for tick in ticks:
        y = area.y + area.h * (1 - tick / end)
        axis.append(line(area.x, y, area.x + area.w, y, GRID))
        axis.append(label(area.x - 6, y + 3.5, scale.text(tick, unit), size=10, fill=GREY, anchor="end"))

    def place(at, value):
        return f"{area.x + area.w * (at - start) / (stop - start):.1f},{area.y + area.h * (1 - value / end):.1f}"

    curves = []
    for (name, low, values), paint in zip(layers, paints):
        # What is 0 throughout would only hide the axis, or the edge below it.
        if not any(dict(series)[name].values()) and len(series) > 1:
            continue
        for piece in pieces(values):
            upper = " ".join(place(at, values[at]) for at in piece)
            if stack:
                lower = " ".join(place(at, low[at]) for at in reversed(piece))
                curves.append(f'<polygon points="{upper} {lower}" fill="{paint}" fill-opacity="0.55"/>')
            wide = 0.8 if stack else 1.6
            curves.append(
                f'<polyline points="{upper}" fill="none" stroke="{paint}" stroke-width="{wide}" stroke-linejoin="round" '
                'stroke-linecap="round"/>'
            )
    for limit in limits:
        if limit <= end:
            y = area.y + area.h * (1 - limit / end)
            curves.append(line(area.x, y, area.x + area.w, y, NAMED["red"], ' stroke-dasharray="5 4"'))
    return [*axis, *curves, *parts]


def pieces(values):
    """Times in one go: where a value is missing, so is the line."""
    ats = sorted(values)
    usual = min((b - a for a, b in zip(ats, ats[1:])), default=1)
    found = []
    for at in ats:
        if found and at - found[-1][-1] <= 1.5 * usual:
            found[-1].append(at)
        else:
            found.append([at])
    # One value alone is a dot: a line of no length, with a round cap.
    return found


def stat(panel, series, card, start, stop):
    del start, stop
    default = panel["fieldConfig"]["defaults"]
    value = series[0][1][max(series[0][1])]
    paint = BLUE
    for step in default["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            paint = NAMED[step["color"]]
    words = {key: each["text"] for mapping in default["mappings"] for key, each in mapping["options"].items()}
    # Decimals are those of what is shown.
    digits = default.get("decimals", 6) + (2 if default["unit"] == "percentunit" else 0)
    text = words.get(f"{value:g}") or scale.text(round(value, digits), default["unit"])
    x, y = card.x + card.w / 2, card.y + card.h - 20
    return [label(x, y, text, size=28, weight="bold", fill=paint, anchor="middle")]


def states(panel, series, card, start, stop):
    mapping = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    area = Area(card.x + 20, card.y + 36, card.w - 36, card.h - 36 - 30)
    parts = times(area, start, stop)
    high = min(34, area.h / len(series))
    for row, (name, values) in enumerate(series):
        y = area.y + row * high + 4
        spans = []
        for at in sorted(values):
            state = f"{values[at]:g}"
            if spans and spans[-1][2] == state:
                spans[-1][1] = at
            else:
                spans.append([at, at, state])
        for begin, end, state in spans:
            x = area.x + area.w * max(0, begin - start) / (stop - start)
            width = max(1.5, area.w * (min(stop, end) - max(start, begin)) / (stop - start))
            paint = NAMED[mapping[state]["color"]]
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{high - 8:.1f}" fill="{paint}" '
                'fill-opacity="0.75"/>'
            )
            if width > 16 + SMALL * (len(name) + 12):
                parts.append(label(x + 8, y + high / 2, f"{name}: {mapping[state]['text']}", fill=PAPER, weight="bold"))
    return parts


def heatmap(panel, series, card, start, stop):
    unit = panel["options"]["yAxis"]["unit"]
    area = Area(card.x + 74, card.y + 34, card.w - 90, card.h - 34 - 28)
    rows = sorted(series, key=lambda one: float(one[0]))
    # Buckets hold what is in lesser ones as well.
    counts = []
    for at, (bound, values) in enumerate(rows):
        lower = rows[at - 1][1] if at else {}
        counts.append((float(bound), {when: count - lower.get(when, 0) for when, count in values.items()}))
    used = [at for at, (_, values) in enumerate(counts) if any(value > 0.01 for value in values.values())]
    counts = counts[: max(used, default=0) + 2]
    most = max(value for _, values in counts for value in values.values()) or 1
    ats = sorted(rows[0][1])
    second = area.w / (stop - start)
    width = second * min((b - a for a, b in zip(ats, ats[1:])), default=1)
    high = area.h / len(counts)
    parts = times(area, start, stop)
    for row, (bound, values) in enumerate(counts):
        y = area.y + area.h - (row + 1) * high
        name = f"≤ {scale.text(bound, unit)}" if bound != float("inf") else "more"
        parts.append(label(area.x - 6, y + high / 2 + 4, name, size=10, fill=GREY, anchor="end"))
        for when in ats:
            value = values.get(when, 0)
            if value > 0.01:
                # As in the dashboard: the square root, or a few would not be seen beside many.
                x = max(area.x, area.x + (when - start) * second - width)
                parts.append(
                    f'<rect x="{x:.1f}" y="{y + 0.5:.1f}" width="{max(0.5, width - 0.5):.1f}" '
                    f'height="{high - 1:.1f}" fill="{BLUE}" fill-opacity="{0.12 + 0.88 * (value / most) ** 0.5:.2f}"/>'
                )
    return parts
