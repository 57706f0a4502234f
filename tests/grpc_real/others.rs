//! The bridges: Python's HTTP clients and PHP before a gRPC service, grpcio before a plain HTTP
//! service, gRPC-Web, and JSON.

use crate::{
    Stage,
    support::{
        http::{Version, origin},
        python, tools,
    },
};
use std::process::Command;

#[test]
fn python_s_http_clients_call_over_http_1_1() {
    let Some(stage) = Stage::new("bridge: true", "") else { return };
    stage.is_called("bridge");
    stage.plays("kinds");
    let lines = stage.tollgate.logged(10, |line| line["version"] == "1.1");
    assert!(lines.iter().any(|line| line["code"] == "NOT_FOUND"), "{lines:?}");
    // A stream of several messages, of which the bridge makes nothing.
    let line = &stage.tollgate.logged(1, |line| line["reason"] == "untranslated")[0];
    assert_eq!(
        (&line["outcome"], &line["code"], &line["status"]),
        (&"failed".into(), &"INTERNAL".into(), &"502".into()),
        "{line}"
    );
}

#[test]
fn a_bridged_stream_may_come_in_frames() {
    if let Some(stage) = Stage::new("bridge: { server_streams: frames }", "") {
        stage.is_called("bridge_frames");
    }
}

#[test]
fn a_monolith_in_php_calls_with_what_every_php_has() {
    let Some(mut php) = tools::program("php") else { return };
    let Some(stage) = Stage::new("bridge: true", "") else { return };
    php.arg(python::drivers().join("monolith.php")).arg(stage.address());
    let output = php.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    stage.tollgate.logged(21, |line| line["operation"] == "real.v1.Echo/Unary");
    let labels = [("listener", "rpc")];
    assert_eq!(stage.tollgate.metric("tollgate_connections_total", &labels), 1.0);
}

#[test]
fn grpcio_calls_a_service_of_plain_http() {
    let service = origin(Version::One);
    let tollgate = crate::support::tollgate::Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ reverse_bridge: \
         true }} }}, cluster: rpc }}\n\
         clusters:\n  rpc: {{ {} }}\n",
        service.endpoints()
    ));
    let address = tollgate.listener("rpc").to_string();
    python::run("grpc_scenarios.py", &["reverse", &address]);
}

#[test]
fn grpc_web_comes_in_bytes_and_in_text() {
    if let Some(stage) = Stage::new("web: true", "") {
        stage.is_called("web");
    }
}

#[test]
fn json_is_made_of_messages_and_messages_of_json() {
    let Some(bin) = tools::web_python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let set = directory.path().join("echo.binpb");
    let packages = Command::new(bin.join("python"))
        .args(["-c", "import site; print(site.getsitepackages()[0])"])
        .output()
        .unwrap();
    let packages = String::from_utf8(packages.stdout).unwrap();
    let made = Command::new(bin.join("python"))
        .args(["-m", "grpc_tools.protoc", "--include_imports", "-I"])
        .arg(python::drivers())
        .args(["-I", packages.trim(), "--descriptor_set_out"])
        .arg(&set)
        .arg("echo.proto")
        .status()
        .unwrap();
    assert!(made.success());
    let settings = format!("transcode: {{ descriptors: \"{}\" }}", set.display());
    let Some(stage) = Stage::new(&settings, "") else { return };
    stage.is_called("transcode");
    let line = &stage.tollgate.logged(1, |line| line["path"] == "/v1/down/3")[0];
    assert_eq!(line["operation"], "real.v1.Echo/Down", "{line}");
    assert_eq!(line["messages"], 3, "{line}");
}
