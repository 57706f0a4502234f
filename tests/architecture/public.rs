//! A crate's public items have a user outside the crate.

use crate::walk::{FOLDERS, code, production_sources, read, root, shown, sources, words};
use std::{collections::HashSet, fs, path::PathBuf};

/// What tests of other crates build on; their users are tests, which may not need all of it.
const FOR_TESTS: &str = "protocols/operation/src/testing";

/// Words that begin an item and may stand before `fn`.
const QUALIFIERS: [&str; 3] = ["const", "async", "unsafe"];

const TYPES: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

/// A public item: its keyword, its name, and the code that its users see.
#[derive(Debug, PartialEq)]
struct Item<'t> {
    keyword: &'t str,
    name: &'t str,
    interface: &'t str,
}

/// The public items, and the public fields, in production code.
fn items(code: &str) -> Vec<Item<'_>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("pub ") {
        let begins_line = code[..at].is_empty() || code[..at].ends_with('\n');
        let declaration = &code[at + "pub ".len()..];
        if begins_line && !declaration.starts_with("use ") {
            found.push(item(declaration));
        }
    }
    found
}

fn item(declaration: &str) -> Item<'_> {
    let mut all = words(declaration).skip_while(|word| {
        let function = declaration.split('\n').next().unwrap().contains("fn ");
        function && QUALIFIERS.contains(word)
    });
    let (keyword, name) = (all.next().unwrap(), all.next().unwrap_or_default());
    let is_field = declaration[keyword.len()..].starts_with(':');
    let (keyword, name) = if is_field { ("", keyword) } else { (keyword, name) };
    // Variants and methods of traits are as public as their item.
    let end = match keyword {
        "enum" | "trait" => block_end(declaration),
        "struct" | "fn" | "type" | "const" | "static" => declaration.find([';', '{']),
        _ => declaration.find('\n'),
    };
    Item { keyword, name, interface: &declaration[..end.unwrap_or(declaration.len())] }
}

/// Where the first block in braces ends.
fn block_end(code: &str) -> Option<usize> {
    let mut depth = 0;
    let mut braces = code.match_indices(['{', '}']).map(|(at, brace)| {
        depth += if brace == "{" { 1 } else { -1 };
        (at, depth)
    });
    braces.find(|(_, depth)| *depth == 0).map(|(at, _)| at)
}

/// What the public items of a crate lack: a user. A type that an interface of its crate names has one.
fn unused(crate_code: &[String], elsewhere: impl Fn(&str) -> bool) -> Vec<String> {
    let items: Vec<Item<'_>> = crate_code.iter().flat_map(|code| items(code)).collect();
    let of_traits = crate_code.iter().flat_map(|code| code.lines()).filter(|line| {
        line.starts_with("type ") || line.starts_with("impl") && line.contains(" for ")
    });
    let of_traits: HashSet<&str> = of_traits.flat_map(words).collect();
    let named = |name: &str| {
        let others = items.iter().filter(|item| item.keyword.is_empty() || item.name != name);
        of_traits.contains(name)
            || others.map(|item| item.interface).any(|text| words(text).any(|word| word == name))
    };
    let declared = items.iter().filter(|item| {
        TYPES.contains(&item.keyword) || ["fn", "const", "static", "mod"].contains(&item.keyword)
    });
    let unused = declared.filter(|item| {
        let is_named = TYPES.contains(&item.keyword) && named(item.name);
        !is_named && !elsewhere(item.name)
    });
    unused.map(|item| format!("{} {}", item.keyword, item.name)).collect()
}

#[test]
fn public_items_are_used_outside_their_crate() {
    let all: Vec<(PathBuf, String)> = FOLDERS
        .iter()
        .chain(&["tests", "benches", "fuzz"])
        .flat_map(|folder| sources(folder))
        .map(|path| (path.clone(), read(&path)))
        .collect();
    let all: Vec<(&PathBuf, HashSet<&str>)> =
        all.iter().map(|(path, text)| (path, words(text).collect())).collect();
    let mut wrong = Vec::new();
    for folder in ["crates", "protocols"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let source = entry.unwrap().path().join("src");
            let outside = all.iter().filter(|(path, _)| !path.starts_with(&source));
            let outside: Vec<&HashSet<&str>> = outside.map(|(_, names)| names).collect();
            let elsewhere = |name: &str| outside.iter().any(|names| names.contains(name));
            let mut files = production_sources(&[&shown(&source)]);
            files.retain(|path| !shown(path).starts_with(FOR_TESTS));
            let files: Vec<String> = files.iter().map(|it| code(&read(it)).join("\n")).collect();
            let unused = unused(&files, elsewhere);
            wrong.extend(unused.iter().map(|item| format!("{}: {item}", shown(&source))));
        }
    }
    assert!(wrong.is_empty(), "public, but used only inside the crate:\n{}", wrong.join("\n"));
}

#[test]
fn a_type_is_used_where_a_public_interface_names_it() {
    let code = "pub fn a() -> B {\nC::new();\n}\npub struct B {\npub j: J,\n}\npub struct J;\npub struct C;\npub mod d;\n\
                pub const E: u8 = 1;\npub const fn f(g: G) {}\npub enum G {\nK {\nl: u8,\n},\nH(I),\n}\npub enum I {\n}";
    let code = [code.to_owned()];
    assert_eq!(unused(&code, |name| ["a", "f"].contains(&name)), ["struct C", "mod d", "const E"]);
}
