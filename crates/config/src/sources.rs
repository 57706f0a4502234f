//! The files that a config is read from, and whether they have changed since.

use super::MAX_FILE;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind, Read as _},
    path::{Component, Path, PathBuf},
};
use values::{glob_matches, open_regular, read_at_most};

/// The most files of `include`.
const MAX_FILES: usize = 1000;

/// Endings of the names of copies that editors and package managers leave behind.
const BACKUPS: &[&str] = &[
    "~",
    ".bak",
    ".orig",
    ".rej",
    ".swp",
    ".tmp",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".rpmnew",
    ".rpmorig",
    ".rpmsave",
];

/// The files that a config was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files, in the order of reading: the main one first, unless it was no file (stdin).
    pub files: Vec<PathBuf>,
    /// The paths and globs of `include`, relative to the working directory.
    pub patterns: Vec<PathBuf>,
    /// The main file.
    main: Option<PathBuf>,
    /// The globs that matched nothing.
    unmatched: Vec<PathBuf>,
    read: Fingerprint,
}

/// Stands for the content of all files of a config, and for which files there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<[u8; 32]>);

/// A file and its content, or why that can't be read.
pub(crate) struct FoundFile {
    /// The position of the pattern that has found it.
    pub(crate) pattern: usize,
    pub(crate) path: PathBuf,
    pub(crate) content: io::Result<Vec<u8>>,
}

impl Sources {
    /// What the files have in them now, with the globs evaluated anew. It differs from [`Self::read`]
    /// if a file was changed, added or removed since.
    pub fn fingerprint(&self) -> Fingerprint {
        let (mut now, mut length) = (Fingerprint::default(), 0);
        if let Some(path) = &self.main {
            let content = read_main(path);
            length = content.as_ref().map_or(0, Vec::len);
            now.add(path, &content);
        }
        find(self.main.as_deref(), length, &self.patterns).iter().for_each(|it| now.add_found(it));
        now
    }

    /// What the files had in them when the config was read.
    pub fn read(&self) -> &Fingerprint {
        &self.read
    }

    /// Hints of `tollgate check`, one line each.
    pub fn hints(&self) -> Vec<String> {
        let hint = |pattern: &PathBuf| {
            let pattern = crate::printable(&pattern.display().to_string());
            format!("include: `{pattern}` matches no file: add one, or leave it out")
        };
        self.unmatched.iter().map(hint).collect()
    }

    /// A main file with this content, which includes nothing so far.
    pub(crate) fn of_main(path: &Path, content: &io::Result<Vec<u8>>) -> Self {
        let mut read = Fingerprint::default();
        read.add(path, content);
        Self { files: vec![path.to_owned()], main: Some(path.to_owned()), read, ..Self::default() }
    }

    /// Finds the files of these patterns. `length` is that of the main file.
    pub(crate) fn include(&mut self, length: usize, patterns: Vec<PathBuf>) -> Vec<FoundFile> {
        let found = find(self.main.as_deref(), length, &patterns);
        found.iter().for_each(|it| self.read.add_found(it));
        self.files.extend(found.iter().map(|it| it.path.clone()));
        let matches = |pattern: usize| found.iter().any(|it| it.pattern == pattern);
        let unmatched = patterns.iter().enumerate().filter(|(at, it)| is_glob(it) && !matches(*at));
        self.unmatched = unmatched.map(|(_, pattern)| pattern.clone()).collect();
        self.patterns = patterns;
        found
    }
}

impl Fingerprint {
    fn add(&mut self, path: &Path, content: &io::Result<Vec<u8>>) {
        let mut hash = Sha256::new();
        hash.update(path.as_os_str().as_encoded_bytes());
        // No path has it.
        hash.update([0]);
        match content {
            Ok(content) => hash.update(content),
            Err(error) => hash.update(error.to_string()),
        }
        self.0.push(hash.finalize().into());
    }

    fn add_found(&mut self, file: &FoundFile) {
        self.add(&file.path, &file.content);
    }
}

/// Reads the main file, up to one byte more than it may have.
pub(crate) fn read_main(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// All files of these patterns, in order, each once. `main` and its `length` count too.
fn find(main: Option<&Path>, length: usize, patterns: &[PathBuf]) -> Vec<FoundFile> {
    let identity = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut known: BTreeSet<PathBuf> = main.map(identity).into_iter().collect();
    let mut left = MAX_FILE.saturating_sub(length);
    let mut found = Vec::new();
    for (pattern, text) in patterns.iter().enumerate() {
        let paths = match is_glob(text) {
            true => matching(text),
            false => Ok(vec![text.clone()]),
        };
        let paths = match paths {
            Ok(paths) => paths,
            Err((path, error)) => {
                found.push(FoundFile { pattern, path, content: Err(error) });
                continue;
            }
        };
        for path in paths {
            if !known.insert(identity(&path)) {
                continue;
            }
            if found.len() == MAX_FILES {
                let error = io::Error::other(format!("a config has at most {MAX_FILES} files"));
                found.push(FoundFile { pattern, path, content: Err(error) });
                return found;
            }
            let content = open_regular(&path).and_then(|file| read_at_most(file, left as u64));
            left = left.saturating_sub(content.as_ref().map_or(0, Vec::len));
            found.push(FoundFile { pattern, path, content });
        }
    }
    found
}

/// Whether a path has a `*` or a `?`.
fn is_glob(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?'))
}

/// The files that a glob matches, sorted by name.
fn matching(glob: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut found = vec![PathBuf::new()];
    for part in glob.components() {
        let name = match part {
            Component::Normal(name) if is_glob(Path::new(name)) => name.to_string_lossy(),
            part => {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
        };
        let mut next = Vec::new();
        for directory in found {
            let names = names(&directory, &name).map_err(|error| (directory.clone(), error))?;
            next.extend(names.into_iter().map(|name| directory.join(name)));
        }
        next.sort();
        // One more than may be read, for the error.
        next.truncate(MAX_FILES + 1);
        found = next;
    }
    // Behind a part with a `*` there may be a file in some directories only.
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    Ok(found)
}

/// The names in a directory that match. A missing directory has none.
fn names(directory: &Path, glob: &str) -> io::Result<Vec<String>> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = match fs::read_dir(here) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        // A name that is not UTF-8 is matched by no glob, which is text.
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if !is_ignored(&name, glob) && glob_matches(glob, &name) {
            found.insert(name);
            if found.len() > MAX_FILES + 1 {
                found.pop_last();
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether a file is hidden, or the copy of another one.
fn is_ignored(name: &str, glob: &str) -> bool {
    let hidden = name.starts_with('.') && !glob.starts_with('.');
    hidden || name.starts_with('#') || BACKUPS.iter().any(|ending| name.ends_with(ending))
}
