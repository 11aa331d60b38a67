//! The architectures that filters can be made for.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::Error;

/// An architecture, little-endian and 64 bits wide, by the name that Rust and `uname -m` give it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64; its entry also serves x32 calls, told by a bit in the number.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// Every supported architecture.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// `AUDIT_ARCH_*` of `linux/audit.h`: the ELF machine, marked as 64-bit and little-endian.
    pub const fn audit(self) -> u32 {
        const LITTLE_ENDIAN_64: u32 = 0xc000_0000;
        match self {
            Self::X86_64 => LITTLE_ENDIAN_64 | 0x3e,
            Self::Aarch64 => LITTLE_ENDIAN_64 | 0xb7,
        }
    }

    /// The bit by which a number belongs to another ABI that shares this one's audit value.
    ///
    /// `__X32_SYSCALL_BIT` of `asm/unistd.h`: x32 calls report `AUDIT_ARCH_X86_64`, so that a
    /// filter without this check lets `read | bit` through as an unknown number at best. -1 has the
    /// bit too; it is no call, only what a tracer writes to skip one, and cells are not traced.
    pub(crate) const fn foreign_bit(self) -> Option<u32> {
        match self {
            Self::X86_64 => Some(0x4000_0000),
            Self::Aarch64 => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads the value of `CARGO_CFG_TARGET_ARCH`.
impl FromStr for Arch {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.name() == name)
            .ok_or_else(|| Error::UnsupportedArch(name.to_owned()))
    }
}
