//! Conditions on arguments: what they say, and the instructions that test them.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::emit::{Emitter, Label, Test};

/// A comparison of one argument of a call with a constant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Index of the argument, 0 to 5.
    pub arg: u8,
    /// How much of it the kernel looks at.
    pub width: Width,
    /// The comparison, unsigned.
    pub op: Operator,
    /// The bits that [`Operator::MaskedEq`] compares.
    #[serde(default, deserialize_with = "some_number")]
    pub mask: Option<u64>,
    /// The constant.
    #[serde(deserialize_with = "number")]
    pub value: u64,
}

/// How much of an argument the kernel looks at: arguments are 64 bits wide in a filter's eyes, but
/// a call that takes an `int` never sees the upper half.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Width {
    /// The lower 32 bits.
    Dword,
    /// All 64 bits.
    Qword,
}

/// A comparison, argument on the left.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal in the bits of the mask.
    MaskedEq,
}

impl Condition {
    /// Finds what can't have been meant.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let widest = match self.width {
            Width::Dword => u64::from(u32::MAX),
            Width::Qword => u64::MAX,
        };
        if self.arg > 5 {
            return Err("calls have six arguments, so write 0 to 5");
        }
        if self.value > widest || self.mask.is_some_and(|mask| mask > widest) {
            return Err("a dword has 32 bits; shorten the number or write qword");
        }
        match (self.op, self.mask) {
            (Operator::MaskedEq, None) => Err("masked_eq needs a mask"),
            (Operator::MaskedEq, Some(mask)) if self.value & !mask != 0 => {
                Err("the value has bits outside the mask, so it can never be equal")
            }
            (Operator::MaskedEq, Some(_)) | (_, None) => Ok(()),
            (_, Some(_)) => Err("only masked_eq takes a mask"),
        }
    }

    /// Emits the test: it goes on at `yes` where the condition holds, else at `no`.
    pub(crate) fn emit(&self, code: &mut Emitter, yes: Label, no: Label) -> Label {
        match self.op {
            Operator::Eq => self.emit_equal(code, u64::MAX, yes, no),
            Operator::MaskedEq => self.emit_equal(code, self.mask.unwrap_or(u64::MAX), yes, no),
            Operator::Gt => self.emit_greater(code, Test::Greater, yes, no),
            Operator::Ge => self.emit_greater(code, Test::GreaterOrEqual, yes, no),
            // The rest are these, with the answers swapped.
            Operator::Ne => self.emit_equal(code, u64::MAX, no, yes),
            Operator::Lt => self.emit_greater(code, Test::GreaterOrEqual, no, yes),
            Operator::Le => self.emit_greater(code, Test::Greater, no, yes),
        }
    }

    /// Both halves have to be equal, in the bits of the mask.
    fn emit_equal(&self, code: &mut Emitter, mask: u64, yes: Label, no: Label) -> Label {
        let (low, high) = halves(self.value);
        let (low_mask, high_mask) = halves(mask);
        let low_half = code.test(Test::Equal, low, yes, no);
        let low_half = code.masked_load(self.low_half(), low_mask, low_half);
        match self.width {
            Width::Dword => low_half,
            Width::Qword => {
                let high_half = code.test(Test::Equal, high, low_half, no);
                code.masked_load(self.high_half(), high_mask, high_half)
            }
        }
    }

    /// The upper half decides unless it is equal; then the lower one does.
    fn emit_greater(&self, code: &mut Emitter, test: Test, yes: Label, no: Label) -> Label {
        let (low, high) = halves(self.value);
        let low_half = code.test(test, low, yes, no);
        let low_half = code.load(self.low_half(), low_half);
        match self.width {
            Width::Dword => low_half,
            Width::Qword => {
                let tie = code.test(Test::Equal, high, low_half, no);
                let high_half = code.test(Test::Greater, high, yes, tie);
                code.load(self.high_half(), high_half)
            }
        }
    }

    /// Where `struct seccomp_data` has the lower half; both architectures are little-endian.
    fn low_half(&self) -> u32 {
        16 + 8 * u32::from(self.arg)
    }

    fn high_half(&self) -> u32 {
        self.low_half() + 4
    }
}

/// The lower and the upper 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "cutting in half is the point")]
fn halves(number: u64) -> (u32, u32) {
    (number as u32, (number >> 32) as u32)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arg = self.arg;
        let width = match self.width {
            Width::Dword => "",
            Width::Qword => ":64",
        };
        let sign = match self.op {
            Operator::Eq | Operator::MaskedEq => "==",
            Operator::Ne => "!=",
            Operator::Lt => "<",
            Operator::Le => "<=",
            Operator::Gt => ">",
            Operator::Ge => ">=",
        };
        match self.mask {
            Some(mask) => write!(f, "arg{arg}{width} & {mask:#x} {sign} {:#x}", self.value),
            None => write!(f, "arg{arg}{width} {sign} {:#x}", self.value),
        }
    }
}

/// A number, or a string with a hexadecimal one, since JSON has no hexadecimal numbers.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number from 0 to 2^64 - 1, or one as \"0x…\"")]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(from)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text
            .strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no number; write it as 0x1f"))),
    }
}

fn some_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    number(from).map(Some)
}
