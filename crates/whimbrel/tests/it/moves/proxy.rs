//! A proxy between two nodes that knows where frames begin and end, tells which ones went by, and cuts the connection
//! at one of them. What was cut is dialled again at once: for the nodes a broken connection, and no more.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::limits::FRAME_BYTES_MAX;
use whimbrel_core::wire::frame::{FrameKind, MessageFrame, RawFrame, split};
use whimbrel_core::wire::{Body, Control, Names};

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From who dials.
    Up,
    Down,
}

/// Where in a frame the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Before,
    Middle,
    After,
}

/// One frame since the proxy began to look: the so-and-so-many-th of those that say this, this way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) way: Way,
    pub(crate) says: String,
    pub(crate) nth: usize,
}

#[derive(Default)]
struct Look {
    looks: bool,
    passed: Vec<Mark>,
    cut_at: Option<(Mark, Cut)>,
}

pub(crate) struct Proxy {
    pub(crate) address: String,
    look: Arc<Mutex<Look>>,
    stop: CancellationToken,
}

impl Proxy {
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (look, stop) = (Arc::<Mutex<Look>>::default(), CancellationToken::new());
        let (looking, stopped) = (look.clone(), stop.clone());
        tokio::spawn(async move {
            stopped.run_until_cancelled(serve(listener, target, looking)).await;
        });
        Self { address, look, stop }
    }

    /// Looks at frames from now on, and cuts at this one.
    pub(crate) fn begin(&self, cut_at: Option<(Mark, Cut)>) {
        *self.look.lock().unwrap() = Look { looks: true, passed: Vec::new(), cut_at };
    }

    /// Looks no more. Returns what went by, and whether nothing is left to be cut.
    pub(crate) fn end(&self) -> (Vec<Mark>, bool) {
        let look = std::mem::take(&mut *self.look.lock().unwrap());
        (look.passed, look.cut_at.is_none())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, target: String, look: Arc<Mutex<Look>>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (target, look) = (target.clone(), look.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            for socket in [&client, &server] {
                socket.set_nodelay(true).unwrap();
            }
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let over = CancellationToken::new();
            tokio::join!(
                forward(Way::Up, client_read, server_write, &look, &over),
                forward(Way::Down, server_read, client_write, &look, &over),
            );
        });
    }
}

/// Forwards whole frames until the connection is over, for both ways at once. Both ends then hear of it in order, behind
/// what was forwarded: a socket that is closed with unread bytes in it would take those along.
async fn forward(
    way: Way,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    look: &Mutex<Look>,
    over: &CancellationToken,
) {
    over.run_until_cancelled(forward_frames(way, &mut from, &mut to, look)).await;
    over.cancel();
    let _gone = to.shutdown().await;
    let mut rest = [0; 4096];
    while let Ok(1..) = from.read(&mut rest).await {}
}

async fn forward_frames(
    way: Way,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    look: &Mutex<Look>,
) {
    let mut buffer = Vec::new();
    loop {
        while let Some(frame) = split(&buffer, FRAME_BYTES_MAX).unwrap() {
            let taken = frame.taken;
            let (bytes, over) = match look.lock().unwrap().see(way, &frame) {
                None => (taken, false),
                Some(Cut::Before) => (0, true),
                Some(Cut::Middle) => (taken / 2, true),
                Some(Cut::After) => (taken, true),
            };
            if to.write_all(&buffer[..bytes]).await.is_err() || over {
                return;
            }
            buffer.drain(..taken);
        }
        let Ok(1..) = from.read_buf(&mut buffer).await else { return };
    }
}

impl Look {
    fn see(&mut self, way: Way, frame: &RawFrame<'_>) -> Option<Cut> {
        let mut cut = None;
        for says in self.looks.then(|| says(frame)).into_iter().flatten() {
            let nth = 1 + self.passed.iter().filter(|mark| mark.way == way && mark.says == says).count();
            let mark = Mark { way, says, nth };
            cut = cut.or(self.cut_at.take_if(|(at, _)| *at == mark).map(|(_, cut)| cut));
            self.passed.push(mark);
        }
        cut
    }
}

/// What a frame says, in the words of its types, less what members say to each other all the time.
fn says(frame: &RawFrame<'_>) -> Vec<String> {
    let word = |text: String| text.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    match frame.kind {
        FrameKind::Control => match Control::from_bytes(frame.body).unwrap().body {
            Body::Membership(_) | Body::Groups(_) => Vec::new(),
            Body::Directory(message) => vec![word(format!("{message:?}"))],
            Body::Handoff(message) => vec![word(format!("{message:?}"))],
            Body::Turn(turn) => {
                turn.into_messages().iter().map(|message| word(format!("{message:?}"))).collect()
            }
        },
        FrameKind::Message | FrameKind::Publish => vec!["message".to_owned()],
        FrameKind::Signal | FrameKind::Reply => {
            match MessageFrame::from_body(frame.kind, frame.body, &mut Names::default()).unwrap() {
                MessageFrame::Signal(signal) => vec![format!("signal {}", word(format!("{signal:?}")))],
                MessageFrame::Reply(reply) => vec![format!("reply {}", word(format!("{:?}", reply.outcome)))],
                MessageFrame::Message(_) | MessageFrame::Publish(_) => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}
