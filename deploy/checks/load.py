"""A platform with jobs of every kind: a few each second, in a fixed order, and a burst now and then."""

import json
import threading
import time
from collections import Counter

SPIN = "while :; do :; done"
SOON = [
    {"command": "echo ok"},
    {"command": "exit 3"},
    {"argv": ["/usr/bin/python3", "-c", "print(sum(range(10**6)))"]},
]
# One each second. Some stay for seconds, so that gauges see them.
KINDS = [
    {"command": SPIN, "limits": {"cpus": 0.3, "cpu_time": 0.9}},
    {"command": "exec python3 -c 'import time; x = bytearray(48 << 20); time.sleep(4)'"},
    {"command": "sleep 30", "timeout": 0.4},
    {"command": "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo $x", "limits": {"memory": "16MiB"}},
    {"command": "kill -SEGV $$"},
    {"command": "for i in 1 2 3 4 5 6; do sleep 3 & done; wait"},
    {"command": f"timeout 3 sh -c '{SPIN}'; exit 0", "limits": {"cpus": 0.2}},
    {"command": "sleep 30", "labels": {"cancel": "yes"}},
    {"command": "exec python3 -c 'import time; x = bytearray(120 << 20); time.sleep(2)'"},
    {"command": "head -c 30000000 /dev/zero >file; sleep 2"},
]
BURST = [{"command": "sleep 0.3"}] * 14
# Each of these has to come about, or it was not the load that it is meant to be.
ENDS = ("completed", "cancelled", "exit_code", "signal", "timeout", "cpu_time", "out_of_memory")


def make(coordinator, seconds):
    """Submits jobs for so long, and waits for all of them: how they ended, by the coordinator's own answers, and
    when the last one was submitted."""
    jobs = []
    began = time.monotonic()
    for second in range(seconds):
        batch = [*SOON, SOON[0], SOON[2], KINDS[second % len(KINDS)]]
        batch += BURST if second % 9 == 4 else []
        for at, request in enumerate(batch):
            status, body = coordinator.ask("POST", "/jobs", request)
            if status != 201:
                raise RuntimeError(f"a job was answered {status}: {body}")
            job = json.loads(body)["job_id"]
            jobs.append(job)
            if "labels" in request:
                threading.Timer(1, coordinator.ask, ("DELETE", f"/jobs/{job}")).start()
            due = began + second + (at + 1) / len(batch)
            time.sleep(max(0, due - time.monotonic()))
    submitted = time.time()
    return Counter(end(coordinator, job) for job in jobs), submitted


def end(coordinator, job):
    """Why a job ended, once it has."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = json.loads(coordinator.get(f"/jobs/{job}", wait=10)[1])
        if found["status"] not in ("pending", "running"):
            return found.get("reason") or found["status"]
    raise RuntimeError(f"job {job} does not end")
