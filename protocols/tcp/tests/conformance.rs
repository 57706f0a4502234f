//! TCP keeps the rules of every codec.

use operation::testing::{Expected, Fixture, conforms};
use std::sync::Arc;
use tcp::Tcp;

#[test]
fn tcp_conforms() {
    let session = || Expected::silent("session", "");
    let fixtures = [
        Fixture::new("a client that speaks first")
            .client(b"HELO there\r\n")
            .upstream(b"250 hello\r\n")
            .client(b"QUIT\r\n")
            .expects(session()),
        Fixture::new("a server that speaks first")
            .upstream(b"SSH-2.0-x\r\n")
            .client(&[0; 3000])
            .expects(session()),
        Fixture::new("nobody speaks").expects(session()),
    ];
    conforms::<Tcp>(Arc::default, &fixtures);
}
