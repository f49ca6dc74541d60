//! The proof that the checkers can fail: every planted bug is found, and its seed is green without it.

use serde::Serialize;
use whimbrel_core::base::{Mutant, Mutants};

use crate::checker::mutant_name;
use crate::plan::Profile;
use crate::run::{Look, run_seed};

/// Seeds tried per bug and profile.
pub(crate) const SEEDS_MAX: u64 = 300;

/// What became of one planted bug.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) bug: String,
    /// The checker that went red.
    pub(crate) checker: Option<&'static str>,
    pub(crate) found: bool,
    pub(crate) first_seed: Option<u64>,
    pub(crate) profile: Option<&'static str>,
    pub(crate) seeds_tried: u64,
    pub(crate) detail: Option<String>,
}

/// Profiles in which a bug is looked for, in this order.
fn profiles(mutant: Mutant) -> [Profile; 2] {
    match mutant {
        Mutant::JoinsWaitForEachOther => [Profile::Birth, Profile::Full],
        Mutant::GapIgnored | Mutant::ResendNotDeduplicated => [Profile::Split, Profile::Full],
        Mutant::TwoGrants | Mutant::DeadlineLost | Mutant::MailboxDroppedAtRestart => {
            [Profile::Calm, Profile::Full]
        }
        Mutant::MailboxUnbounded
        | Mutant::WaitersUnbounded
        | Mutant::ControlLast
        | Mutant::InitHoldsSlot
        | Mutant::SlotsDealtAnew => [Profile::Storm, Profile::Full],
        Mutant::ResumedByItself
        | Mutant::MailboxLeftBehind
        | Mutant::GateTableLeftBehind
        | Mutant::CommittedBeforeInstalled
        | Mutant::LabelsIgnored
        | Mutant::FailedAndSent
        | Mutant::LeftBeforeMoved
        | Mutant::PlacedOnDraining => [Profile::Handoff, Profile::Full],
        Mutant::JoinForgottenAtRestart | Mutant::StaleIndexEntry | Mutant::EndUntold => {
            [Profile::Groups, Profile::Monitors]
        }
        Mutant::MonitorLostOnMove | Mutant::DownTwice => [Profile::Monitors, Profile::Groups],
        Mutant::PlacesUnbounded => [Profile::Room, Profile::Full],
        _ => [Profile::Crash, Profile::Full],
    }
}

/// Looks for one bug.
pub(crate) fn hunt(mutant: Mutant, seeds_max: u64) -> Row {
    let mut row = Row {
        bug: mutant_name(mutant),
        checker: None,
        found: false,
        first_seed: None,
        profile: None,
        seeds_tried: 0,
        detail: None,
    };
    for profile in profiles(mutant) {
        for seed in 1..=seeds_max {
            row.seeds_tried += 1;
            let result = run_seed(profile, seed, Mutants::planted(mutant), Look::default());
            let Some(violation) = result.violations.into_iter().next() else { continue };
            // A seed that is red without the bug too proves nothing.
            if !run_seed(profile, seed, Mutants::default(), Look::default()).violations.is_empty() {
                continue;
            }
            row.found = true;
            row.checker = Some(violation.checker);
            row.first_seed = Some(seed);
            row.profile = Some(profile.as_str());
            row.detail = Some(violation.what);
            return row;
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_bug_is_found() {
        let missed: Vec<String> = Mutant::ALL
            .into_iter()
            .map(|mutant| hunt(mutant, SEEDS_MAX))
            .filter(|row| !row.found)
            .map(|row| row.bug)
            .collect();
        assert!(missed.is_empty(), "no checker goes red on {}", missed.join(", "));
    }
}
