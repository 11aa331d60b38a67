"""The services by their compose files, and who asks them something. The transcript has each command."""
import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

PROJECT = Path("/root/cloister")
TRANSCRIPT = open("/results/transcript.txt", "w")
HOST = "http://localhost:8000"


def call(*command, check=True, **settings):
    """Runs a command, writes down what it printed, and returns that."""
    TRANSCRIPT.write(f"$ {' '.join(map(str, command))}\n")
    done = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **settings)
    TRANSCRIPT.write(done.stdout + "\n")
    TRANSCRIPT.flush()
    if check and done.returncode != 0:
        raise AssertionError(f"{command} exited with {done.returncode}: {done.stdout}")
    return done.stdout.strip() if check else (done.returncode, done.stdout)


def cgroups():
    """Those of containers."""
    return {str(path) for path in Path("/sys/fs/cgroup/docker").glob("**/*") if path.is_dir()}


class Platform:
    """The services, by one or more compose files."""

    def __init__(self, files, **environment):
        self.files, self.environment = files, {**os.environ, **environment}
        # Such as the one that images are built in.
        self.cgroups = cgroups()

    def compose(self, *arguments, check=True):
        command = ["docker", "compose", "--ansi=never", *self.files, *arguments]
        return call(*command, check=check, env=self.environment)

    def up(self, *arguments):
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "240", *arguments)

    def down(self):
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "45")

    def inside(self, service, *command, check=True):
        return self.compose("exec", "-T", service, *command, check=check)

    def containers(self, service):
        return self.compose("ps", "--all", "--quiet", service).split()


def curl(*arguments):
    """What curl gets: the status, and the body as JSON where it is that."""
    text = call("curl", "--silent", "--max-time", "90", "--write-out", "\n%{http_code}", *arguments)
    body, _, status = text.rpartition("\n")
    try:
        return int(status), json.loads(body)
    except ValueError:
        return int(status), body


def submit(request, wait=60):
    status, job = curl("-X", "POST", f"{HOST}/jobs?wait={wait}", "-H", "Content-Type: application/json",
                       "-d", json.dumps(request))
    assert status == 201, (status, job)
    return job


def ask(path, data=None):
    """The same without a program, where many are asked or time is taken."""
    request = urllib.request.Request(HOST + path, data=data and json.dumps(data).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.load(answer)


def until(what, seconds, seen):
    end = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return found


def same(found, **expected):
    """Compares some fields."""
    fields = {name: found.get(name) for name in expected}
    assert fields == expected, f"{fields} is not {expected}, in {found}"
