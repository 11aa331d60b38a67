//! One job, for somebody who reads it on a terminal.

use std::fmt::Write;

use cloister_api::{ByteSize, Job, Network, Reason, Timestamp, Usage};

use super::{
    output,
    table::{age, colour, milliseconds},
    terminal::Screen,
    text,
};

/// What stands where, and how it ended; at the end its output.
pub(super) fn of(job: &Job, screen: Screen) -> anyhow::Result<String> {
    let mut sheet = Sheet { screen, text: String::new() };
    standing(&mut sheet, job);
    asked(&mut sheet, job);
    if let Some(usage) = &job.usage {
        sheet.line("usage", &used(usage));
    }
    if !job.not_enforced.is_empty() {
        sheet.line("not enforced", &job.not_enforced.join(", "));
    }
    let out = output::bytes(job.stdout.as_deref(), job.stdout_base64.as_deref())?;
    let err = output::bytes(job.stderr.as_deref(), job.stderr_base64.as_deref())?;
    sheet.stream("stdout", &out, job.stdout_truncated);
    sheet.stream("stderr", &err, job.stderr_truncated);
    Ok(sheet.text)
}

fn standing(sheet: &mut Sheet, job: &Job) {
    let reason = job.reason.map(|reason| format!(" ({})", reason.as_str())).unwrap_or_default();
    let status = sheet.screen.paint(colour(job.status), job.status.as_str());
    sheet.line("job", &job.job_id.to_string());
    sheet.painted("status", &format!("{status}{reason}"));
    sheet.some("message", job.message.as_deref());
    sheet.some("waiting", job.pending_reason.as_deref());
    let command = text::command(&job.request.task.program);
    sheet.painted("command", &command);
    let now = Timestamp::now();
    let at = |time: Timestamp| format!("{time} ({} ago)", age(time, now));
    sheet.line("created", &at(job.created_at));
    sheet.some("started", job.started_at.map(at).as_deref());
    sheet.some("finished", job.finished_at.map(at).as_deref());
    sheet.some("runtime", job.runtime_ms.map(milliseconds).as_deref());
    let code = job.exit_code.map(|code| match job.signal {
        Some(signal) => format!("{code} (signal {signal})"),
        None => code.to_string(),
    });
    sheet.some("exit code", code.as_deref());
    if job.attempt > 1 || job.request.retries > 0 {
        sheet.line("attempt", &job.attempt.to_string());
    }
    for past in &job.attempts {
        let why = past.outcome.message.as_deref().or(past.outcome.reason.map(Reason::as_str));
        sheet.line("earlier", &format!("attempt {}: {}", past.attempt, why.unwrap_or("ended")));
    }
    sheet.some("runner", job.runner.as_deref());
}

fn asked(sheet: &mut Sheet, job: &Job) {
    let (task, limits) = (&job.request.task, &job.request.task.limits);
    let cpu_time = limits.cpu_time.map(|time| format!(", cpu time {time}")).unwrap_or_default();
    let network = match task.network {
        Network::None => "",
        Network::Host => ", network of the host",
    };
    sheet.line(
        "limits",
        &format!(
            "timeout {}, cpus {}, memory {}, pids {}, disk {}{cpu_time}{network}",
            task.timeout, limits.cpus, limits.memory, limits.pids, limits.disk
        ),
    );
    if job.request.priority != 0 {
        sheet.line("priority", &job.request.priority.to_string());
    }
    for (name, value) in &job.request.labels {
        sheet.line("label", &format!("{name}={value}"));
    }
}

fn used(usage: &Usage) -> String {
    let parts = [
        usage.cpu_ms.map(|ms| format!("cpu {}", milliseconds(ms))),
        usage
            .throttled_ms
            .filter(|ms| *ms > 0.0)
            .map(|ms| format!("throttled {}", milliseconds(ms))),
        usage.memory_peak_bytes.map(|bytes| format!("memory peak {}", size(bytes))),
        usage.pids_peak.map(|count| format!("pids peak {count}")),
        usage
            .oom_kills
            .filter(|count| *count > 0)
            .map(|count| format!("out-of-memory kills {count}")),
        usage.io_read_bytes.map(|bytes| format!("read {}", size(bytes))),
        usage.io_write_bytes.map(|bytes| format!("written {}", size(bytes))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A size to read, not to write down: it is rounded.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => ByteSize(bytes).to_string(),
    }
}

/// Names on the left, values on the right.
struct Sheet {
    screen: Screen,
    text: String,
}

impl Sheet {
    fn line(&mut self, name: &str, value: &str) {
        self.painted(name, &text::plain(value));
    }

    fn some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }

    /// A value that was made fit for a terminal before.
    fn painted(&mut self, name: &str, value: &str) {
        let name = self.screen.paint("1", &format!("{name:12}"));
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{name}  {value}");
    }

    fn stream(&mut self, name: &str, bytes: &[u8], truncated: Option<bool>) {
        if bytes.is_empty() {
            return;
        }
        let cut = if truncated == Some(true) { ", the rest was dropped" } else { "" };
        let head = self.screen.paint("1", &format!("{name} ({}{cut}):", size(bytes.len() as u64)));
        let _ = write!(self.text, "\n{head}\n{}", text::screen(bytes));
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}
