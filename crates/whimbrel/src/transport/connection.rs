//! One authenticated connection: a reader task and a writer.
//!
//! The writer puts everything that is queued into one buffer per write, acknowledgements along with it, and
//! sleeps until `send` or the reader wakes it. The reader takes what the socket has, cuts it into frames and
//! delivers them one by one: control messages to the driver, which may make it wait, all others to the
//! exchange, which never does.
//!
//! A frame that the link has counted as received is delivered exactly once: closing a connection interrupts
//! the reader only between frames; the end of the session interrupts it anywhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whimbrel_core::base::limits::FRAME_BYTES_MAX;
use whimbrel_core::delivery::CannotResume;
use whimbrel_core::node::LinkLoss;
use whimbrel_core::wire::frame::{self, FrameError, FrameKind, MessageFrame, RawFrame};
use whimbrel_core::wire::hello::{Greeting, Refusal};
use whimbrel_core::wire::{Control, Names};

use super::TransportEvent;
use super::registry::Shared;
use super::session::{Batch, Session};

/// Bytes that one write gathers, and that the reader makes room for.
const CHUNK_BYTES: usize = 64 * 1024;

/// How often the writer sees whether it is worth a turn to wait for more frames.
const TRY_EVERY: u8 = 128;

/// Frames of the message lane that are counted and delivered as one.
const RUN_FRAMES_MAX: usize = 256;

/// How often the exchange is told at most that the peer was heard.
const HEARD_EVERY: Duration = Duration::from_millis(100);

/// A connection whose handshake is complete.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Bytes that were read after the handshake's last frame.
    pub(super) leftover: BytesMut,
    pub(super) id: u64,
    pub(super) dialled_here: bool,
    /// Number of the last frame of the session that the peer has received.
    pub(super) peer_received: u64,
    /// Closes it.
    pub(super) closing: CancellationToken,
    /// Fired by its session when it is closed.
    pub(super) closed: CancellationToken,
}

/// Why a connection was closed, where that is worth a line in the log.
#[derive(Debug, Error)]
pub(super) enum Misbehaviour {
    /// What the peer sent is not a frame.
    #[error("the peer sent what can not be read: {0}")]
    Frame(#[from] FrameError),
    /// A frame is missing in the middle of a connection.
    #[error("the peer left out a frame before number {0}")]
    Gap(u64),
    /// The acceptor learns last who the dialler is, and may refuse it then.
    #[error("the peer ended the session: {0}")]
    Refused(Refusal),
    /// The peer resumes a session that is not this one.
    #[error("the session can not be resumed: {0}")]
    Resume(#[from] CannotResume),
    /// Nothing arrived for too long.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
}

/// How a reader ended.
type ReadEnd = Result<(), Misbehaviour>;

/// Runs a connection until it closes.
///
/// # Errors
/// Why this side closed it; the end of the stream and errors of the socket are normal.
pub(super) async fn drive(shared: &Arc<Shared>, session: &Arc<Session>, connection: Connection) -> ReadEnd {
    if let Err(error) = session.on_connected(connection.peer_received) {
        session.end(LinkLoss::Unreachable);
        return Err(error.into());
    }
    let closing = connection.closing;
    let (read, write) = connection.stream.into_split();
    let (report, reported) = oneshot::channel();
    let reader = Reader {
        shared: shared.clone(),
        session: session.clone(),
        read,
        buffer: connection.leftover,
        closing: closing.clone(),
        last_heard: Instant::now(),
        read_at: Instant::now(),
        told_heard: None,
        names: Names::default(),
        arrived: Vec::new(),
    };
    let reader_closing = closing.clone();
    shared.tasks.spawn("link reader", async move {
        // Also when the reader panics: the writer must not wait for ever.
        let _closes = reader_closing.drop_guard();
        let _ = report.send(reader.run().await);
    });
    let (buffer, batch, crowded, tries) = (Vec::new(), Batch::default(), false, 0);
    Writer { shared, session, write, closing: &closing, buffer, batch, crowded, tries }.run().await;
    closing.cancel();
    // An error here means that the reader panicked, which the panic hook has reported.
    reported.await.unwrap_or(Ok(()))
}

struct Writer<'a> {
    shared: &'a Shared,
    session: &'a Session,
    write: OwnedWriteHalf,
    closing: &'a CancellationToken,
    buffer: Vec<u8>,
    batch: Batch,
    /// There were several frames when it last looked.
    crowded: bool,
    tries: u8,
}

impl Writer<'_> {
    /// Writes until the connection closes.
    async fn run(mut self) {
        let timings = self.shared.config.timings;
        let timer = tokio::time::sleep(timings.keep_alive);
        tokio::pin!(timer);
        let mut last_written = Instant::now();
        let mut fired = false;
        // The acknowledgement for which the timer stands; none: for the next look at `keep_alive`.
        let mut armed = None;
        loop {
            self.fill(fired);
            if fired {
                fired = false;
                armed = None;
                timer.as_mut().reset(Instant::now() + timings.keep_alive);
                if self.buffer.is_empty() && last_written.elapsed() >= timings.keep_alive {
                    self.put_acknowledgement(self.session.received());
                }
            }
            if !self.buffer.is_empty() {
                if !self.flush().await {
                    return;
                }
                last_written = Instant::now();
                continue;
            }
            if let Some(delay) = self.batch.timer
                && armed < Some(delay)
            {
                armed = Some(delay);
                timer.as_mut().reset(Instant::now() + timings.acknowledge(delay));
            }
            tokio::select! {
                biased;
                () = self.session.ending.cancelled() => return self.say_the_rest(),
                () = self.closing.cancelled() => return,
                () = self.session.work.notified() => self.wait_for_others().await,
                () = timer.as_mut() => fired = true,
            }
        }
    }

    /// The runtime lets the writer run as soon as the first of many tasks has sent something. To write costs more than
    /// what is written, so it gives the others a turn where that has brought more frames before. One caller alone does
    /// not wait.
    async fn wait_for_others(&mut self) {
        self.tries = self.tries.wrapping_add(1);
        if self.crowded || self.tries.is_multiple_of(TRY_EVERY) {
            tokio::task::yield_now().await;
        }
    }

    /// Encodes what is queued.
    fn fill(&mut self, fired: bool) {
        self.session.take(&mut self.batch, CHUNK_BYTES, fired);
        if !self.batch.frames.is_empty() {
            self.crowded = self.batch.frames.len() > 1;
        }
        for (number, frame) in self.batch.frames.drain(..) {
            frame.put(&mut self.buffer, number);
        }
        if let Some(number) = self.batch.acknowledge.take() {
            self.put_acknowledgement(number);
        }
    }

    fn put_acknowledgement(&mut self, number: u64) {
        frame::put(&mut self.buffer, FrameKind::Ack, 0, &number.to_be_bytes());
    }

    /// Writes the buffer. False if the connection is gone.
    async fn flush(&mut self) -> bool {
        let written = tokio::select! {
            biased;
            () = self.closing.cancelled() => return false,
            () = self.session.ending.cancelled() => return false,
            written = self.write.write_all(&self.buffer) => written.is_ok(),
        };
        self.buffer.clear();
        if self.buffer.capacity() > 4 * CHUNK_BYTES {
            // A single large frame shall not hold a large buffer for ever.
            self.buffer = Vec::with_capacity(CHUNK_BYTES);
        }
        written
    }

    /// The session ends: what is queued is written as far as the socket takes it at once. "You are out of the
    /// view" is among it.
    fn say_the_rest(&mut self) {
        self.fill(false);
        let _ = self.write.try_write(&self.buffer);
    }
}

struct Reader {
    shared: Arc<Shared>,
    session: Arc<Session>,
    read: OwnedReadHalf,
    buffer: BytesMut,
    closing: CancellationToken,
    last_heard: Instant,
    /// When something was last read.
    read_at: Instant,
    /// When the exchange was told that frames of the message lane arrive.
    told_heard: Option<Instant>,
    names: Names,
    /// Frames of the run in hand; empty between runs.
    arrived: Vec<MessageFrame>,
}

impl Reader {
    async fn run(mut self) -> ReadEnd {
        let silence = self.shared.config.timings.silence;
        let alarm = tokio::time::sleep(silence);
        tokio::pin!(alarm);
        loop {
            self.deliver_all().await?;
            self.buffer.reserve(CHUNK_BYTES);
            // The time spent in delivering is not the peer's silence.
            self.last_heard = Instant::now();
            loop {
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return Ok(()),
                    () = self.session.ending.cancelled() => return Ok(()),
                    read = self.read.read_buf(&mut self.buffer) => {
                        if ended(&read) {
                            return Ok(());
                        }
                        self.read_at = Instant::now();
                        self.session.on_heard(self.read_at);
                        break;
                    }
                    () = alarm.as_mut() => {
                        let heard_until = self.last_heard + silence;
                        if heard_until <= Instant::now() {
                            return Err(Misbehaviour::Silent(silence));
                        }
                        alarm.as_mut().reset(heard_until);
                    }
                }
            }
        }
    }

    /// Delivers all whole frames in the buffer.
    async fn deliver_all(&mut self) -> ReadEnd {
        let mut taken = 0;
        // Lent to the frames.
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let mut run = Vec::new();
            let next = loop {
                match frame::split(&buffer[taken..], FRAME_BYTES_MAX) {
                    Ok(Some(frame)) if frame.kind.is_of_messages() && run.len() < RUN_FRAMES_MAX => {
                        taken += frame.taken;
                        run.push(frame);
                    }
                    other => break other,
                }
            };
            if let Err(error) = self.deliver_run(run) {
                break Err(error);
            }
            match next {
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
                Ok(Some(frame)) if frame.kind.is_of_messages() => {}
                Ok(Some(frame)) => {
                    taken += frame.taken;
                    match self.deliver(frame).await {
                        // It can have waited.
                        Ok(()) if self.closing.is_cancelled() => break Ok(()),
                        Ok(()) => {}
                        Err(error) => break Err(error),
                    }
                }
            }
            if self.session.is_ending() {
                break Ok(());
            }
        };
        buffer.advance(taken);
        self.buffer = buffer;
        result
    }

    /// Delivers frames of the message lane. They are counted before they are decoded: one that can not be read would
    /// otherwise come again with every connection. Those behind it are counted too, and so delivered.
    fn deliver_run(&mut self, mut run: Vec<RawFrame<'_>>) -> ReadEnd {
        if run.is_empty() {
            return Ok(());
        }
        let gap = self.session.on_frames(&mut run);
        let mut unread = None;
        for frame in run {
            match MessageFrame::from_body(frame.kind, frame.body, &mut self.names) {
                Ok(message) => self.arrived.push(message),
                Err(error) => unread = Some(error),
            }
        }
        let (inbound, from) = (&self.shared.inbound, self.session.peer().incarnation);
        let (now, heard) = (self.read_at, !self.arrived.is_empty());
        self.session.deliver(|| inbound.on_frames(from, &mut self.arrived));
        self.arrived.clear();
        if heard && self.told_heard.is_none_or(|told| now.saturating_duration_since(told) >= HEARD_EVERY) {
            self.told_heard = Some(now);
            inbound.on_heard(from);
        }
        match (unread, gap) {
            (Some(error), _) => Err(error.into()),
            (None, Some(number)) => Err(Misbehaviour::Gap(number)),
            (None, None) => Ok(()),
        }
    }

    /// Delivers a frame that is none of the message lane.
    async fn deliver(&mut self, frame: RawFrame<'_>) -> ReadEnd {
        if frame.kind == FrameKind::Ack {
            self.session.on_acknowledged(frame::read_ack(frame.body)?);
            return Ok(());
        }
        if frame.kind == FrameKind::Refusal {
            return Err(self.refused(frame.body));
        }
        if !frame.kind.is_numbered() {
            return Err(FrameError::OutOfPlace(frame.kind).into());
        }
        let mut run = vec![frame];
        if let Some(number) = self.session.on_frames(&mut run) {
            return Err(Misbehaviour::Gap(number));
        }
        for frame in run {
            self.deliver_control(frame).await?;
        }
        Ok(())
    }

    fn refused(&self, body: &[u8]) -> Misbehaviour {
        match Greeting::from_body(FrameKind::Refusal, body) {
            Ok(Greeting::Refusal(refusal)) => {
                // Dialling again would end the same way for as long as the session is kept.
                self.session.end(LinkLoss::Unreachable);
                Misbehaviour::Refused(refusal)
            }
            Ok(_) => FrameError::OutOfPlace(FrameKind::Refusal).into(),
            Err(error) => error.into(),
        }
    }

    async fn deliver_control(&self, frame: RawFrame<'_>) -> ReadEnd {
        let message = Control::from_bytes(frame.body)
            .map_err(|error| FrameError::Body { kind: FrameKind::Control, error })?;
        let from = self.session.peer().incarnation;
        let event = TransportEvent::Control { me: self.session.me(), from, message };
        tokio::select! {
            biased;
            () = self.session.ending.cancelled() => {}
            // An error means that the driver is gone, and the node with it.
            _ = self.shared.events.send(event) => {}
        }
        Ok(())
    }
}

fn ended(read: &io::Result<usize>) -> bool {
    matches!(read, Ok(0) | Err(_))
}
