//! The options of the services. Every one has an environment variable: `CLOISTER_` and its name.

use std::{
    env,
    ffi::{OsStr, OsString},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{
    Args,
    builder::{BoolishValueParser, RangedU64ValueParser},
};
use cloister_api::{Bounds, ByteSize, MAX_LEASE, Seconds};
use cloister_sandbox::SERVICE_UID;
use cloister_web::{BodyLimits, Secret, ServerTls, Tokens};

/// More cells than this no machine runs; a slot is a place in a table.
const MAX_SLOTS: u64 = 65_536;
/// Leases are renewed about once a second.
const MIN_LEASE: Seconds = Seconds::new(5);
const EXPOSE: &str = "CLOISTER_EXPOSE";

/// What an operator lets a job ask for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Maxima of a job")]
#[expect(clippy::struct_field_names, reason = "each is the name of an option")]
pub(crate) struct Maxima {
    /// The longest timeout
    #[arg(long, value_name = "TIME", env = "CLOISTER_MAX_TIMEOUT", default_value = "1h")]
    max_timeout: Seconds,
    /// The most cores (at most the machine's)
    #[arg(long, value_name = "CORES", env = "CLOISTER_MAX_CPUS")]
    max_cpus: Option<f64>,
    /// The most memory (at most what the runner has for jobs)
    #[arg(long, value_name = "SIZE", env = "CLOISTER_MAX_MEMORY")]
    max_memory: Option<ByteSize>,
    /// The most processes and threads
    #[arg(long, value_name = "COUNT", env = "CLOISTER_MAX_PIDS")]
    max_pids: Option<u64>,
    /// The most that it can write
    #[arg(long, value_name = "SIZE", env = "CLOISTER_MAX_DISK")]
    max_disk: Option<ByteSize>,
    /// The most that is kept of each of its streams
    #[arg(long, value_name = "SIZE", env = "CLOISTER_MAX_OUTPUT")]
    max_output: Option<ByteSize>,
    /// The most CPU time; jobs that name no limit get it [default: none]
    #[arg(long, value_name = "TIME", env = "CLOISTER_MAX_CPU_TIME")]
    max_cpu_time: Option<Seconds>,
    /// The most open files of a process (at most the runner's own hard limit)
    #[arg(long, value_name = "COUNT", env = "CLOISTER_MAX_OPEN_FILES")]
    max_open_files: Option<u64>,
}

impl Maxima {
    pub(crate) fn bounds(&self) -> Bounds {
        let widest = Bounds::default();
        Bounds {
            timeout: self.max_timeout,
            cpus: self.max_cpus.unwrap_or(widest.cpus),
            memory: self.max_memory.unwrap_or(widest.memory),
            // A cgroup takes no more than the widest.
            pids: self.max_pids.map_or(widest.pids, |max| max.min(widest.pids)),
            disk: self.max_disk.unwrap_or(widest.disk),
            output: self.max_output.unwrap_or(widest.output),
            cpu_time: self.max_cpu_time,
            open_files: self.max_open_files.unwrap_or(widest.open_files),
        }
    }
}

/// What both services share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// A file with the tokens of which callers must show one, one a line; SIGHUP has it read again
    #[arg(long, value_name = "FILE", env = "CLOISTER_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token that callers must show; a file is the safer place
    #[arg(long, value_name = "TOKEN", env = "CLOISTER_TOKEN", hide = true, hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with the certificate to show, and those between it and its authority, in PEM: then
    /// clients speak TLS (https://); SIGHUP has it read again
    #[arg(long, value_name = "FILE", env = "CLOISTER_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A file with the key of that certificate, in PEM; SIGHUP has it read again
    #[arg(long, value_name = "FILE", env = "CLOISTER_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve others than this machine without any token
    #[arg(long, env = "CLOISTER_INSECURE_NO_AUTH", value_parser = BoolishValueParser::new())]
    pub(crate) insecure_no_auth: bool,
    /// Ask for the token at /metrics too
    #[arg(long, env = "CLOISTER_PROTECT_METRICS", value_parser = BoolishValueParser::new())]
    pub(crate) protect_metrics: bool,
    /// The largest body of a request
    #[arg(long, value_name = "SIZE", env = "CLOISTER_MAX_BODY", default_value = "16MiB")]
    pub(crate) max_body: ByteSize,
    /// How long running jobs may go on after the first Ctrl-C or SIGTERM
    #[arg(long, value_name = "TIME", env = "CLOISTER_GRACE", default_value = "30s")]
    pub(crate) grace: Seconds,
    /// The user that a service started as root becomes
    #[arg(long, value_name = "UID", env = "CLOISTER_SERVICE_UID", default_value_t = SERVICE_UID, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) service_uid: u32,
    #[command(flatten)]
    pub(crate) maxima: Maxima,
}

impl Common {
    /// The tokens that open this service; to be read while the process may still read them.
    pub(crate) fn tokens(&self) -> Result<Tokens, cloister_web::Error> {
        let given = self.token.as_ref().map(|token| Secret::new(token, "in CLOISTER_TOKEN"));
        Tokens::read(self.token_file.as_deref(), given.transpose()?)
    }

    /// What this service shows; to be read while the process may still read it.
    pub(crate) fn tls(&self) -> Result<Option<ServerTls>, cloister_web::Error> {
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        files.map(|(certificate, key)| ServerTls::load(certificate, key)).transpose()
    }

    /// The files that are read again when told to.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let files = [&self.token_file, &self.tls_cert, &self.tls_key];
        files.into_iter().flatten().map(PathBuf::as_path).collect()
    }

    /// Whether this service is to speak TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Whether any token was named at all.
    pub(crate) fn has_token(&self) -> bool {
        self.token_file.is_some() || self.token.is_some()
    }
}

/// What concerns cells.
#[derive(Args, Clone, Debug)]
pub(crate) struct Cells {
    /// Jobs at once [default: one for each core, and two at least]
    #[arg(long, value_name = "N", env = "CLOISTER_SLOTS", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_SLOTS))]
    pub(crate) slots: Option<usize>,
    /// Cells that may wait at most, made ahead of the jobs that will run in them; there are as many as
    /// jobs have found missing, and none after some seconds without any. 0: each is made when its job
    /// comes
    #[arg(long = "cells-ahead", value_name = "N", env = "CLOISTER_CELLS_AHEAD", default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(0..=MAX_SLOTS))]
    ahead: usize,
    /// One more host folder that cells see, read-only; may be given again
    /// [env: CLOISTER_EXPOSE, several separated by commas]
    #[arg(long, value_name = "PATH")]
    expose: Vec<PathBuf>,
    /// Let jobs ask for the host's network
    #[arg(long, value_name = "host", env = "CLOISTER_ALLOW_NETWORK", value_parser = ["host"])]
    pub(crate) allow_network: Option<String>,
    /// How much output the runner holds, of running jobs and until their results are fetched; beyond it
    /// outputs are cut, and no job is taken
    #[arg(long, value_name = "SIZE", env = "CLOISTER_SPOOL_SIZE", default_value = "4GiB")]
    spool_size: ByteSize,
    /// Start where this host can't enforce everything; results say what was not
    #[arg(long, env = "CLOISTER_ALLOW_DEGRADED", value_parser = BoolishValueParser::new())]
    pub(crate) allow_degraded: bool,
}

/// What concerns the queue and the store.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "each is the name of an option")]
pub(crate) struct Queue {
    /// Jobs that may wait; beyond it submissions are answered 503
    #[arg(long, value_name = "COUNT", env = "CLOISTER_MAX_QUEUE", default_value_t = 100_000)]
    pub(crate) max_queue: usize,
    /// How much may wait: what the jobs ask and read, and what failed attempts at them printed, as it
    /// is stored; beyond it submissions are answered 503
    #[arg(long, value_name = "SIZE", env = "CLOISTER_MAX_QUEUE_SIZE", default_value = "4GiB")]
    pub(crate) max_queue_size: ByteSize,
    /// How long ended jobs are kept
    #[arg(long, value_name = "TIME", env = "CLOISTER_KEEP_TIME", default_value = "168h")]
    pub(crate) keep_time: Seconds,
    /// How many ended jobs are kept
    #[arg(long, value_name = "COUNT", env = "CLOISTER_KEEP_NUMBER", default_value_t = 100_000)]
    pub(crate) keep_number: usize,
    /// How much of ended jobs is kept: of what they were asked, read and printed
    #[arg(long, value_name = "SIZE", env = "CLOISTER_KEEP_SIZE", default_value = "10GiB")]
    pub(crate) keep_size: ByteSize,
    /// Use a SQLite store although its log is damaged, without what is lost: the id that the refusal
    /// names, and that is of this one damage
    #[arg(long, value_name = "ID", env = "CLOISTER_ACCEPT_DAMAGE")]
    pub(crate) accept_damage: Option<String>,
    /// How long a runner goes on with a job without hearing of a coordinator; what a silent runner
    /// had is told as runner_lost when that, and a few seconds more, are over
    #[arg(long, value_name = "TIME", env = "CLOISTER_LEASE", default_value = "30s", value_parser = lease)]
    pub(crate) lease: Seconds,
}

/// `cloister up`
#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    /// Where clients reach the coordinator
    #[arg(long, value_name = "ADDRESS", env = "CLOISTER_LISTEN", default_value = "127.0.0.1:8000", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Where the runner is reached, with a token of --runner-token-file; in clear, so that with
    /// --tls-cert it must be on loopback
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "CLOISTER_RUNNER_LISTEN",
        default_value = "127.0.0.1:8080",
        value_parser = address
    )]
    pub(crate) runner_listen: SocketAddr,
    /// Where jobs are kept
    #[arg(long, value_name = "DIR", env = "CLOISTER_DATA", default_value = "./cloister-data")]
    pub(crate) data: PathBuf,
    /// File of tokens that open the runner's port, one per line. Reloaded on SIGHUP [default: a random
    /// token that only this process knows, so that jobs reach the runner by the coordinator alone]
    #[arg(long, value_name = "FILE", env = "CLOISTER_RUNNER_TOKEN_FILE")]
    pub(crate) runner_token_file: Option<PathBuf>,
    /// Folder for outputs of more than 64 KiB, until their results are fetched [default: spool, below
    /// --data]
    #[arg(long, value_name = "DIR", env = "CLOISTER_SPOOL")]
    pub(crate) spool: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cells: Cells,
    #[command(flatten)]
    pub(crate) queue: Queue,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// `cloister coordinator`
#[derive(Args, Clone, Debug)]
pub(crate) struct Coordinator {
    /// Where clients reach it
    #[arg(long, value_name = "ADDRESS", env = "CLOISTER_LISTEN", default_value = "127.0.0.1:8000", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Where jobs are kept. Several coordinators can share a PostgreSQL database: each takes jobs, one
    /// of them schedules
    #[arg(
        long,
        hide_env_values = true,
        value_name = "sqlite:PATH|postgres://…",
        env = "CLOISTER_STORE",
        default_value = "sqlite:./cloister-data/cloister.db"
    )]
    pub(crate) store: String,
    /// A runner; may be given again. A name with several addresses is several runners
    /// [default: $RUNNER_URL]
    #[arg(long, value_name = "URL", env = "CLOISTER_RUNNER_URL", value_delimiter = ',')]
    pub(crate) runner_url: Vec<String>,
    /// A file with the token that is shown to the runners, in its first line; SIGHUP has it read again
    #[arg(long, value_name = "FILE", env = "CLOISTER_RUNNER_TOKEN_FILE")]
    pub(crate) runner_token_file: Option<PathBuf>,
    /// A file with the authorities, in PEM, whose certificates prove that a runner at an https:// URL
    /// is one, and a database whose URL has sslmode=verify-full; no other is trusted then [default:
    /// those that the system trusts]; SIGHUP has it read again
    #[arg(long, value_name = "FILE", env = "CLOISTER_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Make the files of --token-file and --runner-token-file that are not there yet, each with a new
    /// token
    #[arg(long, env = "CLOISTER_CREATE_TOKENS", value_parser = BoolishValueParser::new())]
    pub(crate) create_tokens: bool,
    /// Where the host of this container publishes the port. On its loopback, the host's own users need
    /// no token; everybody else does
    #[arg(long, value_name = "IP", env = "CLOISTER_PUBLISHED")]
    pub(crate) published: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) queue: Queue,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// `cloister runner`
#[derive(Args, Clone, Debug)]
pub(crate) struct Runner {
    /// Where the coordinator reaches it
    #[arg(long, value_name = "ADDRESS", env = "CLOISTER_LISTEN", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Folder for outputs of more than 64 KiB, until their results are fetched
    #[arg(long, value_name = "DIR", env = "CLOISTER_SPOOL", default_value = "./cloister-spool")]
    pub(crate) spool: PathBuf,
    #[command(flatten)]
    pub(crate) cells: Cells,
    #[command(flatten)]
    pub(crate) common: Common,
}

impl Queue {
    /// A coordinator's configuration, of what is on the command line.
    pub(crate) fn config(&self, common: &Common) -> cloister_coordinator::Config {
        cloister_coordinator::Config {
            insecure_no_auth: common.insecure_no_auth,
            protect_metrics: common.protect_metrics,
            bounds: common.maxima.bounds(),
            max_queue: self.max_queue,
            max_queue_size: self.max_queue_size,
            max_body: common.max_body,
            keep_time: self.keep_time.0,
            keep_number: self.keep_number,
            keep_size: self.keep_size,
            accept_damage: self.accept_damage.clone(),
            lease: self.lease.0,
            drain_grace: common.grace.0,
            ..cloister_coordinator::Config::default()
        }
    }
}

impl Cells {
    /// A runner's configuration, of what is on the command line.
    pub(crate) fn config(&self, common: &Common) -> cloister_runner::Config {
        let default = cloister_runner::Config::default();
        cloister_runner::Config {
            slots: self.slots,
            insecure_no_auth: common.insecure_no_auth,
            protect_metrics: common.protect_metrics,
            bounds: common.maxima.bounds(),
            // A coordinator's job of the largest size arrives here with every default written out.
            bodies: BodyLimits { size: ByteSize(common.max_body.0 + (64 << 10)), ..default.bodies },
            grace: common.grace.0,
            spool_size: self.spool_size,
            ..default
        }
    }

    /// The folders of the option, or else those of its variable. Read here since for clap a delimiter
    /// in the variable is one in the option too, where a comma belongs to the path.
    fn exposed(&self, variable: Option<OsString>) -> Vec<PathBuf> {
        if !self.expose.is_empty() {
            return self.expose.clone();
        }
        let variable = variable.unwrap_or_default();
        let paths = variable.as_bytes().split(|byte| *byte == b',');
        let paths = paths.map(|path| PathBuf::from(OsStr::from_bytes(path)));
        paths.filter(|path| !path.as_os_str().is_empty()).collect()
    }

    pub(crate) fn launcher(&self) -> cloister_sandbox::Config {
        cloister_sandbox::Config {
            expose: self.exposed(env::var_os(EXPOSE)),
            network_host: self.allow_network.is_some(),
            max_cells: None,
            cells_ahead: self.ahead,
        }
    }
}

/// A time that is long enough to be renewed in, and that a runner takes.
fn lease(text: &str) -> Result<Seconds, String> {
    let lease: Seconds = text.parse()?;
    if lease < MIN_LEASE || lease > MAX_LEASE {
        return Err(format!("must be from {MIN_LEASE} to {MAX_LEASE}"));
    }
    Ok(lease)
}

/// An address, or a name with a port: then the first address that it has now.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if !text.contains(':') {
        return Err("must be ADDRESS:PORT or NAME:PORT, such as 127.0.0.1:8000".into());
    }
    let found = text.to_socket_addrs().map_err(|error| format!("cannot be resolved: {error}"))?;
    found.into_iter().next().ok_or_else(|| "is a name without any address".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: Up,
    }

    fn read(args: &[&str]) -> Result<Up, clap::Error> {
        Line::try_parse_from([&["cloister"], args].concat()).map(|line| line.up)
    }

    #[test]
    fn names_and_addresses_are_listened_on() {
        for (text, port) in [("localhost:8123", 8123), ("127.0.0.1:1", 1), ("[::1]:2", 2)] {
            let up = read(&["--listen", text, "--runner-listen", text]).unwrap();
            assert!(up.listen.ip().is_loopback() && up.listen.port() == port, "{text}");
            assert_eq!(up.runner_listen, up.listen);
        }
        for (text, why) in [("8000", "NAME:PORT"), ("localhost:http:1", "resolved")] {
            let error = read(&["--listen", text]).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn there_is_at_least_one_slot() {
        assert_eq!(read(&["--slots", "1"]).unwrap().cells.slots, Some(1));
        for bad in ["0", "-1", "99999999999999"] {
            assert!(read(&["--slots", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_comma_belongs_to_the_path_of_an_option() {
        let cells = read(&["--expose", "/a,b", "--expose", "/c"]).unwrap().cells;
        let paths = |of: &[&str]| of.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(cells.exposed(Some("/d".into())), paths(&["/a,b", "/c"]));
        let none = read(&[]).unwrap().cells;
        assert_eq!(none.exposed(Some("/d,/e f,".into())), paths(&["/d", "/e f"]));
        assert_eq!(none.exposed(Some("".into())), paths(&[]));
        assert_eq!(none.exposed(None), paths(&[]));
    }

    #[test]
    fn an_operators_maxima_become_bounds() {
        let bounds = |args: &[&str]| read(args).unwrap().common.maxima.bounds();
        assert_eq!(bounds(&[]), Bounds::default());
        assert_eq!(bounds(&["--max-cpu-time", "5s"]).cpu_time, Some(Seconds::new(5)));
        // The kernel takes no more.
        assert_eq!(bounds(&["--max-pids", "5000000"]).pids, 4_194_303);
    }
}
