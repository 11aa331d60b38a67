//! What lies outside of the cell for an attack to find, and tells whether it did.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, ErrorKind},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use nix::unistd::sethostname;

use crate::Scratch;

const SECRET: &str = "what only the host should know\n";

/// Everything that `attacks/README.md` lists; gone when dropped.
pub struct Witness {
    folder: Scratch,
    port: TcpListener,
    abstract_name: String,
    abstract_socket: UnixListener,
    path_socket: UnixListener,
    shm_key: u32,
    process: Child,
    hostname: String,
}

impl Witness {
    /// Lays everything out.
    pub fn new() -> anyhow::Result<Self> {
        let folder = Scratch::new("witness");
        let give = |name: &str, mode| {
            fs::set_permissions(folder.join(name), Permissions::from_mode(mode))
                .with_context(|| format!("{name} of the witness cannot be given its mode"))
        };
        fs::write(folder.join("secret"), SECRET)?;
        fs::write(folder.join("locked"), SECRET)?;
        fs::create_dir(folder.join("open"))?;
        // Connections queue up in the kernel, for the client as if they were accepted; they are counted
        // when all is over.
        let path_socket = UnixListener::bind(folder.join("socket"))?;
        for (name, mode) in
            [("", 0o755), ("secret", 0o644), ("locked", 0o600), ("open", 0o777), ("socket", 0o777)]
        {
            give(name, mode)?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?;
        let abstract_name = format!("witness-{}", uuid::Uuid::new_v4());
        let abstract_socket =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name)?)?;
        path_socket.set_nonblocking(true)?;
        port.set_nonblocking(true)?;
        abstract_socket.set_nonblocking(true)?;
        let (process, shm_key) = process()?;
        let hostname = hostname()?;
        Ok(Self {
            folder,
            port,
            abstract_name,
            abstract_socket,
            path_socket,
            shm_key,
            process,
            hostname,
        })
    }

    /// What an attack is told of it, as variables.
    pub fn variables(&self) -> anyhow::Result<Vec<(String, String)>> {
        Ok([
            ("FOLDER", self.folder.display().to_string()),
            ("PORT", self.port.local_addr()?.port().to_string()),
            ("ABSTRACT", self.abstract_name.clone()),
            ("SHM", self.shm_key.to_string()),
            ("PID", self.process.id().to_string()),
            ("HOSTNAME", self.hostname.clone()),
        ]
        .map(|(name, value)| (format!("WITNESS_{name}"), value))
        .into())
    }

    /// The file to which the caller of the sandbox has a descriptor.
    pub fn secret(&self) -> PathBuf {
        self.folder.join("secret")
    }

    /// What was done to it, a sentence for each; empty if nothing was.
    pub fn touched(&mut self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for (name, mode) in [("secret", 0o644), ("locked", 0o600)] {
            let path = self.folder.join(name);
            let intact = fs::read_to_string(&path).is_ok_and(|text| text == SECRET)
                && fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o7777 == mode);
            if !intact {
                found.push(format!("{name} of the witness was changed"));
            }
        }
        for entry in fs::read_dir(self.folder.join("open"))? {
            let name = entry?.file_name();
            found.push(format!("{} was left in open/ of the witness", name.display()));
        }
        if accepted(|| self.port.accept().map(drop))? {
            found.push("a connection came to the TCP port of the witness".into());
        }
        if accepted(|| self.abstract_socket.accept().map(drop))? {
            found.push("a connection came to the abstract socket of the witness".into());
        }
        if accepted(|| self.path_socket.accept().map(drop))? {
            found.push("a connection came to the socket in the folder of the witness".into());
        }
        if self.process.try_wait()?.is_some() {
            found.push("the process of the witness has ended".into());
        } else if let Some(change) = used(self.shm_key)? {
            found.push(format!("the shared memory of the witness was {change}"));
        }
        let name = hostname()?;
        if name != self.hostname {
            sethostname(&self.hostname).context("the host's name cannot be put back")?;
            found.push(format!("the host's name was changed to {name:?}"));
        }
        Ok(found)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Closing its input ends it in good order, with its segment; see there.
        drop(self.process.stdin.take());
        if !self.process.wait().is_ok_and(|status| status.success()) {
            let key = self.shm_key.to_string();
            let _ = Command::new("/usr/bin/ipcrm").args(["--shmem-key", &key]).status();
        }
    }
}

/// The witness process, and the key of its segment.
fn process() -> anyhow::Result<(Child, u32)> {
    let mut process = Command::new("/usr/bin/python3")
        .args(["-c", include_str!("witness.py"), "witness"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the witness process cannot be started")?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let key = line.trim().parse().context("the witness process printed no key")?;
    Ok((process, key))
}

fn hostname() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim_end().to_owned())
}

/// Whether a connection was waiting.
fn accepted(mut accept: impl FnMut() -> std::io::Result<()>) -> anyhow::Result<bool> {
    match accept() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        // It came, and was gone before it was looked at.
        Err(error) if error.kind() == ErrorKind::ConnectionAborted => Ok(true),
        Err(error) => Err(error).context("the witness cannot look for connections"),
    }
}

/// What was done to the segment of this key, by /proc/sysvipc/shm (proc(5)).
fn used(key: u32) -> anyhow::Result<Option<&'static str>> {
    let table =
        fs::read_to_string("/proc/sysvipc/shm").context("shared memory cannot be listed")?;
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let names = rows.next().unwrap_or_default();
    let column = |name| names.iter().position(|found| *found == name);
    let (keys, attached) = (column("key").zip(column("atime")))
        .context("the table of shared memory has no key, or no time of attaching")?;
    let key = key.to_string();
    Ok(match rows.find(|row| row[keys] == key) {
        None => Some("removed"),
        Some(row) if row[attached] != "0" => Some("attached"),
        Some(_) => None,
    })
}
