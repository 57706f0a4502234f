//! Variables of the environment, and included files.

use crate::{
    File, fixture,
    support::{
        ends::Upstream,
        tollgate::{Tollgate, mongo_config, output_of, program, tcp_config},
    },
};
use serde_json::Value;

const SECRET: &str = "correct-horse-battery-staple-and-more-than-forty-characters";

#[test]
fn a_config_has_variables_of_the_environment() {
    let upstream = Upstream::start();
    let mut tollgate = program();
    tollgate.env("UPSTREAM", upstream.address().to_string()).env("WORKERS", "1");
    let config = tcp_config(upstream.address(), "")
        .replace(&upstream.address().to_string(), "${UPSTREAM}")
        + "workers: ${WORKERS}\n";
    assert!(config.contains("${UPSTREAM}"), "{config}");
    let tollgate = Tollgate::start_as(tollgate, "", &config);
    let shown: Value = serde_json::from_str(&tollgate.get("/config").1).unwrap();
    assert_eq!(shown["workers"], 1);
    assert!(shown["clusters"].to_string().contains(&upstream.address().to_string()), "{shown}");
}

#[test]
fn the_value_of_a_secret_variable_is_in_no_error() {
    let config = "listeners: { a: { address: \":1\", protocol: tcp, cluster: \"${DB_PASSWORD}\" } }\n\
                  clusters: { a: { endpoints: [\"${DB_PASSWORD}\", \"${URI}\"] } }\n\
                  workers: ${DB_PASSWORD}\n";
    let file = File::new(config);
    for format in ["text", "json"] {
        let mut check = program();
        check.env("DB_PASSWORD", SECRET).env("URI", format!("mongodb://me:{SECRET}@db:1/"));
        let check = check.args(["check", "--format", format, "-c", &file.path()]).output().unwrap();
        assert_eq!(check.status.code(), Some(1));
        let out = String::from_utf8(check.stdout).unwrap();
        assert!(out.contains("there is no cluster `***`"), "{out}");
        assert!(!out.contains("correct") && !out.contains("forty"), "{out}");
        assert_eq!(out.contains("cluster: \"${DB_PASSWORD}\""), format == "text", "{out}");
    }
}

#[test]
fn a_request_to_the_admin_interface_reads_no_variables() {
    let upstream = Upstream::start();
    let mut tollgate = program();
    tollgate.env("DB_PASSWORD", SECRET);
    let tollgate = Tollgate::start_as(tollgate, "", &mongo_config(upstream.address(), ""));
    let policy = "{\"match\": {\"app\": \"${DB_PASSWORD}\"}, \"deny\": {}}";
    let (status, added) = tollgate.send("PUT", "/policies/p", policy);
    assert_eq!(status, 201, "{added}");
    let fault = "{\"match\": {\"app\": \"${DB_PASSWORD}\"}, \"deny\": {}, \"for\": \"1m\"}";
    let (status, fault) = tollgate.send("POST", "/faults", fault);
    assert_eq!(status, 201, "{fault}");
    let shown = tollgate.get("/policies").1 + &added + &fault;
    assert!(shown.contains("${DB_PASSWORD}") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn an_error_in_an_included_file_names_that_file() {
    let path = fixture("bad/include_keys.yaml");
    let check = output_of(&["check", "--format", "json", "-c", &path]);
    assert_eq!(check.code, Some(1), "{check:?}");
    let problems: Vec<Value> = serde_json::from_str(&check.out).unwrap();
    let files: Vec<&str> = problems.iter().map(|it| it["file"].as_str().unwrap()).collect();
    let included = fixture("bad/keys.d/10-names.yaml");
    assert_eq!(files[..2], [&path, &included]);
    assert_eq!(problems[1]["line"], 1, "{problems:?}");
    assert!(files.is_sorted_by_key(|file| *file != path), "{files:?}");
}

#[test]
fn a_config_from_stdin_includes_files_of_the_working_directory() {
    let path = fixture("good/include.yaml");
    let check = output_of(&["check", "-c", &path]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let pattern = fixture("good/nothing.d/*.yaml");
    let hint = format!("hint: include: `{pattern}` matches no file: add one, or leave it out\n");
    assert!(check.out.contains(&hint), "{check:?}");
    let stdin = || std::fs::File::open(&path).unwrap();
    let check = |directory: &str| {
        let mut check = program();
        check.args(["check", "-c", "-"]).stdin(stdin()).current_dir(fixture(directory));
        check.output().unwrap().status.code()
    };
    assert_eq!(check("good"), Some(0));
    assert_eq!(check("bad"), Some(1));
}
