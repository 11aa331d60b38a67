//! A machine with systemd: PID 1 of its own namespaces, as in a container, with its system bus, logind,
//! and the managers of its users.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use cloister_tests::cloister;
use serde_json::Value;

use super::user::{Cgroup, TESTER, User, command_in, stderr};

/// How long an emulated processor may need to boot it.
const PATIENCE: Duration = Duration::from_secs(240);

/// Its own view of what it would change on the way, and none of the units that set a machine up: they
/// empty /tmp and set the kernel's variables, which are the machine's own.
///
/// unshare(1) itself stays outside of the cgroup, which otherwise could hand on no controllers.
const PREPARE: &str = r#"
exec unshare --mount --uts --ipc --pid --fork --kill-child=KILL --mount-proc /bin/sh -ec '
    echo 0 >/sys/fs/cgroup/machine/cgroup.procs
    exec unshare --cgroup /bin/sh -ec "$0"
' '
    mount -t cgroup2 -o nsdelegate none /sys/fs/cgroup
    for folder in /run /tmp /root /etc/systemd/system /var/lib/systemd /var/log; do
        mount -t tmpfs -o mode=755 tmpfs $folder
    done
    chmod 1777 /tmp
    mkdir -p /run/systemd/system
    cd /run/systemd/system
    for unit in /usr/lib/systemd/system/sysinit.target.wants/* /usr/lib/systemd/system/sockets.target.wants/*; do
        case $unit in
            */dbus.socket) ;;
            *) ln -s /dev/null ${unit##*/} ;;
        esac
    done
    for unit in dbus.socket dbus.service systemd-logind.service user@.service user-runtime-dir@.service; do
        mkdir $unit.d
        printf "[Unit]\nDefaultDependencies=no\n" >$unit.d/lab.conf
    done
    printf "[Unit]\nWants=dbus.socket\nAfter=dbus.socket\n" >lab.target
    exec env -i PATH="$PATH" container=lab SYSTEMD_LOG_TARGET=console \
        /usr/lib/systemd/systemd --system --unit=lab.target
'"#;

/// Before one enters its namespaces: from within, what is outside can't be moved, and systemd's services
/// speak to nobody who stands there.
const STEP_INSIDE: &str = "echo $$ >/sys/fs/cgroup/machine/outside/cgroup.procs";

/// It ends with all that runs in it when dropped.
pub(crate) struct Machine {
    child: Child,
    init: String,
    /// Where a login would stand: in a cgroup that is not the user's.
    _outside: Cgroup,
    /// Removed last.
    _cgroup: Cgroup,
}

impl Machine {
    /// Starts it, and waits until its system manager has started what was asked.
    pub(crate) fn boot() -> Self {
        let cgroup = Cgroup::new("machine");
        let outside = Cgroup::new("machine/outside");
        let mut child =
            Command::new("/bin/sh").args(["-c", PREPARE]).stdin(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + PATIENCE;
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let machine = loop {
            let init = fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            let name = fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
            if name == "systemd\n" {
                break Self { child, init, _outside: outside, _cgroup: cgroup };
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "systemd does not start: {ended:?}");
            thread::sleep(Duration::from_millis(50));
        };
        machine.wait_for("systemctl is-active lab.target", until);
        machine
    }

    fn enter(&self) -> Vec<String> {
        let words = ["nsenter", "--target", &self.init, "--mount", "--pid", "--cgroup", "--"];
        words.map(String::from).to_vec()
    }

    /// Runs a shell line as its root; it must succeed. Returns what it printed.
    pub(crate) fn does(&self, line: &str) -> String {
        let output = self.root(line);
        assert!(
            output.status.success(),
            "{line}: {}{}",
            super::user::stdout(&output),
            stderr(&output)
        );
        super::user::stdout(&output)
    }

    /// Writes a file that it sees.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = format!("/proc/{}/root{path}", self.init);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs a shell line as its root.
    fn root(&self, line: &str) -> Output {
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["120", "/bin/sh", "-c", &format!("{STEP_INSIDE}; exec \"$@\""), "sh"]);
        command.args(self.enter()).args(["/bin/sh", "-c", line]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// There is no event that reaches us before its bus does.
    fn wait_for(&self, line: &str, until: Instant) {
        loop {
            let output = self.root(line);
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < until, "{line}: {}", stderr(&output));
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// An ordinary user of it, outside of what its manager was delegated.
    pub(crate) fn user(&self) -> User {
        User::entering(STEP_INSIDE, &self.enter())
    }

    /// `cloister` with these arguments as a service of the system that runs as an ordinary user, with
    /// `Delegate=yes`.
    pub(crate) fn service(&self, args: &str) -> Output {
        self.root(&format!(
            "systemd-run --quiet --wait --pipe --collect --uid={TESTER} -p Delegate=yes {} {args}",
            cloister().display()
        ))
    }

    /// Does what a remedy says, and waits until the user's manager runs.
    pub(crate) fn remedy(&self, line: &Value) {
        self.does(command_in(line));
        let active = format!("systemctl is-active user@{TESTER}.service");
        self.wait_for(&active, Instant::now() + PATIENCE);
    }

    /// Delegates these controllers to users' managers, and no others.
    pub(crate) fn delegate(&self, controllers: &str) {
        let line = format!(
            "mkdir -p /etc/systemd/system/user@.service.d
             printf '[Service]\\nDelegate=\\nDelegate={controllers}\\n' \
                 >/etc/systemd/system/user@.service.d/before.conf
             systemctl daemon-reload && systemctl restart user@{TESTER}.service"
        );
        self.does(&line);
    }

    /// While the user's manager is there and does not answer.
    pub(crate) fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        let signal = |name: &str| {
            let line = format!(
                "kill -{name} $(systemctl show --property=MainPID --value user@{TESTER}.service)"
            );
            self.does(&line);
        };
        signal("STOP");
        let result = work();
        signal("CONT");
        result
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.root("systemctl --no-pager status; systemctl --no-pager --failed");
            eprintln!("{}{}", super::user::stdout(&said), stderr(&said));
        }
        // unshare(1) takes its child along, and that is PID 1 of the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
