//! What the tests share.
#![allow(dead_code, reason = "each test is a crate of its own and uses a part")]

use cloister_seccomp::{
    Action, Arch, CELL, Condition, Group, Operator, Profile, Program, SERVICE, SeccompData, Width,
};

/// The number of a call that has to exist.
pub(crate) fn number(arch: Arch, name: &str) -> u32 {
    arch.number(name).unwrap_or_else(|| panic!("{arch} has no call {name}"))
}

/// A call as the filter sees it.
pub(crate) fn call(arch: Arch, number: u32, args: &[u64]) -> SeccompData {
    let mut data = SeccompData { number, arch: arch.audit(), ..SeccompData::default() };
    data.args[..args.len()].copy_from_slice(args);
    data
}

/// The cell's profile and its program.
pub(crate) fn cell(arch: Arch) -> (Profile, Program) {
    let profile = Profile::parse(CELL).expect("cell.json is a profile");
    let program = profile.compile(arch).expect("cell.json compiles");
    (profile, program)
}

/// A service's profile and its program.
pub(crate) fn service(arch: Arch) -> (Profile, Program) {
    let profile = Profile::parse(SERVICE).expect("service.json is a profile");
    let program = profile.compile(arch).expect("service.json compiles");
    (profile, program)
}

/// The group that answers a call.
pub(crate) fn group_of<'p>(profile: &'p Profile, arch: Arch, name: &str) -> Option<&'p Group> {
    profile.groups_for(arch).find(|group| group.syscalls.iter().any(|known| known == name))
}

/// What the profile's words mean, without any compiler: the model that programs are held against.
pub(crate) fn model(profile: &Profile, arch: Arch, data: &SeccompData) -> Action {
    let x32 = arch == Arch::X86_64 && data.number & 0x4000_0000 != 0;
    if data.arch != arch.audit() || x32 {
        return profile.foreign;
    }
    arch.syscalls()
        .find_map(|(name, number)| (number == data.number).then_some(name))
        .and_then(|name| group_of(profile, arch, name))
        .map_or(profile.default, |group| decide(group, &data.args))
}

/// What a group's words mean.
pub(crate) fn decide(group: &Group, args: &[u64; 6]) -> Action {
    group
        .rules
        .iter()
        .find(|rule| rule.when.iter().all(|condition| holds(condition, args)))
        .map_or(group.action, |rule| rule.action)
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
        Operator::MaskedEq => arg & condition.mask.unwrap() == condition.value,
    }
}
