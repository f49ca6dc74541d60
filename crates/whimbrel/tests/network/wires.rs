//! Three network namespaces, and a fourth with the bridge between them: all of it goes with the namespaces.

use std::process::{Command, Stdio};

/// Nodes.
pub(crate) const NODES: usize = 3;

/// The network; taken down when it is dropped.
pub(crate) struct Wires {
    /// Namespaces of this run.
    prefix: String,
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let told = Command::new(program).args(arguments.split(' ')).stdin(Stdio::null()).output();
    let told = told.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&told.stderr);
    let line = text.lines().next().unwrap_or("no reason given");
    if told.status.success() { Ok(()) } else { Err(format!("{program} {arguments}: {line}")) }
}

impl Wires {
    /// # Errors
    /// This machine, or this user, can not have network namespaces.
    pub(crate) fn lay() -> Result<Self, String> {
        let wires = Self { prefix: format!("whimbrel{}", std::process::id()) };
        let hub = wires.hub();
        run("ip", &format!("netns add {hub}"))?;
        run("ip", &format!("-n {hub} link add hub type bridge"))?;
        run("ip", &format!("-n {hub} link set hub up"))?;
        for node in 0..NODES {
            let space = wires.space(node);
            run("ip", &format!("netns add {space}"))?;
            run("ip", &format!("-n {space} link add wire type veth peer name port{node} netns {hub}"))?;
            run("ip", &format!("-n {space} address add {}/24 dev wire", address(node)))?;
            run("ip", &format!("-n {space} link set wire up"))?;
            run("ip", &format!("-n {hub} link set port{node} up"))?;
            wires.plugged(node, true)?;
        }
        wires.isolated("off")?;
        Ok(wires)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// The namespace of a node.
    pub(crate) fn space(&self, node: usize) -> String {
        format!("{}-{node}", self.prefix)
    }

    fn plugged(&self, node: usize, plugged: bool) -> Result<(), String> {
        let master = if plugged { "master hub" } else { "nomaster" };
        run("ip", &format!("-n {} link set port{node} {master}", self.hub()))
    }

    /// What ports say that are isolated reaches no other isolated port.
    fn isolated(&self, isolated: &str) -> Result<(), String> {
        (0..2).try_for_each(|node| {
            run("ip", &format!("-n {} link set port{node} type bridge_slave isolated {isolated}", self.hub()))
        })
    }

    /// The first two nodes lose each other. Nobody is told: frames are lost.
    pub(crate) fn cut_pair(&self) {
        self.isolated("on").unwrap();
    }

    pub(crate) fn mend_pair(&self) {
        self.isolated("off").unwrap();
    }

    /// A node loses all others, in the same way.
    pub(crate) fn unplug(&self, node: usize) {
        self.plugged(node, false).unwrap();
    }

    pub(crate) fn plug(&self, node: usize) {
        self.plugged(node, true).unwrap();
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for space in (0..NODES).map(|node| self.space(node)).chain([self.hub()]) {
            let _ = run("ip", &format!("netns delete {space}"));
        }
    }
}

/// The address of a node.
pub(crate) fn address(node: usize) -> String {
    format!("10.77.0.{}", node + 1)
}
