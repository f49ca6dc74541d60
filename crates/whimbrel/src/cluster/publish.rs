//! Telling and asking all members of a group, or any of them.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use whimbrel_core::base::{Executed, Name};
use whimbrel_core::groups::GroupMember;

use super::DEADLINE;
use super::group::GroupRef;
use crate::error::{CallError, CastError, GroupError};
use crate::message::{Call, Handler, Message, Typed, call};
use crate::process::ProcessRef;

/// Members that are sent to in a row before other tasks get a turn.
const TURN_MEMBERS_MAX: usize = 1_024;

/// What became of a call to every member of a group: each of them is in one of the two.
#[derive(Debug)]
pub struct CallAll<R> {
    /// The replies, by name of the member.
    pub replies: Vec<(Name, R)>,
    /// Who has not replied, and why.
    pub failures: Vec<(Name, CallError)>,
}

impl GroupRef {
    /// Tells all members of this kind; says how many that were. To each of them it is a cast of its own, with all that holds
    /// for a cast: handled once, in order with what the same sender sends to that name, through moves and lost connections.
    /// It is encoded once, and goes to each node once, whatever the number of members there.
    ///
    /// ```ignore
    /// room.publish::<Member, _>(MemberHear { text: "hello".into() }).await?;
    /// ```
    ///
    /// A member that does not take it, since its mailbox is full or it has just ended, is not counted: for it the message is
    /// a dead letter, as it is if it can not be delivered later.
    ///
    /// # Errors
    /// [`GroupError`]; it was sent to nobody. `Partial` while the index of the group is being rebuilt: retry.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it may have been sent to none, some or all of the members.
    pub async fn publish<P: Handler<M>, M: Message>(&self, message: M) -> Result<usize, GroupError> {
        const {
            assert!(M::WIRE.travels(), "a message without a wire form can not be published");
        }
        let work = Typed::<P, M>::boxed(message);
        let members = self.read(DEADLINE).await?;
        let exchange = self.cluster.exchange();
        let mut publication = exchange
            .publication(&*work)
            .map_err(|failure| GroupError::Publish(CastError::from_call(failure.into())))?;
        drop(work);
        let mut accepted = 0;
        for some in members.chunks(TURN_MEMBERS_MAX) {
            for member in some.iter().filter(|member| member.kind.as_str() == P::KIND) {
                accepted += usize::from(exchange.entry(&member.name).publish(&mut publication));
            }
            exchange.write_published(&mut publication);
            if some.len() == TURN_MEMBERS_MAX {
                tokio::task::yield_now().await;
            }
        }
        Ok(accepted)
    }

    /// Asks all members of this kind at the same time, and waits until each has replied or failed, by the deadline. None of
    /// them spoils it: one that is stuck, or dead, is among the failures, with what is known of whether it ran there.
    ///
    /// # Errors
    /// [`GroupError`]; nobody was asked. `Partial` while the index of the group is being rebuilt: retry.
    ///
    /// # Cancel safety
    /// As [`GroupRef::publish`]; messages that were sent are not recalled.
    pub async fn call_all<P: Handler<M>, M: Message>(
        &self,
        message: M,
        deadline: Duration,
    ) -> Result<CallAll<M::Reply>, GroupError> {
        let until = Instant::now() + deadline;
        let copies = Copies::of(&message)?;
        let members = self.read(deadline).await?;
        let mut open = Vec::new();
        for member in members.iter().filter(|member| member.kind.as_str() == P::KIND) {
            let call = self.call_member::<P, M>(member, copies.one()?, until);
            open.push((member.name.clone(), Some(call), None));
        }
        // All are sent before any is waited for.
        std::future::poll_fn(|task| {
            for (_, call, outcome) in &mut open {
                let first = call.as_mut().map(|call| std::pin::Pin::new(call).poll(task));
                if let Some(Poll::Ready(ended)) = first {
                    (*call, *outcome) = (None, Some(ended));
                }
            }
            Poll::Ready(())
        })
        .await;
        let mut all = CallAll { replies: Vec::new(), failures: Vec::new() };
        for (name, call, outcome) in open {
            let outcome = match (call, outcome) {
                (_, Some(outcome)) => outcome,
                (Some(call), None) => call.await,
                (None, None) => Err(CallError::Deadline { executed: Executed::Unknown }),
            };
            match outcome {
                Ok(reply) => all.replies.push((name, reply)),
                Err(error) => all.failures.push((name, error)),
            }
        }
        Ok(all)
    }

    /// Asks one member of this kind, another one each time, within 5 s. One that says that it has not executed the message -
    /// it has just ended, or its mailbox is full - is passed over, until each was asked once.
    ///
    /// # Errors
    /// [`GroupError::NoMember`] if there is none of this kind; [`GroupError::Call`] with the first outcome that is not a
    /// certain No, or the last No. `Partial` while the index of the group is being rebuilt: retry.
    ///
    /// # Cancel safety
    /// As a [`Call`]: dropped after its first poll, it may have been sent, and is not recalled.
    pub async fn call_any<P: Handler<M>, M: Message>(&self, message: M) -> Result<M::Reply, GroupError> {
        let until = Instant::now() + DEADLINE;
        let copies = Copies::of(&message)?;
        let members = self.read(DEADLINE).await?;
        let members: Vec<_> = members.iter().filter(|member| member.kind.as_str() == P::KIND).collect();
        if members.is_empty() {
            return Err(GroupError::NoMember);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        let mut last = GroupError::NoMember;
        for member in members[turn..].iter().chain(&members[..turn]) {
            match self.call_member::<P, M>(member, copies.one()?, until).await {
                Ok(reply) => return Ok(reply),
                Err(error) if error.executed() == Executed::No && Instant::now() < until => {
                    last = GroupError::Call(error);
                }
                Err(error) => return Err(GroupError::Call(error)),
            }
        }
        Err(last)
    }

    fn call_member<P: Handler<M>, M: Message>(
        &self,
        member: &GroupMember,
        message: M,
        until: Instant,
    ) -> Call<M> {
        let process = ProcessRef::<P>::new(self.cluster.exchange().entry(&member.name));
        call(&process, message).deadline(until.saturating_duration_since(Instant::now()))
    }
}

/// A message that is made again for each member, whether its type can be cloned or not.
struct Copies<M> {
    bytes: whimbrel_core::base::ShortBytes,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M: Message> Copies<M> {
    fn of(message: &M) -> Result<Self, GroupError> {
        const {
            assert!(M::WIRE.travels(), "a message without a wire form can not be sent to a group");
        }
        let bytes = M::WIRE.encode(message).map_err(codec)?;
        Ok(Self { bytes, message: std::marker::PhantomData })
    }

    fn one(&self) -> Result<M, GroupError> {
        M::WIRE.decode(self.bytes.as_slice()).map_err(codec)
    }
}

fn codec(detail: String) -> GroupError {
    GroupError::Publish(CastError::Codec { detail })
}
