"""Who reaches what, and with which privileges."""
import json
from pathlib import Path

from project import HOST, PROJECT, Platform, call, curl

# Of documentation (RFC 5737): somebody else's machine, in a network namespace.
OUTSIDE, HERE = "192.0.2.2", "192.0.2.1"


def add_outsider():
    for command in ("ip netns add outside", "ip link add out0 type veth peer name out1 netns outside",
                    f"ip addr add {HERE}/24 dev out0", "ip link set out0 up",
                    f"ip -n outside addr add {OUTSIDE}/24 dev out1", "ip -n outside link set out1 up"):
        call(*command.split())


def execute_is_out_of_reach(platform):
    [runner] = platform.containers("runner")
    networks = json.loads(call("docker", "inspect", runner))[0]["NetworkSettings"]["Networks"]
    [address] = [network["IPAddress"] for network in networks.values()]
    # From the host, and from a container on the network of the published port.
    status, _ = call("curl", "--silent", "--max-time", "5", f"http://{address}:8080/health", check=False)
    assert status in (7, 28), f"the host reaches the runner: {status}"
    front = next(name for name in networks_of(platform, "coordinator") if name.endswith("_front"))
    image = call("docker", "inspect", "--format", "{{.Image}}", runner)
    try_it = "import urllib.request as u; u.urlopen('http://%s:8080/health', timeout=5)"
    for name in (address, "runner"):
        status, _ = call("docker", "run", "--rm", "--network", front, "--entrypoint", "python3", image,
                         "-c", try_it % name, check=False)
        assert status != 0, f"{name} is reached from {front}"
    # From where the coordinator is: without the token of runners, and with that of clients.
    post = ("import sys, urllib.request as u, urllib.error as e\n"
            "token = open('/var/lib/cloister/clients/token').read().strip()\n"
            "for headers in ({}, {'Authorization': 'Bearer ' + token}):\n"
            "  try: u.urlopen(u.Request('http://runner:8080/execute', b'{}', headers)); sys.exit('open')\n"
            "  except e.HTTPError as error: assert error.code == 401, error.code")
    platform.inside("coordinator", "python3", "-c", post)
    return "not from the host, not from the other network, 401 without the runners' token"


def networks_of(platform, service):
    [container] = platform.containers(service)
    return json.loads(call("docker", "inspect", container))[0]["NetworkSettings"]["Networks"]


def the_coordinator_has_no_privilege(platform):
    status = platform.inside("coordinator", "cat", "/proc/1/status")
    for line in status.splitlines():
        if line.startswith("Cap"):
            assert line.split()[1].strip("0") == "", line
    assert "NoNewPrivs:\t1" in status and "Uid:\t61840\t61840" in status, status
    code, said = platform.inside("coordinator", "touch", "/x", check=False)
    assert code != 0 and "Read-only file system" in said, said
    return "CapBnd 0, no new privileges, uid 61840, a read-only root"


# CAP_SYS_ADMIN would allow the last two; asking for what is not there makes the kernel say so, and nothing happen.
DENIED = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for name, number, arguments in (("ptrace", 101, (0, 0, 0, 0)), ("keyctl", 250, (0, -3, 0)),
                                ("bpf", 321, (99, 0, 0)), ("delete_module", 176, (b"none", 0))):
    pid = os.fork()
    if pid == 0:
        failed = libc.syscall(number, *arguments) < 0
        os._exit(ctypes.get_errno() if failed else 0)
    print(name, os.strerror(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), sep=": ")
"""


def the_narrow_runner_is_narrow(platform):
    """Its capabilities are those that are listed, and its filter denies what the same container has without it."""
    listed = {21, 7, 6, 0, 1, 5, 24}  # capability.h, in the order of the file
    status = platform.inside("runner", "cat", "/proc/1/status")
    [bounding] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd")]
    assert bounding == sum(1 << bit for bit in listed), f"{bounding:x}"
    denied = platform.inside("runner", "python3", "-c", DENIED).splitlines()
    assert len(denied) == 4 and all(line.endswith(": Operation not permitted") for line in denied), denied
    free = call("docker", "run", "--rm", "--security-opt", "seccomp=unconfined", "--entrypoint", "python3",
                "cloister", "-c", DENIED).splitlines()
    assert free[:2] == ["ptrace: Success", "keyctl: Success"], free
    return f"7 capabilities; denied: {', '.join(line.split(':')[0] for line in denied)}"


def from_outside(*arguments):
    return call("ip", "netns", "exec", "outside", "curl", "--silent", "--max-time", "20", "--output", "/dev/null",
                "--write-out", "%{http_code}", *arguments, f"http://{HERE}:8000/jobs", check=False)[1].strip()


def published_wide_it_asks_everybody(_):
    wide = Platform([], CLOISTER_PUBLISH="0.0.0.0")
    wide.up()
    token = wide.inside("coordinator", "cat", "/var/lib/cloister/clients/token")
    shown = ("--header", f"Authorization: Bearer {token}")
    assert (from_outside(), from_outside(*shown)) == ("401", "200")
    assert curl(f"{HOST}/jobs")[0] == 401 and curl(*shown, f"{HOST}/jobs")[0] == 200
    return "401 from outside and from the host, 200 with the token"


def published_wide_by_hand_it_is_not_open(_):
    """Whoever changes the ports and nothing else."""
    Path(PROJECT, "by-hand.yml").write_text(
        'services: {coordinator: {ports: !override ["0.0.0.0:8000:8000"]}}\n')
    careless = Platform(["-f", "docker-compose.yml", "-f", "by-hand.yml"])
    careless.up()
    seen = (from_outside(), curl(f"{HOST}/jobs")[0])
    assert seen == ("401", 200), seen
    return "401 from outside, 200 from the host"


def tokens_are_made_once(platform):
    def tokens():
        return [platform.inside("coordinator", "cat", f"/var/lib/cloister/{of}/token")
                for of in ("clients", "runners")]

    first = tokens()
    assert len(set(first)) == 2 and all(len(token) == 64 for token in first)
    platform.compose("up", "--detach", "--no-build", "--wait", "--force-recreate", "coordinator")
    assert tokens() == first
    return "two of 256 bits, the same after a new start"
