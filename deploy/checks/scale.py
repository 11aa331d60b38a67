"""Numbers for people: ticks of an axis, and values with their units."""

import math


def top(highest, unit):
    """The end of an axis, and its ticks."""
    if highest <= 0:
        highest = 1
    if unit in ("bytes", "Bps"):
        factor = 1024 ** max(0, int(math.log(highest, 1024))) if highest >= 1 else 1
    else:
        factor = 1
    step = nice(highest / factor / 4) * factor
    count = math.ceil(highest / step - 1e-9)
    return step * count, [step * at for at in range(count + 1)]


def nice(step):
    """The least of 1, 2, 5 and their tenfolds that is no less."""
    power = 10 ** math.floor(math.log10(step))
    for digit in (1, 2, 5, 10):
        if digit * power >= step * (1 - 1e-9):
            return digit * power
    return 10 * power


def short(value):
    """Three digits that matter, and none that do not."""
    if value == 0:
        return "0"
    size = abs(value)
    for limit, sign in (1e9, "G"), (1e6, "M"), (1e4, "k"):
        if size >= limit:
            return short(value / (1000 if sign == "k" else limit)) + f" {sign}"
    digits = max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def text(value, unit):
    """A value as the dashboard's unit has it."""
    if unit.startswith("suffix:"):
        return f"{short(value)} {unit[7:].strip()}"
    if unit == "percentunit":
        return f"{short(value * 100)} %"
    if unit == "s":
        for limit, name in (1, "s"), (1e-3, "ms"), (1e-6, "µs"):
            if abs(value) >= limit or value == 0:
                return f"{short(value / limit)} {name}"
    if unit in ("bytes", "Bps"):
        power = min(4, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
        name = ("B", "KiB", "MiB", "GiB", "TiB")[power] + ("/s" if unit == "Bps" else "")
        return f"{short(value / 1024**power)} {name}"
    return short(value)
