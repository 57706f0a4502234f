//! Messages of log-ins, of clients and of servers.
#![no_main]

#[path = "../../protocols/mongo/tests/fuzz/login.rs"]
mod login;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| login::login(bytes));
