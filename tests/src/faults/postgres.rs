//! A PostgreSQL of the harness's own, from Debian's package.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::User;

use super::disk::Disk;
use crate::postgres::programs;

/// PostgreSQL will not run as root: this user is there where the package is.
const USER: &str = "postgres";
/// What coordinators log in as, to the database of the same name.
const ROLE: &str = "cloister";

/// A database cluster on a disk, ready to be started.
pub(super) struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    uid: u32,
    password: String,
}

impl Postgres {
    /// Makes one on this disk, that this network may log in to with this password.
    pub(super) fn new(disk: &Disk, folder: &Path, password: &str) -> Result<Self> {
        let programs = programs();
        let user = User::from_name(USER).context("looking for the user postgres")?;
        let user = user.context("there is no user postgres: install Debian's postgresql")?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let data = disk.path().join("postgres");
        let sockets = folder.join("sockets");
        let secret = folder.join("password");
        fs::create_dir(&sockets).context("making the folder of sockets")?;
        fs::write(&secret, password).context("writing the password")?;
        for path in [&sockets, &secret] {
            chown(path, Some(uid), Some(gid)).context("giving files to postgres")?;
        }
        let made = Self { programs, data, uid, password: password.into() };
        disk.within(|| {
            fs::create_dir(&made.data).context("making the data folder")?;
            chown(&made.data, Some(uid), Some(gid)).context("giving it to postgres")?;
            let output = Command::new(made.program("initdb"))
                .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "-U", ROLE])
                .arg("--pwfile")
                .arg(&secret)
                .arg("-D")
                .arg(&made.data)
                .current_dir("/")
                .uid(uid)
                .gid(gid)
                .output()
                .context("starting initdb")?;
            ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
            let settings = format!(
                // Durable as by default; only the sizes are those of a small machine.
                "listen_addresses = '*'\nunix_socket_directories = '{}'\nmax_connections = 100\n\
                 shared_buffers = 32MB\nmax_wal_size = 128MB\nmin_wal_size = 32MB\n",
                sockets.display()
            );
            fs::write(made.data.join("postgresql.auto.conf"), settings).context("configuring")?;
            let line = "host all all 10.111.0.0/24 scram-sha-256\n";
            fs::write(made.data.join("pg_hba.conf"), line).context("configuring")
        })?;
        Ok(made)
    }

    /// The program to start.
    pub(super) fn server(&self) -> (PathBuf, Vec<String>) {
        (self.program("postgres"), vec!["-D".into(), self.data.display().to_string()])
    }

    /// The user that it runs as.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// How coordinators reach it at this address.
    pub(super) fn url(&self, address: std::net::Ipv4Addr) -> String {
        format!("postgres://{ROLE}:{}@{address}:5432/{ROLE}", self.password)
    }

    /// Makes the coordinators' database. From a place that reaches it.
    pub(super) fn create_database(&self, address: std::net::Ipv4Addr) -> Result<()> {
        let output = Command::new(self.program("createdb"))
            .args(["-h", &address.to_string(), "-U", ROLE, ROLE])
            .env("PGPASSWORD", &self.password)
            .output()
            .context("starting createdb")?;
        ensure!(output.status.success(), "createdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The program that tells whether it answers.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}
