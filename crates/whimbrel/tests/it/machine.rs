//! What the machine that runs the tests can do. Compiled into every test program that asks.

use std::fmt::Display;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// A test does not run here: one line past the capture of the harness, which `.ci/run` counts.
pub(crate) fn skipped(test: &str, reason: impl Display) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether this machine carries multicast on that interface, found out without what is tested.
pub(crate) fn has_multicast(test: &str, interface: Ipv4Addr) -> bool {
    let carries = || -> std::io::Result<()> {
        let group = Ipv4Addr::new(233, 252, 1, 32);
        let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        receiver.join_multicast_v4(&group, &interface)?;
        let sender = UdpSocket::bind((interface, 0))?;
        sender.send_to(b"probe", (group, receiver.local_addr()?.port()))?;
        receiver.recv(&mut [0; 8]).map(|_| ())
    };
    carries().map_err(|error| skipped(test, format!("no multicast on {interface}: {error}"))).is_ok()
}
