//! Files named in a config: irregular files are recognized without blocking.
//!
//! Opening a FIFO blocks until its other end is opened, which may be never: the proxy could neither
//! start nor stop.

use crate::{Diagnostic, files_read::record};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

/// Opens a regular file for reading. A symbolic link to one is followed.
///
/// # Errors
/// If it can't be opened, or is a FIFO, a directory, a socket or a device. None of these blocks.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if let Some(kind) = irregular(path) {
        return Err(not_regular(kind));
    }
    // The file may have been replaced, so the opened one is checked again.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(not_regular("another kind of file")),
    }
}

/// Reads a regular file of at most `max` bytes. A [`crate::recording`] has it.
///
/// # Errors
/// As for [`open_regular`], and if the file is longer.
pub fn read_regular(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let content = read_at_most(open_regular(path)?, max)?;
    record(path, &content);
    Ok(content)
}

/// The text of a regular file of at most `max` bytes.
///
/// # Errors
/// As for [`read_regular`], and if it is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read_regular(path, max)?).map_err(io::Error::other)
}

/// Reads an open file of at most `max` bytes.
///
/// # Errors
/// If it can't be read, or is longer.
pub fn read_at_most(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    match read as u64 > max {
        true => Err(io::Error::other(format!("it is longer than {max} bytes"))),
        false => Ok(bytes),
    }
}

/// The secret in the first line of a file of at most `max` bytes. No [`crate::recording`] has it: it
/// is read at each use, so that a changed secret changes no settings.
///
/// # Errors
/// As for [`read_text`], and if that line is empty.
pub fn read_secret(path: &Path, max: u64) -> io::Result<String> {
    let text = String::from_utf8(read_at_most(open_regular(path)?, max)?);
    let text = text.map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    match text.lines().next() {
        None | Some("") => Err(io::Error::other("its first line is empty")),
        Some(line) => Ok(line.to_owned()),
    }
}

/// The error for a file that [`read_secret`] can't read. A missing file is accepted: it may come
/// later.
pub fn wrong_secret_file(path: &Path, max: u64) -> Option<Diagnostic> {
    let error = read_secret(path, max).err().filter(|it| it.kind() != io::ErrorKind::NotFound)?;
    let message = format!("can't read the secret in `{}`: {error}", path.display());
    let hint = "name a regular file that can be read, with the secret alone in its first line";
    Some(irregular_file(path).unwrap_or_else(|| Diagnostic::new(message, hint)))
}

/// The error for a file to read that is not a regular file. A missing file is accepted.
pub fn irregular_file(path: &Path) -> Option<Diagnostic> {
    let kind = irregular(path)?;
    let message = format!("`{}` is {kind}, not a regular file", path.display());
    Some(Diagnostic::new(message, "name a regular file, or a symbolic link to one"))
}

/// The error for a log that cannot be appended to. Accepted are regular files, `/dev/null`, and
/// missing files. Links are not followed.
pub fn irregular_log(path: &Path) -> Option<Diagnostic> {
    let found = fs::symlink_metadata(path).ok()?.file_type();
    if found.is_file() || path == Path::new("/dev/null") {
        return None;
    }
    let hint = match fs::canonicalize(path) {
        Ok(target) if found.is_symlink() => {
            format!("name the file that it leads to: {}", target.display())
        }
        _ => "name a regular file, or `/dev/stdout` or `/dev/stderr`".to_owned(),
    };
    let message = format!("`{}` is {}, not a regular file", path.display(), kind(found));
    Some(Diagnostic::new(message, hint))
}

/// The kind of this file, if it is not a regular one.
fn irregular(path: &Path) -> Option<&'static str> {
    let found = fs::metadata(path).ok()?.file_type();
    (!found.is_file()).then(|| kind(found))
}

fn kind(found: fs::FileType) -> &'static str {
    match found {
        it if it.is_dir() => "a directory",
        it if it.is_symlink() => "a symbolic link",
        it if it.is_fifo() => "a FIFO",
        it if it.is_socket() => "a socket",
        _ => "a device",
    }
}

fn not_regular(kind: &str) -> io::Error {
    let text = format!("it is {kind}, not a regular file");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};
    use std::os::unix::{fs::symlink, net::UnixListener};

    #[test]
    fn irregular_files_are_rejected_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(at("fifo"), at("link")).unwrap();
        for (path, kind) in [
            (at("fifo"), "a FIFO"),
            (at("link"), "a FIFO"),
            (at("socket"), "a socket"),
            (at("directory"), "a directory"),
            ("/dev/null".into(), "a device"),
        ] {
            let error = open_regular(&path).unwrap_err().to_string();
            assert_eq!(error, format!("it is {kind}, not a regular file"));
            assert!(read_regular(&path, 1).is_err());
            let error = irregular_file(&path).unwrap();
            assert_eq!(
                error.message,
                format!("`{}` is {kind}, not a regular file", path.display())
            );
        }
        assert_eq!(irregular_file(&at("nothing")), None);
        assert_eq!(open_regular(&at("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_regular_file_is_read_up_to_its_limit_also_by_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "12345").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(irregular_file(&link), None);
        assert_eq!(read_regular(&link, 5).unwrap(), b"12345");
        let error = read_regular(&link, 4).unwrap_err().to_string();
        assert_eq!(error, "it is longer than 4 bytes");
    }

    #[test]
    fn a_secret_is_the_first_line_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        for (content, secret) in [
            (&b"one\n"[..], Ok("one")),
            (b"one\r\ntwo", Ok("one")),
            (b" one ", Ok(" one ")),
            (b"", Err("its first line is empty")),
            (b"\none", Err("its first line is empty")),
            (b"\xff", Err("it is not UTF-8 text")),
            (b"12345678901", Err("it is longer than 10 bytes")),
        ] {
            fs::write(&file, content).unwrap();
            let read = read_secret(&file, 10).map_err(|error| error.to_string());
            assert_eq!(read, secret.map(str::to_owned).map_err(str::to_owned));
            let wrong = wrong_secret_file(&file, 10).map(|wrong| wrong.message);
            let message = |error| format!("can't read the secret in `{}`: {error}", file.display());
            assert_eq!(wrong, secret.err().map(message));
        }
        assert_eq!(wrong_secret_file(&directory.path().join("later"), 10), None);
        let wrong = wrong_secret_file(directory.path(), 10).unwrap();
        assert!(wrong.message.ends_with("is a directory, not a regular file"), "{wrong}");
    }

    #[test]
    fn a_log_is_a_regular_file_and_no_link_to_one() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let folder = directory.path().join("folder");
        symlink(directory.path(), &folder).unwrap();
        for fine in [&file, &folder.join("file"), &folder.join("new"), Path::new("/dev/null")] {
            assert_eq!(irregular_log(fine), None);
        }
        let error = irregular_log(&link).unwrap();
        assert!(error.message.ends_with("/link` is a symbolic link, not a regular file"));
        let hint = format!("leads to: {}", fs::canonicalize(&file).unwrap().display());
        assert!(error.hint.ends_with(&hint), "{}", error.hint);
        assert!(irregular_log(directory.path()).unwrap().message.contains("is a directory"));
    }
}
