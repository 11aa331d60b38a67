//! What the kernel holds for sockets, by `/proc/PID/net` of a process in their network. Pure.
//!
//! Some of it is charged to nobody: replies of netlink, datagrams that were begun and not sent (`MSG_MORE`),
//! and TCP connections with their data until they are accepted, since the kernel makes those in no process.

/// One socket for each line but the first. The fifth word is `tx_queue:rx_queue`, in hexadecimal.
pub(super) const DATAGRAM: [&str; 6] = ["udp", "udp6", "udplite", "udplite6", "raw", "raw6"];
/// The same for connections. The fourth word is the state.
pub(super) const TCP: [&str; 2] = ["tcp", "tcp6"];
/// One socket for each line but the first. The fifth word is what waits to be read.
pub(super) const NETLINK: &str = "netlink";

/// How many sockets there are, IPv4 and IPv6.
pub(super) const COUNTS: [&str; 2] = ["sockstat", "sockstat6"];

/// What a connection takes that is not accepted yet, bytes: a `struct tcp_sock` of some 2,400, and the segment
/// that ended it. Measured are 4,000. One that was accepted is charged with more, for its descriptor too.
pub(super) const TCP_SOCKET: u64 = 3500;
/// The state in which the queues are counts of connections (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";

/// Bytes that wait to be sent or read, in all sockets of one of [`DATAGRAM`].
pub(super) fn datagram(text: &str) -> u64 {
    lines(text).filter_map(queues).sum()
}

/// How many sockets a network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Of [`TCP`].
    pub(super) tcp: u64,
    /// Of [`DATAGRAM`].
    pub(super) datagram: u64,
}

impl Count {
    /// By the texts of a network's [`COUNTS`].
    pub(super) fn parse(counts: &str) -> Self {
        let mut count = Self::default();
        for line in counts.lines() {
            let Some((kind, numbers)) = line.split_once(": inuse ") else { continue };
            let number = numbers.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            let number = number.unwrap_or(0);
            match kind.strip_suffix('6').unwrap_or(kind) {
                "TCP" => count.tcp += number,
                "UDP" | "UDPLITE" | "RAW" => count.datagram += number,
                _ => {}
            }
        }
        count
    }

    /// Whether there is any.
    pub(super) fn is_any(self) -> bool {
        self.tcp > 0 || self.datagram > 0
    }
}

/// Bytes that wait to be sent or read in the sockets of [`TCP`], of which there are `sockets`. `texts` may be
/// cut off: the kernel lists them in the order of a hash, so their beginning tells of all.
pub(super) fn tcp_queues(texts: &[String], sockets: u64) -> u64 {
    let queued = |line: &str| {
        let listens = line.split_ascii_whitespace().nth(3)? == LISTEN;
        Some(if listens { 0 } else { queues(line)? })
    };
    let seen: Vec<u64> = texts.iter().flat_map(|text| lines(text)).filter_map(queued).collect();
    let (count, sum) = (seen.len() as u64, seen.iter().sum::<u64>());
    sum.saturating_mul(sockets.max(count)).checked_div(count).unwrap_or(0)
}

/// Bytes that wait to be read, in all sockets of [`NETLINK`].
pub(super) fn netlink(text: &str) -> u64 {
    let waiting = |line: &str| line.split_ascii_whitespace().nth(4)?.parse::<u64>().ok();
    lines(text).filter_map(waiting).sum()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1)
}

fn queues(line: &str) -> Option<u64> {
    let (sending, receiving) = line.split_ascii_whitespace().nth(4)?.split_once(':')?;
    let bytes = |queue| u64::from_str_radix(queue, 16).ok();
    Some(bytes(sending)? + bytes(receiving)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_summed() {
        let udp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n  \
            1: 0100007F:0035 00000000:0000 07 00000001:00034000 00:00000000 00000000     0\n  \
            2: 0100007F:0036 00000000:0000 07 00000200:00000300 00:00000000 00000000     0\n";
        assert_eq!(datagram(udp), 0x34501);
        let netlink = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            0000000000000000 0   4112       00000000 212992   0        0     2        0        19310\n\
            0000000000000000 0   0          00000000 8        0        0     2        0        2\n";
        assert_eq!(super::netlink(netlink), 213_000);
        assert_eq!((datagram(""), super::netlink("nonsense\nx\n")), (0, 0));
    }

    #[test]
    fn sockets_are_counted() {
        let counts =
            "sockets: used 9\nTCP: inuse 4 orphan 0 tw 7 alloc 99 mem 3\nUDP: inuse 5 mem 0\n";
        assert_eq!(Count::parse(counts), Count { tcp: 4, datagram: 5 });
        let both = "TCP6: inuse 12\nUDP6: inuse 1\nRAW6: inuse 2\nFRAG6: inuse 7 memory 0\n";
        assert_eq!(Count::parse(both), Count { tcp: 12, datagram: 3 });
        assert!(!Count::parse("TCP: orphan 3\nUDP: inuse 0 mem 4\n").is_any());
    }

    #[test]
    fn what_was_not_listed_is_like_what_was() {
        let line = |state: &str, queues: &str| {
            format!(
                "0: 0100007F:1F90 0100007F:C350 {state} {queues} 00:00000000 00000000  1000  0 0 1 0\n"
            )
        };
        let text = |lines: &[String]| format!("  sl  local_address …\n{}", lines.concat());
        let listener = text(&[line("0A", "00000000:00001000")]);
        assert_eq!(tcp_queues(std::slice::from_ref(&listener), 1), 0, "a listener with 4096");
        let two = text(&[line("01", "00000000:00000010"), line("08", "00000020:00000000")]);
        assert_eq!(tcp_queues(std::slice::from_ref(&two), 2), 48);
        assert_eq!(tcp_queues(&[listener, two], 6), 96);
        assert_eq!(tcp_queues(&[], 7), 0);
    }
}
