//! What hosts hear of what is attached to the records of their processes.

use std::sync::Arc;

use super::super::record::Record;
use super::super::{Directory, Output};
use crate::base::Incarnation;

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
            let record = Arc::clone(&hosted.record);
            self.tell(Output::Attached { record });
        }
    }
}
