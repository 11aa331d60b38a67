//! A network of a cell's own: its loopback is up, and its tables are small.

use std::{fs, io};

use cloister_api::Enforcement;
use rustix::fs::StatVfsMountFlags;

use crate::{
    host::{holds, optional},
    sys,
};

/// Tables that the kernel charges to nobody. It keeps each of these numbers for each network; to write them
/// takes CAP_NET_ADMIN there (Documentation/networking/ip-sysctl.rst).
const LIMITS: [(&str, u32); 2] = [
    // Connections that are remembered after one side or both have closed them, some 300 bytes each. By default
    // half as many as the table of connections has rows. Beyond the limit a connection ends without that
    // state, and its port may be used again while the other side is still open: that delays the next one by a
    // second. So there are as many as ports.
    ("tcp_max_tw_buckets", 16_384),
    // Multicast groups of IPv4 that one socket may join, some 200 bytes each; by default 20. The filter refuses
    // those of IPv6, which have no such limit.
    ("igmp_max_memberships", 4),
];
const FOLDER: &str = "/proc/sys/net/ipv4";

/// Sets up the network that this process has just made.
pub(crate) fn set_up() -> io::Result<()> {
    sys::raise_loopback()?;
    LIMITS.into_iter().try_for_each(|(name, most)| {
        match fs::write(format!("{FOLDER}/{name}"), most.to_string()) {
            // As `report` has told.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            written => written,
        }
    })
}

/// Whether these tables can be kept small.
pub(crate) fn report() -> Enforcement {
    const NAME: &str = "network_tables";
    let because = match rustix::fs::statvfs(FOLDER) {
        Ok(system) if system.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            format!("{FOLDER} is on a read-only mount")
        }
        Ok(_) => {
            let limits = LIMITS.map(|(name, most)| format!("{name} is {most}"));
            return holds(NAME, format!("in each cell's network {}", limits.join(", ")));
        }
        Err(error) => format!("{FOLDER}: {error}"),
    };
    let because = format!("the kernel's default limits hold in cells' networks: {because}");
    optional(NAME, because, "mount /proc/sys so that it can be written")
}
