//! A request of an HTTP/2 client, from its head to the end of its response.

use super::{
    connection_headers::remove_connection_headers,
    send_body::{SendBody, reason},
};
use crate::{
    body::Body, client_connection::ClientConnection, date, incoming_request::handle,
    response_body::ResponseBody,
};
use ::h2::{Reason, RecvStream, server::SendResponse};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::Body as _;
use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll};

/// Serves a request. It ends early, and its operation is cancelled, when the client resets the
/// stream.
pub(super) async fn serve(
    connection: Rc<ClientConnection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let bare = request.method() == Method::HEAD;
    let (head, stream) = request.into_parts();
    let body = Body::received(stream, &head.headers);
    let answer = {
        let mut handling = pin!(handle(connection, Request::from_parts(head, body)));
        poll_fn(|cx| match handling.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        })
        .await
    };
    match answer {
        Some(Ok(answer)) if bare && !answer.body().is_end_stream() => {
            send(strip_body(answer), respond).await;
        }
        Some(Ok(answer)) => send(answer, respond).await,
        Some(Err(abort)) => respond.send_reset(reason(&abort)),
        None => {}
    }
}

/// Sends a response.
async fn send(answer: Response<ResponseBody>, mut respond: SendResponse<Bytes>) {
    let (mut head, body) = answer.into_parts();
    remove_connection_headers(&mut head.headers);
    head.headers.entry(header::DATE).or_insert_with(date::now);
    let ends = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !ends) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(_) if ends => {}
        Ok(stream) => {
            let mut sending = SendBody::new(body, stream);
            poll_fn(|cx| sending.poll(cx)).await;
        }
        Err(error) => {
            tracing::debug!(%error, "a response could not be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// The response to HEAD.
fn strip_body(answer: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut head, body) = answer.into_parts();
    if let Some(len) = body.size_hint().exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert(len.into());
    }
    Response::from_parts(head, ResponseBody::untracked(Body::Empty))
}
