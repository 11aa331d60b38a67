//! Seccomp profiles: whatever compiles means what it says, on both architectures.
#![no_main]

use cloister_seccomp::{Action, Arch, Condition, Operator, Profile, SeccompData, Width};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(profile) = Profile::parse(text) else { return };
    for arch in Arch::ALL {
        // A program that would be too long is refused.
        let Ok(program) = profile.compile(arch) else { continue };
        let named: Vec<_> = profile.groups_for(arch).flat_map(|group| &group.syscalls).collect();
        let answer = |number, arch_of_call: Arch, args| {
            let arch = arch_of_call.audit();
            program.evaluate(&SeccompData { number, arch, args, ..SeccompData::default() })
        };
        for args in arguments(&profile) {
            for (name, number) in arch.syscalls() {
                let expected = if named.iter().any(|known| *known == name) {
                    model(&profile, arch, name, &args)
                } else {
                    profile.default
                };
                assert_eq!(answer(number, arch, args), expected.code(), "{name} of {arch}");
            }
            // Numbers that no call has.
            for number in [u32::MAX >> 2, 4095, 600, 1 << 29] {
                assert_eq!(answer(number, arch, args), profile.default.code(), "{number}");
            }
            for other in Arch::ALL.into_iter().filter(|other| *other != arch) {
                assert_eq!(answer(0, other, args), profile.foreign.code());
            }
            if arch == Arch::X86_64 {
                assert_eq!(answer(0x4000_0000, arch, args), profile.foreign.code());
            }
        }
    }
});

/// Arguments at which the profile's conditions turn.
fn arguments(profile: &Profile) -> Vec<[u64; 6]> {
    let rules = profile.groups.iter().flat_map(|group| &group.rules);
    let values = rules.flat_map(|rule| &rule.when).map(|condition| condition.value).take(8);
    let around = values.flat_map(|v| [v, v.wrapping_add(1), v.wrapping_sub(1), v ^ (1 << 32)]);
    [0, u64::MAX].into_iter().chain(around).map(|value| [value; 6]).collect()
}

/// What the words of a profile mean, without any compiler.
fn model(profile: &Profile, arch: Arch, name: &str, args: &[u64; 6]) -> Action {
    let mut groups = profile.groups_for(arch);
    let group = groups.find(|group| group.syscalls.iter().any(|known| known == name));
    let group = group.expect("it is named");
    let rule = group.rules.iter().find(|rule| rule.when.iter().all(|each| holds(each, args)));
    rule.map_or(group.action, |rule| rule.action)
}

fn holds(condition: &Condition, args: &[u64; 6]) -> bool {
    let arg = args[usize::from(condition.arg)];
    let arg = match condition.width {
        Width::Dword => arg & u64::from(u32::MAX),
        Width::Qword => arg,
    };
    match condition.op {
        Operator::Eq => arg == condition.value,
        Operator::Ne => arg != condition.value,
        Operator::Lt => arg < condition.value,
        Operator::Le => arg <= condition.value,
        Operator::Gt => arg > condition.value,
        Operator::Ge => arg >= condition.value,
        Operator::MaskedEq => condition.mask.is_some_and(|mask| arg & mask == condition.value),
    }
}
