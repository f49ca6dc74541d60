//! The two sockets: one receives what is sent to the group, one sends.
//!
//! Two, since a socket that is bound to the group can not choose the address it sends from on every system. The
//! receiving one is shared by all nodes of a machine: each gets a copy of every packet.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::UdpSocket;

/// Where packets are sent and received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: Ipv4Addr,
    pub(super) port: u16,
    /// None: the system chooses by its routes.
    pub(super) interface: Option<Ipv4Addr>,
    pub(super) ttl: u32,
}

/// Why the group can not be used.
#[derive(Debug, Error)]
pub(super) enum SocketError {
    #[error("can not listen on port {port}: {error}")]
    Bind { port: u16, error: io::Error },
    #[error("can not join group {group} on {interface}: {error}")]
    Join { group: Ipv4Addr, interface: String, error: io::Error },
    #[error("can not send on {interface}: {error}")]
    Sender { interface: String, error: io::Error },
}

#[derive(Debug)]
pub(super) struct Sockets {
    receiver: UdpSocket,
    sender: UdpSocket,
    group: SocketAddrV4,
}

impl Sockets {
    pub(super) fn open(place: Place) -> Result<Self, SocketError> {
        let interface =
            || place.interface.map_or_else(|| "the default interface".to_owned(), |ip| ip.to_string());
        let any = Ipv4Addr::UNSPECIFIED;
        let receiver = bind(place).map_err(|error| SocketError::Bind { port: place.port, error })?;
        receiver
            .join_multicast_v4(&place.group, &place.interface.unwrap_or(any))
            .and_then(|()| into_tokio(receiver))
            .map_err(|error| SocketError::Join { group: place.group, interface: interface(), error })
            .and_then(|receiver| {
                let sender = sender(place);
                let sender = sender.map_err(|error| SocketError::Sender { interface: interface(), error })?;
                Ok(Self { receiver, sender, group: SocketAddrV4::new(place.group, place.port) })
            })
    }

    /// The next packet, cut to the length of the buffer.
    ///
    /// # Cancel safety
    /// No packet is lost when this is dropped.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receiver.recv(buffer).await
    }

    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.sender.send_to(packet, self.group).await.map(|_| ())
    }
}

fn bind(place: Place) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Linux shares a multicast port by the option above alone; with the other one only programs of one user could.
    #[cfg(all(
        unix,
        not(any(target_os = "linux", target_os = "android", target_os = "solaris", target_os = "illumos"))
    ))]
    socket.set_reuse_port(true)?;
    // Only packets to a group that this very socket has joined, on the interface it has joined it on.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_multicast_all_v4(false)?;
    // Bound to the group it gets nothing that is sent to the machine's own addresses; Windows can not.
    let ip = if cfg!(windows) { Ipv4Addr::UNSPECIFIED } else { place.group };
    socket.bind(&SocketAddrV4::new(ip, place.port).into())?;
    Ok(socket)
}

fn sender(place: Place) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(interface) = place.interface {
        socket.set_multicast_if_v4(&interface)?;
    }
    socket.set_multicast_ttl_v4(place.ttl)?;
    // Other nodes of this machine are to hear it, and this one itself, to know that it works.
    socket.set_multicast_loop_v4(true)?;
    socket.bind(&SocketAddrV4::new(place.interface.unwrap_or(Ipv4Addr::UNSPECIFIED), 0).into())?;
    into_tokio(socket)
}

fn into_tokio(socket: Socket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}
