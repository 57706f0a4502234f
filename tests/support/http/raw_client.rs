//! A client of HTTP/1 in a test's own thread, which sends bytes as they are.

use super::{super::PATIENCE, test_request::Answer};
use http::{HeaderMap, HeaderName, StatusCode};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

/// A client of HTTP/1 that sends given bytes.
pub struct RawHttpClient(BufReader<TcpStream>);

impl RawHttpClient {
    /// Connects. Reads fail after [`PATIENCE`].
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the bytes are taken");
    }

    /// Sends these bytes, to a peer that may close before it has taken all of them.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// Asks with GET, and reads the answer.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n").as_bytes());
        self.answer().expect("an answer")
    }

    /// Closes the sending half.
    pub fn finish(&mut self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Write);
    }

    /// The next whole answer but those of 1xx. An answer that is cut short is an error.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let answer = self.any_answer()?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn any_answer(&mut self) -> io::Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|it| it.parse::<StatusCode>().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {first:?}")))?;
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.trim().parse().expect("a value"));
        }
        let mut answer = Answer::of(status, headers);
        let length = answer.header("content-length");
        if answer.headers.contains_key("transfer-encoding") {
            while self.chunk(&mut answer.body)? {}
        } else if !length.is_empty() {
            answer.body.resize(length.parse().expect("a length"), 0);
            self.0.read_exact(&mut answer.body)?;
        } else if answer.status >= 200 && answer.status != 204 {
            self.0.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        self.0.read_exact(&mut body[begin..])?;
        self.line()?;
        Ok(size > 0)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Everything until the other end closes; a reset is an error.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
