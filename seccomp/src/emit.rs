//! An assembler that works from the end to the beginning.
//!
//! Classic BPF jumps forward only, so whoever emits the last instruction first knows every target
//! before the jump to it: no labels to resolve, no second pass. A conditional jump reaches 255
//! instructions; a target beyond that gets an unconditional one, whose reach is not limited, right
//! behind the conditional one.

use std::collections::HashMap;

use crate::program::{Instruction, op};
use crate::{Action, Error, Program};

/// An instruction that has been emitted: how many there were with it, counted from the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Label(usize);

/// A comparison of the accumulator with a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Any of the bits is set.
    AnyBit,
}

impl Test {
    const fn code(self) -> u16 {
        match self {
            Self::Equal => op::JUMP_EQUAL,
            Self::Greater => op::JUMP_GREATER,
            Self::GreaterOrEqual => op::JUMP_GREATER_OR_EQUAL,
            Self::AnyBit => op::JUMP_ANY_BIT,
        }
    }
}

/// A program under construction, last instruction first.
#[derive(Default)]
pub(crate) struct Emitter {
    backwards: Vec<Instruction>,
    returns: HashMap<Action, Label>,
}

/// How many instructions a conditional jump can skip.
const REACH: usize = u8::MAX as usize;

impl Emitter {
    /// Ends with an action. One `ret` serves all who are near it; those who are not get their own,
    /// which is no longer than the trampoline to the old one would be.
    pub(crate) fn ret(&mut self, action: Action) -> Label {
        match self.returns.get(&action) {
            Some(&label) if self.distance(label) < REACH / 2 => label,
            _ => {
                let label = self.push(op::RETURN, action.code());
                self.returns.insert(action, label);
                label
            }
        }
    }

    /// Goes on at `yes` where the comparison holds, else at `no`.
    pub(crate) fn test(&mut self, test: Test, constant: u32, yes: Label, no: Label) -> Label {
        // A trampoline for `no` moves `yes` one further away.
        let yes = self.within(yes, REACH - 1);
        let no = self.within(no, REACH);
        let jt = self.short(yes);
        let jf = self.short(no);
        self.backwards.push(Instruction { code: test.code(), jt, jf, k: constant });
        self.last()
    }

    /// Loads a word of `struct seccomp_data` and goes on at `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(op::LOAD, offset)
    }

    /// Loads a word and clears the bits outside the mask.
    pub(crate) fn masked_load(&mut self, offset: u32, mask: u32, next: Label) -> Label {
        self.fall_into(next);
        if mask != u32::MAX {
            self.push(op::AND, mask);
        }
        self.push(op::LOAD, offset)
    }

    /// The finished program, which begins with the instruction emitted last.
    pub(crate) fn finish(mut self) -> Result<Program, Error> {
        self.backwards.reverse();
        Program::new(self.backwards)
    }

    /// What is emitted next goes on at `next`.
    fn fall_into(&mut self, next: Label) {
        self.within(next, 0);
    }

    /// A label that an instruction emitted next reaches by skipping at most `reach`.
    fn within(&mut self, label: Label, reach: usize) -> Label {
        let distance = self.distance(label);
        if distance <= reach {
            return label;
        }
        self.push(op::JUMP, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    /// How many instructions lie between the label and one emitted next.
    fn distance(&self, label: Label) -> usize {
        self.backwards.len() - label.0
    }

    fn short(&self, label: Label) -> u8 {
        u8::try_from(self.distance(label)).expect("`within` has brought the label into reach")
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.backwards.push(Instruction { code, jt: 0, jf: 0, k });
        self.last()
    }

    fn last(&self) -> Label {
        Label(self.backwards.len())
    }
}
