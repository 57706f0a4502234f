//! The Rust files of the repository, and what of a file is production code.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folders of production code.
pub(crate) const FOLDERS: [&str; 3] = ["src", "crates", "protocols"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A path as it is written in messages: relative to the root.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Every Rust file under a folder of this repository, sorted, without what a build makes.
pub(crate) fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().join(folder)];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                left.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The files of production code under these folders: no folder `tests`, no module behind `#[cfg(test)]`.
pub(crate) fn production_sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = folders.iter().flat_map(|folder| sources(folder)).collect();
    found.retain(|path| {
        let parts = path.strip_prefix(root()).unwrap().components();
        !parts.map(|part| part.as_os_str()).any(|part| part == "tests" || part == "tests.rs")
    });
    let tests: Vec<PathBuf> = found.iter().flat_map(|path| test_modules(path)).collect();
    found.retain(|path| !tests.iter().any(|test| path.starts_with(test)));
    found
}

/// The files and folders of the modules that a file declares behind `#[cfg(test)]`.
fn test_modules(path: &Path) -> Vec<PathBuf> {
    let text = read(path);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names = pairs.filter_map(|pair| pair[1].split_once("mod ")?.1.strip_suffix(';'));
    let folder = module_folder(path);
    names.flat_map(|name| [folder.join(name), folder.join(format!("{name}.rs"))]).collect()
}

/// The folder that has the modules of a file.
pub(crate) fn module_folder(path: &Path) -> PathBuf {
    match path.file_name().unwrap().to_str().unwrap() {
        "lib.rs" | "main.rs" => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    }
}

/// A file's lines of production code, trimmed: no comments, and nothing behind `#[cfg(test)]`.
pub(crate) fn code(text: &str) -> Vec<&str> {
    let lines = indented_code(text).into_iter().map(str::trim_start);
    lines.filter(|line| !line.starts_with("//")).collect()
}

/// A file's lines that are not empty, without what is behind `#[cfg(test)]`.
pub(crate) fn indented_code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(&mut lines, line.len() - line.trim_start().len());
        } else {
            found.push(line.split(" // ").next().unwrap_or_default().trim_end());
        }
    }
    found.retain(|line| !line.is_empty());
    found
}

/// Skips an item that rustfmt has formatted: its last line is the first one with its indent that ends it.
fn skip_item<'t>(lines: &mut impl Iterator<Item = &'t str>, indent: usize) {
    for line in lines {
        let bare = line.trim_start();
        let outermost = line.len() - bare.len() == indent && !bare.starts_with("#[");
        if outermost && line.ends_with([';', ',', '}']) {
            return;
        }
    }
}

/// Whether this name occurs in code as a whole word.
pub(crate) fn names(code: &str, name: &str) -> bool {
    words(code).any(|word| word == name)
}

/// The identifiers and keywords in code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn code_has_neither_comments_nor_tests() {
    let text = "//! Doc.\n\nfn a() {} // mongo\n\n#[cfg(test)]\nmod tests {}\n";
    assert_eq!(code(text), ["fn a() {}"]);
    let text = "a\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    b;\n}\nc\n";
    assert_eq!(code(text), ["a", "c"]);
    let text = "struct A {\n    #[cfg(test)]\n    b: u8,\n    c: u8,\n}";
    assert_eq!(code(text), ["struct A {", "c: u8,", "}"]);
}

#[test]
fn files_of_test_modules_are_not_production_code() {
    let files = production_sources(&["crates/relay/src", "protocols/mongo", "protocols/grpc"]);
    let files: Vec<String> = files.iter().map(|path| shown(path)).collect();
    assert!(files.contains(&"protocols/mongo/src/codec.rs".to_owned()));
    for test in ["src/dice.rs", "src/testing.rs", "/tests/"] {
        assert!(!files.iter().any(|path| path.contains(test)), "{test}");
    }
}
