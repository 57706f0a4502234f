//! A client's connection to a member.

use super::{
    super::wire::{LONGEST, Message},
    request::Request,
    server::{Server, Write, settle},
    state::{One, Shared},
};
use socket2::SockRef;
use std::{io, net::TcpListener as StdListener, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) member: usize,
    /// Its number among the member's connections: `connectionId`.
    pub(super) number: i32,
    pub(super) client: BufReader<TcpStream>,
    /// Its own connection to the server, once there was something to ask there.
    pub(super) server: Option<Server>,
    /// What the server may be doing for the client.
    pub(super) write: Option<Write>,
    last_id: i32,
}

/// Accepts a member's connections until the member is down.
pub(super) async fn listen(shared: Arc<Shared>, member: usize, listener: StdListener) {
    let down = shared.look(|state| state.members[member].down.clone());
    let listener = TcpListener::from_std(listener).expect("a runtime");
    let accept = async {
        while let Ok((client, _)) = listener.accept().await {
            shared.until(|state| (!state.members[member].silent).then_some(())).await;
            tokio::spawn(serve(shared.clone(), member, down.clone(), client));
        }
    };
    down.run_until_cancelled(accept).await;
    drop(listener);
    shared.count(|state| state.members[member].listens = false);
}

/// Serves a connection until its client goes, or resets it when the member is down.
async fn serve(shared: Arc<Shared>, member: usize, down: CancellationToken, client: TcpStream) {
    let open = One::of(&shared, member, |counters| &mut counters.open);
    let number = shared.count(|state| {
        let member = &mut state.members[member];
        member.counters.connections += 1;
        member.counters.most_open = member.counters.most_open.max(member.counters.open);
        member.counters.connections as i32
    });
    // Each reply is to be a segment of its own, and none to wait for the next.
    let _ = client.set_nodelay(true);
    let client = BufReader::new(client);
    let mut connection = Connection {
        shared: shared.clone(),
        member,
        number,
        client,
        server: None,
        write: None,
        last_id: 0,
    };
    if down.run_until_cancelled(connection.run()).await.is_none() {
        let _ = SockRef::from(connection.client.get_ref()).set_linger(Some(Duration::ZERO));
    }
    let Connection { client, server, write, .. } = connection;
    drop(client);
    drop(open);
    if let Some(write) = write {
        settle(&shared, member, server, write).await;
    }
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let message = read(&mut self.client).await?;
            self.ends_silence().await;
            let Some(request) = Request::of(message) else { return Ok(()) };
            self.shared.count(|state| {
                let counters = &mut state.members[self.member].counters;
                if request.is_hello() {
                    counters.hellos += 1;
                } else {
                    *counters.operations.entry(request.name.clone()).or_default() += 1;
                }
            });
            if request.is_hello() {
                self.hello(&request).await?;
            } else {
                self.operation(&request).await?;
            }
        }
    }

    /// Sends these bytes, as late as a slow member does and not while it is silent.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::sleep(self.shared.look(|state| state.members[self.member].delay)).await;
        self.ends_silence().await;
        self.client.get_mut().write_all(bytes).await
    }

    /// Waits until the member is not silent.
    pub(super) async fn ends_silence(&self) {
        self.shared.until(|state| (!state.members[self.member].silent).then_some(())).await;
    }

    /// Returns when the client closes its connection, and not if it sends something.
    pub(super) async fn client_goes(&mut self) -> io::Error {
        client_goes(&mut self.client).await
    }

    pub(super) fn next_id(&mut self) -> i32 {
        self.last_id += 1;
        self.last_id
    }
}

/// Returns when a client closes its connection, and not if it sends something.
pub(super) async fn client_goes(client: &mut BufReader<TcpStream>) -> io::Error {
    match client.fill_buf().await {
        Ok([]) => io::ErrorKind::UnexpectedEof.into(),
        Ok(_) => std::future::pending().await,
        Err(error) => error,
    }
}

/// The next message.
pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Message> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).await?;
    let length = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    if !(16..=LONGEST).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[4..]).await?;
    Ok(Message(bytes))
}
