//! One session with one life of a peer, over as many connections as it takes.
//!
//! Frames are numbered when they are taken for writing, acknowledged by the peer, and kept until then. After a
//! reconnect each side says how far it has received; the rest is written again, in order, before anything new. So a
//! broken connection loses, doubles and reorders nothing. What was never taken for writing when the session ends was
//! provably never sent ([`Link::into_unsent`]).
//!
//! At its limits a link refuses ([`LinkFull`]), or, when too much is unacknowledged, writes nothing more until the
//! peer acknowledges.

use std::collections::VecDeque;

use crate::base::limits::LINK_FRAMES_MAX;
use crate::base::{Mutant, Mutants};

/// Frames received before an acknowledgement is due at once.
const ACK_EVERY: u64 = 64;

/// Which frames are written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What nodes decide, and signals about messages.
    Control,
    /// Messages and replies.
    Messages,
    /// Copies of records and of state.
    Bulk,
}

impl Lane {
    /// All lanes, the first to be written first.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Messages, Lane::Bulk];

    const fn index(self) -> usize {
        match self {
            Lane::Control => 0,
            Lane::Messages => 1,
            Lane::Bulk => 2,
        }
    }
}

/// The lane has no room; the frame comes back. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkFull<F>(pub F);

/// What to do with a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The next one: deliver it.
    Fresh,
    /// Delivered before: drop it.
    Duplicate,
    /// One before it never came. Within one connection that is the peer's fault: close the connection; both sides
    /// resume on the next.
    Gap,
}

/// The peer says it received what was never sent, or forgot what it had acknowledged: not this session. Nothing
/// changed; the session is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's received number {peer} is outside {acknowledged}..={numbered}")]
pub struct CannotResume {
    /// What the peer said.
    pub peer: u64,
    /// What it had acknowledged.
    pub acknowledged: u64,
    /// The last number given to a frame.
    pub numbered: u64,
}

/// How much a link keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Frames waiting to be written, per lane; default 65,536.
    pub lane_frames: usize,
    /// Frames written and not acknowledged; default 65,536. At least twice the 64 frames after which a peer
    /// acknowledges.
    pub unacknowledged: usize,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self { lane_frames: LINK_FRAMES_MAX, unacknowledged: LINK_FRAMES_MAX }
    }
}

/// The state of one session, at one end.
#[derive(Debug)]
pub struct Link<F> {
    lanes: [VecDeque<F>; 3],
    /// Written and not acknowledged; the first has the number `acknowledged + 1`.
    unacknowledged: VecDeque<F>,
    acknowledged: u64,
    /// How many of `unacknowledged` were written on this connection, or reached the peer before it.
    written: usize,
    connected: bool,
    received: u64,
    /// The highest number the peer was told that we received.
    told: u64,
    limits: LinkLimits,
    mutants: Mutants,
}

impl<F> Link<F> {
    /// A new session without a connection.
    pub fn new(mutants: Mutants) -> Self {
        Self {
            lanes: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            unacknowledged: VecDeque::new(),
            acknowledged: 0,
            written: 0,
            connected: false,
            received: 0,
            told: 0,
            limits: LinkLimits::default(),
            mutants,
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: LinkLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Nothing waits to be written or acknowledged.
    pub fn is_idle(&self) -> bool {
        self.unacknowledged.is_empty() && self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Frames written and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Frames of a lane that were never taken for writing.
    pub fn queued(&self, lane: Lane) -> usize {
        self.lanes[lane.index()].len()
    }

    /// The number up to which everything was received: said to the peer at every new connection.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// The lane is full; the frame was not sent and comes back.
    pub fn push(&mut self, lane: Lane, frame: F) -> Result<(), LinkFull<F>> {
        let queue = &mut self.lanes[lane.index()];
        if queue.len() >= self.limits.lane_frames {
            return Err(LinkFull(frame));
        }
        queue.push_back(frame);
        Ok(())
    }

    /// The frame of this lane that would be written last, if it was never taken for writing: it may still become longer.
    pub fn last_queued(&mut self, lane: Lane) -> Option<&mut F> {
        self.lanes[lane.index()].back_mut()
    }

    /// Takes the next frame for writing, with its number. From now on it counts as sent.
    ///
    /// None without a connection, with nothing to write, or with too much unacknowledged.
    #[allow(clippy::should_implement_trait)] // an iterator could not lend its items
    pub fn next(&mut self) -> Option<(u64, &F)> {
        if !self.connected {
            return None;
        }
        if self.written == self.unacknowledged.len() {
            if self.unacknowledged.len() >= self.limits.unacknowledged {
                return None;
            }
            let frame = match self.mutants.has(Mutant::ControlLast) {
                false => self.lanes.iter_mut().find_map(VecDeque::pop_front)?,
                true => self.lanes.iter_mut().rev().find_map(VecDeque::pop_front)?,
            };
            self.unacknowledged.push_back(frame);
        }
        let index = self.written;
        self.written += 1;
        let seq = self.acknowledged + self.written as u64;
        self.unacknowledged.get(index).map(|frame| (seq, frame))
    }

    /// A numbered frame arrived.
    pub fn on_frame(&mut self, seq: u64) -> Receipt {
        if seq <= self.received {
            return match self.mutants.has(Mutant::ResendNotDeduplicated) {
                true => Receipt::Fresh,
                false => Receipt::Duplicate,
            };
        }
        // A dropped frame is a gap at the receiver; the planted bug must not be caught by the link itself.
        if seq != self.received + 1 && !self.mutants.has(Mutant::FrameDroppedOnReconnect) {
            return Receipt::Gap;
        }
        self.received = seq;
        Receipt::Fresh
    }

    /// The number to acknowledge, when so much came in that the peer should be told at once.
    pub fn ack_due(&mut self) -> Option<u64> {
        if self.received - self.told >= ACK_EVERY { self.ack_now() } else { None }
    }

    /// The number to acknowledge, when there is anything that the peer was not told: for a timer.
    pub fn ack_now(&mut self) -> Option<u64> {
        if !self.connected || self.received == self.told {
            return None;
        }
        self.told = self.received;
        Some(self.received)
    }

    /// The peer has everything up to `seq`. Returns how many frames that freed. A number never written frees
    /// nothing.
    pub fn on_ack(&mut self, seq: u64) -> usize {
        let freed = seq.saturating_sub(self.acknowledged);
        if freed > self.written as u64 {
            return 0;
        }
        let freed = usize::try_from(freed).unwrap_or(0);
        self.unacknowledged.drain(..freed);
        self.written -= freed;
        self.acknowledged += freed as u64;
        freed
    }

    /// A new connection: the peer says up to which number it received. Returns how many frames are written again.
    ///
    /// # Errors
    /// The number can not belong to this session.
    pub fn on_connected(&mut self, peer_received: u64) -> Result<usize, CannotResume> {
        let numbered = self.acknowledged + self.unacknowledged.len() as u64;
        let peer_received = match self.mutants.has(Mutant::FrameDroppedOnReconnect) {
            true => numbered,
            false => peer_received,
        };
        if peer_received < self.acknowledged || peer_received > numbered {
            return Err(CannotResume { peer: peer_received, acknowledged: self.acknowledged, numbered });
        }
        // All were numbered because they were taken for writing, so the peer may have any of them.
        self.written = self.unacknowledged.len();
        self.on_ack(peer_received);
        self.written = 0;
        self.connected = true;
        self.told = self.received;
        Ok(self.unacknowledged.len())
    }

    /// The connection is gone; the session goes on.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
    }

    /// The session is over: the frames that were never taken for writing, in order per lane.
    pub fn into_unsent(self) -> Vec<(Lane, F)> {
        let lanes = Lane::ALL.into_iter().zip(self.lanes);
        lanes.flat_map(|(lane, queue)| queue.into_iter().map(move |frame| (lane, frame))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn link() -> Link<u32> {
        Link::new(Mutants::default())
    }

    fn written(link: &mut Link<u32>) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| link.next().map(|(seq, frame)| (seq, *frame))).collect()
    }

    #[test]
    fn lanes_are_written_by_priority_and_numbered_when_written() {
        let mut link = link();
        for (lane, frame) in [(Lane::Bulk, 1), (Lane::Messages, 2), (Lane::Control, 3), (Lane::Messages, 4)] {
            link.push(lane, frame).unwrap();
        }
        assert_eq!(written(&mut link), [], "nothing is written without a connection");
        link.on_connected(0).unwrap();
        assert_eq!(written(&mut link), [(1, 3), (2, 2), (3, 4), (4, 1)]);
    }

    #[test]
    fn a_reconnect_writes_again_what_the_peer_has_not_received() {
        let mut link = link();
        link.on_connected(0).unwrap();
        for frame in 1..=4 {
            link.push(Lane::Messages, frame).unwrap();
        }
        assert_eq!(written(&mut link).len(), 4);
        assert_eq!(link.on_ack(1), 1);
        link.on_disconnected();
        link.push(Lane::Control, 9).unwrap();
        assert_eq!(link.on_connected(2), Ok(2));
        assert_eq!(written(&mut link), [(3, 3), (4, 4), (5, 9)], "old ones first, even before control");
    }

    #[test]
    fn a_number_that_can_not_belong_to_the_session_is_refused() {
        let mut link = link();
        link.on_connected(0).unwrap();
        link.push(Lane::Messages, 1).unwrap();
        link.push(Lane::Messages, 2).unwrap();
        assert_eq!(written(&mut link).len(), 2);
        assert_eq!(link.on_ack(7), 0, "an acknowledgement of the future frees nothing");
        assert_eq!(link.on_ack(1), 1);
        assert_eq!(link.on_ack(1), 0);
        for peer in [0, 3] {
            assert_eq!(link.on_connected(peer), Err(CannotResume { peer, acknowledged: 1, numbered: 2 }));
        }
    }

    #[test]
    fn an_unacknowledged_limit_stops_writing_and_loses_nothing() {
        let limits = LinkLimits { lane_frames: 4, unacknowledged: 2 };
        let mut link = link().with_limits(limits);
        link.on_connected(0).unwrap();
        for frame in 1..=4 {
            link.push(Lane::Messages, frame).unwrap();
        }
        assert_eq!(link.push(Lane::Messages, 5), Err(LinkFull(5)));
        assert_eq!(written(&mut link), [(1, 1), (2, 2)]);
        assert_eq!(link.on_ack(2), 2);
        assert_eq!(written(&mut link), [(3, 3), (4, 4)]);
    }

    #[test]
    fn only_a_frame_that_was_never_taken_for_writing_may_become_longer() {
        let mut link = link();
        link.on_connected(0).unwrap();
        assert_eq!(link.last_queued(Lane::Messages), None);
        link.push(Lane::Messages, 1).unwrap();
        link.push(Lane::Bulk, 2).unwrap();
        *link.last_queued(Lane::Messages).unwrap() += 10;
        assert_eq!(written(&mut link), [(1, 11), (2, 2)]);
        assert_eq!(link.last_queued(Lane::Messages), None);
        // Written again after a reconnect it is what it was.
        link.on_connected(0).unwrap();
        assert_eq!(link.last_queued(Lane::Messages), None);
        assert_eq!(written(&mut link), [(1, 11), (2, 2)]);
    }

    #[test]
    fn an_ack_during_a_rewrite_skips_what_it_covers() {
        let mut link = link();
        link.on_connected(0).unwrap();
        for frame in 1..=3 {
            link.push(Lane::Messages, frame).unwrap();
        }
        assert_eq!(written(&mut link).len(), 3);
        link.on_connected(0).unwrap();
        assert_eq!(link.next(), Some((1, &1)));
        assert_eq!(link.on_ack(1), 1);
        assert_eq!(written(&mut link), [(2, 2), (3, 3)]);
    }

    #[test]
    fn received_frames_are_judged_and_acknowledged() {
        let mut link = link();
        link.on_connected(0).unwrap();
        assert_eq!(link.ack_now(), None);
        for (seq, receipt) in
            [(1, Receipt::Fresh), (1, Receipt::Duplicate), (3, Receipt::Gap), (2, Receipt::Fresh)]
        {
            assert_eq!(link.on_frame(seq), receipt, "{seq}");
        }
        assert_eq!((link.ack_due(), link.ack_now(), link.ack_now()), (None, Some(2), None));
        for seq in 3..3 + ACK_EVERY {
            assert_eq!(link.on_frame(seq), Receipt::Fresh);
        }
        assert_eq!(link.ack_due(), Some(2 + ACK_EVERY));
    }

    #[test]
    fn unsent_frames_are_those_never_taken_for_writing() {
        let mut link = link();
        link.on_connected(0).unwrap();
        for frame in 1..=3 {
            link.push(Lane::Messages, frame).unwrap();
        }
        link.next();
        link.on_disconnected();
        link.push(Lane::Control, 4).unwrap();
        assert_eq!(link.into_unsent(), [(Lane::Control, 4), (Lane::Messages, 2), (Lane::Messages, 3)]);
    }
}
