"""A coordinator, a runner and the Prometheus that scrapes them, as it is shipped but for names and intervals."""

import contextlib
import json
import re
import shutil
import time

from .static import PROMETHEUS
from .tools import Service, cloister, free_port

SLOTS = 4


class Platform(contextlib.ExitStack):
    """What runs while it is checked."""

    def __init__(self, scratch):
        super().__init__()
        self.scratch = scratch

    def __enter__(self):
        super().__enter__()
        try:
            binary = cloister()
            port = free_port()
            listen = f"127.0.0.1:{port}"
            command = [binary, "runner", "--listen", listen, "--slots", str(SLOTS)]
            command += ["--spool", self.scratch / "spool"]
            self.runner = self.enter_context(Service(command, port, self.scratch / "runner.log", "/health"))
            port = free_port()
            command = [binary, "coordinator", "--listen", f"127.0.0.1:{port}", "--runner-url", f"http://{listen}"]
            command += ["--store", f"sqlite:{self.scratch / 'data' / 'cloister.db'}"]
            log = self.scratch / "coordinator.log"
            self.coordinator = self.enter_context(Service(command, port, log, "/ready"))
            port = free_port()
            command = ["prometheus", f"--config.file={self.config()}", f"--web.listen-address=127.0.0.1:{port}"]
            command += [f"--storage.tsdb.path={self.scratch / 'tsdb'}", "--log.level=warn"]
            log = self.scratch / "prometheus.log"
            self.prometheus = self.enter_context(Service(command, port, log, "/-/ready"))
            return self
        except BaseException:
            self.close()
            raise

    def config(self):
        """The shipped configuration, which finds services on loopback instead of by DNS, each second."""
        copy = self.scratch / "prometheus"
        shutil.copytree(PROMETHEUS, copy)
        for path in copy.rglob("*.yml"):
            text = re.sub(r"\binterval: \d+s|(?<=_interval: )\d+s|(?<=_timeout: )\d+s", self.quick, path.read_text())
            for name, service in ("coordinator", self.coordinator), ("runner", self.runner):
                there = f'static_configs: [{{targets: ["127.0.0.1:{service.port}"]}}]'
                text = re.sub(rf"dns_sd_configs: \[{{names: \[{name}\].*\]", there, text)
            path.write_text(text)
        return copy / "prometheus.yml"

    @staticmethod
    def quick(interval):
        return re.sub(r"\d+s", "1s", interval[0])

    def api(self, path, **query):
        """What Prometheus answers."""
        _, body = self.prometheus.get(f"/api/v1/{path}", **query)
        answer = json.loads(body)
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def value(self, query):
        """Of a query for one number; None where there is none."""
        found = self.api("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def waits_for(self, query, patience=15):
        """Whether a query finds something within so many seconds."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self.api("query", query=query)["result"]:
                return True
            time.sleep(0.25)
        return False
