//! What a packet of another member's detector may say.
//!
//! foca hears only what is addressed to its present generation. Two nodes that renew at the same time, each because the
//! other took it for dead, would never learn of each other's: so whatever comes over a session is for this node, as it
//! is now. Only the word that it is dead means the generation that it names; of another one it is a sign of life of its
//! sender, like any other packet.
//!
//! foca believes whoever speaks to it. Here stands what it must not be told: a packet whose sender is not the node that
//! the session belongs to; news of nodes that are no members (they would be kept and probed); a generation of a third
//! node that it can not have reached yet, since only the highest one counts and nothing could ever exceed the greatest.
//! What is left is hearsay that SWIM lives on: that a third member is suspected or down. It is vetoed while this node
//! hears that member itself, and the member refutes it.

use foca::{Codec, Header, Member, PostcardCodec};

use super::detector::Key;

/// Bytes of a packet.
pub(super) const PACKET_BYTES_MAX: usize = 1400;

/// A packet cut down to what its sender may say, to `me`. None when nothing of it may be heard.
///
/// `generation` tells the highest known generation of a member or of this node itself, by nonce.
pub(super) fn admitted(
    packet: &[u8],
    from: u64,
    me: Key,
    generation: impl Fn(u64) -> Option<u32>,
) -> Option<Vec<u8>> {
    if packet.len() > PACKET_BYTES_MAX {
        return None;
    }
    let mut rest = packet;
    let mut header: Header<Key> = PostcardCodec.decode_header(&mut rest).ok()?;
    if header.src.nonce != from {
        return None;
    }
    if header.dst.nonce == me.nonce && header.dst != me {
        if header.message == foca::Message::TurnUndead {
            // Of an earlier generation, so no news; but who says it lives, and in which generation.
            header.message = foca::Message::Gossip;
        }
        header.dst = me;
    }
    let mut news = Vec::new();
    let has_news = !rest.is_empty();
    if has_news {
        let (count, mut members) = rest.split_first_chunk::<2>()?;
        for _ in 0..u16::from_be_bytes(*count) {
            let member: Member<Key> = PostcardCodec.decode_member(&mut members).ok()?;
            let Key { nonce, generation: claimed } = *member.id();
            // It rises by one at a time.
            if generation(nonce).is_some_and(|known| claimed <= known.saturating_add(1) && claimed < u32::MAX)
            {
                news.push(member);
            }
        }
        if !members.is_empty() {
            return None;
        }
    }
    encoded(&header, has_news.then_some(news.as_slice()))
}

/// The packet as foca itself would have written it.
fn encoded(header: &Header<Key>, news: Option<&[Member<Key>]>) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    PostcardCodec.encode_header(header, &mut packet).ok()?;
    if let Some(news) = news {
        packet.extend_from_slice(&u16::try_from(news.len()).ok()?.to_be_bytes());
        for member in news {
            PostcardCodec.encode_member(member, &mut packet).ok()?;
        }
    }
    Some(packet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foca::{Message, State};

    use super::*;

    fn key(nonce: u64, generation: u32) -> Key {
        Key { nonce, generation }
    }

    fn packet(src: Key, news: Option<&[Member<Key>]>) -> Vec<u8> {
        let header = Header { src, src_incarnation: 3, dst: ME, message: Message::Ping(7) };
        encoded(&header, news).unwrap()
    }

    const ME: Key = Key { nonce: 1, generation: 4 };

    /// This node is 1, at generation 4; 2 and 3 are members.
    fn known(nonce: u64) -> Option<u32> {
        [(1, 4), (2, 0), (3, 5)].into_iter().find(|(known, _)| *known == nonce).map(|(_, at)| at)
    }

    #[test]
    fn an_honest_packet_passes_as_it_is() {
        let news = vec![
            Member::down(key(3, 5)),
            Member::alive(key(3, 6)),
            Member::new(key(1, 4), 9, State::Suspect),
            Member::new(key(2, 0), 0, State::Suspect),
        ];
        for news in [None, Some(&[][..]), Some(&news)] {
            let honest = packet(key(2, 0), news);
            assert_eq!(admitted(&honest, 2, ME, known), Some(honest));
        }
    }

    #[test]
    fn what_was_for_an_earlier_generation_of_this_node_is_for_this_one_and_never_the_word_that_it_is_dead() {
        let old = |message| {
            let header = Header { src: key(2, 0), src_incarnation: 3, dst: key(1, 2), message };
            encoded(&header, None).unwrap()
        };
        assert_eq!(admitted(&old(Message::Ping(7)), 2, ME, known), Some(packet(key(2, 0), None)));
        let alive = Header { src: key(2, 0), src_incarnation: 3, dst: ME, message: Message::Gossip };
        assert_eq!(admitted(&old(Message::TurnUndead), 2, ME, known), encoded(&alive, None));
        let dead = Header { message: Message::TurnUndead, ..alive };
        let dead = encoded(&dead, None).unwrap();
        assert_eq!(admitted(&dead, 2, ME, known), Some(dead));
    }

    #[test]
    fn nobody_speaks_for_another_node() {
        assert_eq!(admitted(&packet(key(3, 5), None), 2, ME, known), None);
        assert_eq!(admitted(&packet(key(1, 4), None), 2, ME, known), None);
    }

    #[test]
    fn news_of_nobody_and_of_impossible_generations_are_left_out() {
        let honest = Member::new(key(3, 5), 0, State::Suspect);
        let forged = [key(9, 0), key(3, 7), key(3, u32::MAX), key(1, 6), key(1, u32::MAX)].map(Member::down);
        let news: Vec<_> = forged.into_iter().chain([honest.clone()]).collect();
        let left = packet(key(2, 0), Some(&[honest]));
        assert_eq!(admitted(&packet(key(2, 0), Some(&news)), 2, ME, known), Some(left));
    }

    #[test]
    fn what_is_cut_longer_or_too_long_is_no_packet() {
        let whole = packet(key(2, 0), Some(&[Member::down(key(3, 5))]));
        let header = packet(key(2, 0), None).len();
        for length in (0..whole.len()).filter(|length| *length != header) {
            assert_eq!(admitted(&whole[..length], 2, ME, known), None, "{length}");
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(admitted(&longer, 2, ME, known), None);
        let many = packet(key(2, 0), Some(&vec![Member::down(key(3, 5)); 1_000]));
        assert_eq!(admitted(&many, 2, ME, known), None);
        // A count of members that are not there costs nothing.
        let mut count = packet(key(2, 0), None);
        count.extend([255, 255]);
        assert_eq!(admitted(&count, 2, ME, known), None);
    }
}
