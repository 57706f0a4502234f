//! The PROXY protocol with programs that speak it: HAProxy and nginx, in front of the proxy and behind it.

use super::{
    certificates, closed, config, echo_server, exchange, server_tls,
    support::{
        PATIENCE, certificates::Certificates, eventually, free_address, tollgate::Tollgate, tools,
    },
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
};

/// A running program, until dropped.
struct Running {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Running {
    /// Runs a program with this config, in which ADDRESS is where it listens. `None` where there is no
    /// such program.
    fn start(program: &str, arguments: &[&str], config: &str) -> Option<Self> {
        let mut command = tools::program(program)?;
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = config.replace("ADDRESS", &address.to_string());
        let file = directory.path().join("config");
        std::fs::write(&file, config.replace("DIR", &directory.path().display().to_string()))
            .unwrap();
        let process = command.args(arguments).arg(&file).stdout(Stdio::null()).spawn().unwrap();
        let this = Self { process, address, _directory: directory };
        eventually(program, || TcpStream::connect(address).ok());
        Some(this)
    }

    fn haproxy(sections: &str) -> Option<Self> {
        let timeouts = "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n";
        Self::start("haproxy", &["-db", "-f"], &format!("{timeouts}{sections}"))
    }

    fn nginx(sections: &str) -> Option<Self> {
        let config = format!(
            "user root; daemon off; master_process off; pid DIR/pid; error_log stderr crit;\n\
             {sections}\nevents {{}}\n"
        );
        Self::start("nginx", &["-e", "stderr", "-c"], &config)
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A proxy before an echo server that expects headers.
fn expecting(policies: &str) -> Tollgate {
    let echo = echo_server(certificates(), false, false);
    let listener = "proxy_protocol: { from: 127.0.0.0/8 }";
    Tollgate::start(&format!("{}{policies}", config(listener, &echo.to_string(), "")))
}

/// A load balancer passes bytes to the proxy unchanged, and the proxy knows its clients.
fn passes_to(tollgate: &Tollgate, balancer: &Running) {
    let client = balancer.connect();
    let peer = client.local_addr().unwrap().to_string();
    exchange(client);
    let line = tollgate.logged(1, |line| line["peer"] == peer.as_str()).remove(0);
    assert!(line["via"].as_str().is_some_and(|via| via != peer), "{line}");
}

#[test]
fn haproxy_names_its_clients() {
    let tollgate = expecting("");
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
    {
        let target = tollgate.listener("wire");
        let Some(haproxy) = Running::haproxy(&format!(
            "listen l\n mode tcp\n bind ADDRESS\n unique-id-format %ci-%cp\n \
             server s {target} {option}\n"
        )) else {
            return;
        };
        passes_to(&tollgate, &haproxy);
    }
}

#[test]
fn nginx_names_its_clients() {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !Path::new(module).is_file() {
        return tools::missing("stream module of nginx", "it is not on this machine");
    }
    let tollgate = expecting("");
    let target = tollgate.listener("wire");
    let Some(nginx) = Running::nginx(&format!(
        "load_module {module};\nstream {{ server {{ listen ADDRESS; proxy_pass {target}; \
         proxy_protocol on; }} }}"
    )) else {
        return;
    };
    passes_to(&tollgate, &nginx);
}

#[test]
fn haproxy_names_the_certificates_of_its_clients() {
    let certificates = Certificates::shared();
    certificates.issue_with("named", &["app.example.net"], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "app");
    });
    let policies = "policies: [{ name: app, deny: {}, match: { proxy.ssl.cn: app, \
                    proxy.authority: localhost, proxy.alpn: echo } }]";
    let tollgate = expecting(policies);
    let target = tollgate.listener("wire");
    let (own, ca) = (certificates.path("server.pem"), certificates.path("ca.crt"));
    let Some(haproxy) = Running::haproxy(&format!(
        "listen l\n mode tcp\n bind ADDRESS ssl crt {} ca-file {} verify optional alpn echo\n \
         server s {target} send-proxy-v2-ssl-cn proxy-v2-options authority\n",
        own.display(),
        ca.display()
    )) else {
        return;
    };
    let connect = |own| {
        let config = certificates.client_config_with_alpn(own, &["echo"]);
        super::support::certificates::connect(haproxy.address, "localhost", &config.into())
    };
    exchange(connect(None));
    exchange(connect(Some("client")));
    let mut denied = connect(Some("named"));
    let read = denied.write_all(b"hello").and_then(|()| denied.read(&mut [0; 16]));
    assert!(closed(&read), "the client with the common name was served");
    let labels = [("listener", "wire"), ("policy", "app")];
    tollgate.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

/// What an endpoint that expects headers answers to a client that asks through the proxy.
fn answer(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    stream.flush().unwrap();
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        answer.extend_from_slice(&bytes[..read]);
    }
    let answer = String::from_utf8(answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap().trim().to_owned()
}

/// An endpoint gets the header of each client by both versions, and that of health checks.
fn is_named_to(endpoint: &str) {
    for version in ["v1", "v2"] {
        let cluster = format!(
            "proxy_protocol: {version}, health_check: {{ interval: 100ms, probe: {{ tcp: \
             {{ send: \"GET / HTTP/1.0\\r\\n\\r\\n\", expect: \"HTTP/1.\" }} }} }}"
        );
        let tollgate = Tollgate::start(&config("", endpoint, &cluster));
        let client = TcpStream::connect_timeout(&tollgate.listener("wire"), PATIENCE).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let local = client.local_addr().unwrap().to_string();
        assert_eq!(answer(client), local, "{version}");
        eventually("a health check that succeeds", || {
            let labels = [("result", "ok")];
            (tollgate.metric("tollgate_health_checks_total", &labels) > 0.0).then_some(())
        });
    }
}

#[test]
fn haproxy_gets_the_name_of_each_client() {
    let http = "mode http\n http-request return status 200 content-type text/plain lf-string";
    let plain = format!("frontend f\n bind ADDRESS accept-proxy\n {http} %ci:%cp\n");
    let Some(haproxy) = Running::haproxy(&plain) else { return };
    is_named_to(&haproxy.address.to_string());
    // The header comes before TLS, and says what the client has asked for by TLS.
    let certificates = Certificates::shared();
    let pem = certificates.path("server.pem").display().to_string();
    let names = "%[fc_pp_authority]|%[fc_pp_unique_id,length]|%[ssl_fc]";
    let encrypted =
        format!("frontend f\n bind ADDRESS accept-proxy ssl crt {pem}\n {http} \"{names}\"\n");
    let haproxy = Running::haproxy(&encrypted).unwrap();
    let endpoint = format!("localhost:{}", haproxy.address.port());
    let ca = certificates.path("ca.crt").display().to_string();
    let cluster = format!("proxy_protocol: v2, tls: {{ ca: {ca} }}");
    let tollgate = Tollgate::start(&config(&server_tls(certificates), &endpoint, &cluster));
    let said = answer(certificates.connect(tollgate.listener("wire"), "localhost", None));
    let (name, rest) = said.split_once('|').unwrap();
    let (id, encrypted) = rest.split_once('|').unwrap();
    assert!(id.parse::<u32>().unwrap() > 0, "{said}");
    assert_eq!((name, encrypted), ("localhost", "1"), "{said}");
}

#[test]
fn nginx_gets_the_name_of_each_client() {
    let Some(nginx) = Running::nginx(
        "http { access_log off; server { listen ADDRESS proxy_protocol; location / \
         { return 200 \"$proxy_protocol_addr:$proxy_protocol_port\"; } } }",
    ) else {
        return;
    };
    is_named_to(&nginx.address.to_string());
}
