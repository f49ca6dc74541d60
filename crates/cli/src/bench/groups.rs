//! The rows about groups, on three nodes.

use super::command::{Command, What};
use super::meter::PAYLOAD_BYTES;
use super::plan::{MANY, Plan, THERE};
use super::row::{Rounds, Row};
use crate::output::Failure;

/// Members of the group that is published to.
const MEMBERS: u64 = 1_000;
/// Messages that are published in one round.
const PUBLISHED: u64 = 512;
/// Names that join in one round.
const JOINING: u64 = 5_000;
/// Bursts of the floor in one round.
const FLOOR_BURSTS: u64 = 100;
/// How long many callers call the floor.
const FLOOR_MILLIS: u64 = 400;
/// Their front part of names.
const CROWD: &str = "crowd-member";
const JOINERS: &str = "crowd-joiner";

impl Plan {
    /// Rows of groups.
    pub(super) fn group_rows(&self) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        if self.wanted("publish_per_s") {
            rows.push(self.publish_per_s()?);
        }
        for (name, groups, into) in [
            ("join_per_s", 1, "all into one group"),
            ("join_per_s_many", JOINING, "each into a group of its own"),
        ] {
            if self.wanted(name) {
                rows.push(self.join_per_s(name, groups, into)?);
            }
        }
        Ok(rows)
    }

    fn publish_per_s(&self) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        let mut crew = self.crew()?;
        crew.connect_floor("b")?;
        let starts = Command::Starts { prefix: CROWD.into(), tasks: MANY, millis: 60_000, most: MEMBERS };
        crew.ask("a", starts)?;
        crew.ask("a", Command::FillGroup { prefix: CROWD.into(), names: MEMBERS, tasks: MANY })?;
        let publish = |times| Command::Publish { prefix: CROWD.into(), names: MEMBERS, times };
        // Once before, so that the publisher knows where they are.
        crew.ask("a", publish(1))?;
        for round in 0..self.rounds {
            eprintln!("bench: publish_per_s, round {}", round + 1);
            rounds.ours.extend(crew.number("a", publish(PUBLISHED))?);
            let floor = Command::CastThere { name: THERE.into(), what: What::Floor, bursts: FLOOR_BURSTS };
            rounds.floor.extend(crew.number("a", floor)?);
        }
        let note = format!(
            "members told, until handled: {PUBLISHED} messages to {MEMBERS} members; floor: casts of multiplexed TCP to one node, each in a frame of its own"
        );
        Ok(rounds.fill(Row::new("publish_per_s", "1/s", (3, 1), PAYLOAD_BYTES, note)))
    }

    fn join_per_s(&self, name: &'static str, groups: u64, into: &str) -> Result<Row, Failure> {
        let mut rounds = Rounds::default();
        let mut crew = self.crew()?;
        crew.connect_floor("b")?;
        let starts = Command::Starts { prefix: JOINERS.into(), tasks: MANY, millis: 60_000, most: JOINING };
        crew.ask("a", starts)?;
        for round in 0..self.rounds {
            eprintln!("bench: {name}, round {}", round + 1);
            let join = Command::JoinAll { prefix: JOINERS.into(), names: JOINING, groups, tasks: MANY };
            rounds.ours.extend(crew.number("a", join)?);
            let floor = Command::CallThereMany {
                name: THERE.into(),
                what: What::Floor,
                tasks: MANY,
                millis: FLOOR_MILLIS,
            };
            rounds.floor.extend(crew.number("a", floor)?);
        }
        let note = format!(
            "{JOINING} names, {into}, on record with R = 2 and in the index; floor: one round trip of multiplexed TCP"
        );
        Ok(rounds.fill(Row::new(name, "1/s", (3, MANY), 0, note)))
    }
}
