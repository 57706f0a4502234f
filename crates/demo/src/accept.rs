//! What the demonstration's services have in common: they take whoever connects.

use std::time::Duration;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How many connections a service has at once. One more is closed.
const MAX_CONNECTIONS: usize = 1024;

/// Serves everyone who connects, until dropped. Must run in a `LocalRuntime` or a `LocalSet`.
pub async fn each<F>(listener: TcpListener, mut serve: impl FnMut(TcpStream) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others have to close first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are small, and waited for.
        if connections.len() < MAX_CONNECTIONS && stream.set_nodelay(true).is_ok() {
            connections.spawn_local(serve(stream));
        }
    }
}
