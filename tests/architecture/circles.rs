//! Circles of files: files that use each other, directly or through others, by `crate::` and `super::`.

use crate::walk::{FOLDERS, code, module_folder, read, root, shown};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// How many files a circle may have.
const LARGEST: usize = 3;

/// Larger circles that exist, by the folder of their crate, and how many files the largest has. Lower
/// a number with every circle that is broken, and delete the entry at the end. None is added, except
/// for a crate whose files come from one that is listed.
const LARGER: [(&str, usize); 1] = [("protocols/http", 6)];

/// The names of a path, `["gate", "connect"]`: of a module in its crate, whose root is empty, or as code
/// writes it.
type Module = Vec<String>;

/// The files of one crate that are production code.
struct Crate {
    files: BTreeMap<Module, Source>,
}

struct Source {
    path: PathBuf,
    code: String,
    /// The names that the file imports, and what they are in the crate.
    imports: BTreeMap<String, Module>,
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut left = vec![(Module::new(), root.to_owned())];
        while let Some((module, path)) = left.pop() {
            let code = code(&read(&path)).join("\n");
            let folder = module_folder(&path);
            for name in code.lines().filter_map(declared) {
                let child = folder.join(format!("{name}.rs"));
                if child.exists() {
                    left.push((joined(&module, name), child));
                }
            }
            files.insert(module, Source { path, code, imports: BTreeMap::new() });
        }
        let mut found = Self { files };
        let imports: Vec<_> = found.files.keys().map(|module| found.imports(module)).collect();
        for (source, imports) in found.files.values_mut().zip(imports) {
            source.imports = imports;
        }
        found
    }

    fn imports(&self, module: &Module) -> BTreeMap<String, Module> {
        let code = &self.files[module].code;
        let uses = code.split("use ").skip(1).map(|rest| rest.split(';').next().unwrap());
        let paths = uses.flat_map(paths);
        let named = paths.filter_map(|(path, name)| Some((name, self.absolute(module, &path)?)));
        named.collect()
    }

    /// A path from the root of the crate; `None` for another crate's.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => {
                let (_, parent) = module.split_last()?;
                let rest = &path[1..];
                match rest.first().is_some_and(|name| name == "super") {
                    true => self.absolute(&parent.to_vec(), rest),
                    false => Some([parent, rest].concat()),
                }
            }
            name => {
                let child = joined(module, name);
                self.files.contains_key(&child).then(|| [module, path].concat())
            }
        }
    }

    /// The module whose file defines what stands at this path; names that are exported again are followed.
    fn resolve(&self, path: &[String], depth: usize) -> Module {
        let mut module = Module::new();
        for (at, name) in path.iter().enumerate() {
            let child = joined(&module, name);
            if self.files.contains_key(&child) {
                module = child;
                continue;
            }
            match self.files[&module].imports.get(name) {
                Some(import) if depth > 0 && import[..] != path[..=at] => {
                    return self.resolve(&[import, &path[at + 1..]].concat(), depth - 1);
                }
                _ => return module,
            }
        }
        module
    }

    /// The modules that a module uses by `crate::`, `super::` and `self::`.
    fn used(&self, module: &Module) -> BTreeSet<Module> {
        let code = &self.files[module].code;
        let starts = ["crate::", "super::", "self::"].into_iter().flat_map(|start| {
            code.match_indices(start).filter(|(at, _)| {
                !code[..*at].ends_with(|c: char| c == ':' || c == '_' || c.is_alphanumeric())
            })
        });
        let paths = starts.flat_map(|(at, _)| paths(&code[at..]));
        let absolute = paths.filter_map(|(path, _)| self.absolute(module, &path));
        let mut used: BTreeSet<Module> = absolute.map(|path| self.resolve(&path, 8)).collect();
        used.remove(module);
        used
    }

    /// The circles, each as the files that it has; a file that is in none is left out.
    fn circles(&self) -> Vec<Vec<String>> {
        let uses: BTreeMap<&Module, BTreeSet<Module>> =
            self.files.keys().map(|module| (module, self.used(module))).collect();
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            uses.keys().map(|module| (*module, reached(&uses, module))).collect();
        let mut circles = BTreeSet::new();
        for (module, others) in &reached {
            let circle: BTreeSet<_> =
                others.iter().filter(|other| reached[**other].contains(*module)).collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        let shown = |module: &&&Module| shown(&self.files[**module].path);
        circles.iter().map(|circle| circle.iter().map(shown).collect()).collect()
    }
}

/// The modules that can be reached from one by uses; itself only by a circle.
fn reached<'u>(
    uses: &'u BTreeMap<&Module, BTreeSet<Module>>,
    from: &Module,
) -> BTreeSet<&'u Module> {
    let mut found = BTreeSet::new();
    let mut left: Vec<&Module> = uses[from].iter().collect();
    while let Some(module) = left.pop() {
        if found.insert(module) {
            left.extend(&uses[module]);
        }
    }
    found
}

fn joined(module: &Module, name: &str) -> Module {
    let mut joined = module.clone();
    joined.push(name.to_owned());
    joined
}

/// The name of the module that a line declares: `pub(crate) mod NAME;`.
fn declared(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest)
    });
    line.trim_start().strip_prefix("mod ")?.strip_suffix(';')
}

/// The paths of a tree such as `a::{b, c::d as e}` at the front of code, each with the name that it imports.
fn paths(code: &str) -> Vec<(Module, String)> {
    let mut found = Vec::new();
    tree(code, &Module::new(), &mut found);
    found
}

/// Reads one tree and returns what follows it.
fn tree<'c>(code: &'c str, before: &Module, found: &mut Vec<(Module, String)>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            let left = tree(rest, before, found);
            if left.len() == rest.len() {
                return rest.strip_prefix('}').unwrap_or(rest);
            }
            rest = left;
        }
    }
    let (name, rest) = word(code);
    if name.is_empty() {
        return code;
    }
    let path = match name {
        "self" if !before.is_empty() => before.clone(),
        _ => joined(before, name),
    };
    if let Some(inner) = rest.strip_prefix("::").filter(|inner| !inner.starts_with('<')) {
        return tree(inner, &path, found);
    }
    let alias = rest.strip_prefix(" as ").map(word);
    let (name, rest) = alias.unwrap_or((path.last().unwrap(), rest));
    found.push((path.clone(), name.to_owned()));
    rest
}

fn word(code: &str) -> (&str, &str) {
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*');
    code.split_at(end.unwrap_or(code.len()))
}

/// The folders of all crates; `src` is the proxy's.
fn crates() -> Vec<String> {
    let mut folders = vec!["src".to_owned()];
    for parent in FOLDERS.iter().filter(|folder| **folder != "src") {
        for entry in fs::read_dir(root().join(parent)).unwrap() {
            folders.push(shown(&entry.unwrap().path()));
        }
    }
    folders
}

#[test]
fn no_circle_of_files_is_large() {
    let mut wrong = Vec::new();
    for folder in crates() {
        let inner = if folder == "src" { "lib.rs" } else { "src/lib.rs" };
        let circles = Crate::read(&root().join(&folder).join(inner)).circles();
        let largest = circles.iter().max_by_key(|circle| circle.len());
        let size = largest.map_or(0, Vec::len);
        let entry = LARGER.iter().find(|(name, _)| *name == folder).map(|(_, size)| *size);
        if size > entry.unwrap_or(LARGEST) {
            wrong.push(format!("{folder}: {size} files use each other: {largest:#?}"));
        } else if entry.is_some() && size <= LARGEST {
            wrong.push(format!("{folder} has no large circle any more: delete its entry"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn circles_are_seen_through_names_that_are_exported_again() {
    let file = |imports: &[(&str, &str)], code: &str| Source {
        path: root().join("x.rs"),
        code: code.to_owned(),
        imports: imports.iter().map(|(name, at)| ((*name).into(), parts(at))).collect(),
    };
    let library = Crate {
        files: BTreeMap::from([
            (Module::new(), file(&[("Pool", "pool::Pool")], "pub use pool::Pool;")),
            (parts("pool"), file(&[], "use crate::{conn::Conn, limit};")),
            (parts("conn"), file(&[], "fn a(pool: &crate::Pool) {}")),
            (parts("limit"), file(&[], "use super::limit::*; use tokio::net;")),
        ]),
    };
    assert_eq!(library.used(&parts("pool")), [parts("conn"), parts("limit")].into());
    assert_eq!(library.circles().len(), 1);
    assert_eq!(library.circles()[0].len(), 2);
}

fn parts(path: &str) -> Module {
    path.split("::").map(str::to_owned).collect()
}

#[test]
fn paths_are_read_from_trees() {
    let found = paths("crate::{a::{self, B as C}, d::<u8>::e};");
    let found: Vec<_> = found.iter().map(|(path, name)| (path.join("::"), &**name)).collect();
    let expected = [("crate::a", "a"), ("crate::a::B", "C"), ("crate::d", "d")];
    assert_eq!(found, expected.map(|(path, name)| (path.to_owned(), name)));
    assert_eq!(declared("pub(crate) mod kind;"), Some("kind"));
    assert_eq!(declared("mod tests {"), None);
}
