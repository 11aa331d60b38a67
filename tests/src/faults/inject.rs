//! Makes faults, each with its own recovery.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    history::Episode,
    net::{Harm, Node},
    plan::{Direction, Kind, Planned},
    process::{End, Process, Role},
    world::{CLIENTS, GRACE, World},
};

/// Faults at once.
const AT_ONCE: usize = 2;
/// Within this, everything is as before when a fault is over.
const RECOVERY: Duration = Duration::from_secs(30);
/// What a service that ends in time needs beyond its grace time: for telling, and for a slow machine.
pub(super) const SLACK: Duration = Duration::from_secs(5);
/// A runner whose launcher is gone ends within this.
const LAUNCHERLESS: Duration = Duration::from_secs(10);

/// What went wrong with faults themselves: a service that did not recover, or did not end in time.
pub(super) type Complaints = Mutex<Vec<String>>;

/// Makes all of them, each not before its time. `over` is set when all are over.
pub(super) fn inject(world: &World, plan: &[Planned], complaints: &Complaints, over: &AtomicBool) {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(planned) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
                    thread::sleep((began + planned.at).saturating_duration_since(Instant::now()));
                    Fault { world, planned, complaints }.make();
                }
            });
        }
    });
    over.store(true, Ordering::Relaxed);
}

struct Fault<'a> {
    world: &'a World,
    planned: &'a Planned,
    complaints: &'a Complaints,
}

impl<'a> Fault<'a> {
    fn make(&self) {
        let coordinator = self.one(Role::Coordinator, self.planned.target);
        let runner = self.one(Role::Runner, self.planned.target);
        match self.planned.kind {
            Kind::KillCoordinator => self.kill(coordinator),
            Kind::KillRunner => self.kill(runner),
            Kind::KillPostgres => self.kill(self.world.keeper()),
            Kind::KillLauncher => self.kill_launcher(runner),
            Kind::StopCoordinator | Kind::StopPostgres => {
                let postgres = self.planned.kind == Kind::StopPostgres;
                let whom = if postgres { self.world.keeper() } else { coordinator };
                self.stop(whom, &whom.tree());
            }
            Kind::StopRunner => {
                let launcher = self.planned.other_way;
                let mut whom: Vec<Pid> = runner.pid().into_iter().collect();
                whom.extend(runner.launcher().filter(|_| launcher));
                self.stop(runner, &whom);
            }
            Kind::CutRunner => {
                self.cut(coordinator, self.one(Role::Runner, self.planned.other));
            }
            Kind::CutPostgres => self.cut(coordinator, self.world.keeper()),
            Kind::CutNode => self.cut_node(),
            Kind::Delay => self.delay(),
            Kind::DiskFull => self.disk_full(),
            Kind::DiskReadOnly => self.disk_read_only(),
            Kind::DiskHangs => self.disk_hangs(),
            Kind::TermCoordinator => self.term(coordinator),
            Kind::TermRunner => self.term(runner),
            Kind::TermPostgres => self.term(self.world.keeper()),
        }
    }

    fn one(&self, role: Role, which: usize) -> &'a Process {
        let all = self.world.of(role);
        all[which % all.len()]
    }

    fn complain(&self, what: String) {
        self.world.history.note(what.clone());
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn open(&self, hit: &[&Process], links: &[(&Node, &Node)], detail: String) -> usize {
        self.world.history.open(Episode {
            kind: self.planned.kind,
            hit: hit.iter().map(|process| process.name.clone()).collect(),
            links: links.iter().map(|(a, b)| (a.name().into(), b.name().into())).collect(),
            detail,
            from: self.world.history.now(),
            to: None,
        })
    }

    /// Waits until all that was hit answers again.
    fn recovered(&self, whom: &Process, episode: usize) {
        if !self.world.comes_back(whom, RECOVERY) {
            self.complain(format!(
                "{} does not answer {} s after {} was over",
                whom.name,
                RECOVERY.as_secs(),
                self.planned.kind.name()
            ));
        }
        self.world.history.close(episode);
    }

    fn start_again(&self, whom: &Process) {
        thread::sleep(self.planned.pause);
        self.world.start(whom);
    }

    fn kill(&self, whom: &Process) {
        let hands = whom.hands();
        let back = self.planned.pause.as_millis();
        let episode = self.open(&[whom], &[], format!("(SIGKILL; back after {back} ms)"));
        whom.kill(|| self.world.history.now());
        self.start_again(whom);
        drop(hands);
        self.recovered(whom, episode);
    }

    fn kill_launcher(&self, runner: &Process) {
        let hands = runner.hands();
        let episode = self.open(&[runner], &[], "(SIGKILL to its launcher)".into());
        // One that was just started has none yet.
        let until = Instant::now() + LAUNCHERLESS;
        while runner.launcher().is_none() && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        if let Some(launcher) = runner.launcher() {
            let _ = kill(launcher, Signal::SIGKILL);
        }
        if !runner.await_end(LAUNCHERLESS, |_| End::Killed, || self.world.history.now()) {
            self.complain(format!("{} goes on without its launcher", runner.name));
            runner.kill(|| self.world.history.now());
        }
        self.start_again(runner);
        drop(hands);
        self.recovered(runner, episode);
    }

    fn stop(&self, whom: &Process, processes: &[Pid]) {
        let _hands = whom.hands();
        let (count, time) = (processes.len(), self.planned.hold.as_millis());
        let detail = format!("({count} processes stopped for {time} ms)");
        let episode = self.open(&[whom], &[], detail);
        for pid in processes {
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        thread::sleep(self.planned.hold);
        for pid in processes {
            let _ = kill(*pid, Signal::SIGCONT);
        }
        self.recovered(whom, episode);
    }

    fn node(&self, process: &Process) -> &'a Node {
        self.world.network.node(&process.name)
    }

    /// The pairs of a link that are hit, as they are directed.
    fn directed(&self, from: &'a Node, to: &'a Node) -> Vec<(&'a Node, &'a Node)> {
        match self.planned.direction {
            Direction::There => vec![(from, to)],
            Direction::Back => vec![(to, from)],
            Direction::Both => vec![(from, to), (to, from)],
        }
    }

    fn cut(&self, from: &Process, to: &Process) {
        let (a, b) = (self.node(from), self.node(to));
        self.harm(&self.directed(a, b), Harm::Cut, &[(a, b)], from);
    }

    fn cut_node(&self) {
        let (whom, pairs, links) = self.all_links();
        self.harm(&pairs, Harm::Cut, &links, whom);
    }

    fn delay(&self) {
        let (whom, pairs, links) = self.all_links();
        self.harm(&pairs, Harm::Delay(self.planned.delay), &links, whom);
    }

    /// One process and everybody it speaks to; the recorder, who is the witness, is never among them.
    #[expect(clippy::type_complexity, reason = "a list of ordered and one of unordered pairs")]
    fn all_links(&self) -> (&'a Process, Vec<(&'a Node, &'a Node)>, Vec<(&'a Node, &'a Node)>) {
        let whom = &self.world.processes[self.planned.target % self.world.processes.len()];
        let here = self.node(whom);
        let others = self.world.processes.iter().filter(|other| other.name != whom.name);
        let mut others: Vec<_> = others.map(|other| self.node(other)).collect();
        others.push(self.world.network.node(CLIENTS));
        let pairs = others.iter().flat_map(|other| self.directed(here, other)).collect();
        (whom, pairs, others.iter().map(|other| (here, *other)).collect())
    }

    fn harm(&self, pairs: &[(&Node, &Node)], harm: Harm, links: &[(&Node, &Node)], whom: &Process) {
        let time = self.planned.hold.as_millis();
        let direction = self.planned.direction;
        let episode = self.open(&[], links, format!("({harm:?}, {direction:?}, for {time} ms)"));
        let harmed = self.world.network.harm(pairs, harm);
        thread::sleep(self.planned.hold);
        drop(harmed);
        self.recovered(whom, episode);
    }

    fn disk_full(&self) {
        let keeper = self.world.keeper();
        let hands = keeper.hands();
        let time = self.planned.hold.as_millis();
        let episode = self.open(&[keeper], &[], format!("(for {time} ms)"));
        must("filling the disk", self.world.disk.fill().map(drop));
        thread::sleep(self.planned.hold);
        must("freeing the disk", self.world.disk.free());
        // Should it have ended, its supervisor starts it.
        drop(hands);
        self.recovered(keeper, episode);
    }

    fn disk_hangs(&self) {
        let keeper = self.world.keeper();
        let _hands = keeper.hands();
        let time = self.planned.hold.as_millis();
        let episode = self.open(&[keeper], &[], format!("(for {time} ms)"));
        must("freezing the disk", self.world.disk.freeze());
        thread::sleep(self.planned.hold);
        must("thawing the disk", self.world.disk.thaw());
        self.recovered(keeper, episode);
    }

    /// After such an error somebody has to repair the disk, and nobody may use it meanwhile.
    fn disk_read_only(&self) {
        let keeper = self.world.keeper();
        let hands = keeper.hands();
        let time = self.planned.hold.as_millis();
        let episode = self.open(&[keeper], &[], format!("(for {time} ms, then repaired)"));
        must("breaking the disk", self.world.disk.break_down());
        thread::sleep(self.planned.hold);
        keeper.await_end(Duration::ZERO, End::Itself, || self.world.history.now());
        if keeper.pid().is_some() {
            keeper.kill(|| self.world.history.now());
        }
        must("mending the disk", self.world.disk.mend());
        self.world.start(keeper);
        drop(hands);
        self.recovered(keeper, episode);
    }

    fn term(&self, whom: &Process) {
        let hands = whom.hands();
        let episode = self.open(&[whom], &[], "(asked to end)".into());
        // How long PostgreSQL takes on a disk that hangs is its own matter.
        let patience = if whom.role == Role::Postgres { RECOVERY } else { GRACE + SLACK };
        if !whom.ask_to_end(patience, || self.world.history.now()) {
            self.complain(format!(
                "{} did not end within {} s after SIGTERM",
                whom.name,
                patience.as_secs()
            ));
        }
        self.start_again(whom);
        drop(hands);
        self.recovered(whom, episode);
    }
}

fn must(what: &str, result: anyhow::Result<()>) {
    // Nothing can be said of a run whose faults can't be made.
    result.unwrap_or_else(|error| panic!("{what}: {error:#}"));
}
