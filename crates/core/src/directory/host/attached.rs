//! What hosts hear of what is attached to the records of their processes.

use std::sync::Arc;

use super::super::Directory;
use super::super::record::Record;
use crate::base::limits::SNAPSHOT_BYTES_MAX;
use crate::base::{Bytes, Incarnation, Name, Time, Token};

impl Directory {
    /// What is attached to a record of this host has changed.
    pub(in crate::directory) fn on_attached(&mut self, from: Incarnation, record: &Record) {
        if self.owner_of(&record.name) != Some(from) {
            return;
        }
        let slot = self.slot_of(&record.name);
        let Some(hosted) = self.host.get_mut(slot, &record.name) else { return };
        if hosted.record.token == record.token && hosted.record.revision() < record.revision() {
            Arc::make_mut(&mut hosted.record).take_attached(record);
        }
    }

    /// A process of this node has published a state of itself; one that is too large is not kept.
    pub fn handle_snapshot(&mut self, name: &Name, token: Token, bytes: Bytes, now: Time) {
        let Some(hosted) = self.hosted_life(name, token) else { return };
        if bytes.len() > SNAPSHOT_BYTES_MAX || !hosted.phase.is_alive() {
            return;
        }
        hosted.rare.get_or_insert_default().snapshot = Some(bytes);
        self.report(name, now);
        self.finish(now);
    }

    /// The token of the process of this node that has this name.
    pub(in crate::directory) fn token_of_hosted(&mut self, name: &Name) -> Option<Token> {
        self.hosted_as(name).map(|hosted| hosted.record.token)
    }
}
