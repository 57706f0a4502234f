//! Rejects a client whose connection has no upstream, with a message where its protocol has one.

use super::{flow::MAX_HOLD, in_flight::OperationAttributes};
use bytes::BytesMut;
use net::Stream;
use operation::{
    Close, Codec, Next, Operation, RejectMode, RejectReason, RejectionRef, Request, Settlement,
    Violation,
};
use session::Session;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// How long the client may take to send its first request and receive the rejection.
const REJECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a client's first request with a rejection, because there is no upstream for its
/// connection.
///
/// Where the client would overreact to a rejection, the connection is closed without one.
///
/// A protocol whose operation is the connection has no message: its operation is settled, and
/// nothing is sent unless `manner` asks for it. The caller closes the connection.
pub async fn reject<C: Codec>(
    shared: &Arc<C::Shared>,
    session: &dyn Session,
    client: &mut Stream,
    end: (Close, RejectMode),
    why: &RejectionRef<'_>,
) {
    let (close, manner) = end;
    let mut codec = C::new(shared, session.info());
    let mut asked = BytesMut::new();
    if let Ok(Some(request)) = next_request(&mut codec, &asked) {
        return settle_rejected(
            &codec,
            session,
            request,
            &asked,
            session.accepted_at(),
            close,
            why,
        );
    }
    if manner != RejectMode::Reply {
        return;
    }
    // A client that sends no request in time gets no answer.
    let _ = timeout(REJECT_TIMEOUT, async {
        let request = first_request(&mut codec, client, &mut asked).await?;
        settle_rejected(&codec, session, request, &asked, Instant::now(), close, why);
        let (tag, mut answer) = (request.tag?, BytesMut::new());
        // An unreachable service serves none of its clients' other connections.
        let others = why.reason != RejectReason::NoEndpoint || session.is_cluster_connected();
        if !codec.prefers_close(tag, why.reason, others) && codec.reject(tag, why, &mut answer) {
            client.write_all(&answer).await.ok()?;
            client.shutdown().await.ok()?;
        }
        Some(())
    })
    .await;
}

/// Reads until the codec can name the first request.
async fn first_request<C: Codec>(
    codec: &mut C,
    client: &mut Stream,
    asked: &mut BytesMut,
) -> Option<Request> {
    loop {
        if client.read_buf(asked).await.ok()? == 0 || asked.len() > MAX_HOLD {
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
        Next::Answer { mark, .. } => Ok(Some(mark)),
        Next::PassUnsolicited { .. }
        | Next::Drop { .. }
        | Next::Violates(_)
        | Next::Resend { .. } => Ok(None),
    }
}

/// Has the gate count and log an operation that was never forwarded.
fn settle_rejected<C: Codec>(
    codec: &C,
    session: &dyn Session,
    request: Request,
    front: &[u8],
    began: Instant,
    close: Close,
    why: &RejectionRef<'_>,
) {
    let facts = OperationAttributes::new(codec, session, None);
    // The rest of it is not read.
    let operation = Operation { partial: false, ..facts.operation(&request, front) };
    let mut how = Settlement::new(close.outcome(true), Instant::now());
    how.policy = why.policy;
    how.reason = Some(close.into());
    how.request_bytes = front.len() as u64;
    how.attributes = &facts;
    session.record_rejected(&operation, began, &how);
}
