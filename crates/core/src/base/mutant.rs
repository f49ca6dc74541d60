//! Planted bugs: proof that the checkers can fail.
//!
//! A bug is chosen at run time and exists only with the feature `mutants`; without it [`Mutants::has`] is a
//! constant `false` and the compiler removes the branch.

/// One planted bug. Each removes a sentence of `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// The owner answers a start before every backup has the record.
    AckBeforeBackups,
    /// The owner grants a starting name a second time, to another host, for a second caller.
    TwoGrants,
    /// A restart keeps the token of the life before.
    TokenNotRaised,
    /// A take-over forgets the records of a slot.
    RecordForgotten,
    /// After a node death two hosts are granted the same name.
    RestartOnTwoNodes,
    /// The link and the gate admit a frame that was sent twice.
    ResendNotDeduplicated,
    /// Frames not yet acknowledged are forgotten when a connection is lost.
    FrameDroppedOnReconnect,
    /// A call whose frame was sent ends with "not executed".
    NoAfterDispatch,
    /// The deadline of a waiting request never fires.
    DeadlineLost,
    /// Two founders each wait for the other to found.
    JoinsWaitForEachOther,
    /// A restarted node is taken for its earlier life.
    IncarnationIgnored,
    /// A slot opens with a copy that is not complete.
    IncompleteCopyOpened,
    /// The unread mailbox is dropped when a process restarts in place.
    MailboxDroppedAtRestart,
    /// The gate admits a message though one before it is missing.
    GapIgnored,
    /// Backups lose a row now and then, and are never held against their owner.
    RepairSkipped,
    /// A mailbox admits messages beyond its limit.
    MailboxUnbounded,
    /// An owner keeps requests waiting beyond the limit of a slot.
    WaitersUnbounded,
    /// A link writes what nodes decide after all messages that wait.
    ControlLast,
    /// A name whose `init` has not returned holds up the other names of its slot.
    InitHoldsSlot,
    /// A view with another number of members deals all slots anew.
    SlotsDealtAnew,
    /// A host takes processes of a kind beyond its limit.
    PlacesUnbounded,
    /// The source of a move goes on by itself although it has sent the image.
    ResumedByItself,
    /// The unread mailbox of a process stays behind when it moves.
    MailboxLeftBehind,
    /// The table of a gate stays behind when its process moves.
    GateTableLeftBehind,
    /// A move is committed before the target has the process.
    CommittedBeforeInstalled,
    /// A process that is moved goes where its name belongs by hash, whatever labels it wants.
    LabelsIgnored,
    /// A call that ended because its process is on its way is sent there all the same.
    FailedAndSent,
    /// A node that drains leaves though processes of it could still move.
    LeftBeforeMoved,
    /// Processes are placed on a node that drains.
    PlacedOnDraining,
    /// A monitor is not kept when its process moves.
    MonitorLostOnMove,
    /// A record that starts again is in no group any more.
    JoinForgottenAtRestart,
    /// A watcher that hears of an end again tells of it again.
    DownTwice,
    /// The index of a group is not told of names that are free.
    StaleIndexEntry,
    /// A stream does not tell that a name has ended.
    EndUntold,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 34] = [
        Mutant::AckBeforeBackups,
        Mutant::TwoGrants,
        Mutant::TokenNotRaised,
        Mutant::RecordForgotten,
        Mutant::RestartOnTwoNodes,
        Mutant::ResendNotDeduplicated,
        Mutant::FrameDroppedOnReconnect,
        Mutant::NoAfterDispatch,
        Mutant::DeadlineLost,
        Mutant::JoinsWaitForEachOther,
        Mutant::IncarnationIgnored,
        Mutant::IncompleteCopyOpened,
        Mutant::MailboxDroppedAtRestart,
        Mutant::GapIgnored,
        Mutant::RepairSkipped,
        Mutant::MailboxUnbounded,
        Mutant::WaitersUnbounded,
        Mutant::ControlLast,
        Mutant::InitHoldsSlot,
        Mutant::SlotsDealtAnew,
        Mutant::PlacesUnbounded,
        Mutant::ResumedByItself,
        Mutant::MailboxLeftBehind,
        Mutant::GateTableLeftBehind,
        Mutant::CommittedBeforeInstalled,
        Mutant::LabelsIgnored,
        Mutant::FailedAndSent,
        Mutant::LeftBeforeMoved,
        Mutant::PlacedOnDraining,
        Mutant::MonitorLostOnMove,
        Mutant::JoinForgottenAtRestart,
        Mutant::DownTwice,
        Mutant::StaleIndexEntry,
        Mutant::EndUntold,
    ];
}

/// The planted bug of this run, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutants {
    #[cfg(feature = "mutants")]
    planted: Option<Mutant>,
}

impl Mutants {
    /// Plants one bug.
    #[cfg(feature = "mutants")]
    pub const fn planted(mutant: Mutant) -> Self {
        Self { planted: Some(mutant) }
    }

    /// Whether this bug is planted.
    #[cfg(feature = "mutants")]
    pub fn has(self, mutant: Mutant) -> bool {
        self.planted == Some(mutant)
    }

    /// Whether this bug is planted: never, in a build without the feature.
    #[cfg(not(feature = "mutants"))]
    pub const fn has(self, _: Mutant) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_listed_once() {
        let distinct: std::collections::BTreeSet<Mutant> = Mutant::ALL.into_iter().collect();
        assert_eq!(distinct.len(), Mutant::ALL.len());
    }

    #[test]
    fn nothing_is_planted_unless_asked_for() {
        assert!(Mutant::ALL.into_iter().all(|mutant| !Mutants::default().has(mutant)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_planted_bug_is_the_only_one() {
        for planted in Mutant::ALL {
            let mutants = Mutants::planted(planted);
            assert!(Mutant::ALL.into_iter().all(|mutant| mutants.has(mutant) == (mutant == planted)));
        }
    }
}
