//! No global state: two nodes live in one OS process, and a test owns all it touches.

use crate::finding::Finding;
use crate::source::Source;

/// Types whose value can change behind a shared reference.
const CHANGEABLE: [&str; 9] =
    ["Atomic", "Mutex", "RwLock", "Once", "Lazy", "Cell", "Condvar", "Sender", "UnsafeCell"];

/// Where a `static` that can never change is allowed: programs, which hold tables of text.
const PLAIN_ALLOWED: [&str; 4] = ["crates/cli/", "crates/sim/", "xtask/", "examples/"];

/// Changeable statics as (file, name), each with its reason.
const EXCEPTIONS: [(&str, &str); 1] = [
    // The origin of a clock, written once, where the system has no boot time: all nodes of a process share a clock.
    ("crates/whimbrel/src/clock.rs", "ORIGIN"),
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let finding = |at, text: String| Finding::new(&source.path, source.line_of(at), "statics", text);
    let items = source.words("static").filter_map(|at| complaint(source, at).map(|text| finding(at, text)));
    let macros = ["thread_local", "lazy_static"].into_iter().flat_map(|name| {
        let uses = source.words(name).filter(move |at| source.code[at + name.len()..].starts_with('!'));
        uses.map(move |at| finding(at, format!("`{name}!` makes a global: hand the value down instead")))
    });
    items.chain(macros).collect()
}

fn complaint(source: &Source, at: usize) -> Option<String> {
    let rest = &source.code[at + "static".len()..];
    let name = source.word_at(at + "static".len());
    if name.is_empty() || in_task_local(source, at) || EXCEPTIONS.contains(&(source.path.as_str(), name)) {
        return None;
    }
    let declaration = &rest[..rest.find(['=', ';']).unwrap_or(rest.len())];
    if name == "mut" || CHANGEABLE.iter().any(|word| declaration.contains(word)) {
        return Some("global state: hand the value down instead".to_owned());
    }
    let allowed = source.in_tests(at) || PLAIN_ALLOWED.iter().any(|folder| source.path.starts_with(folder));
    (!allowed).then(|| format!("`{name}` never changes: make it a const"))
}

/// A task-local belongs to one task and has an owner, whatever its syntax says.
fn in_task_local(source: &Source, at: usize) -> bool {
    source.words("task_local").any(|start| (start..source.item_end(start)).contains(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn global_state_is_found_everywhere() {
        for text in [
            "static mut A: u8 = 1;",
            "static A: AtomicU64 = AtomicU64::new(0);",
            "static A: OnceLock<Name> = OnceLock::new();",
            "pub static A: Mutex<Vec<u8>> = Mutex::new(Vec::new());",
            "thread_local! { }",
        ] {
            assert_eq!(findings("crates/cli/src/a.rs", text), 1, "{text}");
        }
    }

    #[test]
    fn a_table_of_text_is_allowed_in_programs_only() {
        let text = "static NAMES: [&'static str; 1] = [\"a\"];";
        assert_eq!(findings("crates/cli/src/a.rs", text), 0);
        assert_eq!(findings("crates/core/src/a.rs", text), 1);
    }

    #[test]
    fn what_only_looks_like_one_is_left_alone() {
        for text in ["fn a(x: &'static str) {}", "task_local! { static A: Cell<u8>; }", "// static A"] {
            assert_eq!(findings("crates/whimbrel/src/a.rs", text), 0, "{text}");
        }
    }
}
