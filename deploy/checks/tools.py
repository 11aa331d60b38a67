"""Programs, processes and what is left of them."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1]
ROOT = DEPLOY.parent


class Results:
    """Counts what held and what did not, and says each."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, problem=None):
        """One check: it failed if there is a problem."""
        if problem:
            self.failed += 1
            print(f"FAILED: {what}: {problem}", flush=True)
        else:
            self.passed += 1
            print(f"ok: {what}", flush=True)
        return not problem


def run(*command, patience=120):
    """Runs a program; what is wrong in its own words, or None."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    output = (done.stdout + done.stderr).strip()
    return None if done.returncode == 0 else output or f"it ended with {done.returncode}"


def install(program, package):
    """Has Debian's package of a program, and starts none of its services."""
    if shutil.which(program):
        return
    print(f"installing {package}", flush=True)
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True, env=environment)
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", package]
        subprocess.run(command, check=True, env=environment)
    finally:
        if ours:
            policy.unlink()


def cloister():
    """The binary: CLOISTER_BIN, or as cargo itself names what it builds."""
    named = os.environ.get("CLOISTER_BIN")
    if named:
        return named
    command = ["cargo", "build", "--quiet", "--locked", "--package", "cloister", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return re.findall(r'"executable":"([^"]*/cloister)"', built)[-1]


def free_port(taken=set()):
    """A port of loopback that is free, from below the range that the kernel gives to clients by itself."""
    for port in range(20000 + os.getpid() * 97 % 12000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in taken:
            taken.add(port)
            return port
    raise RuntimeError("no port is free")


class Service:
    """A process that listens on a port of loopback. Leaving the `with` ends it."""

    def __init__(self, command, port, log, ready):
        self.port = port
        self.log = log
        self.ready = ready
        with open(log, "wb") as output:
            # Ctrl-C is for whoever checks; leaving ends this one, in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self):
        try:
            self.wait_until_it_answers()
            return self
        except BaseException:
            self.stop()
            raise

    def wait_until_it_answers(self):
        until = time.monotonic() + 60
        while True:
            try:
                if self.get(self.ready)[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.process.args[0]} does not answer:\n{Path(self.log).read_text()}")
            time.sleep(0.05)

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """As an operator would, so that a runner takes its cgroups away; twice, so that nothing is waited for."""
        until = time.monotonic() + 20
        for _ in range(2):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
        while self.process.poll() is None:
            if time.monotonic() > until:
                self.process.kill()
            time.sleep(0.02)

    def ask(self, method, path, body=None):
        """Status and body of an answer."""
        # Never by a proxy, and a connection of its own: several threads ask.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, path, **query):
        return self.ask("GET", path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else ""))
