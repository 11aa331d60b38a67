//! Programs of classic BPF, in the part of it that filters of this crate and of seccompiler use.

use crate::Error;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where a test holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The operations, `BPF_*` of `linux/bpf_common.h` put together.
pub(crate) mod op {
    pub(crate) const LOAD: u16 = 0x20; // LD | W | ABS
    pub(crate) const AND: u16 = 0x54; // ALU | AND | K
    pub(crate) const JUMP: u16 = 0x05; // JMP | JA
    pub(crate) const JUMP_EQUAL: u16 = 0x15; // JMP | JEQ | K
    pub(crate) const JUMP_GREATER: u16 = 0x25; // JMP | JGT | K
    pub(crate) const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // JMP | JGE | K
    pub(crate) const JUMP_ANY_BIT: u16 = 0x45; // JMP | JSET | K
    pub(crate) const RETURN: u16 = 0x06; // RET | K
}

/// Offsets in `struct seccomp_data`.
pub(crate) mod data {
    pub(crate) const NUMBER: u32 = 0;
    pub(crate) const ARCH: u32 = 4;
    pub(crate) const SIZE: u32 = 64;
}

/// A filter that the kernel would load: every path ends in a return.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// `BPF_MAXINSNS`: the kernel loads no longer program.
    pub const MAX_LEN: usize = 4096;

    /// Takes instructions that pass the kernel's own checks: `bpf_check_classic` in
    /// `net/core/filter.c`, and that loads stay inside `struct seccomp_data`.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, Error> {
        let len = instructions.len();
        let refuse = |at, why| Err(Error::Malformed { at, len, why });
        if len > Self::MAX_LEN {
            return refuse(Self::MAX_LEN, "the program is too long; join rules or groups");
        }
        for (at, instruction) in instructions.iter().enumerate() {
            // Only forward, and every instruction has a successor: so it ends, and in a return.
            let farthest = match instruction.code {
                op::RETURN => continue,
                op::JUMP => instruction.k as usize,
                op::JUMP_EQUAL
                | op::JUMP_GREATER
                | op::JUMP_GREATER_OR_EQUAL
                | op::JUMP_ANY_BIT => usize::from(instruction.jt.max(instruction.jf)),
                op::AND => 0,
                op::LOAD if instruction.k % 4 == 0 && instruction.k < data::SIZE => 0,
                op::LOAD => return refuse(at, "it loads from outside struct seccomp_data"),
                _ => return refuse(at, "the operation is unknown"),
            };
            if farthest >= len - at - 1 {
                return refuse(at, "it leads beyond the end");
            }
        }
        if instructions.is_empty() {
            return refuse(0, "the program is empty");
        }
        Ok(Self { instructions })
    }

    /// The instructions, in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}
