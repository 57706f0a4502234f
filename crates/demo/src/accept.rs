//! The accept loop of the demonstration's services.

use std::time::Duration;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How many connections a service accepts at once; further ones are closed.
const MAX_CONNECTIONS: usize = 1024;

/// Serves every connection until dropped. Must run in a `LocalRuntime` or a `LocalSet`.
pub async fn each<F>(listener: TcpListener, mut serve: impl FnMut(TcpStream) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely out of file descriptors: other connections must close first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Replies are short, and the client waits for them.
        if connections.len() < MAX_CONNECTIONS && stream.set_nodelay(true).is_ok() {
            connections.spawn_local(serve(stream));
        }
    }
}
