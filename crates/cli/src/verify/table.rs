//! The report as a table that a person understands.

use super::report::{Report, StepFigures};
use crate::output::print_line;

/// Prints the report to standard output.
pub(crate) fn print_table(report: &Report) {
    for line in lines(report) {
        print_line(&line);
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![String::new(), heading()];
    lines.extend(report.figures.steps.iter().map(row));
    lines.push(String::new());
    lines.extend(summary(report));
    lines.push(String::new());
    for check in report.failed() {
        lines.push(format!("FAILED  {}: {}", check.name, check.found));
    }
    let word = if report.is_ok() { "ok: every check holds" } else { "NOT ok" };
    lines.push(format!(
        "verdict {word} ({} checks, judged from the evidence files alone)",
        report.checks.len()
    ));
    lines
}

fn heading() -> String {
    format!(
        "{:<16}{:>9}{:>10}{:>6}{:>9}{:>11}{:>7}  {:>21}  {:>23}  {}",
        "step",
        "seconds",
        "messages",
        "lost",
        "doubled",
        "reordered",
        "moved",
        "pause p50/p99/max ms",
        "call p50/p99/max ms",
        "failed calls"
    )
}

fn row(step: &StepFigures) -> String {
    let latency = [step.call_p50_us, step.call_p99_us, step.call_max_us]
        .map(|us| us.map_or_else(|| "-".to_owned(), millis))
        .join(" / ");
    let pause = step.pause_ms.map_or_else(
        || "-".to_owned(),
        |pause| format!("{:.1} / {:.1} / {:.1}", pause.p50, pause.p99, pause.max),
    );
    let failed = if step.calls_failed.is_empty() { "none".to_owned() } else { step.calls_failed.to_words() };
    format!(
        "{:<16}{:>9.1}{:>10}{:>6}{:>9}{:>11}{:>7}  {:>21}  {:>23}  {}",
        step.step,
        step.ms / 1_000.0,
        grouped(step.accepted),
        step.lost,
        step.doubled,
        step.reordered,
        step.moved,
        pause,
        latency,
        failed
    )
}

fn summary(report: &Report) -> Vec<String> {
    let mut lines = of_the_run(report);
    if let Some(soak) = &report.figures.soak {
        let number = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.1} {unit}"))
        };
        lines.push(format!(
            "soak            {} moves in {} changes; {} messages handled; calls took {} longer at most (99 %); {} resident",
            grouped(soak.moves),
            soak.changes,
            grouped(soak.handled),
            number(soak.added_call_p99_ms, "ms"),
            number(soak.rss_max_mib, "MiB"),
        ));
    }
    lines
}

fn of_the_run(report: &Report) -> Vec<String> {
    let (cleaner, counters) = (&report.figures.cleaner, &report.figures.counters);
    let ms = |value: Option<f64>| value.map_or_else(|| "not measured".to_owned(), |ms| format!("{ms:.1} ms"));
    let count = |value: Option<u64>| value.map_or_else(|| "not measured".to_owned(), grouped);
    let mut lines = vec![
        format!(
            "the cleaner     {} runs, {} overlapping; {} overlapping lives; {} fresh rows deleted, {} outdated rows left",
            grouped(cleaner.runs),
            cleaner.overlapping_runs,
            cleaner.overlapping_lives,
            cleaner.fresh_rows_deleted,
            count(cleaner.outdated_rows_left)
        ),
        format!(
            "                back {} after its panic, {} after kill -9 of its node",
            ms(cleaner.back_after_panic_ms),
            ms(cleaner.back_after_kill_ms)
        ),
        format!(
            "{:<16}{} calls answered, {} failed, {} casts; {} lost, {} doubled, {} reordered",
            format!("{} counters", grouped(u64::from(counters.names))),
            grouped(counters.calls_ok),
            grouped(counters.calls_failed.total()),
            grouped(counters.casts_sent),
            counters.lost,
            counters.doubled,
            counters.reordered
        ),
        format!("                {} casts died with the killed node", grouped(counters.lost_by_kill)),
    ];
    if let Some(back) = report.figures.names_back_after_kill_ms {
        lines.push(format!(
            "all names       back after the kill: half in {:.1} ms, 99 % in {:.1} ms, all in {:.1} ms; {} lost",
            back.p50, back.p99, back.max, report.figures.names_lost
        ));
    }
    lines.push(format!("double starts   {}", report.figures.double_starts));
    lines
}

#[allow(clippy::cast_precision_loss)]
fn millis(us: u64) -> String {
    format!("{:.2}", us as f64 / 1_000.0)
}

/// 12345 as 12,345.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
