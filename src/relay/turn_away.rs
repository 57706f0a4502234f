//! A client that can't be connected: it is told so, where its protocol has words.

use super::{flow::LONGEST_HOLD, open::Facts};
use crate::connection::Door;
use bytes::BytesMut;
use operation::{
    Close, Codec, Gate, Manner, Next, Operation, Reason, Refusal, Request, Settlement, Violation,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a client may take to ask, and then to be told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers a client's first request with a refusal: there is no upstream for its connection.
///
/// Who would make too much of a no is closed without one.
///
/// A protocol whose operation is the connection has no words; its operation is accounted for, and
/// that is all if `manner` asks for none. The connection is closed afterwards, by whoever called.
pub async fn turn_away<C: Codec>(
    shared: &Arc<C::Shared>,
    door: &Door,
    client: &mut TcpStream,
    end: (Close, Manner),
    why: &Refusal<'_>,
) {
    let (close, manner) = end;
    let mut codec = C::new(shared, door.link());
    let mut asked = BytesMut::new();
    if let Ok(Some(request)) = next_request(&mut codec, &asked) {
        return account(&codec, door, request, &asked, door.accepted(), close, why);
    }
    if manner != Manner::Words {
        return;
    }
    // Whoever asks nothing in time has nothing to be told.
    let _ = timeout(PATIENCE, async {
        let request = first_request(&mut codec, client, &mut asked).await?;
        account(&codec, door, request, &asked, Instant::now(), close, why);
        let (tag, mut answer) = (request.tag?, BytesMut::new());
        // A service that is not there serves none of its clients' other connections.
        let others = why.reason != Reason::NoEndpoint || door.is_cluster_connected();
        if !codec.closes_rather(tag, why.reason, others) && codec.refuse(tag, why, &mut answer) {
            client.write_all(&answer).await.ok()?;
            client.shutdown().await.ok()?;
        }
        Some(())
    })
    .await;
}

/// Reads until the first request can be named.
async fn first_request<C: Codec>(
    codec: &mut C,
    client: &mut TcpStream,
    asked: &mut BytesMut,
) -> Option<Request> {
    loop {
        if client.read_buf(asked).await.ok()? == 0 || asked.len() > LONGEST_HOLD {
            return None;
        }
        if let Some(request) = next_request(codec, asked).ok()? {
            return Some(request);
        }
    }
}

fn next_request<C: Codec>(codec: &mut C, bytes: &[u8]) -> Result<Option<Request>, Violation> {
    match codec.request(bytes)? {
        Next::Hold(_) => Ok(None),
        Next::Pass { mark, .. } | Next::Swap { mark, .. } => Ok(mark),
        Next::Drop { .. } | Next::Breaks(_) => Ok(None),
    }
}

/// Has the gate count and log an operation that nobody served.
fn account<C: Codec>(
    codec: &C,
    door: &Door,
    request: Request,
    front: &[u8],
    began: Instant,
    close: Close,
    why: &Refusal<'_>,
) {
    let facts = Facts::new(codec, door);
    // Nothing more of it is read.
    let operation = Operation { partial: false, ..facts.operation(&request, front) };
    let mut how = Settlement::bare(close.outcome(true), Instant::now());
    how.policy = why.policy;
    how.reason = Some(close.as_str());
    how.request_bytes = front.len() as u64;
    how.attributes = &facts;
    door.turned_away(&operation, began, &how);
}
