//! Finding, listing and ending processes by name.

use std::time::Duration;

use tokio::sync::oneshot;
use whimbrel_core::base::{BadName, Executed, Kind, Name, NodeName};
use whimbrel_core::directory::{Answer, Ask, Filter, Listed, Located};

use super::{Cluster, DEADLINE};
use crate::driver::Command;
use crate::error::{LocateError, MoveError, RegisterError, RequestError};
use crate::process::{Process, ProcessRef};

/// How long a move may take: the process comes to rest, its image travels, it is made anew.
const MOVE_MAX: Duration = Duration::from_secs(60);

/// A process that was given a name.
pub struct Registered<P> {
    /// The process under its new name.
    pub process: ProcessRef<P>,
    /// Nodes that hold the record of the name.
    pub copies: u8,
}

impl<P> Clone for Registered<P> {
    fn clone(&self) -> Self {
        Self { process: self.process.clone(), copies: self.copies }
    }
}

impl<P> std::fmt::Debug for Registered<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("process", &self.process).field("copies", &self.copies).finish()
    }
}

impl Cluster {
    /// A typed name. Nothing is looked up: it may be that nothing runs under it, or something of another kind.
    ///
    /// # Errors
    /// The text is not a name.
    pub fn process<P: Process>(&self, name: &str) -> Result<ProcessRef<P>, BadName> {
        Ok(ProcessRef::new(self.exchange().entry(&Name::new(name)?)))
    }

    /// The process of this name, if this node happens to know where it is and that it is of this kind: a hint that
    /// may be outdated, and none is no proof of absence. To be sure ask [`Cluster::locate`].
    pub fn whereis<P: Process>(&self, name: &str) -> Option<ProcessRef<P>> {
        let entry = self.exchange().known(name)?;
        let state = entry.lock();
        let somewhere = state.port.is_local() || state.port.whereabouts().is_some();
        let of_kind = state.kind.as_ref().is_some_and(|kind| kind.as_str() == P::KIND);
        drop(state);
        (somewhere && of_kind).then(|| ProcessRef::new(entry))
    }

    /// Asks the owner of the name where its process runs. Waits while it is starting.
    ///
    /// # Errors
    /// [`LocateError`]; nothing was changed.
    pub async fn locate(&self, name: &str) -> Result<Located, LocateError> {
        match self.ask(name, Ask::Locate).await? {
            Answer::Located(located) | Answer::AlreadyRunning(located) => Ok(located),
            other => Err(refusal(other)),
        }
    }

    /// Ends the process of this name, for good. Returns when it has ended and the name is free.
    ///
    /// It finishes the message in hand and runs `terminate`; what waits in its mailbox ends with `Stopped`, not
    /// executed. A process that has a registered name is ended too.
    ///
    /// # Errors
    /// [`RequestError`]; after a `Deadline` with executed unknown it may still end.
    pub async fn stop(&self, name: &str) -> Result<(), RequestError> {
        self.command(name, Ask::Stop).await
    }

    /// Moves the process of this name to the member of this name, with its state, its unread messages and its timers.
    /// Returns when it runs there; also when it did already. Its callers notice nothing but the time that it takes.
    ///
    /// # Errors
    /// [`MoveError`]. Whatever it is, the process runs, at one of the two nodes.
    pub async fn move_to(&self, name: &str, node: &str) -> Result<(), MoveError> {
        self.ask_to_move(name, Some(NodeName::new(node).map_err(RequestError::from)?)).await
    }

    /// Has a process moved to this member, or to where it belongs.
    pub(crate) async fn ask_to_move(&self, name: &str, to: Option<NodeName>) -> Result<(), MoveError> {
        match self.ask_within(name, Ask::Move { to }, MOVE_MAX).await? {
            Answer::Done => Ok(()),
            Answer::Hindered(why) => Err(MoveError::Hindered { why }),
            other => Err(refusal(other).into()),
        }
    }

    /// Ends the quarantine of a name: its process is started again, with its failures forgotten.
    ///
    /// # Errors
    /// [`RequestError`]; `NotFound` when there is nothing under the name.
    pub async fn release(&self, name: &str) -> Result<(), RequestError> {
        self.command(name, Ask::Release).await
    }

    /// Gives a name to a process that runs on this node. It is never restarted or moved for it; when it ends, the
    /// name is free. It may have several.
    ///
    /// # Errors
    /// `AlreadyRunning` when the name is taken, `NotLocal` when the process does not run here.
    pub async fn register<P: Process>(
        &self,
        name: &str,
        process: &ProcessRef<P>,
    ) -> Result<Registered<P>, RegisterError> {
        let entry = self.exchange().entry(&Name::new(name).map_err(RequestError::from)?);
        let running = ProcessRef::entry(process).clone();
        let Some(instance) = running.lock().instance.clone() else {
            return Err(RegisterError::NotLocal);
        };
        let kind = Kind::new(instance.kind()).map_err(RequestError::from)?;
        let (asker, answer) = oneshot::channel();
        let ask = Ask::Register { kind };
        let command =
            Command::Register { name: entry.clone(), process: running, ask, deadline: DEADLINE, asker };
        self.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        match answer.await.map_err(|_| RequestError::Stopped)? {
            Answer::Started { copies, .. } => Ok(Registered { process: ProcessRef::new(entry), copies }),
            Answer::AlreadyRunning(_) => Err(RegisterError::AlreadyRunning),
            other => Err(refusal(other).into()),
        }
    }

    /// Takes a registered name from its process, which goes on.
    ///
    /// # Errors
    /// `NotFound` when nothing was registered under the name; a started process is ended by [`Cluster::stop`].
    pub async fn unregister(&self, name: &str) -> Result<(), RequestError> {
        self.command(name, Ask::Unregister).await
    }

    /// The names of the whole cluster that `filter` means, in order: at most 10,000.
    ///
    /// # Errors
    /// `Incomplete` when a member did not answer, or there are more.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Listed>, RequestError> {
        let (asker, answer) = oneshot::channel();
        let command = Command::List { filter, deadline: DEADLINE, asker };
        self.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        match answer.await.map_err(|_| RequestError::Stopped)? {
            (rows, true) => Ok(rows),
            (_, false) => Err(RequestError::Incomplete),
        }
    }

    /// How many names there are that `filter` means.
    ///
    /// # Errors
    /// As [`Cluster::list`].
    pub async fn count(&self, filter: Filter) -> Result<usize, RequestError> {
        self.list(filter).await.map(|rows| rows.len())
    }

    async fn command(&self, name: &str, ask: Ask) -> Result<(), RequestError> {
        match self.ask(name, ask).await? {
            Answer::Done => Ok(()),
            other => Err(refusal(other)),
        }
    }

    async fn ask(&self, name: &str, ask: Ask) -> Result<Answer, RequestError> {
        self.ask_within(name, ask, DEADLINE).await
    }

    async fn ask_within(&self, name: &str, ask: Ask, deadline: Duration) -> Result<Answer, RequestError> {
        let (asker, answer) = oneshot::channel();
        let command = Command::Ask { name: Name::new(name)?, ask, deadline, asker };
        self.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)
    }
}

/// What an answer that is not the hoped-for one means.
fn refusal(answer: Answer) -> RequestError {
    match answer {
        Answer::NotFound | Answer::InitFailed(_) | Answer::NoHost(_) | Answer::AtCapacity => {
            RequestError::NotFound
        }
        Answer::Quarantined => RequestError::Quarantined,
        Answer::Overloaded => RequestError::Overloaded,
        Answer::Unlinked => RequestError::NodeLost,
        Answer::Deadline(executed) => RequestError::Deadline { executed },
        Answer::AlreadyRunning(located) | Answer::Located(located) | Answer::Started { located, .. } => {
            RequestError::WrongKind { found: located.kind.to_string() }
        }
        Answer::Done | Answer::Hindered(_) | Answer::Meta(_) | Answer::Conflict(_) | Answer::Inspected(_) => {
            RequestError::Deadline { executed: Executed::Unknown }
        }
    }
}
