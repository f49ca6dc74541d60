//! A small tree on one node: a meter, which is a process, and a reader, which is a task that feeds it. The reader depends
//! on the meter (`RestForOne`): when the reader fails it comes back alone, when the meter fails both do, in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use whimbrel::{
    Child, Cluster, Context, ExitReason, Process, ProcessRef, RestartPolicy, Stopping, Strategy, Tree,
    handlers,
};

struct Meter {
    total: u64,
}

impl Process for Meter {
    const KIND: &'static str = "meter";
    type Args = (); // it stays on its node, so nothing here needs serde

    async fn init((): (), cx: &mut Context<Self>) -> Result<Self, ExitReason> {
        println!("meter: begins at 0");
        // Each life is another process: under this name the reader finds the present one.
        let registered = cx.cluster().register("meter", &cx.myself()).await;
        registered.map(|_| Meter { total: 0 }).map_err(|error| ExitReason::Error(error.to_string()))
    }
}

#[handlers(local)]
impl Meter {
    #[call]
    async fn add(&mut self, n: u64) -> u64 {
        assert_ne!(n, 13, "no meter survives this number");
        self.total += n;
        self.total
    }
}

type Lines = Arc<Mutex<VecDeque<&'static str>>>;
type Reader = (Lines, ProcessRef<Meter>, mpsc::Sender<u64>);

/// One life of the reader.
async fn read((lines, meter, last): Reader, stop: Stopping) -> Result<(), ExitReason> {
    println!("  reader: begins");
    let next = || lines.lock().ok()?.pop_front();
    let mut sum = 0;
    while let Some(line) = next() {
        println!("  reader: {line}");
        let number = line.parse().map_err(|_| ExitReason::Error(format!("{line:?} is no number")))?;
        match meter.add(number).await {
            Ok(total) => sum = total,
            Err(_) => {
                stop.asked().await; // the supervisor sees it too, and stops what depends on the meter
                return Ok(());
            }
        }
    }
    // The end of a transient child: it is not started again.
    last.send(sum).await.map_err(|error| ExitReason::Error(error.to_string()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("the panic on standard error is meant");
    let cluster = Cluster::local().join().await?;
    let lines = Lines::new(Mutex::new(["1", "2", "three", "4", "13", "5", "6"].into()));
    let (last, mut sum) = mpsc::channel(1);
    let reader: Reader = (lines, cluster.process("meter")?, last);
    let reader = Child::task("reader", move |stop| read(reader.clone(), stop));
    let tree = Tree::new(Strategy::RestForOne)
        .child(Child::process::<Meter>("meter", ()))
        .child(reader.restart(RestartPolicy::Transient));
    let supervisor = cluster.supervise(tree).await?;

    let sum = sum.recv().await;
    let restarts: Vec<_> =
        supervisor.children().into_iter().map(|child| (child.id, child.restarts)).collect();
    println!("the last meter has {sum:?}; restarts: {restarts:?}");
    assert_eq!(sum, Some(5 + 6)); // what the first one knew went with it, and 13 is not tried again
    assert_eq!(restarts, [("meter".to_owned(), 1), ("reader".to_owned(), 2)]);
    cluster.leave().await;
    Ok(())
}
