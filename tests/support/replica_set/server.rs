//! A member's connection to the server, for one of its clients.

use super::{
    super::wire::{self, Message},
    connection::read,
    request::Request,
    state::{Shared, Transaction},
};
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

pub(super) struct Server {
    stream: BufReader<TcpStream>,
}

impl Server {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a message.
    pub(super) async fn ask(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(message).await
    }

    /// The next reply.
    pub(super) async fn answer(&mut self) -> io::Result<Message> {
        read(&mut self.stream).await
    }

    /// Ends a transaction.
    pub(super) async fn abort(&mut self, transaction: &Transaction) -> io::Result<()> {
        self.ask(&wire::op_msg(1, &transaction.abort())).await?;
        self.answer().await.map(drop)
    }
}

/// A write or a statement of a transaction that the server may be doing.
pub(super) struct Write {
    /// The session of its transaction.
    session: Option<Vec<u8>>,
    /// Whether the server has the whole message.
    sent: bool,
}

impl Write {
    /// What a request is, if it is one. One that wants no reply can't be followed.
    pub(super) fn of(request: &Request) -> Option<Self> {
        if !request.needs_primary() || request.is_unacknowledged() {
            return None;
        }
        let session = request.session().filter(|_| request.is_in_transaction());
        Some(Self { session: session.map(|(id, _)| id), sent: false })
    }

    /// Counts that the server now has it.
    pub(super) fn sent(&mut self, shared: &Shared, member: usize) {
        self.sent = true;
        shared.count(|state| state.members[member].counters.writing += 1);
    }

    /// Counts that the server has done it, or never will. Returns its transaction if that is over and
    /// has to be aborted.
    pub(super) fn end(self, shared: &Shared, member: usize) -> Option<Transaction> {
        shared.count(|state| {
            state.members[member].counters.writing -= usize::from(self.sent);
            state.end_statement(&self.session?)
        })
    }
}

/// Waits until the server has done what it does for a client that is gone.
pub(super) async fn settle(shared: &Shared, member: usize, server: Option<Server>, write: Write) {
    let mut server = server.filter(|_| write.sent);
    if let Some(server) = &mut server {
        // Any part of a reply will do: a part may have been read before.
        let _ = server.stream.fill_buf().await;
    }
    let over = write.end(shared, member);
    if let (Some(over), Ok(mut server)) = (over, Server::connect(shared.server).await) {
        let _ = server.abort(&over).await;
    }
}
