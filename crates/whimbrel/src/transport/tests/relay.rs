//! A TCP relay in front of a node: cuts connections or stands still.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a relay does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Forwards bytes.
    Forward,
    /// Closes every connection at once.
    Close,
}

pub(super) struct Relay {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
}

struct State {
    target: String,
    mood: Mood,
    /// Cuts the connections opened since the last change.
    cut: CancellationToken,
    /// Stops the connections opened since the last change.
    held: CancellationToken,
    /// Connections opened so far.
    opened: u64,
}

impl Relay {
    pub(super) async fn to(target: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = CancellationToken::new();
        let state = State {
            target: target.to_owned(),
            mood: Mood::Forward,
            cut,
            held: CancellationToken::new(),
            opened: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let stop = CancellationToken::new();
        let (serving, stopped) = (state.clone(), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(serve(listener, serving)).await });
        Relay { address, state, stop }
    }

    /// Cuts every connection; new ones get this mood.
    pub(super) fn cut(&self, mood: Mood) {
        let mut state = self.state.lock().unwrap();
        state.mood = mood;
        std::mem::take(&mut state.cut).cancel();
    }

    pub(super) fn opened(&self) -> u64 {
        self.state.lock().unwrap().opened
    }

    /// The connections of now stand still for ever: what is on the way stays there, nothing is closed.
    pub(super) fn hold(&self) {
        self.state.lock().unwrap().held.cancel();
    }

    /// New connections are forwarded again, those held stay held.
    pub(super) fn forward_new(&self) {
        self.state.lock().unwrap().held = CancellationToken::new();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut(Mood::Close);
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (target, mood, cut, held) = {
            let mut state = state.lock().unwrap();
            state.opened += 1;
            (state.target.clone(), state.mood, state.cut.clone(), state.held.clone())
        };
        if mood == Mood::Close {
            continue;
        }
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let up = forward(client_read, server_write, &held);
            let down = forward(server_read, client_write, &held);
            // Whichever way ends first takes the other with it.
            let both = async {
                tokio::select! {
                    biased;
                    () = up => {}
                    () = down => {}
                }
            };
            cut.run_until_cancelled(both).await;
        });
    }
}

async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    held: &CancellationToken,
) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(bytes @ 1..) = from.read(&mut buffer).await else { return };
        if held.is_cancelled() {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
