//! States of instances that lost a conflict, until nothing else of them is here: then they are sent to whoever has the name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use whimbrel_core::base::Name;

use super::{Exchange, lock};
use crate::process::tiding::Tiding;

/// Bytes of all of them; what finds no room is not sent.
const BEQUESTS_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct Bequests(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    by_name: BTreeMap<Name, Tiding>,
    bytes: usize,
}

/// There are too many.
#[derive(Debug, thiserror::Error)]
#[error("states of lost conflicts fill their {} MiB", BEQUESTS_BYTES_MAX >> 20)]
pub(crate) struct BequestsFull;

impl Held {
    fn put(&mut self, name: &Name, tiding: Tiding) -> Result<(), BequestsFull> {
        let _earlier = self.take(name);
        if self.bytes + tiding.bytes() > BEQUESTS_BYTES_MAX {
            return Err(BequestsFull);
        }
        self.bytes += tiding.bytes();
        self.by_name.insert(name.clone(), tiding);
        Ok(())
    }

    fn take(&mut self, name: &Name) -> Option<Tiding> {
        let tiding = self.by_name.remove(name)?;
        self.bytes -= tiding.bytes();
        Some(tiding)
    }
}

impl Exchange {
    /// Keeps what is to be told to the process of this name, once none of that name is here.
    pub(crate) fn bequeath(&self, name: &Name, tiding: Tiding) -> Result<(), BequestsFull> {
        lock(&self.bequests.0).put(name, tiding)
    }

    /// Whatever had this name here is gone, or another life of it begins.
    pub(super) fn send_bequest(self: &Arc<Self>, name: &Name) {
        let Some(tiding) = lock(&self.bequests.0).take(name) else { return };
        if let Err(error) = self.entry(name).cast(tiding.boxed()) {
            tracing::warn!(?name, %error, "the state of an instance that lost a conflict is not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use whimbrel_core::base::Bytes;

    use super::*;

    #[test]
    fn states_of_lost_conflicts_are_kept_up_to_so_many_bytes() {
        let name = |number: usize| Name::new(&format!("a:{number}")).unwrap();
        let state = Bytes::from(vec![0; 1 << 20]);
        let met = || Tiding::Met { version: 0, codec: 1, state: state.clone() };
        let mut held = Held::default();
        assert!((0..64).all(|number| held.put(&name(number), met()).is_ok()));
        assert!(held.put(&name(64), met()).is_err());
        assert!(held.put(&name(5), met()).is_ok(), "in the place of its own earlier one");
        assert!(held.take(&name(7)).is_some() && held.take(&name(7)).is_none());
        assert!(held.put(&name(64), met()).is_ok());
    }
}
