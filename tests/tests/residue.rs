//! Kernel memory that no cgroup counts, measured on the host.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cloister_tests::{COMPLETED, Service, execute, killed, python, verdict};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// Takes 2.1 million locks, 400 MiB, and then waits. One process after the other, so that it needs no more CPUs
/// than it has.
const LOCKS: &str = r#"
import fcntl, os, time
def take():
    fds = [os.open(f"/tmp/{os.getpid()}-{n}", os.O_RDWR | os.O_CREAT) for n in range(1000)]
    for lock in range(262):
        for fd in fds:
            fcntl.lockf(fd, fcntl.LOCK_EX, 1, (262 - lock) * 2)
for _ in range(8):
    done, tell = os.pipe()
    if os.fork() == 0:
        take()
        os.write(tell, b"x")
        time.sleep(600)
    os.read(done, 1)
time.sleep(600)
"#;

/// Leaves data in connections that are not accepted, up to 480 MiB, after a time in which the watcher sees nothing.
const CONNECTIONS: &str = r#"
import os, socket, time
data = bytes(60_000)
os.fork()
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(4000)
time.sleep(0.15)
for _ in range(4000):
    with socket.socket() as client:
        client.connect(listener.getsockname())
        client.send(data, socket.MSG_DONTWAIT)
time.sleep(600)
"#;

/// Takes a thousand locks, keeps them, and writes to a database until the other job has ended.
const NEIGHBOUR: &str = r#"
import fcntl, sqlite3, time
held = open("/tmp/held", "w")
for lock in range(1000):
    fcntl.lockf(held, fcntl.LOCK_EX, 1, lock * 2)
end = time.time() + 20
rows = 0
while time.time() < end:
    database = sqlite3.connect("/tmp/database")
    database.execute("create table if not exists t (n integer)")
    for _ in range(20):
        database.execute("insert into t values (?)", (rows,))
        database.commit()
        rows += 1
    database.close()
    time.sleep(0.01)
print(sqlite3.connect("/tmp/database").execute("select count(*) from t").fetchone()[0] == rows)
"#;

/// What the kernel has allocated for file locks; none where it does not tell.
fn lock_slab() -> Option<u64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("file_lock_cache ") || line.starts_with("filelock_cache "))?;
    let mut words = line.split_ascii_whitespace().skip(2).map(|word| word.parse::<u64>().ok());
    Some(words.next()?? * words.next()??)
}

#[test]
fn who_holds_too_much_kernel_memory_is_ended_and_a_neighbour_is_not() {
    let runner = Service::runner(&["--slots", "4"]);
    let cpus = thread::available_parallelism().unwrap().get();
    let limits = json!({ "memory": "64MiB", "disk": "64MiB", "cpus": cpus, "pids": 32 });
    let before = lock_slab();
    let ended = AtomicBool::new(false);
    let (attack, neighbour, most) = thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = before;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(lock_slab());
                thread::sleep(Duration::from_millis(10));
            }
            most
        });
        let neighbour = scope.spawn(|| execute(&runner, &python(NEIGHBOUR, &limits, 120.0)));
        let attack = execute(&runner, &python(LOCKS, &limits, 60.0));
        let neighbour = neighbour.join().unwrap();
        ended.store(true, Ordering::Relaxed);
        (attack, neighbour, most.join().unwrap())
    });
    let grown = most.zip(before).map(|(most, before)| most.saturating_sub(before) / MIB);
    println!("the host's lock slab grew by {grown:?} MiB; {attack}");
    assert_eq!(verdict(&attack), killed("out_of_memory"), "{attack}");
    assert!(attack["message"].as_str().unwrap().contains("file locks"), "{attack}");
    // What its cgroup counts was far from its limit.
    assert!(attack["usage"]["memory_peak_bytes"].as_u64().unwrap() < 48 * MIB, "{attack}");
    // It was held back while its locks were looked at, which takes longer than that.
    assert!(attack["usage"]["throttled_ms"].as_f64().unwrap() > 20.0, "{attack}");
    assert_eq!((verdict(&neighbour), &neighbour["stdout"]), (COMPLETED, &json!("True\n")));
    assert!(grown.is_none_or(|grown| grown < 64 + 32), "the host's locks grew by {grown:?} MiB");
    let metrics = runner.client().get("/metrics").samples();
    assert_eq!(metrics.get("cloister_cells_ended_for_kernel_memory_total"), Some(&1.0));
    assert!(metrics["cloister_uncharged_kernel_memory_bytes"] > 0.0);
}

#[test]
fn who_makes_kernel_memory_grow_fast_is_ended_near_its_limit() {
    let runner = Service::runner(&["--slots", "4"]);
    let limits = json!({ "memory": "64MiB", "pids": 32 });
    for _ in 0..3 {
        let attack = execute(&runner, &python(CONNECTIONS, &limits, 60.0));
        assert_eq!(verdict(&attack), killed("out_of_memory"), "{attack}");
        let held = attack["message"].as_str().and_then(|message| {
            message.strip_prefix("it held ")?.split_once(" MiB")?.0.parse::<u64>().ok()
        });
        println!("it held {held:?} MiB");
        assert!(held.is_some_and(|held| held < 64 + 32), "{attack}");
    }
}

#[test]
fn many_descriptors_polled_by_many_threads_stay_within_what_is_allowed() {
    let runner = Service::runner(&["--slots", "2"]);
    let program = r#"
import os, select, threading, time
reader, writer = os.pipe()
fds = [os.dup(reader) for _ in range(900)]
def wait():
    poll = select.poll()
    for fd in fds: poll.register(fd, select.POLLIN)
    poll.poll(3000)
threading.stack_size(65536)
threads = [threading.Thread(target=wait) for _ in range(200)]
for each in threads: each.start()
for each in threads: each.join()
print("polled")
"#;
    let limits = json!({ "memory": "128MiB", "pids": 250, "open_files": 1024 });
    let result = execute(&runner, &python(program, &limits, 60.0));
    assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("polled\n")), "{result}");
    let metrics = runner.client().get("/metrics").samples();
    assert_eq!(metrics.get("cloister_cells_ended_for_kernel_memory_total"), Some(&0.0));
}
