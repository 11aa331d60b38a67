//! What is to run in a cell: the part of a request that both services read the same way.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Bounds, Limits, Seconds,
    fields::{Fields, escape, text},
    limits::positive_duration,
};

/// The kernel takes no single argument or variable of more than 32 pages, its NUL included
/// (`MAX_ARG_STRLEN`, execve(2)).
const MAX_ARGUMENT: usize = 32 * 4096 - 1;
/// All arguments and variables together may be a quarter of the stack's limit, which is 8 MiB by
/// default (execve(2)).
const MAX_ARGUMENTS: usize = 2 << 20;
/// Of which the program's path and the cell's own variables take a part.
const OWN_ARGUMENTS: usize = 4096;
/// What a string takes beside its bytes: its NUL, and the pointer to it.
const STRING: usize = 9;

/// The program: a line for the shell, or its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Run by `/bin/sh -c`.
    Command(String),
    /// Run directly, the first one looked up on the cell's PATH.
    Argv(Vec<String>),
}

impl Program {
    /// The arguments to execute.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Command(line) => ["/bin/sh", "-c", line].map(String::from).into(),
            Self::Argv(argv) => argv.clone(),
        }
    }
}

/// Which network a job sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A loopback of its own and nothing else.
    #[default]
    None,
    /// The runner's own, where its operator allowed it.
    Host,
}

/// One command with its input, surroundings and limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// `command` or `argv`.
    #[serde(flatten)]
    pub program: Program,
    /// Wall clock, from exec.
    pub timeout: Seconds,
    /// Standard input, closed after it.
    #[serde(flatten)]
    pub stdin: Stdin,
    /// Added to the cell's own variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The working directory, as seen inside.
    #[serde(default = "job_dir")]
    pub cwd: String,
    /// Which network it sees.
    #[serde(default)]
    pub network: Network,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
}

fn job_dir() -> String {
    "/job".into()
}

/// Standard input as it was sent: text, or base64 for bytes that are not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdin {
    /// As text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// As base64 (RFC 4648, section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
}

impl Stdin {
    /// The bytes to feed. What was validated on the way in decodes.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.stdin, &self.stdin_base64) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(base64)) => BASE64_STANDARD.decode(base64).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

impl Task {
    /// A task with every default.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            timeout: Seconds::new(30),
            stdin: Stdin::default(),
            env: BTreeMap::new(),
            cwd: job_dir(),
            network: Network::None,
            limits: Limits::default(),
        }
    }

    /// Reads the fields of a task, noting every fault. What comes back is usable only if none was
    /// noted.
    pub(crate) fn read(fields: &mut Fields<'_>, max: &Bounds) -> Self {
        let program = read_program(fields);
        let task = Self::new(program);
        let env = read_env(fields);
        fit_together(fields, &task.program, &env);
        Self {
            timeout: fields
                .read("timeout", |v| positive_duration(v, max.timeout, "--max-timeout"))
                .unwrap_or_else(|| task.timeout.min(max.timeout)),
            stdin: read_stdin(fields),
            env,
            cwd: fields.read("cwd", path).unwrap_or(task.cwd),
            network: fields.read("network", network).unwrap_or_default(),
            limits: fields
                .object("limits", |inner| Limits::read(inner, max))
                .unwrap_or_else(|| Limits::within(max)),
            program: task.program,
        }
    }
}

fn read_program(fields: &mut Fields<'_>) -> Program {
    let both = fields.has("command") && fields.has("argv");
    let neither = !fields.has("command") && !fields.has("argv");
    let command = fields.read_whatever("command", argument);
    let argv = fields.read_whatever("argv", arguments);
    if both {
        fields.fault("argv", "stands beside command; send exactly one of the two");
    } else if neither {
        fields.fault("command", "is missing; send command (for a shell) or argv");
    }
    argv.map_or_else(|| Program::Command(command.unwrap_or_default()), Program::Argv)
}

/// One argument that is not empty and that the kernel would take.
fn argument(value: &Value) -> Result<String, String> {
    let argument = text(value)?;
    if argument.is_empty() {
        return Err("must not be empty".into());
    }
    fits(&argument)?;
    Ok(argument)
}

fn fits(argument: &str) -> Result<(), String> {
    if argument.len() > MAX_ARGUMENT {
        return Err(format!(
            "is longer than {MAX_ARGUMENT} bytes, which the kernel takes as one argument; send it as stdin"
        ));
    }
    Ok(())
}

/// Refuses what the kernel would: more arguments and variables than it takes together. Told at the
/// one that takes most of it.
fn fit_together(fields: &mut Fields<'_>, program: &Program, env: &BTreeMap<String, String>) {
    let argv: usize = program.argv().iter().map(|argument| argument.len() + STRING).sum();
    let env: usize = env.iter().map(|(name, value)| name.len() + 1 + value.len() + STRING).sum();
    if argv + env <= MAX_ARGUMENTS - OWN_ARGUMENTS {
        return;
    }
    let name = match program {
        _ if env > argv => "env",
        Program::Command(_) => "command",
        Program::Argv(_) => "argv",
    };
    fields.fault(
        name,
        "is too long: the kernel takes no more than 2 MiB of arguments and environment together; \
         send it as stdin",
    );
}

fn arguments(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or("must be an array of strings")?;
    let [first, rest @ ..] = items.as_slice() else {
        return Err("must not be empty".into());
    };
    let at = |index: usize, detail: String| format!("item {index} {detail}");
    let mut argv = vec![argument(first).map_err(|e| at(0, e))?];
    for (index, item) in (1..).zip(rest) {
        let item = text(item).and_then(|item| fits(&item).map(|()| item));
        argv.push(item.map_err(|e| at(index, e))?);
    }
    Ok(argv)
}

fn read_stdin(fields: &mut Fields<'_>) -> Stdin {
    let stdin = fields.read("stdin", |value| {
        value.as_str().map(String::from).ok_or_else(|| "must be a string".into())
    });
    let stdin_base64 = fields.read("stdin_base64", |value| {
        let text = value.as_str().ok_or("must be a string")?;
        BASE64_STANDARD.decode(text).map_err(|error| format!("is not base64: {error}"))?;
        Ok(text.to_owned())
    });
    if stdin.is_some() && stdin_base64.is_some() {
        fields.fault("stdin_base64", "stands beside stdin; send one of the two");
    }
    Stdin { stdin, stdin_base64 }
}

fn read_env(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let Some(value) = fields.raw("env") else {
        return BTreeMap::new();
    };
    let Value::Object(map) = value else {
        fields.fault("env", "must be an object of strings");
        return BTreeMap::new();
    };
    let mut env = BTreeMap::new();
    for (name, value) in map {
        match variable(name, value) {
            Ok(value) => {
                env.insert(name.clone(), value);
            }
            Err(detail) => fields.fault_within("env", &escape(name), detail),
        }
    }
    env
}

/// The value of an environment variable whose name and value the kernel would take.
fn variable(name: &str, value: &Value) -> Result<String, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("is not a variable's name: it must not be empty nor contain = or NUL".into());
    }
    let value = text(value)?;
    if name.len() + 1 + value.len() > MAX_ARGUMENT {
        return Err(format!("is longer than {MAX_ARGUMENT} bytes with its name"));
    }
    Ok(value)
}

fn path(value: &Value) -> Result<String, String> {
    let path = text(value)?;
    if path.is_empty() || path.len() >= 4096 {
        return Err("must be a path of 1 to 4095 bytes".into());
    }
    Ok(path)
}

fn network(value: &Value) -> Result<Network, String> {
    match value.as_str() {
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        _ => Err("must be \"none\" or \"host\"".into()),
    }
}
