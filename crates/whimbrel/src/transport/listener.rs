//! The listening port: opens it, and lets in few strangers at a time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use whimbrel_core::wire::hello::{Greeting, Refusal};

use super::handshake::{self, HandshakeError};
use super::registry::{Lost, Shared};
use super::{TransportConfig, TransportError};

/// Connections in their handshake from one address.
pub(super) const UNPROVEN_PER_ADDRESS_MAX: usize = 8;
/// Connections in their handshake in all.
pub(super) const UNPROVEN_MAX: usize = 256;
/// Pause after an error of `accept`: most likely no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the port.
pub(super) async fn bind(config: &TransportConfig) -> Result<Option<TcpListener>, TransportError> {
    let Some(listen) = &config.listen else { return Ok(None) };
    let bad = |error| TransportError::BadListen { listen: listen.clone(), error };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(listen.as_str()).await.map_err(bad)?.collect();
    let exposed = addresses.iter().find(|address| !is_loopback(address.ip()));
    if let (None, Some(&address)) = (&config.secret, exposed) {
        return Err(TransportError::SecretNeeded { address });
    }
    let mut failed = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => failed = Some(TransportError::Bind { address, error }),
        }
    }
    Err(failed.unwrap_or_else(|| bad(io::Error::from(io::ErrorKind::AddrNotAvailable))))
}

/// Whether only this machine can be at that address. An IPv4 address may come in IPv6 clothes.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Starts accepting, from the first incarnation of the node on.
pub(super) fn start(shared: &Arc<Shared>, listener: TcpListener) {
    let task = accept_all(shared.clone(), listener);
    shared.tasks.spawn_until_stopped("listener", task);
}

async fn accept_all(shared: Arc<Shared>, listener: TcpListener) {
    shared.born.cancelled().await;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => admit(&shared, stream, from.ip().to_canonical()),
            Err(error) => {
                if let Some(kept_back) = shared.log.admit() {
                    tracing::warn!(%error, kept_back, "can not accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, from: IpAddr) {
    let Some(seat) = Seat::take(shared, from) else {
        turn_away(&stream);
        if let Some(kept_back) = shared.log.admit() {
            tracing::warn!(%from, error = %Refusal::Busy, kept_back, "a connection was refused");
        }
        return;
    };
    shared.tasks.spawn_until_stopped("accept", greet(shared.clone(), stream, from, seat));
}

/// Says why, if that takes no waiting.
fn turn_away(stream: &TcpStream) {
    let mut refusal = Vec::new();
    Greeting::Refusal(Refusal::Busy).put(&mut refusal);
    let _ = stream.try_write(&refusal);
}

async fn greet(shared: Arc<Shared>, stream: TcpStream, from: IpAddr, seat: Seat) {
    // Small frames must not wait for each other. A socket that refuses this is only slower.
    let _ = stream.set_nodelay(true);
    let handshake = handshake::accept(&shared, stream, move || drop(seat));
    let result = tokio::time::timeout(shared.config.timings.handshake, handshake).await;
    let error = match result {
        Ok(Err(HandshakeError::Lost(lost @ Lost::TooMany))) => lost.refusal().to_string(),
        Ok(Ok(()) | Err(HandshakeError::Lost(_) | HandshakeError::OwnAddress)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the handshake took too long".to_owned(),
    };
    if let Some(kept_back) = shared.log.admit() {
        tracing::warn!(%from, error, kept_back, "a connection was refused");
    }
}

/// The place of one connection that has not proven itself. Given back when dropped.
struct Seat {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Seat {
    fn take(shared: &Arc<Shared>, from: IpAddr) -> Option<Self> {
        let mut taken = shared.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        // At most as many entries as connections: summing them up is cheap.
        if taken.values().sum::<usize>() >= UNPROVEN_MAX {
            return None;
        }
        let here = taken.entry(from).or_insert(0);
        if *here >= UNPROVEN_PER_ADDRESS_MAX {
            return None;
        }
        *here += 1;
        Some(Self { shared: shared.clone(), from })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.shared.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = taken.get_mut(&self.from) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn eight_strangers_of_one_address_and_256_in_all_get_a_seat() {
        let shared = super::super::tests::shared();
        let seat = |host: u8| Seat::take(&shared, IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)));
        let mut seats = Vec::new();
        for host in 0..32 {
            for _ in 0..UNPROVEN_PER_ADDRESS_MAX {
                seats.push(seat(host).unwrap());
            }
            assert!(seat(host).is_none(), "the ninth of {host}");
        }
        assert_eq!(seats.len(), UNPROVEN_MAX);
        assert!(seat(200).is_none(), "nobody has been there yet, but all seats are taken");
        seats.pop();
        let freed = seat(200);
        assert!(freed.is_some());
        drop((freed, seats));
        assert!(shared.unproven.lock().unwrap().is_empty(), "nothing is kept of who was there");
    }
}
