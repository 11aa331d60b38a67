//! The tables of names and numbers against those that seccompiler generated from Linux 6.12.

mod common;

use std::collections::HashSet;

use cloister_seccomp::{Action, Arch, Instruction, Program};
use common::call;
use seccompiler::{TargetArch, compile_from_json};

/// A program of seccompiler's that allows the one call, by name, if it knows the name.
fn only(name: &str, arch: Arch) -> Option<Program> {
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    let json = format!(
        r#"{{"only": {{"mismatch_action": "trap", "match_action": "allow", "filter": [{{"syscall": "{name}"}}]}}}}"#
    );
    let program = compile_from_json(json.as_bytes(), target).ok()?.remove("only")?;
    let instructions = program.iter().map(|filter| Instruction {
        code: filter.code,
        jt: filter.jt,
        jf: filter.jf,
        k: filter.k,
    });
    Some(Program::new(instructions.collect()).unwrap())
}

#[test]
fn names_have_the_numbers_that_seccompiler_knows() {
    for arch in Arch::ALL {
        let mut unknown = Vec::new();
        for (name, number) in arch.syscalls() {
            match only(name, arch) {
                Some(program) => {
                    let answer = program.evaluate(&call(arch, number, &[]));
                    assert_eq!(answer, Action::Allow.code(), "{name} on {arch}");
                }
                None => unknown.push(name),
            }
        }
        // Newer than its tables, or long gone.
        let newer_or_gone: HashSet<_> = [
            "uretprobe",
            "uprobe",
            "setxattrat",
            "getxattrat",
            "listxattrat",
            "removexattrat",
            "open_tree_attr",
            "file_getattr",
            "file_setattr",
            "listns",
            "rseq_slice_yield",
        ]
        .into();
        unknown.retain(|name| !newer_or_gone.contains(name));
        assert_eq!(unknown, [""; 0], "{arch}");
    }
}

#[test]
fn no_name_or_number_is_there_twice() {
    for arch in Arch::ALL {
        let mut names = HashSet::new();
        let mut numbers = HashSet::new();
        for (name, number) in arch.syscalls() {
            assert!(names.insert(name), "{name} on {arch}");
            assert!(numbers.insert(number), "{number} on {arch}");
        }
    }
}

/// The end of each run, where a missing or doubled name would show.
#[test]
fn runs_end_where_the_kernel_says() {
    let ends = [
        (Arch::X86_64, "rseq", 334),
        (Arch::X86_64, "uprobe", 336),
        (Arch::X86_64, "rseq_slice_yield", 471),
        (Arch::Aarch64, "pivot_root", 41),
        (Arch::Aarch64, "recvmmsg", 243),
        (Arch::Aarch64, "kexec_file_load", 294),
        (Arch::Aarch64, "rseq_slice_yield", 471),
    ];
    for (arch, name, number) in ends {
        assert_eq!(arch.number(name), Some(number), "{name} on {arch}");
    }
    #[cfg(target_arch = "x86_64")]
    assert_eq!(Arch::X86_64.number("mseal").map(i64::from), Some(libc::SYS_mseal));
    #[cfg(target_arch = "aarch64")]
    assert_eq!(Arch::Aarch64.number("mseal").map(i64::from), Some(libc::SYS_mseal));
}
