//! What nodes say to each other about views and lines.

use minicbor::{Decode, Encode};

use super::pairs::Silent;
use crate::base::Incarnation;
use crate::view::{MemberInfo, View, ViewId};

/// What a node says of the line it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LineInfo {
    /// Its installed view.
    #[n(0)]
    pub view: ViewId,
    /// Members of that view.
    #[n(1)]
    pub members: u32,
    /// Whether it, or a member that it has a session with, knows of any record.
    #[n(2)]
    pub has_records: bool,
}

impl LineInfo {
    /// Of two lines that meet, whether this one stays: with records before without, then more members, then
    /// the smaller view id.
    pub fn stays_before(&self, other: &LineInfo) -> bool {
        let rank = |line: &LineInfo| (line.has_records, line.members, std::cmp::Reverse(line.view));
        rank(self) > rank(other)
    }
}

/// One message about membership. The table of all messages stands in `wire::control`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// A packet of the failure detector.
    #[n(0)]
    Probe(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// The sender's line, or that it has none. Sent on every new session and to outsiders on every new view.
    #[n(1)]
    Greet(#[n(0)] Option<LineInfo>),
    /// The sender, or the one it speaks for, wants to be in the next view.
    #[n(2)]
    Join {
        /// Who wants to join.
        #[n(0)]
        member: MemberInfo,
        /// The next view's counter must exceed this: the counter of the line it comes from.
        #[n(1)]
        counter_floor: u64,
    },
    /// Install this view.
    #[n(3)]
    Install(#[n(0)] View),
    /// The sender has installed this view.
    #[n(4)]
    Installed(#[n(0)] ViewId),
    /// This view does not descend from what the sender has installed.
    #[n(5)]
    Diverged(#[n(0)] ViewId),
    /// What have you installed? Answered by `Greet`.
    #[n(6)]
    ViewAsk,
    /// The views after this one, or all that you remember.
    #[n(7)]
    ChainAsk(#[n(0)] Option<ViewId>),
    /// Views, oldest first: as many as fit one message.
    #[n(8)]
    Chain {
        /// Whether they follow on the view that was asked for.
        #[n(0)]
        connected: bool,
        /// The views.
        #[n(1)]
        views: Vec<View>,
        /// The sender has more of them, after the last of these.
        #[n(2)]
        #[cbor(default)]
        more: bool,
    },
    /// May the sender leave its line for yours? Both lines as it sees them.
    #[n(9)]
    MergeAsk {
        /// The asker's line.
        #[n(0)]
        mine: LineInfo,
    },
    /// Whether it may.
    #[n(10)]
    MergeAnswer {
        /// Come, or stay.
        #[n(0)]
        come: bool,
    },
    /// The sender leaves for good.
    #[n(11)]
    Bye,
    /// The receiver's incarnation was a member of the sender's line and is not any more: it must come as another.
    #[n(12)]
    LeftOut,
    /// Answer to `Join`: a living member of the sender's line bears the receiver's name.
    #[n(14)]
    NameTaken(#[n(0)] Incarnation),
    /// Answer to `Join`: an earlier life of the receiver's node looks younger than it is, as after a clock that was set
    /// back. The receiver comes as a life after that one.
    #[n(15)]
    Outlived(#[n(0)] Incarnation),
    /// Members that the sender has had no link with for longer than D. Said again as long as that is so.
    #[n(13)]
    Unlinked(#[n(0)] Vec<Silent>),
    /// The sender takes nothing new any more: the next view is to say so. Said again until one does.
    #[n(16)]
    Drain,
}

impl Message {
    /// Whether a node outside the view may say this: all that healing needs, and nothing else.
    pub const fn is_for_visitors(&self) -> bool {
        !matches!(self, Message::Probe(_) | Message::ViewAsk | Message::Unlinked(_) | Message::Drain)
    }
}
