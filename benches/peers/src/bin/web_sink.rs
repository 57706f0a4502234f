//! A web server that says what its script says, by HTTP/1.1 and by HTTP/2 without TLS on one port:
//! `web_sink` prints its address and serves until killed.
#![expect(clippy::print_stdout, reason = "a command line talks to people")]

use hyper::{rt::Executor, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use peers::web::answer;
use std::io;
use tokio::{net::TcpListener, runtime::LocalRuntime, task::spawn_local};

fn main() -> io::Result<()> {
    LocalRuntime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            spawn_local(async move {
                let mut server = auto::Builder::new(Here);
                // A proxy keeps connections for as long as it likes.
                server.http1().header_read_timeout(None);
                // One that goes away without a word is none of the server's business.
                let _ = server.serve_connection(TokioIo::new(socket), service_fn(answer)).await;
            });
        }
    })
}

/// Runs the tasks of HTTP/2 where everything else runs.
#[derive(Clone)]
struct Here;

impl<F: Future + 'static> Executor<F> for Here {
    fn execute(&self, task: F) {
        spawn_local(async move {
            task.await;
        });
    }
}
