//! The arguments of commands that ask a running proxy, and their requests to its admin interface.

use crate::top::{AdminAddress, TlsFiles, poll};
use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

/// How long an answer may take: look-ups, connections, the primary that is found.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the proxy's admin interface is.
#[derive(Debug, Args)]
pub(super) struct AdminArguments {
    /// The proxy's admin interface: `HOST:PORT`, `https://HOST:PORT`, or `unix:/PATH`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub(super) admin: String,
    /// The file with the token, if the admin interface has `admin.token_file`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities to trust with `https` (PEM). Default: the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show with `https`, and its key, in one file (PEM).
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

impl AdminArguments {
    /// The address, with what its connection needs.
    ///
    /// # Errors
    /// It is wrong, or a file can't be used.
    pub(super) fn address(&self) -> anyhow::Result<AdminAddress> {
        let files = TlsFiles { ca: self.ca.clone(), certificate: self.certificate.clone() };
        AdminAddress::parse(&self.admin, files)
    }

    /// Sends a request that changes something. Returns the answer's JSON.
    ///
    /// # Errors
    /// There is no answer, or the proxy refuses: its words.
    pub(super) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        let (address, token) = (self.address()?, self.token()?);
        poll::post(&address, path, token.as_deref().map(str::trim), PATIENCE).await
    }

    /// The same, and returns the answer also if it is an error.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn post_for_answer(&self, path: &str) -> anyhow::Result<(String, Value)> {
        let (address, token) = (self.address()?, self.token()?);
        poll::post_for_answer(&address, path, token.as_deref().map(str::trim), PATIENCE).await
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        let token = self.token_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file);
            text.with_context(|| format!("can't read {}", file.display()))
        });
        token.transpose()
    }
}
