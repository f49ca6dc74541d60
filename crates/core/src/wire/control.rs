//! Messages between nodes about views and names: the control lane.
//!
//! | message | from -> to | effect |
//! |---|---|---|
//! | `Probe` | member -> member | foca's packet |
//! | `Greet` | any -> any | the sender's line, or that it has none |
//! | `Join` | seeker -> member -> author | be in the next view |
//! | `Install` | author or member -> member | install this view |
//! | `Installed`, `Diverged` | member -> author | acknowledged; on another branch |
//! | `ViewAsk` | new author -> member | answered by `Greet` |
//! | `ChainAsk`, `Chain` | member -> member | views after one that both know |
//! | `MergeAsk`, `MergeAnswer` | node -> node of another line | may I leave my line for yours |
//! | `LeftOut` | member -> seeker | its incarnation is used up: it must come as another |
//! | `NameTaken`, `Outlived` | member -> seeker | a living member has its name; an earlier life looks younger |
//! | `Unlinked` | member -> author | whom the sender has had no link with for longer than D |
//! | `Drain` | member -> author | the sender takes nothing new: the next view says so |
//! | `Bye` | leaver -> all | do not wait to notice that I am gone |
//! | `Gather`, `Gathered` | owner -> former replica -> owner | was this slot opened in that view |
//! | `Load`, `Fill` | owner -> source -> owner; owner -> backup | the content of a slot |
//! | `Open`, `Opened`, `Unlike` | owner -> backup -> owner | the slot opens with this content; it needs a `Fill` |
//! | `Settled` | owner -> member | copies of former replicas may go; say what you host of them |
//! | `Hosting`, `AskOffer` | host -> owner -> host | lives that run there; one that no record knows is to be offered |
//! | `Write`, `Written` | owner -> backup -> owner | one change, acknowledged |
//! | `Digests` | owner -> backup | what its rows must sum up to; answered by `Unlike` where they do not |
//! | `AskHosted`, `Hosted` | owner -> member -> owner | recovery: what do you host |
//! | `Request`, `Answer` | any member -> owner -> asker | start, locate, stop... |
//! | `Forget` | asker -> owner | a copy of a request that was answered is not to be carried out |
//! | `Grant`, `End`, `Discard`, `Retoken` | owner -> host | run, end, forget, re-number an instance |
//! | `Report`, `Reported` | host -> owner -> host | what became of an instance |
//! | `Offer`, `Offered` | joiner -> owner -> joiner | what it brings from another line |
//! | `Move`, `Decided` | owner -> source | move this process; what became of it |
//! | `Plea` | source -> owner | everything is at the target, commit; or nothing will come of it |
//! | `AskHolds`, `Holds`, `Dismiss` | owner -> target -> owner -> target | is the whole process with you; forget it |
//! | `Reserve`, `Reserved`, `Refused` | source -> target -> source | will you take this process |
//! | `Chunk`, `Taken`, `Installed`, `Cancel` | source -> target -> source | its image; it is there, at rest; nothing comes of it |
//! | `Attached` | owner -> host | groups, metadata and snapshot of a record are these now |
//! | `Notice` | member -> member | how many processes the sender has; the last order to pause rebalancing that it knows |
//! | `ListAsk`, `ListAnswer` | member -> member | rows of a listing |
//! | `Enrol`, `Enrolled` | owner -> owner of an index -> owner | names are in these groups, or not any more; all up to there is known |
//! | `Here`, `Again` | member -> member | the sender is in this view; and what it could do nothing with is to be said again |
//! | `Ask`, `Page` | reader -> owner of an index -> reader | who is in a group, which groups a scope has |
//!
//! From `Gather` to `ListAnswer`, without those of a move, they are about slots and names. Several of those that a turn has for one member go in one `Turn`, in
//! their order; each is judged and handled as if it had come alone.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::base::bytes::encoded;
use crate::base::limits::TURN_MESSAGES_MAX;
use crate::view::ViewId;
use crate::{directory, groups, handoff, membership};

/// One message of the control lane.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Control {
    /// The view the sender had installed.
    #[n(0)]
    pub view: Option<ViewId>,
    /// What it says.
    #[n(1)]
    pub body: Body,
}

/// The content of a control message, by the part that handles it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Views and lines.
    #[n(0)]
    Membership(#[n(0)] membership::Message),
    /// Slots and names.
    #[n(1)]
    Directory(#[n(0)] directory::Message),
    /// Slots and names, several messages.
    #[n(2)]
    Turn(#[n(0)] Turn),
    /// Processes on their way.
    #[n(3)]
    Handoff(#[n(0)] handoff::Message),
    /// Indexes of groups.
    #[n(4)]
    Groups(#[n(0)] groups::Message),
}

/// What a turn has to say to one member about slots and names: at most [`TURN_MESSAGES_MAX`] messages, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn(Vec<directory::Message>);

impl Turn {
    /// # Panics
    /// There are more than a receiver takes: whoever collects them counts.
    pub fn new(messages: Vec<directory::Message>) -> Self {
        assert!(messages.len() <= TURN_MESSAGES_MAX, "{} messages do not go together", messages.len());
        Self(messages)
    }

    /// The messages, in order.
    pub fn into_messages(self) -> Vec<directory::Message> {
        self.0
    }
}

impl<C> Encode<C> for Turn {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        self.0.encode(e, c)
    }
}

impl<'b, C> Decode<'b, C> for Turn {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        let mut messages = Vec::new();
        for message in d.array_iter_with(c)? {
            // Of few bytes a message is made that takes many.
            if messages.len() == TURN_MESSAGES_MAX {
                return Err(decode::Error::message("too many messages in one turn"));
            }
            messages.push(message?);
        }
        Ok(Self(messages))
    }
}

impl Control {
    /// The message as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let messages = match &self.body {
            Body::Membership(_) | Body::Directory(_) | Body::Handoff(_) => 1,
            Body::Groups(message) => message.rows(),
            Body::Turn(turn) => turn.0.len(),
        };
        encoded(self, 96 * (messages + 1))
    }

    /// The message in `bytes`, which must hold nothing else.
    ///
    /// # Errors
    /// Bytes that are not one whole message; nothing was done.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let message = decoder.decode()?;
        if decoder.position() == bytes.len() {
            Ok(message)
        } else {
            Err(minicbor::decode::Error::message("bytes after the message"))
        }
    }
}
