"""Panels and rules against a Prometheus that has seen a loaded platform."""

import math
import re
import time

from . import draw, load
from .platform import Platform
from .static import dashboards
from .tools import run

# What stands for the variables of dashboards: everything, and enough scrapes for a rate.
VARIABLES = {"$coordinator": ".+", "$runner": ".+", "$__rate_interval": "8s"}
# A host that can't tell shows none of these: without PSI, without an io controller, and with memory still on
# cgroup v1, where a folder does not count the kills below it.
HOST = re.compile(r"cloister_(cells|slot)_(pressure|io)_\w+|cloister_cells_oom_kills_total")
NAMES = re.compile(r"\b(?:cloister_\w+|(?:jobs?|executions)_\w+|up)\b(?!\s*\()")
RECORDED = re.compile(r"\b\w+:\w+:\w+\b")
SELECTOR = re.compile(r"[a-zA-Z_:][\w:]*\{[^}]*\}")
# What no load should make pending; the others may see a small and busy machine rightly.
QUIET = "TargetDown|NoLeader|StoreDown|RunnerDown|NoRunner|BreakerOpen|SandboxErrors|CellsFail|Paused"


class Absent(Exception):
    """It asks for what is not there on this host."""


class Live:
    def __init__(self, results, platform):
        self.results = results
        self.platform = platform
        self.skipped = 0

    def load(self, seconds):
        """Has jobs run; whether Prometheus counts exactly what the coordinator answered."""
        # Prometheus waits for a while before it scrapes what it found.
        seen = self.platform.waits_for('sum(up{job=~"cloister-.+"}) == 2')
        self.results.check("Prometheus scrapes both services", None if seen else "it does not")
        self.start = time.time()
        ends, self.busy = load.make(self.platform.coordinator, seconds)
        # Two scrapes, and an evaluation of what they saw.
        time.sleep(3)
        self.stop = time.time()
        print(f"jobs: {dict(sorted(ends.items()))}", flush=True)
        missing = [end for end in load.ENDS if not ends[end]]
        self.results.check("every kind of end came about", f"none ended as {missing}" if missing else None)
        self.counts("jobs_total", sum(ends.values()))
        for end in load.ENDS:
            self.counts(f'cloister_job_ends_total{{end="{end}"}}', ends[end])
        self.counts('executions_failed_total{job="cloister-runner"}', sum(
            count for end, count in ends.items() if end not in ("completed", "cancelled")))

    def counts(self, query, expected):
        found = self.platform.value(query)
        self.results.check(f"{query} is {expected}", None if found == expected else f"it is {found}")

    def scrapes(self):
        for name in "coordinator", "runner":
            path = self.platform.scratch / "metrics"
            path.write_text(getattr(self.platform, name).get("/metrics")[1])
            problem = run("sh", "-c", 'exec promtool check metrics <"$0"', str(path))
            self.results.check(f"promtool check metrics: {name}", problem)
        self.there = set(self.platform.api("label/__name__/values"))
        labels = set(self.platform.api("labels"))
        wrong = [label for label in labels if re.search("job_id|execution|attempt|tenant", label)]
        self.results.check("no label grows with the jobs", f"{wrong}" if wrong else None)
        joined = self.platform.api("query", query="cloister_runner_up * on (runner) group_left () "
                                   'label_replace(up{job="cloister-runner"}, "runner", "$1", "instance", "(.*)")')
        self.results.check("a coordinator's runner is that runner's instance", None if joined["result"] else "it is not")

    def panels(self):
        """Every panel's query; the answers, for pictures."""
        drawn = []
        for name, dashboard in dashboards():
            answers = {}
            for variable in dashboard["templating"]["list"]:
                if variable["type"] == "query":
                    self.variable(f"{name}: ${variable['name']}", variable["definition"])
            for panel in dashboard["panels"]:
                for target in panel.get("targets", []):
                    answer = self.panel(f"{name}: {panel['title']}", target["expr"])
                    answers.setdefault(panel["id"], []).append((target, answer))
            drawn.append((name, dashboard, answers))
        return drawn

    def variable(self, what, definition):
        match, label = re.fullmatch(r"label_values\((.+), (\w+)\)", definition).groups()
        values = self.platform.api(f"label/{label}/values", **{"match[]": match})
        self.results.check(f"{what}: {definition}: {len(values)} values", None if values else "it must have some")

    def panel(self, what, expression):
        query = expression
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        try:
            self.known(query)
            step = max(1, round((self.stop - self.start) / 240))
            found = self.platform.api("query_range", query=query, start=self.start, end=self.stop, step=step)
            series = [(one["metric"], points(one)) for one in found["result"]]
            series = [one for one in series if one[1]]
            self.results.check(f"{what}: {query}: {len(series)} series", None if series else "it must return some")
            return series
        except Absent as absent:
            self.skip(what, query, absent)
        except ValueError as error:
            self.results.check(f"{what}: {query}", str(error))
        return []

    def pictures(self, drawn, folder):
        """Each dashboard as it was at the end of the load."""
        folder.mkdir(parents=True, exist_ok=True)
        names = {f"127.0.0.1:{getattr(self.platform, name).port}": name for name in ("coordinator", "runner")}
        for name, dashboard, answers in drawn:
            picture = draw.dashboard(dashboard, answers, names, self.start, self.busy)
            (folder / f"{name}.svg").write_text(picture)

    def known(self, query):
        """Raises Absent where a query asks for what need not be there; an error where it must be."""
        for name in sorted(set(NAMES.findall(RECORDED.sub("", query)))):
            base = re.sub("_(bucket|count|sum)$", "", name)
            if name in self.there:
                continue
            if HOST.fullmatch(base):
                raise Absent(f"this host can't tell {base}")
            raise ValueError(f"{name} is not scraped")

    def skip(self, what, query, why):
        self.skipped += 1
        print(f"skipped: {what}: {query}: {why}", flush=True)

    def rules(self):
        """Each is evaluated without error; each recorded series, and each that an alert looks at, is there."""
        for group in self.platform.api("rules")["groups"]:
            for rule in group["rules"]:
                self.rule(rule)
        pending = self.platform.api("query", query=f'ALERTS{{alertname=~"Cloister({QUIET})"}}')["result"]
        names = [alert["metric"]["alertname"] for alert in pending]
        self.results.check("no alert of a fault while all is well", f"{names}" if names else None)

    def rule(self, rule):
        what = f"{rule['type']} rule {rule['name']} {rule.get('labels') or ''}".rstrip()
        try:
            self.known(rule["query"])
            if rule["health"] != "ok":
                raise ValueError(rule.get("lastError") or rule["health"])
            if rule["type"] == "recording":
                self.finds(selector(rule["name"], rule.get("labels", {})))
            else:
                for key in "summary", "description":
                    if not rule["annotations"].get(key):
                        raise ValueError(f"it has no {key}")
                if rule["labels"].get("severity") not in ("warning", "critical"):
                    raise ValueError("its severity is neither warning nor critical")
                # A name or a label that is misspelt makes an alert that never fires.
                for part in SELECTOR.findall(rule["query"]) + RECORDED.findall(rule["query"]):
                    self.finds(part)
            self.results.check(what)
        except Absent as absent:
            self.skip(what, rule["query"], absent)
        except ValueError as error:
            self.results.check(what, str(error))

    def finds(self, match):
        if not self.platform.api("series", **{"match[]": match, "start": self.start, "end": self.stop}):
            raise ValueError(f"nothing matches {match}")

    def faults(self):
        """A runner and then the coordinator go: the alerts for that begin, with all that they say filled in."""
        self.platform.runner.stop()
        self.begins("RunnerDown", "NoRunner", "TargetDown")
        self.platform.coordinator.stop()
        self.begins("NoLeader")

    def begins(self, *names):
        for name in names:
            found = self.platform.waits_for(f'ALERTS{{alertname="Cloister{name}"}}')
            texts = [text for alert in self.platform.api("alerts")["alerts"]
                     if alert["labels"]["alertname"] == f"Cloister{name}" for text in alert["annotations"].values()]
            unfilled = [text for text in texts if re.search("<no value>|<error|{{|  ", text)]
            problem = unfilled[0] if unfilled else None if found and texts else "it does not"
            self.results.check(f"Cloister{name} begins when its cause is there", problem)


def points(series):
    """Times and numbers of a series, without what is none."""
    pairs = ((float(at), float(value)) for at, value in series["values"])
    return [(at, value) for at, value in pairs if math.isfinite(value)]


def selector(name, labels):
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def check(results, scratch, seconds, pictures):
    """Runs all of it, and leaves pictures in a folder if there is one; how much was skipped."""
    with Platform(scratch) as platform:
        live = Live(results, platform)
        live.load(seconds)
        live.scrapes()
        drawn = live.panels()
        live.rules()
        live.faults()
        if pictures:
            live.pictures(drawn, pictures)
        return live.skipped
