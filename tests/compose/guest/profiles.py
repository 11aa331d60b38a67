"""What stands around the platform: Debian's programs in the place of images that can't be pulled."""
import json
import os
import shutil
import urllib.error
from pathlib import Path

from project import PROJECT, Platform, ask, call, same, submit, until


def image_of(name):
    """What the compose file calls an image, with its version."""
    return next(line.split()[1] for line in Path(PROJECT, "docker-compose.yml").read_text().splitlines()
                if line.strip().startswith(f"image: {name}"))


def prometheus_finds_all_runners(platform):
    """Debian's Prometheus in the place of the image that can't be pulled, with the shipped files."""
    image = Path("/root/prometheus")
    image.mkdir()
    shutil.copy("/payload/prometheus", image)
    (image / "Dockerfile").write_text(
        "FROM debian:trixie-slim\nCOPY prometheus /bin/prometheus\nENTRYPOINT "
        '["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]\n')
    name = image_of("prom/prometheus")
    call("docker", "build", "--tag", name, str(image))
    platform.compose("--profile", "monitoring", "up", "--detach", "--no-build", "prometheus")

    def seen():
        # Nobody listens behind the published port at first.
        status, text = call("curl", "--silent", "--fail", "--max-time", "10",
                            "http://localhost:9090/api/v1/query?query=count%20by%20(job)%20(up%20%3D%3D%201)", check=False)
        results = json.loads(text)["data"]["result"] if status == 0 else []
        return {result["metric"]["job"]: result["value"][1] for result in results}

    wanted = {"cloister-coordinator": "1", "cloister-runner": "3"}
    until(f"{wanted} are scraped", 180, lambda: seen() == wanted)
    return f"up: {seen()}"


def jobs_are_in_postgresql(_):
    """Debian's PostgreSQL in the place of the image that can't be pulled, as README.md says to use it."""
    image = Path("/root/postgres")
    image.mkdir()
    shutil.copy("/payload/postgres", image)
    call("docker", "import", "/payload/postgres.tar", "debian-with-postgresql")
    (image / "Dockerfile").write_text(
        "FROM debian-with-postgresql\nENV PATH=/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "COPY postgres /entrypoint\nENTRYPOINT [\"/entrypoint\"]\n")
    call("docker", "build", "--tag", image_of("postgres"), str(image))
    platform = Platform(["--profile", "postgres"], POSTGRES_PASSWORD="secret",
                        CLOISTER_STORE="postgres://cloister:secret@postgres/cloister")
    platform.up()
    same(submit({"command": "echo kept"}), status="completed", stdout="kept\n")
    count = ("psql", "--username=cloister", "--no-align", "--tuples-only", "--command=SELECT count(*) FROM jobs")
    assert platform.inside("postgres", *count) == "1"
    running = ask("/jobs", {"command": "sleep 5; echo through it"})
    until("it runs", 30, lambda: ask(f"/jobs/{running['job_id']}")["status"] == "running")
    [database] = platform.containers("postgres")
    os.kill(int(call("docker", "inspect", "--format", "{{.State.Pid}}", database)), 9)

    def ended():
        try:
            return (job := ask(f"/jobs/{running['job_id']}"))["status"] not in ("pending", "running") and job
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
            return None

    same(until("the job's end is told", 120, ended), status="completed", stdout="through it\n")
    return "a job in its table; another one outlived its SIGKILL"
