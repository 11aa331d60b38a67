//! The way out of a container, by which its host comes in.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, bail};

const ROUTES: &str = "/proc/net/route";
/// `RTF_GATEWAY` of linux/route.h: there is one on the way.
const VIA_GATEWAY: u32 = 0x2;

/// The gateway of the default route. A container engine makes that its own end of the container's
/// network, and what the host sends to a published port comes from there.
pub(super) fn find() -> anyhow::Result<IpAddr> {
    let routes = fs::read_to_string(ROUTES)
        .with_context(|| format!("cannot read {ROUTES}, to learn this container's gateway"))?;
    let Some(gateway) = default_gateway(&routes) else {
        bail!(
            "this container has no IPv4 gateway, by which its host could come: attach it to a network \
             that is not internal, or leave --published out"
        );
    };
    Ok(gateway.into())
}

/// Reads the kernel's table: a line for each route, with addresses in hexadecimal, as they lie in
/// memory.
fn default_gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let (to, gateway, flags) = (number()?, number()?, number()?);
        let mask = fields.nth(3).and_then(|mask| u32::from_str_radix(mask, 16).ok())?;
        let default = to == 0 && mask == 0 && flags & VIA_GATEWAY != 0;
        default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_names_the_gateway() {
        let inner = "eth1\t000013AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routed = "eth1\t0000000A\t020013AC\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let default = "eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        let all = [HEAD, inner, routed, default].concat();
        assert_eq!(default_gateway(&all), Some(Ipv4Addr::new(172, 18, 0, 1)));
        assert_eq!(default_gateway(&[HEAD, inner, routed].concat()), None);
        assert_eq!(default_gateway(HEAD), None);
        assert_eq!(default_gateway(""), None);
    }
}
