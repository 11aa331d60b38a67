"""What somebody with curl sees."""
import statistics
import time

from project import HOST, ask, curl, same, submit, until


def the_readmes_first_job(_):
    job = submit({"command": "echo hello world"})
    same(job, status="completed", exit_code=0, stdout="hello world\n")
    status, again = curl(f"{HOST}/jobs/{job['job_id']}")
    assert (status, again["stdout"]) == (200, "hello world\n")
    return f"{job['runtime_ms']:.1f} ms, by {job['runner']}"


def verdicts_are_exact(_):
    memory = submit({"command": 'python3 -c "x = [0] * 10**8"', "limits": {"memory": "64MiB"}})
    same(memory, status="failed", reason="out_of_memory", exit_code=137, signal=9)
    assert memory["usage"]["oom_kills"] >= 1
    slow = submit({"command": "sleep 60", "timeout": "1500ms"})
    same(slow, status="failed", reason="timeout", exit_code=137, signal=9)
    assert 1500 <= slow["runtime_ms"] < 6000, slow
    loud = submit({"command": "head -c 3000000 /dev/zero | tr '\\0' x", "limits": {"output": "64KiB"}})
    same(loud, status="completed", exit_code=0, stdout_truncated=True, stdout="x" * 65536)
    half = submit({"command": "while :; do :; done", "timeout": "6s", "limits": {"cpus": 0.5}})
    same(half, status="failed", reason="timeout")
    share = half["usage"]["cpu_ms"] / half["runtime_ms"]
    assert 0.3 < share < 0.6 and half["usage"]["throttled_ms"] > 0, half["usage"]
    forks = "import os, time\nn = 0\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(60)\n    n += 1\n" \
            "except OSError: print(n)"
    many = submit({"argv": ["python3", "-c", forks], "limits": {"pids": 16}})
    same(many, status="completed", stdout="15\n")
    assert many["usage"]["pids_peak"] <= 16
    seconds = submit({"command": "while :; do :; done", "limits": {"cpu_time": 1}})
    same(seconds, status="failed", reason="cpu_time")
    return f"half a core is {share:.2f}; memory, timeout, output, pids, cpu_time"


def a_fork_bomb_is_alone_with_it(_):
    def health():
        began = time.monotonic()
        assert ask("/health")["status"] == "ok"
        return (time.monotonic() - began) * 1000

    before = statistics.median(health() for _ in range(30))
    job = ask("/jobs", {"command": "bomb() { bomb | bomb & }; bomb; sleep 20", "timeout": "15s"})
    until("it runs", 30, lambda: ask(f"/jobs/{job['job_id']}")["status"] == "running")
    meanwhile = [health() for _ in range(60)]
    neighbour = submit({"command": "echo neighbour"})
    same(neighbour, status="completed", stdout="neighbour\n")
    ended = ask(f"/jobs/{job['job_id']}?wait=60")
    same(ended, status="failed")
    assert ended["usage"]["pids_peak"] <= 256, ended
    # How fast is for benchmarks; that it answers at all is this test's.
    assert max(meanwhile) < 10_000, meanwhile
    return f"/health: median {before:.1f} ms without it, {statistics.median(meanwhile):.1f} ms with it"


def three_runners_share_the_work(platform):
    platform.up("--scale", "runner=3")
    until("three runners answer", 60, lambda: ask("/health")["runners"]["up"] == 3)
    ids = [ask("/jobs", {"command": "true"})["job_id"] for _ in range(300)]
    by = {}
    for each in ids:
        job = until("it ends", 600, lambda: (job := ask(f"/jobs/{each}?wait=60"))["status"] != "running"
                    and job["status"] != "pending" and job)
        same(job, status="completed")
        by[job["runner"]] = by.get(job["runner"], 0) + 1
    assert len(by) == 3 and min(by.values()) >= 30, by
    return f"{sorted(by.values())} of 300 jobs"


def what_runs_may_end(platform):
    platform.up()
    job = ask("/jobs", {"command": "sleep 4; echo done"})
    until("it runs", 30, lambda: ask(f"/jobs/{job['job_id']}")["status"] == "running")
    began = time.monotonic()
    platform.compose("stop")
    took = time.monotonic() - began
    platform.up()
    same(ask(f"/jobs/{job['job_id']}"), status="completed", stdout="done\n")
    return f"stopped after {took:.0f} s, and the job had ended"
