//! OpenSSL's own client and server: `openssl s_client` before the proxy, `openssl s_server` behind it.

use super::{
    Certificates, certificates, cluster_tls, config, echo_server, server_tls,
    support::{PATIENCE, eventually, free_address, tollgate::Tollgate, tools},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
};

/// What the client sends, and the echo server sends back.
const LINE: &str = "there and back";

/// A proxy with TLS before an echo server, with these keys beside `certificates`.
fn start(tls: &str) -> (&'static Certificates, Tollgate) {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let listener = server_tls(certificates).replace("tls: {", &format!("tls: {{ {tls}"));
    (certificates, Tollgate::start(&config(&listener, &echo.to_string(), "")))
}

/// Runs `openssl s_client` with these arguments. It sends [`LINE`], and ends when the line is
/// back, or when its connection ends. Returns what it prints, and whether the line came back. `None`
/// where there is no openssl.
fn s_client(
    certificates: &Certificates,
    address: SocketAddr,
    arguments: &str,
) -> Option<(String, bool)> {
    let ca = certificates.path("ca.crt");
    let mut child = tools::program("openssl")?
        .args(["s_client", "-verify_return_error", "-verify_hostname", "localhost", "-CAfile"])
        .arg(ca)
        .args(["-connect", &address.to_string()])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sends = child.stdin.take().unwrap();
    // It may have ended already.
    let _ = writeln!(sends, "{LINE}");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let came_back = lines.by_ref().any(|line| {
        said.push_str(&line);
        said.push('\n');
        line == LINE
    });
    drop(sends);
    lines.for_each(|line| said.push_str(&line));
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    Some((said, came_back))
}

#[test]
fn openssl_speaks_versions_1_2_and_1_3() {
    let (certificates, tollgate) = start("");
    let address = tollgate.listener("wire");
    for (argument, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let Some((said, came_back)) = s_client(certificates, address, argument) else { return };
        assert!(came_back && said.contains(&format!("New, {protocol}, Cipher is")), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    let old = "-tls1_1 -cipher DEFAULT@SECLEVEL=0";
    let (said, came_back) = s_client(certificates, address, old).unwrap();
    assert!(!came_back && said.contains("alert handshake failure"), "{said}");
    let labels = [("listener", "wire"), ("result", "version")];
    tollgate.wait_for_metric("tollgate_tls_handshakes_total", &labels, 1.0);
}

#[test]
fn openssl_resumes_its_sessions() {
    let (certificates, tollgate) = start("");
    let address = tollgate.listener("wire");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = certificates.path(version);
        let file = file.display();
        let keep = format!("{version} -sess_out {file}");
        let Some((said, came_back)) = s_client(certificates, address, &keep) else { return };
        assert!(came_back && said.contains("New, "), "{said}");
        let again = format!("{version} -sess_in {file}");
        let (said, came_back) = s_client(certificates, address, &again).unwrap();
        assert!(came_back && said.contains("Reused, "), "{said}");
    }
    let labels = [("listener", "wire"), ("result", "resumed")];
    tollgate.wait_for_metric("tollgate_tls_handshakes_total", &labels, 2.0);
}

#[test]
fn openssl_must_show_a_certificate() {
    let certificates = certificates();
    let echo = echo_server(certificates, false, false);
    let ca = certificates.path("ca.crt").display().to_string();
    let pair = certificates.pair("server");
    let listener = format!("tls: {{ certificates: {pair}, client_ca: {ca} }}");
    let tollgate = Tollgate::start(&config(&listener, &echo.to_string(), ""));
    let address = tollgate.listener("wire");
    let Some((said, came_back)) = s_client(certificates, address, "") else { return };
    assert!(!came_back && said.contains("alert certificate required"), "{said}");
    let file = |name| certificates.path(name).display().to_string();
    let own = format!("-cert {} -key {}", file("client.crt"), file("client.key"));
    let (said, came_back) = s_client(certificates, address, &own).unwrap();
    assert!(came_back, "{said}");
    let line = tollgate.logged(1, |_| true).remove(0);
    assert_eq!(line["client_certificate"], "app.example.net");
}

#[test]
fn openssl_asks_for_names_and_protocols() {
    let (certificates, tollgate) = start("sni: strict, ");
    let address = tollgate.listener("wire");
    let wrong = s_client(certificates, address, "-servername elsewhere.example.net");
    let Some((said, came_back)) = wrong else { return };
    assert!(!came_back && said.contains("unrecognized name"), "{said}");
    let (said, came_back) = s_client(certificates, address, "-servername localhost").unwrap();
    assert!(came_back, "{said}");
    let tls = server_tls(certificates);
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  web:\n    address: '127.0.0.1:0'\n    protocol: {{ http: {{ routes: [{{ name: all, \
         reply: {{ status: 200, body: hello }} }}] }} }}\n    {tls}\nclusters: {{}}\n"
    ));
    let address = tollgate.listener("web");
    for (offered, report) in [
        ("h2,http/1.1", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("spdy/1", "alert no application protocol"),
    ] {
        let (said, _) = s_client(certificates, address, &format!("-alpn {offered}")).unwrap();
        assert!(said.contains(report), "{offered}: {said}");
    }
}

/// `openssl s_server`, which sends each line back reversed, until dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `openssl s_server` with this version. It demands a certificate.
fn s_server(certificates: &Certificates, version: &str) -> Option<(Server, SocketAddr)> {
    let address = free_address();
    let mut command = tools::program("openssl")?;
    command.args(["s_server", "-quiet", "-rev", "-Verify", "1", "-verify_return_error", version]);
    for (flag, file) in [("-cert", "server.crt"), ("-key", "server.key"), ("-CAfile", "ca.crt")] {
        command.arg(flag).arg(certificates.path(file));
    }
    command.args(["-accept", &address.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let server = Server(command.spawn().unwrap());
    eventually("openssl s_server", || TcpStream::connect(address).ok());
    Some((server, address))
}

#[test]
fn openssl_is_an_endpoint_that_demands_a_certificate() {
    let certificates = certificates();
    for version in ["-tls1_2", "-tls1_3"] {
        let Some((_server, address)) = s_server(certificates, version) else { return };
        let own = certificates.pair("client");
        let cluster =
            cluster_tls(certificates).replace("tls: {", &format!("tls: {{ certificate: {own}, "));
        let endpoint = format!("localhost:{}", address.port());
        let tollgate = Tollgate::start(&config("", &endpoint, &cluster));
        let mut client = TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"there\n").unwrap();
        let mut reversed = [0; 6];
        client.read_exact(&mut reversed).unwrap();
        assert_eq!(&reversed, b"ereht\n", "{version}");
    }
}
