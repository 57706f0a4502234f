//! File names: unreadable and unwritable files are reported before they are used.

use super::Check;
use std::path::{Path, PathBuf};
use values::spanned::Spanned;
use values::{Diagnostic, irregular_file, irregular_log};

/// The longest path of a Unix socket, in bytes (`sockaddr_un`).
const MAX_SOCKET_PATH: usize = 107;

impl Check<'_> {
    /// A file to read. It may be missing so far, but must not be anything but a regular file.
    pub(super) fn file_to_read(&mut self, name: Spanned<String>) -> Option<PathBuf> {
        self.path(name, irregular_file)
    }

    /// A log to append to.
    pub(super) fn log(&mut self, name: Spanned<String>) -> Option<PathBuf> {
        // The standard streams may be of any kind.
        let stream =
            |path: &Path| matches!(path.to_str(), Some("/dev/stdout" | "/dev/stderr" | "-"));
        self.path(name, |path| if stream(path) { None } else { irregular_log(path) })
    }

    /// The path of a Unix socket.
    pub(super) fn socket_path(
        &mut self,
        Spanned { at, value }: Spanned<String>,
    ) -> Option<PathBuf> {
        let path = PathBuf::from(value?);
        let hint = "write an absolute path of at most 107 bytes: /run/tollgate/upgrade.sock";
        if !path.is_absolute() {
            self.report.add(at, "the path of a socket must be absolute", hint);
        } else if path.as_os_str().len() > MAX_SOCKET_PATH {
            self.report.add(at, "the path is too long for a socket", hint);
        }
        Some(path)
    }

    fn path(
        &mut self,
        Spanned { at, value }: Spanned<String>,
        wrong: impl Fn(&Path) -> Option<Diagnostic>,
    ) -> Option<PathBuf> {
        let path = PathBuf::from(value?);
        if path.as_os_str().is_empty() {
            self.report.add(at, "the path is empty", "write the name of a file");
        } else if let Some(error) = wrong(&path) {
            self.report.add_diagnostic(at, error);
        }
        Some(path)
    }
}
