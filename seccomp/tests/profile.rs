//! What a profile may not say, and programs too large for short jumps.

mod common;

use cloister_seccomp::{
    Action, Arch, Errno, Error, Instruction, Profile, Program, compile_to_rust,
};
use common::{call, cell, model};
use serde_json::{Value, json};

fn profile(groups: &Value) -> Value {
    json!({
        "comment": "a test's",
        "default": { "errno": "ENOSYS" },
        "foreign": "kill_process",
        "groups": groups,
    })
}

fn parse(profile: &Value) -> Result<Profile, Error> {
    Profile::parse(&profile.to_string())
}

/// The error of a profile with these groups, as a person reads it.
fn refusal(groups: &Value) -> String {
    let error = parse(&profile(groups)).expect_err("the profile should be refused");
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn condition_refusal(condition: &Value) -> String {
    refusal(&json!([{
        "comment": "why",
        "syscalls": ["prctl"],
        "rules": [{ "action": "allow", "when": [condition] }],
        "action": { "errno": "EPERM" },
    }]))
}

#[test]
fn the_smallest_profile_answers_its_default() {
    let program = parse(&profile(&json!([]))).unwrap().compile(Arch::Aarch64).unwrap();
    let answer = program.evaluate(&call(Arch::Aarch64, 0, &[]));
    assert_eq!(answer, Action::Errno(Errno::Enosys).code());
}

#[test]
fn names_are_checked() {
    let group = |name: &str| json!({ "comment": "why", "action": "allow", "syscalls": [name] });
    assert_eq!(
        refusal(&json!([group("read"), group("read")])),
        "`read` is named twice for x86_64; keep it in one group"
    );
    assert_eq!(
        refusal(&json!([group("raed")])),
        "x86_64 has no call `raed`; correct the name, or give its group the `arch` that has it"
    );
    // Of one architecture only, and not marked so.
    assert_eq!(
        refusal(&json!([group("open")])),
        "aarch64 has no call `open`; correct the name, or give its group the `arch` that has it"
    );
}

#[test]
fn groups_of_other_architectures_are_left_out() {
    let group = |arch: &str, action: &str, name: &str| json!({ "comment": "why", "arch": arch, "action": action, "syscalls": [name] });
    // The same name may have an answer for each architecture.
    let groups = json!([
        group("x86_64", "allow", "open"),
        group("x86_64", "allow", "read"),
        group("aarch64", "succeed", "read"),
    ]);
    let profile = parse(&profile(&groups)).unwrap();
    for (arch, expected) in [(Arch::X86_64, Action::Allow), (Arch::Aarch64, Action::Succeed)] {
        let program = profile.compile(arch).unwrap();
        let read = arch.number("read").unwrap();
        assert_eq!(program.evaluate(&call(arch, read, &[])), expected.code());
    }
    // A mark is no licence for a name that exists nowhere.
    let groups = json!([group("aarch64", "allow", "open")]);
    assert!(refusal(&groups).starts_with("aarch64 has no call `open`"));
}

#[test]
fn groups_say_why_and_of_what() {
    assert_eq!(
        refusal(&json!([{ "comment": " ", "action": "allow", "syscalls": ["read"] }])),
        "the group of `read` has an empty comment; say why these calls get this answer"
    );
    assert_eq!(
        refusal(&json!([{ "comment": "why", "action": "allow", "syscalls": [] }])),
        "the group \"why\" names no call; delete it or name one"
    );
}

#[test]
fn unknown_fields_and_words_are_errors() {
    let cases = [
        json!([{ "comment": "why", "action": "allow", "syscalls": ["read"], "when": [] }]),
        json!([{ "comment": "why", "action": "alow", "syscalls": ["read"] }]),
        json!([{ "comment": "why", "action": { "errno": "ENOENT" }, "syscalls": ["read"] }]),
        json!([{ "comment": "why", "action": "allow", "arch": "riscv64", "syscalls": ["read"] }]),
        json!([{ "action": "allow", "syscalls": ["read"] }]),
    ];
    for groups in cases {
        let refusal = refusal(&groups);
        assert!(refusal.starts_with("the profile does not parse"), "{refusal}");
    }
    let mut misspelt = profile(&json!([]));
    misspelt["foriegn"] = json!("kill_process");
    assert!(matches!(parse(&misspelt), Err(Error::Parse(_))));
}

#[test]
fn conditions_that_can_not_have_been_meant_are_errors() {
    let cases = [
        (json!({ "arg": 6, "width": "dword", "op": "eq", "value": 1 }), "six arguments"),
        (json!({ "arg": 0, "width": "dword", "op": "eq", "value": "0x100000000" }), "32 bits"),
        (json!({ "arg": 0, "width": "qword", "op": "masked_eq", "value": 1 }), "needs a mask"),
        (json!({ "arg": 0, "width": "qword", "op": "lt", "value": 1, "mask": 1 }), "takes a mask"),
        (
            json!({ "arg": 0, "width": "qword", "op": "masked_eq", "value": 3, "mask": "0x1" }),
            "outside the mask",
        ),
        (json!({ "arg": 0, "width": "word", "op": "eq", "value": 1 }), "unknown variant"),
        (json!({ "arg": 0, "width": "dword", "op": "eq", "value": "17" }), "write it as 0x1f"),
        (json!({ "arg": 0, "width": "dword", "op": "eq", "value": -1 }), "a number from 0"),
        (json!({ "arg": 0, "width": "dword", "op": "eq", "value": 1, "not": true }), "`not`"),
    ];
    for (condition, expected) in cases {
        let refusal = condition_refusal(&condition);
        assert!(refusal.contains(expected), "{condition}: {refusal}");
    }
    let unconditional = refusal(&json!([{
        "comment": "why",
        "syscalls": ["prctl"],
        "rules": [{ "action": "allow", "when": [] }],
        "action": { "errno": "EPERM" },
    }]));
    assert_eq!(unconditional, "a rule for `prctl` has no conditions; make its action the group's");
}

/// Blocks of more than 255 instructions on both sides of a comparison, and rules so many that the
/// first can't reach the shared return: nothing but trampolines gets there.
#[test]
fn far_targets_are_reached() {
    let group = |name: &str| {
        let rules: Vec<_> = (0..200)
            .map(|value| {
                json!({
                    "action": if value % 3 == 0 { "allow" } else { "succeed" },
                    "when": [{ "arg": 1, "width": "qword", "op": "eq", "value": value * 7 }],
                })
            })
            .collect();
        json!({ "comment": "why", "syscalls": [name], "rules": rules, "action": "kill_process" })
    };
    let names = ["read", "ioctl", "clone"];
    let groups: Vec<_> = names.into_iter().map(group).collect();
    let profile = parse(&profile(&json!(groups))).unwrap();
    for arch in Arch::ALL {
        let program = profile.compile(arch).unwrap();
        let trampolines = program.instructions().iter().filter(|one| one.code == 0x05).count();
        assert!(trampolines > 0, "the profile is too small for this test");
        for name in names.into_iter().chain(["write"]) {
            let number = common::number(arch, name);
            for value in 0..1500 {
                for value in [value, value | 1 << 32] {
                    let data = call(arch, number, &[0, value]);
                    let expected = model(&profile, arch, &data).code();
                    assert_eq!(program.evaluate(&data), expected, "{name} {value:#x} on {arch}");
                }
            }
        }
    }
}

#[test]
fn a_program_that_the_kernel_would_not_load_is_an_error() {
    let rules: Vec<_> = (0..1100)
        .map(|value| {
            json!({
                "action": "allow",
                "when": [{ "arg": 1, "width": "qword", "op": "eq", "value": value }],
            })
        })
        .collect();
    let group =
        json!({ "comment": "why", "syscalls": ["read"], "rules": rules, "action": "succeed" });
    let error = parse(&profile(&json!([group]))).unwrap().compile(Arch::X86_64).unwrap_err();
    assert!(error.to_string().ends_with("join rules or groups"), "{error}");

    let one = |code, jt, k| Instruction { code, jt, jf: 0, k };
    let ret = one(0x06, 0, 0);
    let malformed = [
        vec![],
        vec![one(0x20, 0, 0)],
        vec![one(0x15, 1, 0), ret],
        vec![one(0x05, 0, u32::MAX), ret],
        vec![one(0x20, 0, 64), ret],
        vec![one(0x20, 0, 2), ret],
        vec![one(0x87, 0, 0), ret],
    ];
    for instructions in malformed {
        let refused = Program::new(instructions.clone());
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{instructions:?}");
    }
}

#[test]
fn build_scripts_get_the_program_as_source() {
    for arch in Arch::ALL {
        let (_, program) = cell(arch);
        let source = compile_to_rust("CELL", cloister_seccomp::CELL, arch).unwrap();
        let len = program.instructions().len();
        assert!(source.contains(&format!("static CELL: [::libc::sock_filter; {len}] = [")));
        let written: Vec<_> = source.lines().filter_map(instruction).collect();
        assert_eq!(written, program.instructions());
    }
}

/// Reads one line of the source back.
fn instruction(line: &str) -> Option<Instruction> {
    let fields = line.trim().strip_prefix("::libc::sock_filter { ")?.strip_suffix(" },")?;
    let mut numbers = fields.split(", ").map(|field| {
        let (_, number) = field.split_once(": ").unwrap();
        match number.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
            None => number.parse().unwrap(),
        }
    });
    let mut next = || numbers.next().unwrap();
    Some(Instruction {
        code: next().try_into().unwrap(),
        jt: next().try_into().unwrap(),
        jf: next().try_into().unwrap(),
        k: next(),
    })
}

#[test]
fn architectures_have_the_names_that_cargo_gives_them() {
    assert_eq!("x86_64".parse::<Arch>().unwrap(), Arch::X86_64);
    assert_eq!("aarch64".parse::<Arch>().unwrap(), Arch::Aarch64);
    assert_eq!(
        "riscv64".parse::<Arch>().unwrap_err().to_string(),
        "there is no seccomp filter for `riscv64`; build for x86_64 or aarch64"
    );
}
