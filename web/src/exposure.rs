//! Who may reach a service, decided once at its start.

use std::net::{IpAddr, SocketAddr};

use crate::{Error, Tokens};

/// How a service tells friends from strangers.
#[derive(Clone, Debug)]
pub enum Access {
    /// By a token: any one of these.
    Tokens(Tokens),
    /// By the machine: whoever reaches its loopback, except a page in somebody's browser.
    Loopback {
        /// The address that it listens on, a name by which it may be called.
        bound: SocketAddr,
    },
    /// In a container whose port is published on its host's loopback alone: by the machine for whoever
    /// comes through the container's gateway, as from the host itself; by a token for all others.
    Published {
        /// The address of the gateway.
        gateway: IpAddr,
        /// What all others must show.
        tokens: Tokens,
    },
    /// Not at all, since an operator said so.
    Open,
}

impl Access {
    /// What follows from the address, the tokens and the operator's word.
    pub fn decide(listen: SocketAddr, tokens: Tokens, insecure: bool) -> Result<Self, Error> {
        check_exposure(listen, !tokens.is_empty(), insecure)?;
        Ok(if !tokens.is_empty() {
            Self::Tokens(tokens)
        } else if is_loopback(listen) {
            Self::Loopback { bound: listen }
        } else {
            Self::Open
        })
    }

    /// The same, with its host's own users let in by the way that they come.
    #[must_use]
    pub fn through(self, gateway: IpAddr) -> Self {
        match self {
            Self::Tokens(tokens) => Self::Published { gateway, tokens },
            other => other,
        }
    }
}

/// Refuses an address that others can reach, unless a token guards it or an operator accepted the
/// risk. Meant to be called before anything is started.
pub fn check_exposure(listen: SocketAddr, has_token: bool, insecure: bool) -> Result<(), Error> {
    if is_loopback(listen) || has_token || insecure {
        Ok(())
    } else {
        Err(Error::Exposed { listen })
    }
}

/// Warns, once at the start, of tokens that whoever sees the network can read.
pub fn warn_of_clear_tokens(listen: SocketAddr, access: &Access, tls: bool) {
    // What comes through a gateway by loopback is seen by nobody.
    if matches!(access, Access::Tokens(_)) && !tls && !is_loopback(listen) {
        tracing::warn!(
            %listen,
            "tokens travel to {listen} in clear: whoever sees the network can read and use them; \
             --tls-cert and --tls-key encrypt, unless a proxy in front of it does"
        );
    }
}

/// Whether only this machine reaches it.
pub fn is_loopback(address: SocketAddr) -> bool {
    // `::ffff:127.0.0.1` is the IPv4 loopback as a dual-stack socket shows it.
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn only_loopback_needs_no_token() {
        for loopback in ["127.0.0.1:0", "127.8.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(check_exposure(at(loopback), false, false).is_ok(), "{loopback}");
        }
        for reachable in ["0.0.0.0:8000", "[::]:8000", "192.168.1.5:8000", "[::ffff:10.0.0.1]:1"] {
            let error = check_exposure(at(reachable), false, false).unwrap_err().to_string();
            for advice in [reachable, "--token-file", "CLOISTER_TOKEN", "--insecure-no-auth"] {
                assert!(error.contains(advice), "{reachable}: {error}");
            }
            assert!(check_exposure(at(reachable), true, false).is_ok(), "{reachable}");
            assert!(check_exposure(at(reachable), false, true).is_ok(), "{reachable}");
        }
    }

    #[test]
    fn a_token_guards_even_where_it_is_not_demanded() {
        let token = || Tokens::from(vec![Secret::new("a".repeat(32), "of the test").unwrap()]);
        let decide =
            |listen, tokens, insecure| Access::decide(at(listen), tokens, insecure).unwrap();
        assert!(matches!(decide("127.0.0.1:1", token(), false), Access::Tokens(_)));
        assert!(matches!(decide("0.0.0.0:1", token(), true), Access::Tokens(_)));
        assert!(matches!(decide("127.0.0.1:1", Tokens::default(), true), Access::Loopback { .. }));
        assert!(matches!(decide("0.0.0.0:1", Tokens::default(), true), Access::Open));
    }
}
