//! The groups of the key exchange, with the post-quantum one that browsers prefer.

use super::{
    Certificates, certificates, config, echo_server, exchange, server_tls,
    support::{certificates::ClientStream, tollgate::Tollgate},
};
use rustls::{
    ClientConfig, ClientConnection, NamedGroup, StreamOwned,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{
            default_provider,
            kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768},
        },
    },
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

type Groups = Vec<&'static dyn SupportedKxGroup>;

/// A client that knows these groups, and sends its share of the first one.
fn connect(certificates: &Certificates, address: SocketAddr, groups: &Groups) -> ClientStream {
    let provider = CryptoProvider { kx_groups: groups.clone(), ..default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(certificates.roots())
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(client, TcpStream::connect(address).unwrap())
}

#[test]
fn the_group_of_a_client_s_share_is_used() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let tollgate = Tollgate::start(&config(&server_tls(certificates), &echo.to_string(), ""));
    let address = tollgate.listener("wire");
    let cases: [(Groups, NamedGroup); 5] = [
        (vec![X25519], NamedGroup::X25519),
        (vec![SECP256R1], NamedGroup::secp256r1),
        (vec![SECP384R1], NamedGroup::secp384r1),
        (vec![X25519MLKEM768], NamedGroup::X25519MLKEM768),
        // As browsers do it.
        (vec![X25519MLKEM768, X25519, SECP256R1], NamedGroup::X25519MLKEM768),
    ];
    for (groups, expected) in cases {
        let mut stream = connect(certificates, address, &groups);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let used = stream.conn.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(used, expected, "{groups:?}");
        exchange(stream);
    }
}
