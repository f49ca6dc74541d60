//! What a stream tells: the way from what was told of a name to what is so now.

use super::filter::Listed;
use super::record::{Located, RecordState};
use crate::base::{ExitReason, Incarnation, Membership, Metadata, Name};

/// One event of a stream.
///
/// Of one name they come in the order in which things happened. Taken together they lead from one state to the next: a
/// reader that keeps a table by them has in the end what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// This name is among those of the stream from now on: it has begun to run, or lived before and meets the filter now.
    Registered(Listed),
    /// It runs on another node. Planned: nothing of it was lost.
    Moved {
        /// The name.
        name: Name,
        /// Where it ran.
        from: Incarnation,
        /// Where it is reached now.
        to: Located,
    },
    /// A life of it has ended, and another one has begun or is about to, perhaps on another node.
    Restarted {
        /// The name.
        name: Name,
        /// Where the new life is reached.
        located: Located,
        /// Why the one before ended; none if it is not known, as after the loss of the owner who was told.
        reason: Option<ExitReason>,
    },
    /// It is no longer in this group, or no longer so: then [`StreamEvent::Joined`] follows.
    Left {
        /// The name.
        name: Name,
        /// As it was in it.
        membership: Membership,
    },
    /// It is in this group.
    Joined {
        /// The name.
        name: Name,
        /// How it is in it.
        membership: Membership,
    },
    /// Its metadata is another.
    Updated {
        /// The name.
        name: Name,
        /// What it was.
        before: Metadata,
        /// What it is.
        now: Metadata,
    },
    /// It failed too often: it does not run until it is released.
    Quarantined {
        /// The name.
        name: Name,
        /// Why it ended the last time, if that is known.
        reason: Option<ExitReason>,
    },
    /// It is no longer among the names of the stream: it has ended and is free; or it lives and no longer meets the filter.
    Stopped {
        /// The name.
        name: Name,
        /// Why it ended; none if it has not, or it is not known.
        reason: Option<ExitReason>,
        /// As it was when something was told of it last.
        last: Listed,
    },
    /// Everything that was there when the stream began has been told.
    Synced,
    /// The reader was so far behind that several changes of a name had to become one: so many are not told by themselves.
    Lagged {
        /// Changes that were merged into others.
        merged: u64,
    },
    /// The last event.
    Ended(StreamEnd),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The node has as many streams as it may, [`STREAMS_MAX`](crate::base::limits::STREAMS_MAX): nothing was followed.
    TooManyStreams,
    /// More names meet the filter than one stream follows, [`STREAM_NAMES_MAX`](crate::base::limits::STREAM_NAMES_MAX).
    TooManyNames,
}

/// The events from one row of a name to another.
pub(super) fn events_between(
    before: Option<&Listed>,
    now: Option<&Listed>,
    reason: Option<ExitReason>,
) -> Vec<StreamEvent> {
    match (before, now) {
        (None, None) => Vec::new(),
        (None, Some(now)) => vec![StreamEvent::Registered(now.clone())],
        (Some(last), None) => vec![stopped(last, reason)],
        (Some(before), Some(now)) if before.located.kind != now.located.kind => {
            vec![stopped(before, reason), StreamEvent::Registered(now.clone())]
        }
        (Some(before), Some(now)) => changes(before, now, reason),
    }
}

fn stopped(last: &Listed, reason: Option<ExitReason>) -> StreamEvent {
    StreamEvent::Stopped { name: last.name.clone(), reason, last: last.clone() }
}

fn changes(before: &Listed, now: &Listed, reason: Option<ExitReason>) -> Vec<StreamEvent> {
    let name = || now.name.clone();
    let mut events = Vec::new();
    if before.born != now.born {
        let reason = reason.clone();
        events.push(StreamEvent::Restarted { name: name(), located: now.located.clone(), reason });
    } else if before.located.host != now.located.host {
        let (from, to) = (before.located.host, now.located.clone());
        events.push(StreamEvent::Moved { name: name(), from, to });
    }
    let left = before.groups.iter().filter(|known| !now.groups.contains(known));
    events.extend(left.map(|known| StreamEvent::Left { name: name(), membership: known.clone() }));
    let joined = now.groups.iter().filter(|known| !before.groups.contains(known));
    events.extend(joined.map(|known| StreamEvent::Joined { name: name(), membership: known.clone() }));
    if before.meta.map != now.meta.map {
        let (before, now) = (before.meta.map.clone(), now.meta.map.clone());
        events.push(StreamEvent::Updated { name: name(), before, now });
    }
    let is_new = before.state != RecordState::Quarantined && now.state == RecordState::Quarantined;
    if is_new {
        events.push(StreamEvent::Quarantined { name: name(), reason });
    }
    events
}
