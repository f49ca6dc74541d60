//! Messages and timers as they stand in an image, and back.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::base::{BadName, Incarnation, Name, Time};
use whimbrel_core::delivery::CallId;
use whimbrel_core::wire::image::{CallImage, MessageImage, TimerImage};

use super::timers::Moved;
use crate::exchange::{Encoded, Head, Label};
use crate::message::reply::{Caller, ReplyTo};

fn to_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Encoded {
    /// As it stands in an image that is made on the node `me`.
    pub(crate) fn image(&self, me: Incarnation, now: Time) -> MessageImage<'_> {
        let Head { reply, deadline, sender, errand: _ } = self.head;
        let call = reply.map(|ReplyTo { at, call }| CallImage {
            caller: match at {
                Caller::Here => me,
                Caller::At(node) => node,
            },
            call: call.as_u64(),
            remaining_ms: deadline.map(|deadline| to_ms(deadline.since(now))),
        });
        let (kind, message) = (self.kind.as_str(), self.message.as_str());
        MessageImage { kind, message, codec: self.codec, payload: self.payload.as_slice(), sender, call }
    }

    /// What such an image stands for on the node `me`.
    pub(crate) fn of_image(image: &MessageImage<'_>, me: Incarnation, now: Time) -> Result<Self, BadName> {
        let reply = image.call.map(|CallImage { caller, call, .. }| ReplyTo {
            at: if caller == me { Caller::Here } else { Caller::At(caller) },
            call: CallId::from_u64(call),
        });
        let remaining = image.call.and_then(|call| call.remaining_ms).map(Duration::from_millis);
        let deadline = remaining.map(|left| now + left);
        let head = Head { reply, deadline, ..Head::cast(image.sender) };
        Ok(Self {
            head,
            kind: Label::There(Name::new(image.kind)?),
            message: Label::There(Name::new(image.message)?),
            codec: image.codec,
            payload: image.payload.into(),
            // What a process brings is exempt from the limits.
            share: None,
            sending: None,
        })
    }
}

/// As [`Encoded::of_image`], for all of a list.
pub(super) fn messages_of(
    images: &[MessageImage<'_>],
    me: Incarnation,
    now: Time,
) -> Result<Vec<Arc<Encoded>>, BadName> {
    images.iter().map(|image| Encoded::of_image(image, me, now).map(Arc::new)).collect()
}

impl Moved {
    /// As it stands in an image.
    pub(super) fn image(&self, me: Incarnation, now: Time) -> TimerImage<'_> {
        TimerImage {
            id: self.id,
            message: self.message.image(me, now),
            // Rather a moment late than early.
            remaining_ms: to_ms(self.remaining.saturating_add(Duration::from_micros(999))),
            period_ms: self.period.map(to_ms),
        }
    }
}
