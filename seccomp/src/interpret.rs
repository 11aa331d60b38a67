//! What a program answers, found out without the kernel.

use crate::Program;
use crate::program::{data, op};

/// What a filter sees of a call: the kernel's `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SeccompData {
    /// Number of the call.
    pub number: u32,
    /// `AUDIT_ARCH_*` of the entry that it came through.
    pub arch: u32,
    /// Address of the instruction behind the call's.
    pub instruction_pointer: u64,
    /// The arguments, whether the call takes them or not.
    pub args: [u64; 6],
}

/// The end of a program's run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// The value returned, `SECCOMP_RET_*` with its data.
    pub action: u32,
    /// The number of instructions executed.
    pub steps: usize,
}

impl SeccompData {
    /// The aligned word at an offset, as a little-endian machine lays them out.
    #[allow(clippy::cast_possible_truncation, reason = "a word is half of a field")]
    fn word(&self, offset: u32) -> u32 {
        let long = |value: u64| (value >> (offset % 8 * 8)) as u32;
        match offset {
            data::NUMBER => self.number,
            data::ARCH => self.arch,
            8..16 => long(self.instruction_pointer),
            _ => long(self.args[(offset as usize - 16) / 8]),
        }
    }
}

impl Program {
    /// The answer to a call, `SECCOMP_RET_*` with its data.
    pub fn evaluate(&self, data: &SeccompData) -> u32 {
        self.run(data).action
    }

    /// The answer to a call and what it cost.
    pub fn run(&self, data: &SeccompData) -> Outcome {
        let mut accumulator = 0;
        let mut at = 0;
        for steps in 1.. {
            let instruction = self.instructions()[at];
            let k = instruction.k;
            let test = |holds| usize::from(if holds { instruction.jt } else { instruction.jf });
            at += 1;
            match instruction.code {
                op::RETURN => return Outcome { action: k, steps },
                op::LOAD => accumulator = data.word(k),
                op::AND => accumulator &= k,
                op::JUMP => at += k as usize,
                op::JUMP_EQUAL => at += test(accumulator == k),
                op::JUMP_GREATER => at += test(accumulator > k),
                op::JUMP_GREATER_OR_EQUAL => at += test(accumulator >= k),
                op::JUMP_ANY_BIT => at += test(accumulator & k != 0),
                code => unreachable!("`Program::new` lets no operation {code:#x} through"),
            }
        }
        unreachable!("`Program::new` lets no program through that does not end")
    }
}
