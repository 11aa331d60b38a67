//! How jobs end, and what it is called: each tried by doing it.

use std::{
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{
    COMPLETED, Service, census, emulated, execute, killed, python, shell, verdict,
};
use serde_json::json;

const HOG: &str = "a = []\nwhile True: a.append(bytearray(1 << 20))";

fn runner() -> Service {
    Service::runner(&["--slots", "8"])
}

#[test]
fn an_exit_code_is_the_commands_own() {
    let result = execute(&runner(), &shell("exit 3", &json!({}), 10.0));
    assert_eq!(verdict(&result), ("failed", Some("exit_code"), Some(3), None));
    assert!(result["message"].as_str().unwrap().contains("exit code 3"), "{result}");
}

#[test]
fn a_signal_is_told_by_its_number() {
    let runner = runner();
    let result = execute(&runner, &shell("kill -SEGV $$", &json!({}), 10.0));
    assert_eq!(verdict(&result), ("failed", Some("signal"), Some(139), Some(11)));
    // A SIGKILL that the job sent to itself is neither a time-out nor a want of memory.
    let result = execute(&runner, &shell("kill -KILL $$", &json!({}), 10.0));
    assert_eq!(verdict(&result), ("failed", Some("signal"), Some(137), Some(9)));
}

#[test]
fn a_real_time_signal_is_a_signal_too() {
    let runner = runner();
    for signal in [34, 40, 64] {
        let program = format!("import os; os.kill(os.getpid(), {signal})");
        let result = execute(&runner, &python(&program, &json!({}), 20.0));
        assert_eq!(verdict(&result), ("failed", Some("signal"), Some(128 + signal), Some(signal)));
    }
}

#[test]
fn an_end_that_came_first_is_told_as_that() {
    let runner = runner();
    // Ends that come about when the time is over, before and after: what is told must fit.
    for i in 0..40 {
        let timeout = 0.05 + f64::from(i) / 10_000.0;
        let result = execute(&runner, &shell("sleep 0.05", &json!({}), timeout));
        let ran = result["runtime_ms"].as_f64().unwrap();
        match result["reason"].as_str() {
            Some(reason) => {
                assert!(reason == "timeout" && ran >= timeout * 1000.0, "{timeout}: {result}");
            }
            None => assert_eq!(verdict(&result), COMPLETED, "{result}"),
        }
    }
}

#[test]
fn a_timeout_ends_a_job_when_it_says() {
    let runner = runner();
    let began = Instant::now();
    let result = execute(&runner, &shell("sleep 60", &json!({}), 0.3));
    assert_eq!(verdict(&result), killed("timeout"));
    let took = result["runtime_ms"].as_f64().unwrap();
    assert!(took >= 300.0, "{took} ms");
    if !emulated() {
        assert!(took < 400.0, "{took} ms");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn out_of_memory_is_the_jobs_own_limit() {
    let runner = runner();
    let limits = json!({ "memory": "64MiB" });
    let result = execute(&runner, &python(HOG, &limits, 60.0));
    assert_eq!(verdict(&result), killed("out_of_memory"));
    assert!(result["usage"]["oom_kills"].as_u64().unwrap() >= 1, "{result}");
    let peak = result["usage"]["memory_peak_bytes"].as_u64().unwrap();
    assert!((60 << 20..=64 << 20).contains(&peak), "{peak}");
    // The hog is a child, and its parent would go on: the whole job is killed.
    let command = format!("/usr/bin/python3 -c '{HOG}'; echo lived on; sleep 30");
    let result = execute(&runner, &shell(&command, &limits, 60.0));
    assert_eq!(verdict(&result), killed("out_of_memory"));
    assert_eq!(result["stdout"], "");
    // Files in memory count as well.
    let fill = "head -c 100M /dev/zero > /tmp/a; head -c 100M /dev/zero > /dev/shm/b; sleep 30";
    let result = execute(&runner, &shell(fill, &limits, 60.0));
    assert_eq!(verdict(&result), killed("out_of_memory"));
}

#[test]
fn a_fork_bomb_is_alone_with_it() {
    let runner = runner();
    let bomb = python(
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        &json!({ "pids": 64, "cpus": 1 }),
        // An emulated machine takes most of two seconds to start Python, and is to fork 64 times as well.
        if emulated() { 10.0 } else { 2.0 },
    );
    let result = thread::scope(|scope| {
        let bomb = scope.spawn(|| execute(&runner, &bomb));
        // Neighbours go on as if nothing were the matter.
        for _ in 0..10 {
            let result = execute(&runner, &shell("echo ok", &json!({}), 20.0));
            assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("ok\n")));
        }
        bomb.join().unwrap()
    });
    assert_eq!(verdict(&result), killed("timeout"));
    if let Some(peak) = result["usage"]["pids_peak"].as_u64() {
        assert_eq!(peak, 64);
    }
}

#[test]
fn output_for_ever_is_cut_and_the_job_goes_on_to_its_timeout() {
    let limits = json!({ "output": "64KiB" });
    let result = execute(&runner(), &shell("yes", &limits, 1.0));
    assert_eq!(verdict(&result), killed("timeout"));
    assert_eq!(result["stdout"].as_str().unwrap().len(), 64 << 10);
    assert_eq!(
        (&result["stdout_truncated"], &result["stderr_truncated"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn output_that_just_fits_is_not_called_truncated() {
    let limits = json!({ "output": 6 });
    let result = execute(&runner(), &shell("echo 12345; printf 1234567 >&2", &limits, 10.0));
    assert_eq!(
        (&result["stdout"], &result["stdout_truncated"]),
        (&json!("12345\n"), &json!(false))
    );
    assert_eq!((&result["stderr"], &result["stderr_truncated"]), (&json!("123456"), &json!(true)));
}

#[test]
fn cpu_time_is_counted_over_all_processes() {
    let limits = json!({ "cpu_time": 0.5, "cpus": 2 });
    let result =
        execute(&runner(), &shell("while :; do :; done & while :; do :; done", &limits, 60.0));
    assert_eq!(verdict(&result), killed("cpu_time"));
    let used = result["usage"]["cpu_ms"].as_f64().unwrap();
    assert!(used >= 500.0, "{used} ms");
    if !emulated() {
        assert!(used < 700.0, "{used} ms");
    }
}

#[test]
fn half_a_core_is_half_a_core() {
    let limits = json!({ "cpus": 0.25 });
    let result = execute(&runner(), &shell("while :; do :; done", &limits, 2.0));
    assert_eq!(verdict(&result), killed("timeout"));
    let throttled = result["usage"]["throttled_ms"].as_f64().unwrap();
    assert!(throttled > 0.0, "{result}");
    let used = result["usage"]["cpu_ms"].as_f64().unwrap();
    let share = used / result["runtime_ms"].as_f64().unwrap();
    // A machine that is busy elsewhere gives less, never more (but for the last period of 100 ms).
    assert!(share < 0.32, "{share} of a core");
    if !emulated() {
        assert!(share > 0.1, "{share} of a core");
    }
}

#[test]
fn a_daemon_does_not_outlive_its_job() {
    let runner = runner();
    let result = execute(&runner, &shell("setsid sleep 98765 & echo done", &json!({}), 60.0));
    assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("done\n")));
    assert!(result["runtime_ms"].as_f64().unwrap() < 30_000.0, "{result}");
    assert!(
        census::gone("sleep 98765", Duration::from_secs(1)),
        "{:?}",
        census::processes("sleep 98765")
    );
}

#[test]
fn the_end_of_output_is_not_the_end() {
    let result = execute(&runner(), &shell("exec >&- 2>&-; sleep 0.5; exit 5", &json!({}), 60.0));
    assert_eq!(verdict(&result), ("failed", Some("exit_code"), Some(5), None));
    assert!(result["runtime_ms"].as_f64().unwrap() >= 500.0, "{result}");
}

#[test]
fn stopping_oneself_does_not_stop_the_clock() {
    let result = execute(&runner(), &shell("kill -STOP $$", &json!({}), 0.5));
    assert_eq!(verdict(&result), killed("timeout"));
}

#[test]
fn what_is_not_there_is_the_jobs_own_failure() {
    let runner = runner();
    let result = execute(&runner, &json!({ "argv": ["no-such-program"] }));
    assert_eq!(verdict(&result), ("failed", Some("exit_code"), Some(127), None));
    assert!(result["message"].as_str().unwrap().contains("no-such-program"), "{result}");
    let result = execute(&runner, &json!({ "argv": ["/etc/passwd"] }));
    assert_eq!(verdict(&result), ("failed", Some("exit_code"), Some(126), None));
    let result = execute(&runner, &json!({ "command": "true", "cwd": "/no/such/folder" }));
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("exit_code")));
    assert!(result["message"].as_str().unwrap().contains("/no/such/folder"), "{result}");
}

#[test]
fn exact_bytes_come_back_and_go_in() {
    let runner = runner();
    let result = execute(&runner, &json!({ "command": "printf '\\377\\000a'" }));
    assert_eq!(result["stdout"], "\u{fffd}\0a");
    assert_eq!(result["stdout_base64"], "/wBh");
    let result = execute(&runner, &json!({ "command": "od -An -tx1", "stdin_base64": "/wBh" }));
    assert_eq!(result["stdout"], " ff 00 61\n");
}

#[test]
fn a_job_need_not_read_its_input() {
    let input = "x".repeat(1 << 20);
    let result = execute(&runner(), &json!({ "command": "exec <&-; echo ok", "stdin": input }));
    assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("ok\n")));
}
