//! Groups: names that belong together, joined and read from any node.
//!
//! Membership stands in the record of the name, so it survives restarts, moves and the loss of nodes, and ends with the
//! name. Who is in a group is asked of the node that has its index, each time: so whoever reads finds everybody whose join
//! was answered before.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use whimbrel_core::base::limits::MEMBERSHIP_BYTES_MAX;
use whimbrel_core::base::{BadMetadata, BadName, Group, Metadata, Name};
use whimbrel_core::directory::{Answer, Ask};
use whimbrel_core::groups::{GroupMember, GroupVersion};

use super::names::refusal;
use super::{Cluster, DEADLINE};
use crate::driver::Command;
use crate::error::{GroupError, RegisterError, RequestError};
use crate::exchange::{Entry, lock};
use crate::process::ProcessRef;

/// A group, by its scope and its name: cheap to clone, valid from every node, also while nobody is in it.
#[derive(Clone)]
pub struct GroupRef {
    pub(super) cluster: Cluster,
    group: Arc<Group>,
    /// The last whole reading: while nothing changes the index says only that. Held for a look.
    known: Arc<Mutex<Option<Known>>>,
    /// Whose turn it is to be called; of all clones together.
    pub(super) turn: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Known {
    version: GroupVersion,
    members: Arc<[GroupMember]>,
}

impl Cluster {
    /// A group of names. Groups of different scopes have nothing to do with each other. Nothing is looked up.
    ///
    /// # Errors
    /// One of the texts is not a name.
    pub fn group(&self, scope: &str, name: &str) -> Result<GroupRef, BadName> {
        let group = Arc::new(Group::new(scope, name)?);
        Ok(GroupRef { cluster: self.clone(), group, known: Arc::default(), turn: Arc::default() })
    }

    /// The groups of a scope that have members, and how many each has, by name.
    ///
    /// # Errors
    /// `Incomplete` when not every member of the cluster answered in 5 s; nothing was changed.
    pub async fn groups(&self, scope: &str) -> Result<Vec<(Name, usize)>, RequestError> {
        let (asker, answer) = oneshot::channel();
        let command = Command::Groups { scope: Name::new(scope)?, deadline: DEADLINE, asker };
        self.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        let reading = answer.await.map_err(|_| RequestError::Stopped)?;
        if reading.complete { Ok(reading.names) } else { Err(RequestError::Incomplete) }
    }

    /// Puts the process of this entry into a group; gives it a name first if it has none.
    pub(crate) async fn join_group(
        &self,
        process: &Arc<Entry>,
        group: Group,
        meta: Metadata,
    ) -> Result<(), GroupError> {
        let bytes = meta.bytes();
        if bytes > MEMBERSHIP_BYTES_MAX {
            return Err(BadMetadata::TooLarge { bytes, limit: MEMBERSHIP_BYTES_MAX }.into());
        }
        let name = match given_name(process)? {
            Some(name) => name,
            None => self.give_name(process).await?,
        };
        self.change_membership(&name, Ask::Join { group, meta }).await
    }

    /// Takes the process of this entry out of a group.
    pub(crate) async fn leave_group(&self, process: &Arc<Entry>, group: Group) -> Result<(), GroupError> {
        match given_name(process) {
            Ok(Some(name)) => self.change_membership(&name, Ask::Leave { group }).await,
            // Without a name it is in no group.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    async fn change_membership(&self, name: &Name, ask: Ask) -> Result<(), GroupError> {
        match self.ask(name.as_str(), ask).await? {
            Answer::Done => Ok(()),
            other => Err(refusal(other).into()),
        }
    }

    /// Registers an unnamed process of this node: its name ends with it, and so do its memberships.
    async fn give_name(&self, process: &Arc<Entry>) -> Result<Name, GroupError> {
        let instance = process.lock().instance.clone().ok_or(GroupError::NotLocal)?;
        let text = format!("~{:x}/{}", self.incarnation().nonce, instance.id.0);
        let name = Name::new(&text).map_err(RequestError::from)?;
        match self.register_entry(&self.exchange().entry(&name), process.clone()).await {
            // It joins twice at the same time.
            Ok(_) | Err(RegisterError::AlreadyRunning) => Ok(name),
            Err(RegisterError::NotLocal) => Err(GroupError::NotLocal),
            Err(RegisterError::Request(error)) => Err(error.into()),
        }
    }
}

/// The name under which a process is in groups: its own, or the one that it was given for that.
pub(crate) fn given_name(process: &Arc<Entry>) -> Result<Option<Name>, GroupError> {
    if process.is_named() {
        return Ok(Some(process.name().clone()));
    }
    let instance = process.lock().instance.clone().ok_or(GroupError::NotLocal)?;
    let end = format!("/{}", instance.id.0);
    let names = instance.names();
    let mut names = names.iter().map(|entry| entry.name());
    Ok(names.find(|name| name.as_str().starts_with('~') && name.as_str().ends_with(&end)).cloned())
}

impl GroupRef {
    /// Which group it is.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Puts a process into the group. When this has returned, every reading that begins finds it, on every node. It stays in
    /// the group when it is restarted, when it moves and when its node is lost, until it leaves or its name ends.
    ///
    /// A process without a name is given one (`~` and numbers), must run on this node, and leaves by ending. A name may be in
    /// 32 groups.
    ///
    /// # Errors
    /// [`GroupError`]: `NotFound` if nothing runs under the name; `Overloaded`, not executed, if it is in 32 groups. After a
    /// `Deadline` with executed unknown it may still join.
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it may or may not join.
    pub async fn join<P>(&self, process: &ProcessRef<P>) -> Result<(), GroupError> {
        self.join_with(process, Metadata::new()).await
    }

    /// As [`GroupRef::join`], with a few texts that readers of the group find beside the name: at most 512 bytes. Joined
    /// again, they are replaced.
    ///
    /// # Errors
    /// As [`GroupRef::join`], and `BadMetadata` if that is too large.
    ///
    /// # Cancel safety
    /// As [`GroupRef::join`].
    pub async fn join_with<P>(&self, process: &ProcessRef<P>, meta: Metadata) -> Result<(), GroupError> {
        self.cluster.join_group(ProcessRef::entry(process), (*self.group).clone(), meta).await
    }

    /// Takes a process out of the group. When this has returned, no reading that begins finds it. Also Ok if it was not in
    /// it.
    ///
    /// # Errors
    /// As [`GroupRef::join`].
    ///
    /// # Cancel safety
    /// Dropped after its first poll, it may or may not leave.
    pub async fn leave<P>(&self, process: &ProcessRef<P>) -> Result<(), GroupError> {
        self.cluster.leave_group(ProcessRef::entry(process), (*self.group).clone()).await
    }

    /// Who is in the group, with what they joined with, by name: everybody whose join was answered before this was called,
    /// and nobody whose leave was.
    ///
    /// # Errors
    /// [`GroupError::Partial`] with those that are known, when the index of the group was being rebuilt for 5 s.
    pub async fn members(&self) -> Result<Vec<GroupMember>, GroupError> {
        self.read(DEADLINE).await.map(|members| members.to_vec())
    }

    /// Those members that run on this node, as far as it knows by now.
    ///
    /// # Errors
    /// As [`GroupRef::members`], where `Partial` has local members alone.
    pub async fn local_members(&self) -> Result<Vec<GroupMember>, GroupError> {
        let is_local = |member: &GroupMember| {
            let entry = self.cluster.exchange().known(member.name.as_str());
            entry.is_some_and(|entry| entry.lock().port.is_local())
        };
        match self.members().await {
            Ok(mut members) => {
                members.retain(is_local);
                Ok(members)
            }
            Err(GroupError::Partial { mut members }) => {
                members.retain(is_local);
                Err(GroupError::Partial { members })
            }
            Err(error) => Err(error),
        }
    }

    /// How many members the group has.
    ///
    /// # Errors
    /// As [`GroupRef::members`].
    pub async fn count(&self) -> Result<usize, GroupError> {
        self.read(DEADLINE).await.map(|members| members.len())
    }

    /// Whether this name is in the group.
    ///
    /// # Errors
    /// As [`GroupRef::members`].
    pub async fn contains(&self, name: &str) -> Result<bool, GroupError> {
        let members = self.read(DEADLINE).await?;
        Ok(members.iter().any(|member| member.name.as_str() == name))
    }

    /// Asks the index, which tells the members only if they have changed.
    pub(super) async fn read(&self, deadline: Duration) -> Result<Arc<[GroupMember]>, GroupError> {
        let known = lock(&self.known).clone();
        let version = known.as_ref().map(|known| known.version);
        let (asker, answer) = oneshot::channel();
        let command = Command::Group { group: (*self.group).clone(), known: version, deadline, asker };
        self.cluster.shared.control.send(command).await.map_err(|_| RequestError::Stopped)?;
        let reading = answer.await.map_err(|_| RequestError::Stopped)?;
        let members = match (reading.members, known) {
            (Some(members), _) => Arc::from(members),
            (None, Some(known)) => known.members,
            (None, None) => Arc::default(),
        };
        if !reading.complete {
            return Err(GroupError::Partial { members: members.to_vec() });
        }
        if let Some(version) = reading.version {
            *lock(&self.known) = Some(Known { version, members: members.clone() });
        }
        Ok(members)
    }
}

impl std::fmt::Debug for GroupRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GroupRef").field(&self.group).finish()
    }
}
