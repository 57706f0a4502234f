//! The settings under `auth`: how clients log in at the proxy, and the proxy at servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::PathBuf};
use values::Diagnostic;

/// The database of users without one.
pub(crate) const DEFAULT_DATABASE: &str = "admin";

/// Log-ins at the proxy, so that clients of a user share connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// Users that the proxy knows without asking a server. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<AuthUser>,
    /// An account that may view users (privilege `viewUser` on their databases). The proxy asks for each
    /// user that is not listed, by `usersInfo`. Default: only listed users log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupAccount>,
    /// The listed user, `name` or `name@db`, as which the proxy logs in for all clients. Default: for each
    /// client as its own user.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub log_in_as: Option<String>,
}

/// A user that the proxy knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthUser {
    /// The name.
    pub name: String,
    /// The database that the user belongs to. Default: `admin`.
    #[serde(default = "default_database")]
    pub db: String,
    /// A file whose first line is the password. It is read when the proxy starts. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A file whose first line is what the server stores of the password,
    /// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`. It is read when the proxy starts. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_file: Option<PathBuf>,
    /// The subject of the certificate with which clients log in as this user (MONGODB-X509), as RFC 4514
    /// writes it: `CN=web,OU=shops,O=Example`. The listener's `tls` has to verify it (`client_ca`). Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<String>,
}

/// The account that views users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupAccount {
    /// The name.
    pub user: String,
    /// The database that the user belongs to. Default: `admin`.
    #[serde(default = "default_database")]
    pub db: String,
    /// A file whose first line is the password. It is read when the proxy starts.
    pub password_file: PathBuf,
}

fn default_database() -> String {
    DEFAULT_DATABASE.to_owned()
}

impl AuthSettings {
    /// All mistakes, each with its path of keys below `auth`.
    pub(super) fn mistakes(&self) -> Vec<Diagnostic> {
        let mut mistakes = Vec::new();
        let (mut names, mut subjects) = (BTreeSet::new(), BTreeSet::new());
        for (index, user) in self.users.iter().enumerate() {
            let index = index.to_string();
            let mut wrong = |key: &str, message: String, hint: &str| {
                mistakes.push(Diagnostic::at(&["auth", "users", &index, key], message, hint));
            };
            let AuthUser { name, db, password_file, verifier_file, x509 } = user;
            if name.is_empty() || db.is_empty() {
                wrong("name", "a user has a name and a database".to_owned(), "write both");
            }
            if !names.insert((name, db)) {
                wrong("name", format!("`{name}@{db}` is listed twice"), "leave one out");
            }
            if x509.as_ref().is_some_and(|subject| !subjects.insert(subject)) {
                let message = "two users have this certificate".to_owned();
                wrong("x509", message, "a certificate logs in as one user");
            }
            match (password_file, verifier_file) {
                (None, _) if x509.is_some() && self.log_in_as.is_none() => {
                    let message = format!(
                        "the proxy can't log in as `{name}` for clients with a certificate"
                    );
                    wrong("x509", message, "write `password_file`, or `as`");
                }
                (None, None) if x509.is_none() => {
                    let message = format!("nothing shows who `{name}` is");
                    wrong("name", message, "write `password_file` or `verifier_file`");
                }
                (Some(_), Some(_)) => {
                    let message = format!("`{name}` has a password and a verifier");
                    wrong("verifier_file", message, "leave out the one or the other");
                }
                _ => {}
            }
        }
        mistakes.extend(self.whole());
        mistakes
    }

    /// What is wrong with the settings together.
    fn whole(&self) -> Vec<Diagnostic> {
        let mut mistakes = Vec::new();
        if self.users.is_empty() && self.lookup.is_none() {
            let hint = "list `users`, or write `lookup: { user: tollgate, password_file: FILE }`";
            mistakes.push(Diagnostic::at(&["auth"], "no user could log in", hint));
        }
        if let Some(name) = &self.log_in_as
            && !self.users.iter().any(|user| user.password_file.is_some() && user.is_named(name))
        {
            let message = format!("`{name}` is no user with a password");
            let hint = "list it in `users` with a `password_file`";
            mistakes.push(Diagnostic::at(&["auth", "as"], message, hint));
        }
        mistakes
    }
}

impl AuthUser {
    /// Whether `name` or `name@db` means this user.
    pub(crate) fn is_named(&self, text: &str) -> bool {
        let (name, db) = text.rsplit_once('@').unwrap_or((text, DEFAULT_DATABASE));
        (&*self.name, &*self.db) == (name, db)
            || (&*self.name, &*self.db) == (text, DEFAULT_DATABASE)
    }
}
