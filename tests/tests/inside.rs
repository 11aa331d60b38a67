//! What a job sees and may do, looked at from within.

use std::process::Command;

use cloister_tests::{
    COMPLETED, Service, cloister,
    endurance::{self, Descriptors},
    execute, python, shell, verdict,
};
use serde_json::{Value, json};

fn look(command: &str) -> String {
    let runner = Service::runner(&[]);
    let result = execute(&runner, &shell(command, &json!({}), 60.0));
    assert_eq!(verdict(&result), COMPLETED, "{result}");
    result["stdout"].as_str().unwrap().trim().to_owned()
}

#[test]
fn one_interface_and_it_is_up() {
    let interfaces = look("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '");
    assert_eq!(interfaces, "lo");
    // IFF_UP | IFF_LOOPBACK | IFF_RUNNING, as a program asks for it.
    let program = "import socket, fcntl, struct\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        print(struct.unpack('16xH14x', fcntl.ioctl(s, 0x8913, struct.pack('16s16x', b'lo')))[0] & 0x49)";
    let result = execute(&Service::runner(&[]), &python(program, &json!({}), 60.0));
    assert_eq!(result["stdout"], "73\n", "{result}");
}

#[test]
fn three_descriptors() {
    // The list's own descriptor is the fourth.
    let program = "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd')))";
    let result = execute(&Service::runner(&[]), &python(program, &json!({}), 60.0));
    assert_eq!(result["stdout"], "[0, 1, 2, 3]\n", "{result}");
}

#[test]
fn cells_made_at_once_have_descriptors_of_their_own() {
    let report = endurance::descriptors(&Descriptors { cells: 64, rounds: 5, stay: 400 });
    assert!(report.broken().is_empty(), "{:#?}", report.broken());
}

#[test]
fn no_capability_no_new_one_and_a_filter() {
    let status = look("grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status");
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{line}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
}

/// Whatever the shell had from which the service was started.
#[test]
fn every_limit_of_a_process_is_set_on_purpose() {
    let shell = "ulimit -S -s 1024 -l 64 -q 0 -i 10 -u 64 -v 4000000 -t 500 -c 1000; \
        exec \"$0\" run --open-files 77 --disk 1MiB -- cat /proc/self/limits";
    let run = Command::new("bash").args(["-c", shell]).arg(cloister()).output().unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    let limit = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    let all = "unlimited";
    for (name, soft, hard) in [
        ("Max cpu time", all, all),
        ("Max file size", "1052672", "1052672"),
        ("Max data size", all, all),
        ("Max stack size", "8388608", all),
        ("Max core file size", "1", "1"),
        ("Max resident set", all, all),
        ("Max open files", "77", "77"),
        ("Max locked memory", "8388608", "8388608"),
        ("Max address space", all, all),
        ("Max file locks", all, all),
        ("Max pending signals", "4096", "4096"),
        ("Max msgqueue size", "819200", "819200"),
        ("Max nice priority", "0", "0"),
        ("Max realtime priority", "0", "0"),
        ("Max realtime timeout", all, all),
    ] {
        assert_eq!(limit(name), (soft.into(), hard.into()), "{name}: {told}");
    }
    // The cgroup limits processes; here as many as this user may have.
    let (soft, hard) = limit("Max processes");
    assert!(soft == hard && soft != "64", "{told}");
}

#[test]
fn a_user_of_its_own() {
    assert_eq!(look("id"), "uid=1000(job) gid=1000(job) groups=1000(job)");
    assert_eq!(look("hostname 2>/dev/null || cat /proc/sys/kernel/hostname"), "cell");
    assert_eq!(look("pwd; echo $HOME $USER $LANG"), "/job\n/job job C.UTF-8");
}

#[test]
fn nothing_of_the_host_is_seen() {
    // PID 1, the shell, and what it started.
    let processes: usize = look("ls -d /proc/[0-9]* | wc -l").parse().unwrap();
    assert!(processes <= 4, "{processes} processes");
    assert_eq!(look("ls -d /root /home /etc/shadow /sys /boot /mnt 2>/dev/null; true"), "");
    assert_eq!(look("cat /proc/self/cgroup | cut -d: -f3 | sort -u"), "/");
    assert_eq!(look("env | grep -c SECRET; true"), "0");
    // The first process is a copy of the service's launcher: neither its command line nor its
    // environment, memory or program may be read.
    let peeped = look(
        "cat /proc/1/environ /proc/1/maps /proc/1/mem 2>/dev/null; readlink /proc/1/exe /proc/1/root; \
         tr '\\0' ' ' < /proc/1/cmdline; true",
    );
    assert!(
        !peeped.contains("xyzzy") && !peeped.contains("--listen") && !peeped.contains('/'),
        "{peeped}"
    );
}

#[test]
fn writing_works_where_it_should_and_nowhere_else() {
    let program = r"
import os
for folder, subfolders, files in os.walk('/'):
    subfolders[:] = [s for s in subfolders if not os.path.islink(os.path.join(folder, s))]
    if folder == '/proc':
        subfolders[:] = []
    try:
        path = os.path.join(folder, 'a-test')
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.unlink(path)
        print(folder)
    except OSError:
        pass
";
    let result = execute(&Service::runner(&[]), &python(program, &json!({}), 120.0));
    let mut places: Vec<&str> = result["stdout"].as_str().unwrap().split_whitespace().collect();
    places.sort_unstable();
    assert_eq!(places, ["/dev/shm", "/job", "/tmp"], "{result}");
}

#[test]
fn disk_is_one_limit_for_all_places() {
    let runner = Service::runner(&[]);
    let command = "head -c 600K /dev/zero > /job/a && head -c 600K /dev/zero > /tmp/b";
    let enough: Value = json!({ "disk": "2MiB" });
    assert_eq!(verdict(&execute(&runner, &shell(command, &enough, 30.0))), COMPLETED);
    let result = execute(&runner, &shell(command, &json!({ "disk": "1MiB" }), 30.0));
    assert_eq!(result["reason"], "exit_code", "{result}");
    assert!(result["stderr"].as_str().unwrap().contains("No space left"), "{result}");
    // Empty files are not for free either.
    let many = "i=0; while : > /tmp/$i; do i=$((i+1)); done 2>/dev/null; echo $i";
    let result = execute(&runner, &shell(many, &json!({ "disk": "1MiB" }), 60.0));
    let count: u32 = result["stdout"].as_str().unwrap_or("0").trim().parse().unwrap_or(0);
    assert!(count < 1024, "{result}");
    // A huge file without contents is refused as well.
    let sparse =
        "import os; f = os.open('/tmp/a', os.O_CREAT | os.O_WRONLY); os.ftruncate(f, 1 << 40)";
    let result = execute(&runner, &python(sparse, &json!({}), 30.0));
    assert_ne!(verdict(&result), COMPLETED, "{result}");
}

#[test]
fn the_devices_are_there_and_work() {
    let devices = look("ls /dev | tr '\\n' ' '");
    assert_eq!(devices, "fd full null random shm stderr stdin stdout urandom zero");
    assert_eq!(look("echo x > /dev/stdout"), "x");
    assert_eq!(look("echo x | cat /dev/stdin"), "x");
    assert_eq!(
        look("head -c 4 /dev/urandom | wc -c; head -c 2 /dev/zero | od -An -tx1; echo > /dev/null"),
        "4\n 00 00"
    );
}

#[test]
fn limits_of_each_process() {
    let runner = Service::runner(&[]);
    let result =
        execute(&runner, &shell("ulimit -n; ulimit -c", &json!({ "open_files": 77 }), 30.0));
    assert_eq!(result["stdout"], "77\n0\n");
}

#[test]
fn variables_and_folder_are_the_requests() {
    let runner = Service::runner(&[]);
    let task = json!({
        "command": "echo $A $PATH; pwd", "cwd": "/tmp", "env": { "A": "b c", "PATH": "/usr/bin:/bin" },
    });
    assert_eq!(execute(&runner, &task)["stdout"], "b c /usr/bin:/bin\n/tmp\n");
}
