//! Seccomp profiles: whatever compiles means what it says, on both architectures.
#![no_main]

use cloister_seccomp::{Arch, Profile, SeccompData};
use libfuzzer_sys::fuzz_target;

// The model that the compiler's own tests hold programs against.
#[path = "../../seccomp/tests/common/mod.rs"]
mod common;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(profile) = Profile::parse(text) else { return };
    for arch in Arch::ALL {
        // A program that would be too long is refused.
        let Ok(program) = profile.compile(arch) else { continue };
        let answer = |number, arch_of_call: Arch, args| {
            let arch = arch_of_call.audit();
            program.evaluate(&SeccompData { number, arch, args, ..SeccompData::default() })
        };
        for args in arguments(&profile) {
            for (name, number) in arch.syscalls() {
                let data = common::call(arch, number, &args);
                let expected = common::model(&profile, arch, &data);
                assert_eq!(program.evaluate(&data), expected.code(), "{name} of {arch}");
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
