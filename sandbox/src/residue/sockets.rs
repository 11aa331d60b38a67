//! What waits in the queues of sockets, by `/proc/PID/net`. Pure.
//!
//! Replies of netlink and what is put into error queues are charged to nobody.

/// Whose second line on is one socket each, with `tx_queue:rx_queue` in hexadecimal as fifth word.
pub(super) const INTERNET: [&str; 6] = ["udp", "udp6", "udplite", "udplite6", "raw", "raw6"];
/// Whose second line on is one socket each, with what waits to be read as fifth word.
pub(super) const NETLINK: &str = "netlink";

/// Bytes that wait to be read, in all sockets of one of [`INTERNET`].
pub(super) fn internet(text: &str) -> u64 {
    let waiting = |line: &str| {
        let queues = line.split_ascii_whitespace().nth(4)?;
        u64::from_str_radix(queues.split_once(':')?.1, 16).ok()
    };
    text.lines().skip(1).filter_map(waiting).sum()
}

/// Bytes that wait to be read, in all sockets of [`NETLINK`].
pub(super) fn netlink(text: &str) -> u64 {
    let waiting = |line: &str| line.split_ascii_whitespace().nth(4)?.parse::<u64>().ok();
    text.lines().skip(1).filter_map(waiting).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_summed() {
        let udp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n  \
            1: 0100007F:0035 00000000:0000 07 00000001:00034000 00:00000000 00000000     0\n  \
            2: 0100007F:0036 00000000:0000 07 00000000:00000300 00:00000000 00000000     0\n";
        assert_eq!(internet(udp), 0x34300);
        let netlink = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            0000000000000000 0   4112       00000000 212992   0        0     2        0        19310\n\
            0000000000000000 0   0          00000000 8        0        0     2        0        2\n";
        assert_eq!(super::netlink(netlink), 213_000);
        assert_eq!((internet(""), super::netlink("nonsense\nx\n")), (0, 0));
    }
}
