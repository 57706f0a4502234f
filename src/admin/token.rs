//! The token that requests need to make changes.

use anyhow::{Context as _, bail};
use std::{hint::black_box, os::unix::fs::MetadataExt, path::Path};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// The shortest token, in characters: a shorter one could be guessed.
const MIN_LENGTH: usize = 16;

/// A secret token; never printed.
pub(super) struct Token(String);

impl Token {
    /// Reads the first line of this file.
    ///
    /// # Errors
    /// It is no regular file, other users may write to it, or its first line is no token (RFC 6750,
    /// section 2.1). The error does not quote the file's content.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display();
        let read = values::open_regular(path).and_then(|open| {
            let mode = open.metadata()?.mode();
            Ok((mode, values::read_at_most(open, MAX_FILE)?))
        });
        let (mode, bytes) = read.with_context(|| format!("can't read the token_file {file}"))?;
        if mode & 0o002 != 0 {
            bail!(
                "every user may write to the token_file {file}: chmod 600 it, and write a new token"
            );
        }
        if mode & 0o004 != 0 {
            tracing::warn!(
                %file,
                "every user of this machine may read the admin interface's token: chmod 600 its \
                 file"
            );
        }
        let text = str::from_utf8(&bytes).ok().and_then(|text| text.lines().next());
        let token = text.map_or("", str::trim);
        let belongs = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        if token.len() < MIN_LENGTH || !token.chars().all(belongs) {
            bail!(
                "the first line of the token_file {file} is no token: write at least {MIN_LENGTH} \
                 letters, digits and `-._~+/=`, such as `openssl rand -base64 24` prints"
            );
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether this value of an `authorization` header has the token. The time that the comparison
    /// takes does not depend on the position of a difference.
    pub(super) fn is_in(&self, authorization: &[u8]) -> bool {
        let (scheme, given) = authorization.split_at_checked(7).unwrap_or_default();
        let token = self.0.as_bytes();
        let mut wrong = u8::from(given.len() != token.len());
        for (i, expected) in token.iter().enumerate() {
            wrong |= black_box(expected ^ given.get(i).copied().unwrap_or_default());
        }
        scheme.eq_ignore_ascii_case(b"bearer ") && black_box(wrong) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    const TOKEN: &str = "0123456789abcdef+/==";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn only_the_whole_token_is_right() {
        let (_directory, path) = file(&format!("{TOKEN}\r\nanother line\n"), 0o600);
        let token = Token::read(&path).unwrap();
        for right in [format!("Bearer {TOKEN}"), format!("bearer {TOKEN}")] {
            assert!(token.is_in(right.as_bytes()), "{right}");
        }
        let (short, long) = (&TOKEN[..19], format!("Bearer {TOKEN}x"));
        for wrong in ["", "Bearer", "Bearer ", TOKEN, &long, &format!("Bearer {short}")] {
            assert!(!token.is_in(wrong.as_bytes()), "{wrong}");
        }
        for (i, _) in TOKEN.char_indices() {
            let wrong = format!("Bearer {}~{}", &TOKEN[..i], &TOKEN[i + 1..]);
            assert!(!token.is_in(wrong.as_bytes()), "{wrong}");
        }
        assert!(!token.is_in(format!("Basic  {TOKEN}").as_bytes()));
    }

    #[test]
    fn an_invalid_token_file_is_rejected_without_quoting_it() {
        for (text, mode, message) in [
            ("", 0o600, "is no token"),
            ("hunter2", 0o600, "is no token"),
            ("\n0123456789abcdef", 0o600, "is no token"),
            ("hunter2 hunter2 hunter2", 0o600, "is no token"),
            ("hunter2hunter2hunter2", 0o602, "every user may write"),
        ] {
            let (_directory, path) = file(text, mode);
            let Err(error) = Token::read(&path) else { panic!("{text}") };
            let error = format!("{error:#}");
            assert!(error.contains(message) && !error.contains("hunter2"), "{error}");
        }
        let (directory, path) = file("0123456789abcdef", 0o604);
        assert!(
            Token::read(&path).is_ok(),
            "a file that other users may read is accepted with a warning"
        );
        let Err(error) = Token::read(directory.path()) else { panic!("a directory") };
        assert!(format!("{error:#}").contains("it is a directory"), "{error:#}");
    }
}
