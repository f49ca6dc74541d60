//! The floor of a remote call: what tokio and TCP allow on this machine when there is nothing else.
//!
//! Multiplexed like ours: a writer and a reader task on each side, ids, frames with a u32 length, NODELAY. No
//! names, no gates, no acknowledgements, no codec: the payload is bytes and stays bytes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};

use super::meter::{PAYLOAD_BYTES, Target};

/// Bytes of a frame in front of its payload: u32 length of the rest, u64 id.
const HEADER_BYTES: usize = 12;
const FRAME_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;
/// Frames that wait for a writer.
const QUEUE_FRAMES: usize = 4_096;
/// Frames that a writer takes at once.
const BATCH_FRAMES: usize = 1_024;
/// The id of a frame that wants no answer.
const CAST: u64 = u64::MAX;

/// One frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    id: u64,
    payload: [u8; PAYLOAD_BYTES],
}

/// Listens on loopback and answers every frame that wants an answer with its own payload. Returns the port.
pub(crate) async fn listen() -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (frames, queue) = mpsc::channel(QUEUE_FRAMES);
            let Ok((mut read, write)) = split(stream) else { continue };
            tokio::spawn(write_frames(write, queue));
            tokio::spawn(async move {
                while let Ok(true) = read.fill().await {
                    while let Ok(Some(frame)) = read.next() {
                        if frame.id != CAST && frames.send(frame).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(port)
}

/// The calling side.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    frames: mpsc::Sender<Frame>,
    pending: Arc<Pending>,
}

impl Floor {
    /// Connects to a listener of another process.
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        let (mut read, write) = split(TcpStream::connect(("127.0.0.1", port)).await?)?;
        let (frames, queue) = mpsc::channel(QUEUE_FRAMES);
        let pending = Arc::new(Pending::default());
        tokio::spawn(write_frames(write, queue));
        let waiting = Arc::clone(&pending);
        tokio::spawn(async move {
            while let Ok(true) = read.fill().await {
                while let Ok(Some(frame)) = read.next() {
                    waiting.answer(frame.id);
                }
            }
            waiting.close();
        });
        Ok(Self { frames, pending })
    }

    /// Returns when the connection has closed.
    pub(crate) async fn closed(&self) {
        self.pending.closed.notified().await;
    }
}

impl Target for Floor {
    type Error = io::Error;

    async fn call(&self, _text: String) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let id = self.pending.insert(sender);
        let sent = self.frames.send(Frame { id, payload: [7; PAYLOAD_BYTES] }).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        receiver.await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn cast(&self, _text: String) -> io::Result<()> {
        let sent = self.frames.send(Frame { id: CAST, payload: [7; PAYLOAD_BYTES] }).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Callers that wait.
#[derive(Debug, Default)]
struct Pending {
    /// By id. Contended by callers and the reader, for a moment each.
    slab: Mutex<Slab>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Slab {
    waiting: Vec<Option<oneshot::Sender<()>>>,
    free: Vec<u64>,
}

impl Pending {
    fn insert(&self, caller: oneshot::Sender<()>) -> u64 {
        let mut slab = self.slab.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = slab.free.pop() {
            if let Some(slot) = usize::try_from(id).ok().and_then(|at| slab.waiting.get_mut(at)) {
                *slot = Some(caller);
            }
            return id;
        }
        slab.waiting.push(Some(caller));
        slab.waiting.len() as u64 - 1
    }

    fn answer(&self, id: u64) {
        let mut slab = self.slab.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = usize::try_from(id).ok().and_then(|at| slab.waiting.get_mut(at)).and_then(Option::take);
        if let Some(caller) = caller {
            slab.free.push(id);
            drop(slab);
            let _ = caller.send(());
        }
    }

    fn close(&self) {
        self.slab.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
        // One permit stays for whoever asks later.
        self.closed.notify_one();
    }
}

fn split(stream: TcpStream) -> io::Result<(FrameReader, OwnedWriteHalf)> {
    stream.set_nodelay(true)?;
    let (stream, write) = stream.into_split();
    Ok((FrameReader { stream, bytes: vec![0; 64 * 1024], from: 0, to: 0 }, write))
}

async fn write_frames(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    let mut bytes = Vec::with_capacity(BATCH_FRAMES * FRAME_BYTES);
    while queue.recv_many(&mut batch, BATCH_FRAMES).await > 0 {
        bytes.clear();
        for frame in batch.drain(..) {
            let rest = u32::try_from(FRAME_BYTES - 4).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&rest.to_be_bytes());
            bytes.extend_from_slice(&frame.id.to_be_bytes());
            bytes.extend_from_slice(&frame.payload);
        }
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads in big pieces and cuts them into frames.
#[derive(Debug)]
struct FrameReader {
    stream: OwnedReadHalf,
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl FrameReader {
    /// Reads what is there; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        self.bytes.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let read = self.stream.read(&mut self.bytes[self.to..]).await?;
        self.to += read;
        Ok(read > 0)
    }

    /// The next whole frame of what was read.
    fn next(&mut self) -> io::Result<Option<Frame>> {
        if self.to - self.from < FRAME_BYTES {
            return Ok(None);
        }
        let frame = parse(&self.bytes[self.from..self.from + FRAME_BYTES])?;
        self.from += FRAME_BYTES;
        Ok(Some(frame))
    }
}

fn parse(bytes: &[u8]) -> io::Result<Frame> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (id, payload) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    if u32::from_be_bytes(*length) as usize != FRAME_BYTES - 4 {
        return Err(wrong());
    }
    Ok(Frame { id: u64::from_be_bytes(*id), payload: payload.try_into().map_err(|_| wrong())? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn many_callers_share_one_connection() {
        let floor = Floor::connect(listen().await.unwrap()).await.unwrap();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let floor = floor.clone();
            callers.spawn(async move {
                for _ in 0..50 {
                    floor.cast(String::new()).await.unwrap();
                    floor.call(String::new()).await.unwrap();
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap();
        }
        assert!(floor.pending.slab.lock().unwrap().waiting.len() <= 64, "ids are used again");
    }
}
