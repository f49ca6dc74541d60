//! What a person sees while the demo runs, on standard error: a small table that is drawn anew in place on a
//! terminal, plain lines where there is none.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::collector::Collector;
use super::database;
use super::evidence::CLEANER;
use crate::verify::grouped;

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// How often the database is asked: counting is not free, and it is the cleaner's.
const DATABASE_FRAME: Duration = Duration::from_secs(1);
/// Nothing is wider, so that no line wraps on a small terminal.
const WIDTH: usize = 79;

/// The live view.
#[derive(Debug)]
pub(crate) struct View {
    terminal: bool,
    began: Instant,
    /// Lines of the table that stand on the terminal now.
    drawn: usize,
    last_frame: Instant,
    /// Messages per node at the last frame.
    before: Vec<(String, u64)>,
    nodes: Vec<NodeRow>,
    database: PathBuf,
    connection: Option<Connection>,
    last_database: Instant,
    cleaner: String,
}

/// One node of the table.
#[derive(Clone, Debug)]
struct NodeRow {
    name: String,
    pid: u32,
    state: &'static str,
}

impl View {
    /// A view without nodes.
    pub(crate) fn new(database: &Path) -> Self {
        let now = Instant::now();
        Self {
            terminal: std::io::stderr().is_terminal()
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            began: now,
            drawn: 0,
            last_frame: now,
            before: Vec::new(),
            nodes: Vec::new(),
            database: database.to_owned(),
            connection: None,
            last_database: now,
            cleaner: String::new(),
        }
    }

    /// A node was started.
    pub(crate) fn node_up(&mut self, name: &str, pid: u32) {
        self.nodes.push(NodeRow { name: name.to_owned(), pid, state: "up" });
    }

    /// A node was killed.
    pub(crate) fn node_killed(&mut self, name: &str) {
        for node in self.nodes.iter_mut().filter(|node| node.name == name) {
            node.state = "killed";
        }
    }

    /// A node has left.
    pub(crate) fn node_left(&mut self, name: &str) {
        self.nodes.retain(|node| node.name != name);
    }

    /// Says a line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        self.clear();
        eprintln!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Draws the table if it is time.
    pub(crate) fn frame(&mut self, collector: &Collector) {
        let since = self.last_frame.elapsed();
        if !self.terminal || since < FRAME {
            return;
        }
        self.last_frame = Instant::now();
        let lines = self.lines(collector, since);
        self.clear();
        let mut text = String::new();
        for line in &lines {
            text.extend(line.chars().take(WIDTH));
            text.push('\n');
        }
        self.drawn = lines.len();
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn lines(&mut self, collector: &Collector, since: Duration) -> Vec<String> {
        let seen = collector.per_node();
        let mut lines = vec![format!(
            "          {:<6}{:>9}  {:<8}{:>7}{:>12}",
            "node", "pid", "state", "names", "messages/s"
        )];
        for node in &self.nodes {
            let (names, handled) = seen.get(&node.name).copied().unwrap_or_default();
            let before =
                self.before.iter().find(|(name, _)| *name == node.name).map_or(handled, |(_, count)| *count);
            let per_second = per_second(handled.saturating_sub(before), since);
            lines.push(format!(
                "          {:<6}{:>9}  {:<8}{:>7}{:>12}",
                node.name, node.pid, node.state, names, per_second
            ));
        }
        self.before = seen.into_iter().map(|(node, (_, handled))| (node, handled)).collect();
        let host = collector
            .host(CLEANER)
            .map_or_else(|| "nowhere yet".to_owned(), |host| format!("on {}", host.node));
        self.ask_database();
        lines.push(format!("          cleaner {host}{}", self.cleaner));
        lines
    }

    fn ask_database(&mut self) {
        if self.last_database.elapsed() < DATABASE_FRAME {
            return;
        }
        self.last_database = Instant::now();
        if self.connection.is_none() {
            self.connection = database::open(&self.database).ok();
        }
        if let Some(Ok((runs, deleted, outdated))) = self.connection.as_ref().map(database::progress) {
            self.cleaner = format!(
                ": {} runs, {} deleted, {} outdated left",
                grouped(runs),
                grouped(deleted),
                grouped(outdated)
            );
        }
    }

    /// Takes the table from the terminal.
    pub(crate) fn clear(&mut self) {
        if self.drawn > 0 {
            // Up to the first line of the table, then everything below goes.
            eprint!("\x1b[{}A\r\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    /// Lets go of the database, so that it can be sealed.
    pub(crate) fn close_database(&mut self) {
        self.connection = None;
        self.last_database = Instant::now() + Duration::from_secs(3_600);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.clear();
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn per_second(count: u64, since: Duration) -> String {
    grouped((count as f64 / since.as_secs_f64().max(0.001)).round() as u64)
}
