//! Messages of one sender to one name are handled in the order sent, each once.
//!
//! Loosened: when nodes lose each other in the middle of a move, source and target may both go on, each in a line of its
//! own, and both have what was unread (`docs/guarantees.md`).

use std::collections::BTreeMap;

use super::{Facts, Violation, ms, violated};

const NAME: &str = "order";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let history = facts.history;
    let mut handled = vec![None; history.ops.len()];
    // The gate and host tell lives apart that a split allowed side by side; without one there is one sequence.
    let mut last: BTreeMap<(u32, u32, u64, u16), (u32, u32)> = BTreeMap::new();
    for entry in &history.handled {
        let op = &history.ops[entry.op as usize];
        let life = &history.lives[entry.life as usize];
        if let Some(first) = handled[entry.op as usize].replace(entry.life) {
            let other = &history.lives[first as usize];
            // Stations of one way, which have the same gate.
            if !facts.crash_only && other.gate == life.gate && other.host != life.host {
                continue;
            }
            let name = history.name(op.name);
            violated(
                found,
                NAME,
                format!("message {} to {name} is handled twice, at {}", entry.op, ms(entry.at)),
            );
            continue;
        }
        let (gate, host) = if facts.crash_only { (0, 0) } else { (life.gate.as_u64(), life.host) };
        let key = (op.client, op.name, gate, host);
        let before = last.insert(key, (op.number, entry.op));
        if let Some((number, earlier)) = before
            && number >= op.number
        {
            let name = history.name(op.name);
            let text = format!(
                "message {} to {name} is handled after {earlier}, sent later; at {}",
                entry.op,
                ms(entry.at)
            );
            violated(found, NAME, text);
        }
    }
}
