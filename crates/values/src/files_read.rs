//! Records which files the settings of an object are read from, so that a reload sees a changed file
//! behind unchanged settings.

use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

thread_local! {
    /// The files of the innermost recording; `None` outside of one.
    ///
    /// Files are read deep inside the settings of protocols and policies, behind `serde` and `dyn`,
    /// through which no parameter passes. A config is read and checked on one thread, and other
    /// threads that read files meanwhile must not be recorded.
    static RECORDING: RefCell<Option<FilesRead>> = const { RefCell::new(None) };
}

/// Files and a digest of what they had in them. Two are equal if the same files had the same
/// content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FilesRead(BTreeMap<PathBuf, [u8; 32]>);

/// Digests of short secrets could be guessed from, so only the paths are shown.
impl fmt::Debug for FilesRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Runs `read`. Returns its value, and the files that [`crate::read_regular`] and
/// [`crate::read_text`] read within it on this thread. A recording may contain others, whose files
/// it has too.
///
/// Certificates and keys of TLS are not read by these functions: they are reloaded on their own.
pub fn recording<T>(read: impl FnOnce() -> T) -> (T, FilesRead) {
    let outer = Outer(RECORDING.replace(Some(FilesRead::default())));
    let value = read();
    let files = RECORDING.take().unwrap_or_default();
    drop(outer);
    RECORDING.with_borrow_mut(|outer| {
        if let Some(outer) = outer {
            outer.0.extend(files.0.clone());
        }
    });
    (value, files)
}

/// Records that this file was read.
pub(crate) fn record(path: &Path, content: &[u8]) {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(FilesRead(files)) = recording {
            files.insert(path.to_owned(), Sha256::digest(content).into());
        }
    });
}

/// What was recorded before a recording began. It goes on at the end, also after a panic.
struct Outer(Option<FilesRead>);

impl Drop for Outer {
    fn drop(&mut self) {
        RECORDING.set(self.0.take());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{read_regular, read_text};
    use std::fs;

    #[test]
    fn a_recording_compares_paths_and_contents() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, "secret").unwrap();
        fs::write(&two, "secret").unwrap();
        let read = |path: &Path| recording(|| read_text(path, 100).unwrap()).1;
        let before = read(&one);
        assert_eq!(read(&one), before);
        assert_ne!(read(&two), before);
        assert_ne!(before, FilesRead::default());
        fs::write(&one, "other").unwrap();
        assert_ne!(read(&one), before);
        fs::write(&one, "secret").unwrap();
        assert_eq!(read(&one), before);
        assert_eq!(format!("{before:?}"), format!("{{{one:?}}}"));
    }

    #[test]
    fn a_recording_has_the_files_of_those_inside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        let (inner, outer) = recording(|| {
            read_regular(&one, 1).unwrap();
            let ((), inner) = recording(|| drop(read_regular(&two, 1).unwrap()));
            inner
        });
        assert_eq!(inner.0.keys().collect::<Vec<_>>(), [&two]);
        assert_eq!(outer.0.keys().collect::<Vec<_>>(), [&one, &two]);
    }

    #[test]
    fn files_outside_of_a_recording_are_not_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "1").unwrap();
        let panicked = std::panic::catch_unwind(|| recording(|| panic!("meant")));
        assert!(panicked.is_err());
        read_regular(&file, 1).unwrap();
        assert!(RECORDING.with_borrow(Option::is_none));
        let read_elsewhere = || std::thread::scope(|it| it.spawn(|| read_regular(&file, 1)).join());
        let (read, files) = recording(read_elsewhere);
        assert_eq!(read.unwrap().unwrap(), b"1");
        assert_eq!(files, FilesRead::default());
    }
}
