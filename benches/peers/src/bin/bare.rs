//! The least that a proxy on hyper can do, to see what hyper itself costs: it hands each HTTP/1.1
//! request to a kept connection of its client, and the answer back. No routes, no log, no counts,
//! no time-outs, no headers of its own: `bare 127.0.0.1:8080 127.0.0.1:9090` listens on the first
//! and asks the second until killed.

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1::{SendRequest, handshake},
    server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::LocalRuntime,
    task::spawn_local,
};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(listen), Some(service)) = (args.next(), args.next()) else {
        return Err(io::Error::other("say where to listen, and whom to ask"));
    };
    LocalRuntime::new()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        let kept = Rc::new(Kept { service, idle: RefCell::default() });
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let kept = Rc::clone(&kept);
            spawn_local(async move {
                let serve = service_fn(move |request| exchange(Rc::clone(&kept), request));
                // One that goes away without a word is none of the proxy's business.
                let _ = server::conn::http1::Builder::new()
                    .header_read_timeout(None)
                    .serve_connection(TokioIo::new(socket), serve)
                    .await;
            });
        }
    })
}

/// Connections to the service that are not in use.
struct Kept {
    service: String,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(kept: Rc<Kept>, request: Request<Incoming>) -> Result<Response<Answer>, Failed> {
    let idle = kept.idle.borrow_mut().pop();
    let mut sender = match idle {
        Some(sender) => sender,
        None => {
            let socket = TcpStream::connect(&kept.service).await?;
            socket.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(socket)).await?;
            spawn_local(connection);
            sender
        }
    };
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    Ok(answer.map(|body| Answer { body, sender: Some(sender), kept }))
}

/// An answer's body, at whose end its connection is kept.
struct Answer {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    kept: Rc<Kept>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let sender = self.sender.take().filter(|_| self.body.is_end_stream());
        self.kept.idle.borrow_mut().extend(sender);
    }
}
