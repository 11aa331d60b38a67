//! The attack suite's harness itself: that it reads headers strictly, notices what an attack did, and judges
//! claims. Where an attack must get through, it runs in a program that takes the words of `cloister run` and
//! confines nothing.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cloister_tests::{
    Scratch,
    attack::{
        Case, Ending, Other, Record, Sandbox, Set, Suite,
        ablation::{self, Finding, Scope},
        attempt, report,
    },
    census, cloister,
};

/// A suite of one attack with this header and program.
struct Attack {
    folder: Scratch,
    suite: Suite,
}

impl Attack {
    fn new(header: &str, program: &str) -> Self {
        let folder = Scratch::new("cases");
        fs::create_dir(folder.join("a")).unwrap();
        fs::write(
            folder.join("a/_helper.py"),
            "print('ready', flush=True)\nimport time\ntime.sleep(60)",
        )
        .unwrap();
        fs::copy(Suite::default_folder().join("attack.py"), folder.join("attack.py")).unwrap();
        let text =
            format!("\"\"\"Tries it.\n\n{header}\n\"\"\"\nfrom attack import *\n{program}\n");
        fs::write(folder.join("a/b.py"), text).unwrap();
        let suite = Suite::read(&folder).unwrap();
        Self { folder, suite }
    }

    fn run(&self, sandbox: &Sandbox) -> Ending {
        attempt(&self.suite, &self.suite.cases[0], sandbox, None)
    }

    /// In nothing at all.
    fn run_unconfined(&self) -> Ending {
        self.run(&Sandbox::cloister(self.door("door", "open")))
    }

    /// A program like `cloister run` that confines nothing, and tells whether it is `open`.
    fn door(&self, name: &str, state: &str) -> PathBuf {
        let path = self.folder.join(name);
        let script = format!(
            "#!/bin/sh\nexport DOOR={state}\nwhile [ \"$1\" != -- ]; do\n\
             [ \"$1\" != --env ] || export \"$2\"\n\
             [ \"$1\" != --setenv ] || export \"$2=$3\"\nshift\ndone\nshift\nexec \"$@\"\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

#[track_caller]
fn assert_through(ending: &Ending, evidence: &str) {
    match ending {
        Ending::Through(found) => assert!(found.contains(evidence), "{found}"),
        _ => panic!("{ending:?}"),
    }
}

#[track_caller]
fn assert_broken(ending: &Ending, why: &str) {
    match ending {
        Ending::Broken(found) => assert!(found.contains(why), "{found}"),
        _ => panic!("{ending:?}"),
    }
}

fn parse(text: &str) -> String {
    match Case::parse("a/b", text) {
        Ok(case) => format!("{case:?}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_header_is_read() {
    let case = Case::parse(
        "a/b",
        "\"\"\"Does this,\nand that.\n\nlayers: seccomp, landlock\noptions: --network host --pids 8\n\
         argv: /bin/sh CASE\nverdict: out_of_memory\nneighbour: _c.py\n\
         needs: x86_64, landlock 6, root, cgroup v2, tty, cloister\n\"\"\"\nfrom attack import *\n",
    )
    .unwrap();
    assert_eq!(
        (case.about.as_str(), case.layers.to_string()),
        ("Does this, and that.", "landlock+seccomp".into())
    );
    assert_eq!(case.options, ["--network", "host", "--pids", "8"]);
    assert_eq!(case.argv.unwrap(), ["/bin/sh", "CASE"]);
    assert_eq!(case.verdict.unwrap().as_str(), "out_of_memory");
    assert_eq!(case.neighbour.unwrap(), Path::new("a/_c.py"));
    assert_eq!(case.needs.len(), 6);
}

#[test]
fn kernel_memory_may_grow_by_the_limit_and_32_mib() {
    let most = |options| {
        let text = format!("\"\"\"A.\n\nlayers: masks\n{options}measures: kernel memory\n\"\"\"");
        Case::parse("a/b", &text).unwrap().kernel_memory
    };
    assert_eq!(most("options: --pids 8 --memory 64MiB\n"), Some(96 << 20));
    assert_eq!(most(""), Some(544 << 20));
}

#[test]
fn a_header_with_anything_else_is_an_error() {
    for (text, said) in [
        ("import os\n", "does not begin with a docstring"),
        ("\"\"\"Only a sentence.\"\"\"\n", "no header"),
        ("\"\"\"A.\n\noptions: --pids 8\n\"\"\"", "names no layers"),
        ("\"\"\"A.\n\nlayers: magic\n\"\"\"", "no layer is called \"magic\""),
        ("\"\"\"A.\n\nlayers:\n\"\"\"", "layers has no value"),
        ("\"\"\"A.\n\nlayers: masks\nneeds: luck\n\"\"\"", "no need is called \"luck\""),
        ("\"\"\"A.\n\nlayers: masks\nneeds: landlock x\n\"\"\"", "no need is called"),
        ("\"\"\"A.\n\nlayers: masks\nlayers: masks\n\"\"\"", "layers is there twice"),
        ("\"\"\"A.\n\nlayers: masks\nverdict: sad\n\"\"\"", "no verdict is called \"sad\""),
        ("\"\"\"A.\n\nlayers: masks\nneighbour: c.py\n\"\"\"", "begin with an underscore"),
        (
            "\"\"\"A.\n\nlayers: masks\nmeasures: time\n\"\"\"",
            "nothing that can be measured is called",
        ),
        ("\"\"\"A.\n\nlayers: masks\ncolour: red\n\"\"\"", "no key is called \"colour\""),
        ("\"\"\"A.\n\nlayers: masks\n\nMore.\n\"\"\"", "no \"key: value\""),
    ] {
        assert!(parse(text).contains(said), "{text}: {}", parse(text));
    }
    let folder = Scratch::new("cases");
    fs::create_dir(folder.join("a")).unwrap();
    fs::write(folder.join("a/b.py"), "pass").unwrap();
    let error = Suite::read(&folder).err().unwrap();
    assert!(format!("{error:#}").contains("a/b.py is no case"), "{error:#}");
}

/// The suite as it is: names, and that each can be read.
#[test]
fn every_case_can_be_read() {
    let suite = Suite::read(&Suite::default_folder()).unwrap();
    assert!(suite.cases.iter().all(|case| !case.about.is_empty() && !case.name.contains("/_")));
    assert!(suite.cases.is_sorted_by_key(|case| &case.name));
}

/// It fills pipes, in which pages of the kernel's are, and claims to have been stopped.
#[test]
fn kernel_memory_is_measured() {
    let program = "import fcntl\nimport time\nkept = [os.pipe() for _ in range(80)]\n\
                   for _, outlet in kept:\n    fcntl.fcntl(outlet, fcntl.F_SETPIPE_SZ, 1 << 20)\n    \
                   os.write(outlet, bytes(1 << 20))\ntime.sleep(0.4)\nstopped()";
    let attack = |limit| {
        let header = format!("layers: cgroups\noptions: --memory {limit}\nmeasures: kernel memory");
        Attack::new(&header, program)
    };
    let ending = attack("16MiB").run_unconfined();
    assert_through(&ending, "kernel memory grew by more than 48MiB; the host: kernel memory +8");
    let ending = attack("256MiB").run_unconfined();
    assert!(
        matches!(&ending, Ending::Stopped(how) if how.contains("kernel memory +8")),
        "{ending:?}"
    );
    // One that the sandbox kills for its memory is stopped.
    let ending = attack("16MiB").run(&Sandbox::cloister(cloister()));
    let killed = "out_of_memory; the host: ";
    assert!(matches!(&ending, Ending::Stopped(how) if how.starts_with(killed)), "{ending:?}");
}

#[test]
fn the_last_word_of_a_case_counts() {
    for (program, ending) in [
        ("stopped('so')", Ending::Stopped("so".into())),
        ("through('so')", Ending::Through("so".into())),
        ("absent('so')", Ending::Absent("so".into())),
        ("open('/no/such')", Ending::Stopped("ENOENT: /no/such".into())),
    ] {
        assert_eq!(Attack::new("layers: masks", program).run_unconfined(), ending, "{program}");
    }
    assert_broken(&Attack::new("layers: masks", "1 / 0").run_unconfined(), "ZeroDivisionError");
    assert_broken(&Attack::new("layers: masks", "pass").run_unconfined(), "without a word");
}

#[test]
fn what_touches_the_witness_got_through() {
    for (act, evidence) in [
        (
            "open(witness('FOLDER') + '/secret', 'a').write('x')",
            "secret of the witness was changed",
        ),
        ("os.unlink(witness('FOLDER') + '/locked')", "locked of the witness was changed"),
        ("open(witness('FOLDER') + '/open/me', 'w')", "me was left in open/"),
        (
            "import socket; socket.create_connection(('127.0.0.1', int(witness('PORT'))))",
            "the TCP port",
        ),
        (
            "import socket; socket.socket(1).connect(chr(0) + witness('ABSTRACT'))",
            "the abstract socket",
        ),
        (
            "import socket; socket.socket(1).connect(witness('FOLDER') + '/socket')",
            "socket in the folder",
        ),
        (
            "libc.shmat(libc.shmget(int(witness('SHM')), 0, 0), None, 0)",
            "memory of the witness was attached",
        ),
        (
            "libc.shmctl(libc.shmget(int(witness('SHM')), 0, 0), 0, None)",
            "memory of the witness was removed",
        ),
        ("os.kill(int(witness('PID')), 9); os.sched_yield()", "process of the witness has ended"),
    ] {
        let attack = Attack::new("layers: masks", &format!("{act}\nstopped('it claims')"));
        assert_through(&attack.run_unconfined(), evidence);
    }
}

#[test]
fn what_the_caller_has_is_there_to_be_found() {
    let attack = Attack::new("layers: descriptors", "through(os.read(9, 99).decode())");
    assert_through(&attack.run_unconfined(), "only the host should know");
    let attack = Attack::new("layers: descriptors", "through(os.environ['WITNESS_SECRET'])");
    assert_through(&attack.run_unconfined(), "only the caller should know");
    let attack = Attack::new("layers: mounts\nneeds: tty", "through(os.ttyname(0))");
    assert_through(&attack.run_unconfined(), "/dev/pts/");
    let attack = Attack::new("layers: mounts", "stopped(f'{os.isatty(0)}')");
    assert_eq!(attack.run_unconfined(), Ending::Stopped("False".into()));
}

#[test]
fn what_outlives_its_cell_got_through_and_is_killed() {
    let program = "import subprocess\nsubprocess.Popen(['sleep', '98651'], start_new_session=True)\nstopped('so')";
    assert_through(
        &Attack::new("layers: init", program).run_unconfined(),
        "outlived its cell: sleep 98651",
    );
    assert_eq!(census::processes("sleep 98651"), [""; 0]);
}

#[test]
fn a_neighbour_lives_as_long_as_the_attack() {
    let header = "layers: pid-namespace\nneighbour: _helper.py";
    let stop = |signal: &str| {
        format!(
            "import subprocess\nmine = witness('FOLDER')\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n\
             \ttry:\n\t\tif pid != str(os.getpid()) and mine.encode() in open(f'/proc/{{pid}}/environ', 'rb').read(): os.kill(int(pid), {signal})\n\
             \texcept OSError: pass\nstopped('it claims')"
        )
    };
    assert_through(&Attack::new(header, &stop("9")).run_unconfined(), "the neighbour had ended");
    assert_eq!(
        Attack::new(header, &stop("0")).run_unconfined(),
        Ending::Stopped("it claims".into())
    );
}

#[test]
fn a_verdict_must_be_as_the_case_says() {
    let header = "layers: clock\nverdict: timeout\noptions: --timeout 0.3s";
    let real = Sandbox::cloister(cloister());
    let attack = Attack::new(header, "import time; time.sleep(60)");
    assert_eq!(attack.run(&real), Ending::Stopped("timeout".into()));
    let attack = Attack::new(header, "stopped('too early')");
    assert_broken(&attack.run(&real), "its verdict must be timeout, and is none");
    let attack = Attack::new(header, "through('too early')");
    assert_through(&attack.run(&real), "too early");
}

#[test]
fn a_program_without_words_is_through_when_it_ends_well() {
    assert_through(&Attack::new("layers: masks\nargv: /bin/true", "").run_unconfined(), "it ran");
    let ending = Attack::new("layers: masks\nargv: /bin/false", "").run_unconfined();
    assert_broken(&ending, "without a word");
    let ending = Attack::new("layers: masks\nargv: /usr/bin/python3 CASE", "stopped('so')");
    assert_eq!(ending.run_unconfined(), Ending::Stopped("so".into()));
}

/// One attack on doors that are named as ablated binaries, each open or closed.
fn ablated(layers: &str, doors: &[(&str, &str)]) -> (Vec<Record>, Finding) {
    let attack = Attack::new(
        &format!("layers: {layers}"),
        "through('in') if os.environ['DOOR'] == 'open' else stopped('shut')",
    );
    for (name, state) in doors {
        attack.door(name, state);
    }
    let scope = Scope::of(layers.parse().unwrap());
    let records = ablation::ablate(&attack.suite, &scope, &attack.folder, |_| {}).unwrap();
    let finding = ablation::rows(&records).remove(0).finding;
    (records, finding)
}

#[test]
fn a_claim_is_tried() {
    let (records, finding) = ablated("masks", &[("cloister", "shut"), ("without-masks", "open")]);
    assert_eq!((records.len(), finding), (2, Finding::Holds));
    let doors = [("cloister", "shut"), ("without-masks", "shut")];
    let Finding::False(faults) = ablated("masks", &doors).1 else { panic!("it holds") };
    assert_eq!(faults, ["without masks it must get through, and is stopped: shut"]);

    let doors = |alone| {
        let both = [("cloister", "shut"), ("without-cgroups+masks", "open")];
        [both[0], both[1], ("without-cgroups", alone), ("without-masks", "shut")]
    };
    let (records, finding) = ablated("masks, cgroups", &doors("shut"));
    assert_eq!((records.len(), finding), (4, Finding::Holds));
    let Finding::False(faults) = ablated("masks, cgroups", &doors("open")).1 else {
        panic!("it holds")
    };
    assert_eq!(faults, ["without cgroups it must be stopped, and is through: in"]);
}

#[test]
fn a_binary_that_is_missing_is_named() {
    let attack = Attack::new("layers: masks", "stopped('so')");
    attack.door("cloister", "shut");
    let scope = Scope::of("masks".parse().unwrap());
    let error = ablation::ablate(&attack.suite, &scope, &attack.folder, |_| {}).unwrap_err();
    assert!(error.to_string().contains("without-masks is missing"), "{error}");
}

fn record(attack: &str, layers: &str, without: &str, ending: Ending) -> Record {
    let set = |names: &str| if names.is_empty() { Set::default() } else { names.parse().unwrap() };
    Record {
        attack: attack.into(),
        about: format!("Tries {attack}."),
        layers: set(layers),
        sandbox: "cloister".into(),
        without: set(without),
        kernel_memory_growth: None,
        ending,
    }
}

/// Those of two machines, one of which lacks what the other has.
fn records() -> Vec<Record> {
    let stopped = || Ending::Stopped("EPERM".into());
    let through = || Ending::Through("got|it".into());
    let absent = || Ending::Absent("no such file".into());
    let skipped = || Ending::Skipped("apparmor is not in this kernel".into());
    vec![
        record("a/alone", "seccomp", "", stopped()),
        record("a/alone", "seccomp", "seccomp", through()),
        record("a/nothing", "masks", "", absent()),
        record("a/nothing", "masks", "masks", absent()),
        record("b/either", "apparmor,mounts", "", skipped()),
        record("b/either", "apparmor,mounts", "apparmor", skipped()),
        record("b/either", "apparmor,mounts", "mounts", skipped()),
        record("b/either", "apparmor,mounts", "apparmor,mounts", skipped()),
        record("b/either", "apparmor,mounts", "", stopped()),
        record("b/either", "apparmor,mounts", "apparmor", stopped()),
        record("b/either", "apparmor,mounts", "mounts", stopped()),
        record("b/either", "apparmor,mounts", "apparmor,mounts", through()),
        record("c/hidden", "masks", "", absent()),
        record("c/hidden", "masks", "masks", through()),
        record("d/elsewhere", "apparmor", "", skipped()),
        record("d/elsewhere", "apparmor", "apparmor", skipped()),
    ]
}

#[test]
fn the_table_tells_what_was_shown() {
    let layers: Set = "apparmor,masks,mounts,seccomp".parse().unwrap();
    let rows = ablation::rows(&records());
    assert_eq!(
        report::ablation(&rows, &layers),
        "\
`●` alone stops it; `◐` stops it, and so does any other one of the row.

| attack | apparmor | mounts | seccomp |
| --- | :-: | :-: | :-: |
| a/alone |  |  | ● |
| b/either | ◐ | ◐ |  |

| layer | alone stops | stops as others do |
| --- | --: | --: |
| apparmor | 0 | 1 |
| masks | 0 | 0 |
| mounts | 0 | 1 |
| seccomp | 1 | 0 |

Not shown:

- a/nothing (masks): nothing to attack: no such file
- c/hidden (masks): **not as claimed**: with all layers it must be stopped, and is absent: no such file
- d/elsewhere (apparmor): not tried: apparmor is not in this kernel
"
    );
    assert_eq!(
        ablation::faults(&rows, &layers),
        [
            "c/hidden: with all layers it must be stopped, and is absent: no such file",
            "no attack shows what masks stops",
        ]
    );
}

#[test]
fn sandboxes_are_put_beside_each_other() {
    let mut both = vec![
        record("a/one", "seccomp", "", Ending::Stopped("EPERM".into())),
        record("a/two", "masks", "", Ending::Stopped("EACCES".into())),
        record("a/three", "clock", "", Ending::Stopped("timeout".into())),
    ];
    let other = |attack, ending| Record {
        sandbox: "bwrap".into(),
        ..record(attack, "seccomp", "", ending)
    };
    both.push(other("a/one", Ending::Through("got|it".into())));
    both.push(other("a/two", Ending::Stopped("ENOENT".into())));
    both.push(other("a/three", Ending::Skipped("not applicable".into())));
    assert_eq!(
        report::comparison(&both, false),
        "\
- cloister: 3 stopped, 0 through, 0 absent, 0 skipped, 0 broken
- bwrap: 1 stopped, 1 through, 0 absent, 1 skipped, 0 broken

| attack | what it tries | cloister | bwrap |
| --- | --- | --- | --- |
| a/one | Tries a/one. | stopped: EPERM | **got through**: got\\|it |
"
    );
}

#[test]
fn growth_of_kernel_memory_is_compared() {
    let measured = |sandbox: &str, ending, mib: i64| Record {
        sandbox: sandbox.into(),
        kernel_memory_growth: Some((mib << 20) + 5),
        ..record("a/bomb", "watcher", "", ending)
    };
    let records = [
        measured("cloister", Ending::Stopped("out_of_memory".into()), 40),
        record("a/long", "seccomp", "", Ending::Stopped("EPERM".into())),
        measured("runc", Ending::Through("so".into()), 613),
        Record {
            sandbox: "runc".into(),
            ..record("a/long", "seccomp", "", Ending::Through("x".repeat(99)))
        },
    ];
    let text = report::comparison(&records, true);
    assert!(text.contains("| a/bomb | Tries a/bomb. | 40 | **613** |\n"), "{text}");
    let cut =
        format!("| a/long | Tries a/long. | stopped | **got through**: {}… |", "x".repeat(40));
    assert!(text.contains(&cut), "{text}");
    let kept = serde_json::to_value(&records[0]).unwrap();
    assert_eq!(kept["kernel_memory_growth"], (40 << 20) + 5);
}

/// In a program that takes the words of bubblewrap, announces the attack and ends badly.
#[test]
fn an_attack_that_another_sandbox_ends_is_stopped() {
    let run = |program: &str| {
        let attack = Attack::new("layers: masks", program);
        let binary = attack.door("bwrap", "open");
        attack.run(&Sandbox::Other { kind: Other::Bwrap, binary })
    };
    assert_eq!(run("os.kill(os.getpid(), 9)"), Ending::Stopped("it was ended".into()));
    assert_eq!(run("raise MemoryError"), Ending::Stopped("MemoryError".into()));
    assert_broken(&run("1 / 0"), "ZeroDivisionError");
    assert_broken(&run("pass"), "without a word");
}

#[test]
fn records_outlive_their_file() {
    let folder = Scratch::new("records");
    let file = folder.join("file");
    report::write(&file, &records()).unwrap();
    assert_eq!(report::read(&file).unwrap(), records());
}
