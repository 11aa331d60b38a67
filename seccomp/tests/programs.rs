//! Ordinary programs under the cell's filter. A filter belongs to the thread that installs it and to
//! all that this thread starts, so each test confines a thread and leaves the harness alone.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use cloister_seccomp::{CELL, Profile};
use seccompiler::{BpfProgram, apply_filter, sock_filter};

fn confined<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let arch = std::env::consts::ARCH.parse().unwrap();
    let program = Profile::parse(CELL).unwrap().compile(arch).unwrap();
    let filter: BpfProgram = program
        .instructions()
        .iter()
        .map(|one| sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k })
        .collect();
    let thread = thread::spawn(move || {
        apply_filter(&filter).expect("the kernel loads the filter");
        body()
    });
    thread.join().unwrap()
}

fn shell(script: &'static str) -> Output {
    confined(move || Command::new("sh").args(["-euc", script]).output().unwrap())
}

#[track_caller]
fn assert_prints(output: &Output, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{stderr}");
}

#[test]
fn a_shell_has_pipes_and_files() {
    let output = shell(
        "d=$(mktemp -d); trap 'rm -r $d' EXIT; cd $d
        printf 'b\\nc\\na\\n' | sort > sorted; cp -a sorted copy; mkfifo fifo
        sed -i s/a/x/ copy; (cat copy > fifo &); cat fifo; sleep 0.01; sync; kill -0 $$",
    );
    assert_prints(&output, "x\nb\nc\n");
}

#[test]
fn a_server_and_its_client_meet_on_loopback() {
    let heard = confined(|| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let client = thread::spawn(move || {
            TcpStream::connect(address).unwrap().write_all(b"hello").unwrap();
        });
        let mut heard = String::new();
        server.accept().unwrap().0.read_to_string(&mut heard).unwrap();
        client.join().unwrap();
        heard
    });
    assert_eq!(heard, "hello");
}

/// The compiler that also links these tests, and what it makes: threads, addresses of the network
/// (a netlink socket), a semaphore shared by processes, an anonymous file, a signal descriptor.
#[test]
fn a_c_program_compiles_and_runs() {
    let output = confined(|| {
        let binary = std::env::temp_dir().join(format!("cloister-seccomp-{}", std::process::id()));
        let mut compiler = Command::new("cc")
            .args(["-x", "c", "-pthread", "-o"])
            .arg(&binary)
            .arg("-")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let source = include_bytes!("programs/ordinary.c");
        compiler.stdin.take().unwrap().write_all(source).unwrap();
        assert!(compiler.wait().unwrap().success());
        let output = Command::new(&binary).output().unwrap();
        std::fs::remove_file(binary).unwrap();
        output
    });
    assert_prints(&output, "ordinary\n");
}

/// What the filter is for, seen from a shell; the contrast to all of the above.
#[test]
fn a_program_that_needs_a_namespace_fails() {
    let output = shell("unshare --user true");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("Operation not permitted"), "{stderr}");
}
