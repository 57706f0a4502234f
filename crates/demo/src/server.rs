//! The demonstration's MongoDB server: accepts connections, and replies to requests.

#[cfg(test)]
mod tests;

use super::{
    accept,
    command_error::CommandError,
    commands::{self, Request, diagnostic},
    store::Store,
    value::as_whole,
    wire::{self, Shape, WireError, WireMessage},
};
use bson::Document;
use std::{cell::RefCell, io, rc::Rc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

/// How long a peer may read none of the bytes sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves every connection until dropped. Must run in a `LocalRuntime` or a `LocalSet`.
pub async fn serve(listener: TcpListener) {
    let store = Rc::new(RefCell::new(Store::default()));
    let mut number = 0;
    let serve = |stream| {
        number += 1;
        let connection = Connection { stream, store: store.clone(), number, last_id: 0 };
        async move {
            // The result is ignored: the connection has ended either way.
            let _ = connection.run().await;
        }
    };
    accept::each(listener, serve).await;
}

struct Connection {
    stream: TcpStream,
    store: Rc<RefCell<Store>>,
    number: i32,
    last_id: i32,
}

impl Connection {
    async fn run(mut self) -> Result<(), WireError> {
        while let Some(request) = wire::read(&mut self.stream).await? {
            if request.shape == Shape::Reply {
                return Err(WireError::Malformed("a reply where a request should be"));
            }
            let reply = self.answer(&request).await;
            // A request with `moreToCome` expects no reply, and would match it to another request.
            if request.more_to_come {
                continue;
            }
            if request.exhaust_allowed && diagnostic::awaited(&request.body).is_some() {
                self.stream_hello(&request, reply).await?;
            } else {
                let id = self.next_id();
                self.send(request.answer(id, reply)).await?;
            }
        }
        Ok(())
    }

    async fn answer(&self, request: &WireMessage) -> Document {
        match self.try_answer(request).await {
            Ok(reply) => reply,
            Err(failure) => failure.reply(),
        }
    }

    async fn try_answer(&self, message: &WireMessage) -> Result<Document, CommandError> {
        let request = Request::new(&message.body, self.number)?;
        let allowed = diagnostic::is_handshake(request.name)
            || matches!(request.name, "buildInfo" | "buildinfo");
        if message.shape == Shape::Query && !allowed {
            let message = format!(
                "Unsupported OP_QUERY command: {}. The client driver may require an upgrade.",
                request.name
            );
            return Err(CommandError::new(352, "UnsupportedOpQueryCommand", message));
        }
        if diagnostic::is_handshake(request.name) {
            self.await_news(message).await?;
        } else if let Some(pause) = diagnostic::wanted_pause(request) {
            pause_at_most(pause, &message.body).await?;
        }
        commands::run(&mut self.store.borrow_mut(), request)
    }

    /// Waits as long as a `hello` awaits a change. There never is one.
    async fn await_news(&self, message: &WireMessage) -> Result<(), CommandError> {
        let body = &message.body;
        if body.contains_key("topologyVersion") != body.contains_key("maxAwaitTimeMS") {
            let message = "topologyVersion and maxAwaitTimeMS must come together";
            return Err(CommandError::new(31368, "Location31368", message));
        }
        if let Some(wait) = diagnostic::awaited(body) {
            self.wait_or_read(wait).await;
        }
        Ok(())
    }

    /// Waits until the time is up or bytes or a close arrive. Returns `true` in the second case.
    async fn wait_or_read(&self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stream.peek(&mut [0])).await.is_ok()
    }

    /// Repeats the reply to a `hello` after each wait, until bytes or a close arrive. Each reply
    /// names the previous one, as the specification of OP_MSG requires.
    async fn stream_hello(
        &mut self,
        request: &WireMessage,
        first: Document,
    ) -> Result<(), WireError> {
        let wait =
            diagnostic::awaited(&request.body).unwrap_or_default().max(Duration::from_millis(10));
        let mut reply = first;
        let mut answered = request.id;
        loop {
            let id = self.next_id();
            let more_to_come = reply.get("ok").and_then(as_whole) == Some(1);
            let message = WireMessage { more_to_come, ..WireMessage::new(id, answered, reply) };
            self.send(message).await?;
            answered = id;
            if !more_to_come || self.wait_or_read(wait).await {
                return Ok(());
            }
            reply = match Request::new(&request.body, self.number) {
                Ok(hello) => diagnostic::answer(hello).unwrap_or_default(),
                Err(failure) => failure.reply(),
            };
            reply.insert("ok", 1.0);
        }
    }

    fn next_id(&mut self) -> i32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    async fn send(&mut self, message: WireMessage) -> Result<(), WireError> {
        let bytes = match message.to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                let failure = CommandError::new(10334, "BSONObjectTooLarge", error.to_string());
                WireMessage { body: failure.reply(), ..message }.to_bytes()?
            }
        };
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        let written = tokio::time::timeout(WRITE_TIMEOUT, self.stream.write_all(&bytes)).await;
        Ok(written.map_err(timed_out)??)
    }
}

/// Waits, but not longer than `maxTimeMS`.
async fn pause_at_most(pause: Duration, body: &Document) -> Result<(), CommandError> {
    let limit = body.get("maxTimeMS").and_then(as_whole).and_then(|ms| u64::try_from(ms).ok());
    match limit.filter(|ms| *ms > 0).map(Duration::from_millis) {
        Some(limit) if limit < pause => {
            tokio::time::sleep(limit).await;
            Err(CommandError::new(50, "MaxTimeMSExpired", "operation exceeded time limit"))
        }
        _ => {
            tokio::time::sleep(pause).await;
            Ok(())
        }
    }
}
