//! The scripts that measure count right. Python 3 is all they need.

use std::process::Command;

#[test]
fn web_py_reads_the_counts_of_h2load() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/test_web.py");
    let done = Command::new("python3").arg(tests).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
