"""What an operator sees of images, containers and what they leave."""
import os
from pathlib import Path

from project import PROJECT, ask, call, cgroups, same, submit, until


def size_of_the_image(_):
    size = int(call("docker", "image", "inspect", "--format", "{{.Size}}", "cloister:latest"))
    program = Path(PROJECT, "dist/cloister").stat().st_size
    assert size < 200_000_000, size
    return f"{size / 1e6:.0f} MB, of which the program has {program / 1e6:.1f} MB"


def check_holds(platform):
    said = platform.inside("runner", "cloister", "check")
    assert "everything holds" in said, said
    return said.splitlines()[-1]


def other_containers_hold_too(_):
    """With the host's cgroup namespace, and with a limit of the container's own, which jobs stay below."""
    plain = ("docker", "run", "--rm", "--privileged")
    said = call(*plain, "--cgroupns", "host", "cloister", "check")
    assert "everything holds" in said, said
    said = call(*plain, "--memory", "512m", "cloister", "check")
    [line] = [line for line in said.splitlines() if "memory_reserve" in line]
    room = int(line.split("have ")[1].split()[0])
    assert "everything holds" in said and 200 << 20 < room < 500 << 20, said
    status, said = call(*plain, "--memory", "512m", "cloister", "run", "--memory", "1GiB", "--", "true", check=False)
    assert status == 125 and "--memory is above the maximum of " in said, (status, said)
    # Without what it takes, it says so.
    status, said = call("docker", "run", "--rm", "cloister", "check", check=False)
    assert status == 1 and "a runner refuses to start here" in said, said
    return f"the host's cgroup namespace; of 512 MiB jobs have {room >> 20}"


def a_killed_runner_comes_back(platform):
    first, second, _ = platform.containers("runner")
    # By itself after a crash; after `docker kill`, which says that it is meant, when it is asked for.
    process = call("docker", "inspect", "--format", "{{.State.Pid}}", first)
    os.kill(int(process), 9)
    until("it is restarted", 120, lambda: call("docker", "inspect", "--format", "{{.RestartCount}}", first) == "1")
    until("three runners answer", 120, lambda: ask("/health")["runners"]["up"] == 3)
    call("docker", "kill", second)
    until("it is missed", 120, lambda: ask("/health")["runners"]["up"] == 2)
    same(submit({"command": "echo two are left"}), status="completed")
    platform.up("--scale", "runner=3")
    until("three runners answer", 120, lambda: ask("/health")["runners"]["up"] == 3)
    return "SIGKILL: restarted; docker kill: missed, and back with `up`"


def nothing_is_left(platform):
    platform.down()
    assert (left := cgroups()) <= platform.cgroups, left - platform.cgroups
    assert not call("docker", "ps", "--all", "--quiet") and not call("docker", "volume", "ls", "--quiet")
    return "no cgroup, container or volume"
