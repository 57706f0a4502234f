//! Asks a proxy's admin interface what there is: each time on a connection of its own.

#[cfg(test)]
mod tests;

use super::{
    AdminAddress, Series,
    certificates::CertificateState,
    choice::View,
    live::LiveOperation,
    notices::{ClusterState, Policy},
    now::ListenerState,
    pools::PoolState,
    sessions::SessionState,
};
use anyhow::{Context as _, bail};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

/// How long an answer may take, all in all.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may be, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// The state of a proxy at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Instant,
    /// Its operations.
    pub operations: Vec<Series>,
    /// Its call sites, if they were asked for.
    pub callsites: Vec<Series>,
    /// The shapes of its queries, if they were asked for.
    pub shapes: Option<Vec<Series>>,
    /// Its clusters.
    pub clusters: Vec<ClusterState>,
    /// Its policies.
    pub policies: Vec<Policy>,
    /// The pools of its clusters.
    pub pools: Vec<PoolState>,
    /// What only some screens show.
    pub lists: Lists,
}

/// What only some screens show: what the chosen screen does not need is empty.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// Its listeners.
    pub listeners: Vec<ListenerState>,
    /// Its open connections.
    pub sessions: Vec<SessionState>,
    /// Its certificates.
    pub certificates: Vec<CertificateState>,
    /// Its last operations, the oldest first.
    pub live: Vec<LiveOperation>,
}

impl Lists {
    async fn fetch(admin: &AdminAddress, view: View) -> Self {
        // Certificates are noticed on every screen.
        let tls: TlsAnswer = fetch(admin, "/tls").await.unwrap_or_default();
        let mut lists = Self { certificates: tls.certificates, ..Self::default() };
        match view {
            View::Now => lists.listeners = list(admin, "/listeners").await.unwrap_or_default(),
            View::Sessions => {
                lists.sessions =
                    list(admin, "/sessions?sort=bytes&limit=200").await.unwrap_or_default();
            }
            View::Live => {
                let live: LiveAnswer = fetch(admin, "/operations/live").await.unwrap_or_default();
                lists.live = live.operations;
            }
            _ => {}
        }
        lists
    }
}

/// What `GET /tls` answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TlsAnswer {
    certificates: Vec<CertificateState>,
}

/// What `GET /operations/live` answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LiveAnswer {
    operations: Vec<LiveOperation>,
}

/// What `GET /shapes` answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shapes {
    shapes: Vec<Series>,
}

/// Asks for all of it: for call sites only if they are wanted, and for shapes and lists if the view shows them. Fails if there is no answer,
/// or one of another form. If a proxy reports only its operations, the rest is empty.
pub async fn snapshot(
    admin: &AdminAddress,
    callsites: bool,
    view: View,
) -> anyhow::Result<Snapshot> {
    let operations = operations(admin).await?;
    let at = Instant::now();
    let callsites = match callsites {
        true => list(admin, "/callsites").await.unwrap_or_default(),
        false => Vec::new(),
    };
    let shapes = match view == View::Shapes {
        true => Some(fetch::<Shapes>(admin, "/shapes").await.unwrap_or_default().shapes),
        false => None,
    };
    let clusters = list(admin, "/clusters").await.unwrap_or_default();
    let policies = list(admin, "/policies").await.unwrap_or_default();
    let pools = list(admin, "/pools").await.unwrap_or_default();
    let lists = Lists::fetch(admin, view).await;
    Ok(Snapshot { at, operations, callsites, shapes, clusters, policies, pools, lists })
}

/// Fetches `GET /operations`. Fails without a valid response.
pub async fn operations(admin: &AdminAddress) -> anyhow::Result<Vec<Series>> {
    list(admin, "/operations").await.map_err(|error| match error.is::<serde_json::Error>() {
        true => error.context("the answer is no list of operations"),
        false => error,
    })
}

/// Sends a request that changes something, with the token if there is one. Returns the answer's JSON.
///
/// # Errors
/// There is no answer within `limit`, or the proxy refuses: its words.
pub async fn post(
    admin: &AdminAddress,
    path: &str,
    token: Option<&str>,
    limit: Duration,
) -> anyhow::Result<Value> {
    let (status, json) = post_for_answer(admin, path, token, limit).await?;
    match json["error"].as_str() {
        Some(words) => bail!("{words}"),
        None if status == "200" => Ok(json),
        None => bail!("the answer has the status {status:?}"),
    }
}

/// The same, and returns the status and the answer's JSON also if the proxy refuses.
///
/// # Errors
/// There is no answer within `limit`.
pub async fn post_for_answer(
    admin: &AdminAddress,
    path: &str,
    token: Option<&str>,
    limit: Duration,
) -> anyhow::Result<(String, Value)> {
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let answer = tokio::time::timeout(limit, send_with(admin, "POST", path, "", &token)).await;
    let answer = answer.context("no answer in time")??;
    let (status, body) = parts(&answer)?;
    Ok((status, serde_json::from_slice(&body).context("the answer is not JSON")?))
}

/// Fetches the JSON at a path.
///
/// # Errors
/// There is no answer in time, or not the status 200.
pub async fn json(admin: &AdminAddress, path: &str) -> anyhow::Result<Value> {
    fetch(admin, path).await
}

async fn list<T: DeserializeOwned>(admin: &AdminAddress, path: &str) -> anyhow::Result<Vec<T>> {
    fetch(admin, path).await
}

async fn fetch<T: DeserializeOwned>(admin: &AdminAddress, path: &str) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(TIMEOUT, send(admin, "GET", path, "")).await;
    let body = body(&answer.context("no answer in time")??)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Switches a policy on or off.
pub async fn switch(admin: &AdminAddress, policy: &str, on: bool) -> anyhow::Result<()> {
    let (path, change) = (format!("/policies/{policy}"), format!("{{\"enabled\":{on}}}"));
    let answer = tokio::time::timeout(TIMEOUT, send(admin, "PUT", &path, &change)).await;
    body(&answer.context("no answer in time")??).map(|_| ())
}

/// The whole answer, head and all.
async fn send(
    admin: &AdminAddress,
    method: &str,
    path: &str,
    said: &str,
) -> anyhow::Result<Vec<u8>> {
    send_with(admin, method, path, said, "").await
}

/// The same, with more lines in the head.
async fn send_with(
    admin: &AdminAddress,
    method: &str,
    path: &str,
    said: &str,
    more: &str,
) -> anyhow::Result<Vec<u8>> {
    let line = format!("{method} {path} HTTP/1.1\r\n{more}");
    if let Some(socket) = admin.socket() {
        return ask(UnixStream::connect(socket).await?, "localhost", &line, said).await;
    }
    let stream = TcpStream::connect(admin.host_and_port()).await?;
    // Whatever name was given, the proxy takes requests by its address.
    let host = stream.peer_addr()?.to_string();
    match admin.tls() {
        None => ask(stream, &host, &line, said).await,
        Some((tls, name)) => ask(tls.connect(stream, name).await?, &host, &line, said).await,
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    line: &str,
    said: &str,
) -> anyhow::Result<Vec<u8>> {
    let length = match said {
        "" => String::new(),
        said => format!("content-type: application/json\r\ncontent-length: {}\r\n", said.len()),
    };
    let request = format!(
        "{line}host: {host}\r\naccept: application/json\r\n{length}connection: close\r\n\r\n{said}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of an answer with the status 200.
fn body(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (status, body) = parts(answer)?;
    if status != "200" {
        bail!("the answer has the status {status:?}");
    }
    Ok(body)
}

/// The status and the body of an answer.
fn parts(answer: &[u8]) -> anyhow::Result<(String, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.context("the answer is not HTTP")?);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let body = body.get(4..).unwrap_or_default();
    let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let chunked = head
        .lines()
        .filter_map(|line| line.strip_prefix("transfer-encoding:"))
        .any(|value| value.trim() == "chunked");
    let body = if chunked { unchunk(body) } else { Some(body.to_vec()) };
    Ok((status, body.context("the answer is cut short")?))
}

/// The content of a chunked body (RFC 9112, 7.1); `None` if it does not come to its end.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..line)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return Some(body);
        }
        let (chunk, after) = rest.split_at_checked(size)?;
        body.extend(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}
