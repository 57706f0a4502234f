//! A server that says what its script says: `sink` prints its address and serves until killed.
#![expect(clippy::print_stdout, reason = "a command line talks to people")]

use peers::wire::{Replies, whole};
use std::{io, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::LocalRuntime,
    task::spawn_local,
};

fn main() -> io::Result<()> {
    LocalRuntime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let replies = Rc::new(Replies::default());
        loop {
            let (socket, _) = listener.accept().await?;
            let replies = Rc::clone(&replies);
            spawn_local(async move {
                // A client that goes away without a word is none of the server's business.
                let _ = serve(socket, &replies).await;
            });
        }
    })
}

async fn serve(mut socket: TcpStream, replies: &Replies) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut read, mut reply) = (Vec::new(), Vec::new());
    while socket.read_buf(&mut read).await? > 0 {
        let mut at = 0;
        while let Some(len) = whole(&read[at..]) {
            replies.answer(&read[at..at + len], &mut reply);
            at += len;
        }
        if at > 0 {
            read.drain(..at);
            socket.write_all(&reply).await?;
            reply.clear();
        }
        read.reserve(16 * 1024);
    }
    Ok(())
}
