//! The options that say what a job may use, shared by `run` and `submit`.

use std::collections::BTreeMap;

use clap::Args;
use cloister_api::{ByteSize, Network, Program, Seconds};
use serde::Serialize;
use serde_json::{Map, Value};

/// A duration or a size is read by the same rules as in JSON.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Wall clock, from exec: 5s, 500ms, 2m or a number of seconds [default: 30s]
    #[arg(long, value_name = "TIME", env = "CLOISTER_TIMEOUT")]
    timeout: Option<Seconds>,
    /// Cores, as bandwidth: 0.5 is half a core
    #[arg(long, value_name = "CORES", env = "CLOISTER_CPUS", value_parser = cores)]
    cpus: Option<f64>,
    /// Memory and swap together: 64MiB, 1GiB or a number of bytes
    #[arg(long, value_name = "SIZE", env = "CLOISTER_MEMORY")]
    memory: Option<ByteSize>,
    /// Processes and threads
    #[arg(long, value_name = "COUNT", env = "CLOISTER_PIDS")]
    pids: Option<u64>,
    /// All that it can write anywhere, together
    #[arg(long, value_name = "SIZE", env = "CLOISTER_DISK")]
    disk: Option<ByteSize>,
    /// CPU time, all its processes together
    #[arg(long, value_name = "TIME", env = "CLOISTER_CPU_TIME")]
    cpu_time: Option<Seconds>,
    /// Open files of each process
    #[arg(long, value_name = "COUNT", env = "CLOISTER_OPEN_FILES")]
    open_files: Option<u64>,
    /// Network: its own loopback only, or the host's [default: none]
    #[arg(long, value_name = "none|host", env = "CLOISTER_NETWORK", value_parser = network)]
    network: Option<Network>,
    /// A variable of its environment; may be given again
    #[arg(long, value_name = "NAME=VALUE", env = "CLOISTER_ENV", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Working directory, as seen inside
    #[arg(long, value_name = "PATH", env = "CLOISTER_CWD")]
    cwd: Option<String>,
}

impl LimitArgs {
    /// Whether the host's network is asked for.
    pub(crate) fn host_network(&self) -> bool {
        self.network == Some(Network::Host)
    }

    /// A request for `program` with what was given and nothing else: the defaults are for those to
    /// fill in who know an operator's maxima and what their machine has.
    pub(crate) fn request(&self, program: &Program) -> serde_json::Result<Map<String, Value>> {
        let mut limits = Map::new();
        put(&mut limits, "cpus", self.cpus.as_ref())?;
        put(&mut limits, "memory", self.memory.as_ref())?;
        put(&mut limits, "pids", self.pids.as_ref())?;
        put(&mut limits, "disk", self.disk.as_ref())?;
        put(&mut limits, "cpu_time", self.cpu_time.as_ref())?;
        put(&mut limits, "open_files", self.open_files.as_ref())?;
        let env: BTreeMap<_, _> = self.env.iter().cloned().collect();
        let mut request = Map::new();
        match program {
            Program::Command(line) => put(&mut request, "command", Some(line))?,
            Program::Argv(argv) => put(&mut request, "argv", Some(argv))?,
        }
        put(&mut request, "timeout", self.timeout.as_ref())?;
        put(&mut request, "env", (!env.is_empty()).then_some(&env))?;
        put(&mut request, "cwd", self.cwd.as_ref())?;
        put(&mut request, "network", self.network.as_ref())?;
        put(&mut request, "limits", (!limits.is_empty()).then_some(&limits))?;
        Ok(request)
    }
}

/// Puts a field into a request, where there is one.
pub(crate) fn put<T: Serialize>(
    request: &mut Map<String, Value>,
    name: &str,
    value: Option<&T>,
) -> serde_json::Result<()> {
    if let Some(value) = value {
        request.insert(name.into(), serde_json::to_value(value)?);
    }
    Ok(())
}

/// JSON has no word for what is not a number, or endless.
fn cores(text: &str) -> Result<f64, String> {
    let cores = text.parse().ok().filter(|cores: &f64| cores.is_finite());
    cores.ok_or_else(|| "must be a number of cores, such as 0.5".into())
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err("must be none or host".into()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.into(), value.into()))
}
