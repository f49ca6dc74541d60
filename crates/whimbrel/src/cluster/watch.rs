//! Watching names: events of what comes, changes and goes.

use tokio::sync::{mpsc, oneshot};
use whimbrel_core::base::limits::STREAM_EVENTS_MAX;
use whimbrel_core::directory::{Filter, StreamEvent};
use whimbrel_core::node::Input;

use super::Cluster;
use crate::driver::Command;
use crate::error::RequestError;

/// Events that are read before the node is told that there is room for as many more.
const READ_AT_ONCE: usize = STREAM_EVENTS_MAX / 4;

/// A stream of events about names: see [`Cluster::watch`]. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    number: u64,
    /// What waits in it is limited by the room that was given: the node keeps the rest to itself.
    events: mpsc::UnboundedReceiver<StreamEvent>,
    control: mpsc::Sender<Command>,
    /// Events that were read since room was given the last time.
    read: usize,
}

impl Watch {
    /// The next event; none when the stream has ended or the node is closed.
    ///
    /// # Cancel safety
    /// No event is lost when this is dropped.
    pub async fn recv(&mut self) -> Option<StreamEvent> {
        if self.read >= READ_AT_ONCE
            && let Ok(room) = self.control.reserve().await
        {
            let events = std::mem::take(&mut self.read);
            room.send(Command::Input(Input::Read { number: self.number, events }));
        }
        let event = self.events.recv().await?;
        self.read += 1;
        Some(event)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Without room for it the driver sees later that nobody reads.
        let _later = self.control.try_send(Command::Unfollow { number: self.number });
    }
}

impl Cluster {
    /// Follows all names of the cluster that `filter` means: first one [`StreamEvent::Registered`] for each that is there,
    /// then [`StreamEvent::Synced`], then what happens.
    ///
    /// Nothing that lasts is missed: whatever nodes die or are cut off, in the end the events have told what there is, each
    /// change with what was so before. A change is told when it can not be lost any more, a message's way after that. What
    /// came and went while the owner of a name was lost may not be told, several changes of a name then come as one, and the
    /// reason of an end may be missing. Events of one name are in order; of several names they need not be.
    ///
    /// A reader that is more than 4,096 events behind costs nobody anything: from then on changes of the same name are merged, and
    /// [`StreamEvent::Lagged`] says how many were. Names that are cut off in another part of a split cluster are told as
    /// stopped when this part goes on without them.
    ///
    /// A name is told of when its process has begun to run, not while `init` runs. With a filter on what changes - groups,
    /// metadata, labels, hosts - a name that comes to meet it is `Registered`, and one that no longer does is `Stopped`
    /// without a reason, after the event of the change itself.
    ///
    /// A node has at most 64 streams, of at most 100,000 names each; one beyond that gives [`StreamEvent::Ended`].
    ///
    /// # Errors
    /// `Stopped` when this node is closed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn watch(&self, filter: Filter) -> Result<Watch, RequestError> {
        let (sender, events) = mpsc::unbounded_channel();
        let (asker, answer) = oneshot::channel();
        let control = self.shared.control.clone();
        let command = Command::Follow { filter, events: sender, asker };
        control.send(command).await.map_err(|_| RequestError::Stopped)?;
        let number = answer.await.map_err(|_| RequestError::Stopped)?;
        Ok(Watch { number, events, control, read: 0 })
    }
}
