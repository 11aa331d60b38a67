//! pgbouncer before the database, where it is installed.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::unistd::{User, geteuid};

use super::*;

/// Where it is, if it is.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}

struct Pooler {
    child: Child,
    url: String,
    folder: PathBuf,
}

impl Pooler {
    /// Before the database of `url`, with further settings.
    fn start(program: &PathBuf, url: &str, settings: &str) -> Self {
        let (user, rest) = url.strip_prefix("postgres://").unwrap().split_once(':').unwrap();
        let (password, rest) = rest.split_once('@').unwrap();
        let (address, database) = rest.split_once('/').unwrap();
        let port = address.rsplit(':').next().unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("cloister-pgbouncer-{}", Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let (ini, users) = (folder.join("pgbouncer.ini"), folder.join("users"));
        let text = format!(
            "[databases]\n{database} = host=127.0.0.1 port={port} password={password}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\nauth_type = plain\n\
             auth_file = {}\n{settings}\n",
            users.display()
        );
        fs::write(&ini, text).unwrap();
        fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let mut command = Command::new(program);
        command
            .arg("-q")
            .arg(&ini)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if geteuid().is_root() {
            use std::os::unix::process::CommandExt;
            let nobody = User::from_name("nobody").unwrap().unwrap();
            let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
            for path in [&folder, &ini, &users] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let child = command.spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", listen)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(5), "pgbouncer does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let url = format!("postgres://{user}:{password}@127.0.0.1:{listen}/{database}");
        Self { child, url, folder }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_pooler_is_told_of_with_what_to_do() {
    let Some(program) = program() else {
        eprintln!("skipped: pgbouncer is neither on PATH nor in /usr/sbin");
        return;
    };
    let url = Server::shared().database();
    let ignored = "ignore_startup_parameters = options";
    for (settings, evidence) in [
        ("pool_mode = transaction".into(), "refuses the settings"),
        ("pool_mode = session".into(), "refuses the settings"),
        (format!("pool_mode = transaction\n{ignored}"), "share one session"),
        (format!("pool_mode = session\n{ignored}"), "ignores the settings"),
    ] {
        let pooler = Pooler::start(&program, &url, &settings);
        let refused = Postgres::open(&pooler.url, None).await.err().expect("it is unfit");
        let text = refused.to_string();
        assert!(matches!(refused, StoreError::Unfit { .. }), "{settings}: {text}");
        assert!(text.contains("pgbouncer") && text.contains(evidence), "{settings}: {text}");
        assert!(text.contains("connect to PostgreSQL directly"), "{settings}: {text}");
    }
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'jobs'";
    let name = url.rsplit('/').next().unwrap();
    assert_eq!(Server::shared().admin(name, tables), "0", "nothing was made");
    Postgres::open(&url, None).await.unwrap();
}
