//! Random profiles, compiled by this crate and by seccompiler, which was written independently: on
//! what both can say, they have to agree. What seccompiler can't say (several actions, an order of
//! rules, the x32 check) is held against a model instead.

mod common;

use std::collections::BTreeMap;

use cloister_seccomp::{
    Action, Arch, Condition, Errno, Group, Instruction, Operator, Profile, Program, Rule,
    SeccompData, Width,
};
use common::{call, model};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

const ARCH: Arch = Arch::X86_64;
const REFUSED: Action = Action::Errno(Errno::Eperm);

/// Values at which comparisons of halves go wrong, if they do.
fn value() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        1,
        2,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x1_ffff_ffff,
        0x2_0000_0000,
        0x7fff_ffff_ffff_ffff,
        0xffff_ffff_0000_0000,
        0xffff_ffff_0000_0001,
        u64::MAX - 1,
        u64::MAX,
    ];
    prop_oneof![select(edges), any::<u64>(), 0_u64..16]
}

fn condition() -> impl Strategy<Value = Condition> {
    let width = select(vec![Width::Dword, Width::Qword]);
    let op = select(vec![
        Operator::Eq,
        Operator::Ne,
        Operator::Lt,
        Operator::Le,
        Operator::Gt,
        Operator::Ge,
        Operator::MaskedEq,
    ]);
    (0_u8..6, width, op, value(), value()).prop_map(|(arg, width, op, value, mask)| {
        let widest = match width {
            Width::Dword => u64::from(u32::MAX),
            Width::Qword => u64::MAX,
        };
        let mask = (op == Operator::MaskedEq).then_some(mask & widest);
        let value = value & widest & mask.unwrap_or(u64::MAX);
        Condition { arg, width, op, mask, value }
    })
}

fn rule(action: impl Strategy<Value = Action>) -> impl Strategy<Value = Rule> {
    (action, prop::collection::vec(condition(), 1..4)).prop_map(|(action, when)| Rule {
        comment: None,
        action,
        when,
    })
}

/// Some calls of the table, dealt out to groups at random.
fn groups(
    action: impl Strategy<Value = Action> + Clone,
    otherwise: impl Strategy<Value = Action>,
) -> impl Strategy<Value = Vec<Group>> {
    let names: Vec<String> = ARCH.syscalls().map(|(name, _)| name.to_owned()).collect();
    let rules = prop::collection::vec(rule(action.clone()), 0..5);
    let answers = prop::collection::vec((rules, action, otherwise), 1..24);
    // As many calls as keep both programs below the kernel's 4096 instructions.
    (subsequence(names, 1..=56), answers).prop_perturb(|(names, answers), mut random| {
        let mut groups: Vec<_> = answers
            .into_iter()
            .map(|(rules, action, otherwise)| Group {
                comment: "random".into(),
                arch: None,
                syscalls: Vec::new(),
                action: if rules.is_empty() { action } else { otherwise },
                rules,
            })
            .collect();
        for name in names {
            let chosen = random.random_range(0..groups.len());
            groups[chosen].syscalls.push(name);
        }
        groups
    })
}

fn profile(groups: Vec<Group>, default: Action) -> Profile {
    Profile { comment: "random".into(), default, foreign: Action::KillProcess, groups }
}

/// Calls around everything that the profile compares with, and some at random.
fn calls(profile: &Profile, random: &[(u32, [u64; 6])]) -> Vec<SeccompData> {
    let mut calls: Vec<_> = random.iter().map(|(number, args)| call(ARCH, *number, args)).collect();
    for group in &profile.groups {
        let Some(number) = group.syscalls.first().and_then(|name| ARCH.number(name)) else {
            continue;
        };
        for condition in group.rules.iter().flat_map(|rule| &rule.when) {
            // A call that meets all equalities of the group at once, bent in one argument.
            let mut args = [0; 6];
            for other in group.rules.iter().flat_map(|rule| &rule.when) {
                args[usize::from(other.arg)] = other.value;
            }
            let near = [
                condition.value,
                condition.value.wrapping_add(1),
                condition.value.wrapping_sub(1),
                condition.value ^ (1 << 32),
                condition.value | 0xdead_beef_0000_0000,
                condition.value | !condition.mask.unwrap_or(u64::MAX),
                !condition.value,
            ];
            for value in near {
                args[usize::from(condition.arg)] = value;
                calls.push(call(ARCH, number, &args));
            }
        }
    }
    calls
}

/// The same in seccompiler's words.
fn oracle(profile: &Profile) -> Program {
    let condition = |condition: &Condition| {
        let width = match condition.width {
            Width::Dword => SeccompCmpArgLen::Dword,
            Width::Qword => SeccompCmpArgLen::Qword,
        };
        let op = match condition.op {
            Operator::Eq => SeccompCmpOp::Eq,
            Operator::Ne => SeccompCmpOp::Ne,
            Operator::Lt => SeccompCmpOp::Lt,
            Operator::Le => SeccompCmpOp::Le,
            Operator::Gt => SeccompCmpOp::Gt,
            Operator::Ge => SeccompCmpOp::Ge,
            Operator::MaskedEq => SeccompCmpOp::MaskedEq(condition.mask.unwrap()),
        };
        SeccompCondition::new(condition.arg, width, op, condition.value).unwrap()
    };
    let mut rules = BTreeMap::new();
    for group in &profile.groups {
        let chain: Vec<_> = group
            .rules
            .iter()
            .map(|rule| SeccompRule::new(rule.when.iter().map(condition).collect()).unwrap())
            .collect();
        for name in &group.syscalls {
            rules.insert(i64::from(ARCH.number(name).unwrap()), chain.clone());
        }
    }
    let refused = SeccompAction::Errno(REFUSED.code() & 0xffff);
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let instructions = program.iter().map(|filter| Instruction {
        code: filter.code,
        jt: filter.jt,
        jf: filter.jf,
        k: filter.k,
    });
    Program::new(instructions.collect()).unwrap()
}

fn random_calls() -> impl Strategy<Value = Vec<(u32, [u64; 6])>> {
    let args = [value(), value(), value(), value(), value(), value()];
    prop::collection::vec((0_u32..600, args), 200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn agrees_with_seccompiler(
        groups in groups(Just(Action::Allow), Just(REFUSED)),
        random in random_calls(),
    ) {
        let profile = profile(groups, REFUSED);
        let ours = profile.compile(ARCH).unwrap();
        let theirs = oracle(&profile);
        for data in calls(&profile, &random) {
            prop_assert_eq!(ours.evaluate(&data), theirs.evaluate(&data), "{:x?}", data);
            let foreign = SeccompData { arch: 0x4000_0003, ..data };
            prop_assert_eq!(ours.evaluate(&foreign), theirs.evaluate(&foreign));
        }
    }

    #[test]
    fn means_what_the_profile_says(
        groups in groups(select(ACTIONS.to_vec()), select(ACTIONS.to_vec())),
        default in select(ACTIONS.to_vec()),
        random in random_calls(),
        arch_bits in any::<u32>(),
    ) {
        let profile = profile(groups, default);
        let program = profile.compile(ARCH).unwrap();
        for data in calls(&profile, &random) {
            for data in [
                data,
                SeccompData { number: data.number | 0x4000_0000, ..data },
                SeccompData { arch: data.arch ^ arch_bits, ..data },
            ] {
                let expected = model(&profile, ARCH, &data).code();
                prop_assert_eq!(program.evaluate(&data), expected, "{:x?}", data);
            }
        }
    }
}

const ACTIONS: [Action; 5] = [
    Action::Allow,
    Action::Succeed,
    Action::KillProcess,
    Action::Errno(Errno::Eperm),
    Action::Errno(Errno::Enosys),
];
