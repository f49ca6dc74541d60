//! One packet: where a node is, and the proof that it knows the cluster's secret.
//!
//! ```text
//!   "WMBL" | version 1 | cluster 16 | sender 16 | sent, ms since 1970 8 | length 1 | address | proof 32
//! ```
//!
//! *cluster* is a digest of the cluster's name under the secret, so that packets of other clusters are told apart
//! without showing the name. *sender* is random, drawn anew when a node starts or its clock was set
//! back: within one sender the time rises, so no two packets are equal and each is good once ([`super::heard`]).
//! *proof* is HMAC-SHA256 under the secret over a label and all bytes before it. Big-endian; the length of a packet
//! is exact.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use whimbrel_core::base::Address;

use super::PacketFate;
use crate::discovery::is_address;

const MAGIC: &[u8; 4] = b"WMBL";
const VERSION: u8 = 1;
/// What is proven, apart from all other uses of the secret.
const PROOF_LABEL: &[u8] = b"whimbrel multicast packet 1\0";
const CLUSTER_LABEL: &[u8] = b"whimbrel multicast cluster 1\0";
const CLUSTER_BYTES: usize = 16;
const SENDER_BYTES: usize = 16;
const PROOF_BYTES: usize = 32;
/// Bytes before the address.
const HEAD_BYTES: usize = 4 + 1 + CLUSTER_BYTES + SENDER_BYTES + 8 + 1;
/// Longest address: one byte tells its length.
pub(super) const ADDRESS_BYTES_MAX: usize = u8::MAX as usize;
/// Longest packet.
pub(super) const PACKET_BYTES_MAX: usize = HEAD_BYTES + ADDRESS_BYTES_MAX + PROOF_BYTES;

/// One life of a node's sockets.
pub(super) type Sender = [u8; SENDER_BYTES];

/// Draws a new one.
pub(super) fn new_sender() -> Result<Sender, getrandom::Error> {
    let mut sender = [0; SENDER_BYTES];
    getrandom::fill(&mut sender)?;
    Ok(sender)
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) sender: Sender,
    /// The sender's wall clock.
    pub(super) sent_ms: u64,
    /// Where the node is dialled; empty if it only wants to hear of others.
    pub(super) address: Address,
}

/// Writes and checks packets of one cluster.
#[derive(Clone)]
pub(super) struct Seal {
    keyed: Hmac<Sha256>,
    cluster: [u8; CLUSTER_BYTES],
}

impl Seal {
    /// Without a secret the key is empty: packets stay on this machine then.
    pub(super) fn new(cluster: &str, secret: Option<&[u8]>) -> Self {
        let key = secret.unwrap_or_default();
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
        let mut name = keyed.clone();
        name.update(CLUSTER_LABEL);
        name.update(cluster.as_bytes());
        let mut digest = [0; CLUSTER_BYTES];
        digest.copy_from_slice(&name.finalize().into_bytes()[..CLUSTER_BYTES]);
        Self { keyed, cluster: digest }
    }

    /// The bytes of a packet. An address that is too long is left out.
    pub(super) fn write(&self, packet: &Packet) -> Vec<u8> {
        let address = packet.address.as_bytes();
        let (length, address) = match u8::try_from(address.len()) {
            Ok(length) => (length, address),
            Err(_) => (0, &[][..]),
        };
        let mut bytes = Vec::with_capacity(PACKET_BYTES_MAX);
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.cluster);
        bytes.extend_from_slice(&packet.sender);
        bytes.extend_from_slice(&packet.sent_ms.to_be_bytes());
        bytes.push(length);
        bytes.extend_from_slice(address);
        let proof = self.proof(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&proof);
        bytes
    }

    /// What genuine bytes say; cheap checks first, the proof before anything is believed.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Packet, PacketFate> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(PacketFate::TooLong);
        }
        let (magic, rest) = bytes.split_first_chunk().ok_or(PacketFate::Malformed)?;
        let (version, rest) = rest.split_first().ok_or(PacketFate::Malformed)?;
        if magic != MAGIC {
            return Err(PacketFate::Malformed);
        }
        if *version != VERSION {
            return Err(PacketFate::OtherVersion);
        }
        let (cluster, rest) = rest.split_first_chunk::<CLUSTER_BYTES>().ok_or(PacketFate::Malformed)?;
        let (sender, rest) = rest.split_first_chunk::<SENDER_BYTES>().ok_or(PacketFate::Malformed)?;
        let (sent, rest) = rest.split_first_chunk::<8>().ok_or(PacketFate::Malformed)?;
        let (length, rest) = rest.split_first().ok_or(PacketFate::Malformed)?;
        let (address, proof) = rest.split_at_checked(usize::from(*length)).ok_or(PacketFate::Malformed)?;
        if proof.len() != PROOF_BYTES {
            return Err(PacketFate::Malformed);
        }
        if *cluster != self.cluster {
            return Err(PacketFate::OtherCluster);
        }
        // `verify_slice` compares in constant time.
        let covered = &bytes[..bytes.len() - PROOF_BYTES];
        self.proof(covered).verify_slice(proof).map_err(|_| PacketFate::Forged)?;
        let address = std::str::from_utf8(address).map_err(|_| PacketFate::Malformed)?;
        if !address.is_empty() && !is_address(address) {
            return Err(PacketFate::Malformed);
        }
        Ok(Packet { sender: *sender, sent_ms: u64::from_be_bytes(*sent), address: Address::from(address) })
    }

    fn proof(&self, covered: &[u8]) -> Hmac<Sha256> {
        let mut proof = self.keyed.clone();
        proof.update(PROOF_LABEL);
        proof.update(covered);
        proof
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";

    fn seal() -> Seal {
        Seal::new("shop", Some(SECRET))
    }

    fn packet(address: &str) -> Packet {
        Packet { sender: [7; SENDER_BYTES], sent_ms: 1_790_000_000_000, address: Address::from(address) }
    }

    #[test]
    fn a_packet_says_to_its_cluster_what_was_put_in() {
        for address in ["", "a:1", "[::1]:65535", &format!("{}:4100", "a".repeat(250))] {
            let packet = packet(address);
            let bytes = seal().write(&packet);
            assert!(bytes.len() <= PACKET_BYTES_MAX);
            assert_eq!(seal().read(&bytes), Ok(packet));
        }
        let too_long = seal().write(&packet(&"a".repeat(256)));
        assert_eq!(seal().read(&too_long), Ok(packet("")));
    }

    #[test]
    fn the_name_of_the_cluster_and_the_secret_are_not_in_it() {
        let bytes = seal().write(&packet("a:1"));
        assert!(!bytes.windows(4).any(|window| window == b"shop"));
        assert!(!bytes.windows(8).any(|window| window == &SECRET[..8]));
    }

    #[test]
    fn another_cluster_or_secret_is_told_apart() {
        let bytes = seal().write(&packet("a:1"));
        for other in [
            Seal::new("shop2", Some(SECRET)),
            Seal::new("shop", Some(b"0123456789abcdeF")),
            Seal::new("shop", None),
        ] {
            assert_eq!(other.read(&bytes), Err(PacketFate::OtherCluster));
        }
    }

    #[test]
    fn no_bit_can_be_changed() {
        let bytes = seal().write(&packet("a:1"));
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let fate = seal().read(&forged).unwrap_err();
            let allowed = match bit / 8 {
                0..4 => fate == PacketFate::Malformed,
                4 => fate == PacketFate::OtherVersion,
                5..21 => fate == PacketFate::OtherCluster,
                45 => fate == PacketFate::Malformed,
                _ => fate == PacketFate::Forged,
            };
            assert!(allowed, "bit {bit}: {fate:?}");
        }
    }

    #[test]
    fn every_other_length_is_malformed_or_too_long() {
        let bytes = seal().write(&packet("a:1"));
        for length in 0..bytes.len() {
            assert_eq!(seal().read(&bytes[..length]), Err(PacketFate::Malformed), "{length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(seal().read(&longer), Err(PacketFate::Malformed));
        longer.resize(PACKET_BYTES_MAX + 1, 0);
        assert_eq!(seal().read(&longer), Err(PacketFate::TooLong));
    }

    #[test]
    fn a_proven_packet_with_a_bad_address_is_malformed() {
        for address in ["a", "a:0", "a b:1", "a\u{1b}[2J:1"] {
            let bytes = seal().write(&packet(address));
            assert_eq!(seal().read(&bytes), Err(PacketFate::Malformed), "{address:?}");
        }
    }

    /// Nodes of different versions must find each other: these bytes never change.
    #[test]
    fn bytes_of_version_1() {
        let bytes = seal().write(&packet("a:1"));
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, include_str!("packet_1.hex").trim());
    }
}
