//! Where a node that listens on every interface is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What others can dial: the address itself, and for "every interface" the one from which this machine reaches
/// others.
pub(super) fn reachable(bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let ip = if bound.is_ipv4() { outward_v4() } else { outward_v4().or_else(outward_v6) };
    let ip = ip.unwrap_or_else(|| {
        tracing::warn!("this machine has no way to others: set `advertise` if they are to reach this node");
        Ipv4Addr::LOCALHOST.into()
    });
    SocketAddr::new(ip, bound.port())
}

/// Connecting a UDP socket sends nothing: the system only looks up its routes. The addresses are those for
/// documentation, which nobody has.
fn outward(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

fn outward_v4() -> Option<IpAddr> {
    outward(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(203, 0, 113, 1).into())
}

fn outward_v6() -> Option<IpAddr> {
    outward(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_interface_is_no_address_to_dial() {
        for listen in ["0.0.0.0:4100", "[::]:4100"] {
            let reachable = reachable(listen.parse().unwrap());
            assert!(!reachable.ip().is_unspecified(), "{reachable}");
            assert_eq!(reachable.port(), 4100);
        }
    }

    #[test]
    fn one_interface_stays_what_it_is() {
        for listen in ["127.0.0.1:4100", "[::1]:4100", "10.0.0.7:1"] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), listen);
        }
    }
}
