"""What can be said of the files without running anything but promtool."""

import json
import re
import shutil

from .tools import DEPLOY, run

PROMETHEUS = DEPLOY / "prometheus"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
ALERT = re.compile(r"^      - alert: (\w+)\n(?:        .*\n|\n)*", re.M)
EXPRESSION = re.compile(r"^        expr:(?: \|\n(?:          .*\n)+| .*\n)", re.M)


def check(results, scratch):
    files = [str(path) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    tests = [str(path) for path in sorted((PROMETHEUS / "tests").glob("*.yml"))]
    config = str(PROMETHEUS / "prometheus.yml")
    results.check("promtool check config", run("promtool", "check", "config", config))
    results.check("promtool check rules", run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *files))
    results.check("promtool test rules", run("promtool", "test", "rules", *tests))
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        notice(results, scratch, path)
    for name, dashboard in dashboards():
        results.check(f"dashboard {name}: whole", unsound(dashboard))


def dashboards():
    return [(path.stem, json.loads(path.read_text())) for path in sorted(DASHBOARDS.glob("*.json"))]


def notice(results, scratch, path):
    """Whether a test of each alert fails once it never fires, and one once it always does: else they say nothing."""
    text = path.read_text()
    alerts = [alert[1] for alert in ALERT.finditer(text)]
    for word, other in ("never", "vector(1) < 0"), ("always", "vector(1) > 0"):
        if not alerts:
            break
        copy = scratch / word / path.stem
        shutil.copytree(PROMETHEUS, copy)
        changed = ALERT.sub(lambda alert: EXPRESSION.sub(f"        expr: {other}\n", alert[0]), text)
        (copy / "rules" / path.name).write_text(changed)
        output = run("promtool", "test", "rules", str(copy / "tests" / path.name)) or ""
        unnoticed = [alert for alert in alerts if not re.search(rf"\b{alert}\b", output)]
        what = f"tests of {len(alerts)} alerts notice when they {word} fire: {path.name}"
        results.check(what, f"not those of {', '.join(unnoticed)}" if unnoticed else None)


def unsound(dashboard):
    """What Grafana would show wrongly, or None."""
    ids, areas = set(), set()
    for panel in dashboard["panels"]:
        title = panel["title"]
        if panel["id"] in ids:
            return f"two panels have the id {panel['id']}"
        ids.add(panel["id"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        if at["x"] + at["w"] > 24 or cells & areas:
            return f"{title} lies over another panel, or beyond the edge"
        areas |= cells
        if panel["type"] == "row":
            continue
        if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            return f"{title} asks a fixed data source"
        unit = panel["fieldConfig"]["defaults"].get("unit", panel["type"] in UNITLESS)
        if not panel.get("description") or not unit:
            return f"{title} lacks a description or a unit"
        references = [target["refId"] for target in panel["targets"]]
        if len(set(references)) != len(references):
            return f"{title} has one refId twice"
    named = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard["panels"])))
    return f"variables {used ^ named} are not both there and used" if used != named else None


# Their values are words, or their unit is the axis's.
UNITLESS = ("state-timeline", "heatmap")
