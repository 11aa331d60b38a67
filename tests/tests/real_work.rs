//! Real programs under the default limits.

use std::{process::Command, thread};

use cloister_tests::{COMPLETED, Scratch, Service, execute, python, shell, verdict};
use serde_json::json;

/// Runs a shell command under the defaults and comes back with what it wrote.
fn work(runner: &Service, command: &str) -> String {
    let result = execute(runner, &shell(command, &json!({}), 300.0));
    assert_eq!(verdict(&result), COMPLETED, "{result}");
    result["stdout"].as_str().unwrap().to_owned()
}

#[test]
fn c_is_compiled_and_run() {
    let source = "#include <stdio.h>\nint main(void) { puts(\"from C\"); }";
    let command = format!("cat > a.c <<'E'\n{source}\nE\ngcc -O2 a.c -o a && ./a");
    assert_eq!(work(&Service::runner(&[]), &command), "from C\n");
}

#[test]
fn cpp_with_regex_is_compiled_and_run() {
    let source = "#include <iostream>\n#include <regex>\nint main() {\n\
                  std::cout << std::regex_match(\"aaa\", std::regex(\"a+\")) << std::endl; }";
    let command = format!("cat > a.cc <<'E'\n{source}\nE\ng++ a.cc -o a && ./a");
    assert_eq!(work(&Service::runner(&[]), &command), "1\n");
}

#[test]
fn pythons_modules_load() {
    let result = execute(
        &Service::runner(&[]),
        &python("import ssl, json, sqlite3; print(ssl.OPENSSL_VERSION)", &json!({}), 60.0),
    );
    assert_eq!(verdict(&result), COMPLETED, "{result}");
    assert!(result["stdout"].as_str().unwrap().contains("OpenSSL"), "{result}");
}

#[test]
fn pythons_processes_work_together() {
    let program = "from multiprocessing import Pool, Lock, Queue, shared_memory\n\
        Lock(); Queue(); m = shared_memory.SharedMemory(create=True, size=4096); m.unlink()\n\
        with Pool(4) as p: print(sum(p.map(abs, range(-100, 0))))";
    let result = execute(&Service::runner(&[]), &python(program, &json!({}), 120.0));
    assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("5050\n")), "{result}");
}

#[test]
fn a_virtual_environment_with_numpy_is_exposed_needs_the_registries() {
    let folder = Scratch::new("venv");
    let venv = folder.join("v");
    let python3 = "/usr/bin/python3";
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(python3, &["-m", "venv", venv.to_str().unwrap()]);
    run(venv.join("bin/pip").to_str().unwrap(), &["install", "--quiet", "numpy"]);
    let runner = Service::runner(&["--expose", venv.to_str().unwrap()]);
    let program =
        "import numpy; a = numpy.arange(10000.).reshape(100, 100); print(int((a @ a).trace()))";
    let command = format!("{} -c '{program}'", venv.join("bin/python").display());
    assert_eq!(work(&runner, &command), format!("{}\n", trace()));
    // It is seen, and can't be changed.
    let result = execute(&runner, &shell(&format!("touch {}/x", venv.display()), &json!({}), 10.0));
    assert_eq!(result["reason"], "exit_code", "{result}");
}

/// The trace of the square of the 100 by 100 matrix of 0, 1, 2, …
fn trace() -> String {
    let at = |i: u64, j: u64| i * 100 + j;
    let sum: u64 = (0..100).flat_map(|i| (0..100).map(move |k| at(i, k) * at(k, i))).sum();
    sum.to_string()
}

#[test]
fn a_long_pipeline() {
    let command = "seq 1000000 | sort -R | sort -n | tail -1";
    assert_eq!(work(&Service::runner(&[]), command), "1000000\n");
}

#[test]
fn node_runs() {
    assert_eq!(
        work(&Service::runner(&[]), "node -e 'console.log([1,2,3].map(x => x * x).join())'"),
        "1,4,9\n"
    );
}

#[test]
fn a_server_and_its_client_meet_on_loopback() {
    let command = "echo hello > index.html; python3 -m http.server 8000 >/dev/null 2>&1 & \
        curl -s --retry 50 --retry-connrefused --retry-delay 0 --retry-max-time 30 http://127.0.0.1:8000/; \
        curl -s http://localhost:8000/index.html";
    assert_eq!(work(&Service::runner(&[]), command), "hello\nhello\n");
}

#[test]
fn ten_megabytes_go_through() {
    let input = "0123456789abcde\n".repeat(10 << 16);
    let task =
        json!({ "command": "cat", "stdin": input, "limits": { "output": "16MiB" }, "timeout": 60 });
    let result = execute(&Service::runner(&[]), &task);
    assert_eq!(verdict(&result), COMPLETED);
    assert!(result["stdout"].as_str().unwrap() == input, "what came out is not what went in");
}

#[test]
fn cells_at_once_do_not_meet() {
    let runner = Service::runner(&["--slots", "8"]);
    thread::scope(|scope| {
        for i in 0..8 {
            let runner = &runner;
            scope.spawn(move || {
                let command = format!(
                    "echo {i} > /tmp/who; echo {i} > /dev/shm/who; sleep 0.2; cat /tmp/who /dev/shm/who; ls /job | wc -l"
                );
                assert_eq!(work(runner, &command), format!("{i}\n{i}\n0\n"));
            });
        }
    });
}
