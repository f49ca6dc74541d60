//! One message for many names: encoded once, kept once, and on the wire once for each node.
//!
//! To every port it is a message of its own: numbered, admitted, confirmed, sent again and ended alone. Shared is what it
//! says. Nothing is decided here that a cast does not decide; the frames of one node become one while they wait for the
//! writer, which is woken when all are there.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use whimbrel_core::base::{ErrorCode, Executed, Incarnation};
use whimbrel_core::delivery::Sent;

use super::entry::{CAST_HELD_MAX, codec_failure};
use super::envelope::{Encoded, Envelope, Failure};
use super::{Entry, Exchange};
use crate::clock;
use crate::message::Work;
use crate::process::current::{InstanceId, current};
use crate::transport::Writing;

/// A message that goes to many names.
pub(crate) struct Publication {
    /// What routes keep. Counted once among what this node keeps, and among what its sender has under way.
    away: Arc<Encoded>,
    /// What enters mailboxes here: it is delivered, so nobody waits for what becomes of it.
    here: OnceLock<Arc<Encoded>>,
    /// Nodes for which something was queued.
    hosts: BTreeSet<Incarnation>,
}

impl Publication {
    fn here(&self) -> &Arc<Encoded> {
        self.here.get_or_init(|| {
            let Encoded { head, kind, message, codec, payload, .. } = &*self.away;
            let (kind, message, payload) = (kind.clone(), message.clone(), payload.clone());
            Arc::new(Encoded {
                head: *head,
                kind,
                message,
                codec: *codec,
                payload,
                share: None,
                sending: None,
            })
        })
    }
}

impl Exchange {
    /// Encodes a message for many names: user code.
    pub(crate) fn publication(&self, work: &dyn Work) -> Result<Publication, Failure> {
        if self.is_closed() {
            return Err(Failure::new(ErrorCode::NodeLost, Executed::No));
        }
        let mut away = Encoded::of(work).map_err(|detail| codec_failure(&detail))?;
        away.head.deadline = Some(clock::time() + CAST_HELD_MAX);
        let share = self.leaving.take(away.bytes());
        away.share = Some(share.ok_or_else(|| Failure::new(ErrorCode::Overloaded, Executed::No))?);
        let sender = current().id.sender();
        if sender != InstanceId::NOBODY {
            away.sending = Some(self.sendings.begin(sender));
        }
        Ok(Publication { away: Arc::new(away), here: OnceLock::new(), hosts: BTreeSet::new() })
    }

    /// Has what was published so far written.
    pub(crate) fn write_published(&self, publication: &mut Publication) {
        let Some(transport) = self.transport.get() else { return };
        std::mem::take(&mut publication.hosts).into_iter().for_each(|host| transport.write(host));
    }
}

impl Entry {
    /// Sends the message to this name as a cast; whether it was accepted. If not, it is a dead letter. Call
    /// [`Exchange::write_published`] afterwards.
    pub(crate) fn publish(self: &Arc<Self>, publication: &mut Publication) -> bool {
        let now = clock::time();
        let mut state = self.lock();
        // What waits in a mailbox here is not under way: a process that waits for that before it moves would wait for
        // itself.
        let content = if state.port.takes_at_once() { publication.here() } else { &publication.away };
        let sent = match state.port.send(Envelope::Encoded(content.clone()), now) {
            Sent::Queued => {
                state.wake();
                Ok(())
            }
            Sent::Transmit { to, packet } => {
                publication.hosts.insert(to);
                self.transmit_first(state, to, packet, now, Writing::Later)
            }
            Sent::Held { locate } => {
                self.watch(&mut state);
                drop(state);
                if locate {
                    self.exchange().ask_where(self);
                }
                Ok(())
            }
            Sent::Refused { code, .. } => {
                drop(state);
                Err(Failure::new(code, Executed::No))
            }
        };
        match sent {
            Ok(()) => true,
            Err(failure) => {
                self.undelivered(Envelope::Encoded(publication.here().clone()), failure);
                false
            }
        }
    }
}
