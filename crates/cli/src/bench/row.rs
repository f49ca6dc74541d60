//! A row of the bench: a value beside its floor.

use std::collections::BTreeMap;

use serde::Serialize;

use super::peers::Figure;

/// One measured thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What.
    pub(crate) name: &'static str,
    /// Median over the rounds; null when it could not be measured.
    pub(crate) value: Option<f64>,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The same of the floor.
    pub(crate) floor: Option<f64>,
    /// OS processes that took part.
    pub(crate) processes: u32,
    /// Tasks that called at the same time.
    pub(crate) callers: u32,
    /// Bytes of each message.
    pub(crate) payload_bytes: usize,
    /// Ranges, and what the floor is.
    pub(crate) note: String,
    /// Other libraries, where they were asked for and have such a thing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) peers: BTreeMap<&'static str, Figure>,
}

impl Row {
    /// A row that is still to be measured.
    pub(crate) fn new(
        name: &'static str,
        unit: &'static str,
        (processes, callers): (u32, u32),
        payload_bytes: usize,
        note: impl Into<String>,
    ) -> Self {
        let (value, floor, peers) = (None, None, BTreeMap::new());
        Self { name, value, unit, floor, processes, callers, payload_bytes, note: note.into(), peers }
    }
}

/// What every measurement of a row found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    /// Ours.
    pub(crate) ours: Vec<f64>,
    /// The floor's.
    pub(crate) floor: Vec<f64>,
}

impl Rounds {
    /// Turns rounds into the row's figures.
    pub(crate) fn fill(mut self, mut row: Row) -> Row {
        self.ours.sort_by(f64::total_cmp);
        self.floor.sort_by(f64::total_cmp);
        row.value = median(&self.ours).map(rounded);
        row.floor = median(&self.floor).map(rounded);
        row.note = format!(
            "{} rounds, {}; floor {}: {}",
            self.ours.len(),
            range(&self.ours),
            range(&self.floor),
            row.note
        );
        row
    }
}

/// Median of sorted values.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

pub(crate) fn range(sorted: &[f64]) -> String {
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => format!("{} to {}", rounded(*least), rounded(*most)),
        _ => "not measured".to_owned(),
    }
}

/// Three digits are more than the spread allows.
pub(crate) fn rounded(value: f64) -> f64 {
    if value.abs() >= 1_000.0 { value.round() } else { (value * 100.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_and_ranges() {
        let row = Row::new("x", "us", (2, 1), 64, "TCP");
        let rounds = Rounds { ours: vec![3.0, 1.0, 2.0], floor: vec![1.0, 2.0] };
        let row = rounds.fill(row);
        assert_eq!((row.value, row.floor), (Some(2.0), Some(1.5)));
        assert!(row.note.contains("1 to 3") && row.note.ends_with("TCP"));
    }

    #[test]
    fn nothing_measured_is_null() {
        assert_eq!(median(&[]), None);
    }
}
