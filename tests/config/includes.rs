//! Included files: which are read, in which order, and how a change of them is noticed.

use config::{Access, load, load_with_sources, parse_with};
use std::{fs, os::unix::fs::symlink, path::Path};

const MAIN: &str = "include: [\"conf.d/*.yaml\", one.yaml]\n\
                    listeners: { db: { address: \":0\", protocol: tcp, cluster: main } }\n\
                    clusters: { main: { endpoints: [a:1] } }\n";

fn cluster(name: &str) -> String {
    format!("clusters: {{ {name}: {{ endpoints: [a:1] }} }}\n")
}

/// A directory with a main file, `one.yaml`, and two files in `conf.d`.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("conf.d")).unwrap();
    fs::write(at("tollgate.yaml"), MAIN).unwrap();
    for name in ["one", "conf.d/b", "conf.d/a"] {
        let own = name.replace('/', "-");
        fs::write(at(&format!("{name}.yaml")), cluster(&own)).unwrap();
    }
    directory
}

fn clusters(file: &Path) -> Vec<String> {
    let plan = load(file).unwrap_or_else(|problems| panic!("{problems}"));
    plan.clusters.iter().map(|it| it.name.to_string()).collect()
}

#[test]
fn files_are_included_in_the_order_written_and_globs_by_name() {
    let directory = directory();
    let main = directory.path().join("tollgate.yaml");
    assert_eq!(clusters(&main), ["main", "conf.d-a", "conf.d-b", "one"]);
    let (_, sources) = load_with_sources(&main);
    let names = sources.files.iter().map(|it| it.strip_prefix(directory.path()).unwrap());
    let expected = ["tollgate.yaml", "conf.d/a.yaml", "conf.d/b.yaml", "one.yaml"];
    assert_eq!(names.collect::<Vec<_>>(), expected.map(Path::new));
}

#[test]
fn a_glob_matches_no_hidden_files_and_no_copies() {
    let directory = directory();
    let at = |name: &str| directory.path().join("conf.d").join(name);
    for name in [".c.yaml", "c.yaml~", "#c.yaml#", ".c.yaml.swp", "c.yaml.bak", "c.yaml.dpkg-old"] {
        fs::write(at(name), "not: [ a config").unwrap();
    }
    let main = directory.path().join("tollgate.yaml");
    fs::write(&main, MAIN.replace("*.yaml", "*")).unwrap();
    assert_eq!(clusters(&main), ["main", "conf.d-a", "conf.d-b", "one"]);
}

#[test]
fn a_file_that_is_found_twice_is_included_once() {
    let directory = directory();
    symlink("../one.yaml", directory.path().join("conf.d/again.yaml")).unwrap();
    let main = directory.path().join("tollgate.yaml");
    fs::write(&main, MAIN.replace("one.yaml", "\"*.yaml\"")).unwrap();
    assert_eq!(clusters(&main), ["main", "conf.d-a", "one", "conf.d-b"]);
}

#[test]
fn a_glob_may_stand_for_directories() {
    let directory = directory();
    fs::create_dir(directory.path().join("conf.e")).unwrap();
    fs::write(directory.path().join("conf.e/a.yaml"), cluster("e")).unwrap();
    let main = directory.path().join("tollgate.yaml");
    fs::write(&main, MAIN.replace("conf.d/*.yaml", "conf.?/a.yaml")).unwrap();
    assert_eq!(clusters(&main), ["main", "conf.d-a", "e", "one"]);
}

#[test]
fn the_number_and_the_size_of_included_files_are_bounded() {
    let directory = directory();
    let main = directory.path().join("tollgate.yaml");
    let at = |name: &str| directory.path().join("conf.d").join(name);
    fs::write(at("c.yaml"), format!("{}#{}", cluster("c"), " ".repeat(3 << 20))).unwrap();
    assert_eq!(clusters(&main).len(), 5);
    fs::write(at("d.yaml"), format!("{}#{}", cluster("d"), " ".repeat(1 << 20))).unwrap();
    let problems = load(&main).unwrap_err();
    assert!(problems.0[0].message.contains("conf.d/d.yaml`: it is longer than"), "{problems}");
    for number in 0..1001 {
        fs::write(at(&format!("d{number}.yaml")), "x-nothing: 1\n").unwrap();
    }
    fs::remove_file(at("d.yaml")).unwrap();
    let problems = load(&main).unwrap_err();
    assert!(problems.to_string().contains("a config has at most 1000 files"), "{problems}");
}

#[test]
fn a_fingerprint_differs_if_a_file_is_changed_added_or_removed() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let (plan, sources) = load_with_sources(at("tollgate.yaml"));
    assert!(plan.is_ok());
    let same = || sources.fingerprint() == *sources.read();
    assert!(same());
    for (name, content) in [
        ("tollgate.yaml", MAIN.to_owned()),
        ("one.yaml", cluster("one")),
        ("conf.d/b.yaml", cluster("conf.d-b")),
    ] {
        fs::write(at(name), format!("{content}# changed\n")).unwrap();
        assert!(!same(), "{name}");
        fs::write(at(name), content).unwrap();
        assert!(same(), "{name}");
    }
    fs::write(at("conf.d/c.yaml"), "").unwrap();
    assert!(!same());
    fs::rename(at("conf.d/c.yaml"), at("conf.d/.c.yaml")).unwrap();
    assert!(same());
    fs::remove_file(at("one.yaml")).unwrap();
    assert!(!same());
}

#[test]
fn the_fingerprint_of_a_wrong_config_is_known() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    for (name, wrong) in [("conf.d/a.yaml", "clusters: ["), ("tollgate.yaml", "nonsense: 1")] {
        fs::write(at(name), wrong).unwrap();
        let (plan, sources) = load_with_sources(at("tollgate.yaml"));
        assert!(plan.is_err());
        assert_eq!(sources.fingerprint(), *sources.read());
    }
    fs::remove_file(at("tollgate.yaml")).unwrap();
    let (plan, sources) = load_with_sources(at("tollgate.yaml"));
    assert!(plan.is_err());
    assert_eq!(sources.fingerprint(), *sources.read());
}

#[test]
fn a_text_of_its_own_includes_files_only_of_a_given_directory() {
    let directory = directory();
    let problems = parse_with("body", MAIN.as_bytes(), &Access::default()).unwrap_err();
    let first = &problems.0[0];
    assert_eq!(first.message, "no files can be included here");
    assert_eq!((first.line(), problems.0.len()), (1, 1));
    let include_from = Some(directory.path().to_owned());
    let access = Access { include_from, environment: false };
    assert_eq!(parse_with("body", MAIN.as_bytes(), &access).unwrap().clusters.len(), 4);
}

#[test]
fn a_text_of_its_own_has_variables_only_where_that_is_allowed() {
    let text = "listeners: { db: { address: \":0\", protocol: tcp, cluster: \"${HOME:-home}\" } }\n\
                clusters: { db: { endpoints: [\"${TOLLGATE_NOT_SET:-a}:1\"] } }\n";
    let problems = parse_with("body", text.as_bytes(), &Access::default()).unwrap_err();
    let home = std::env::var("HOME").unwrap_or_else(|_| "/nowhere".to_owned());
    assert!(!problems.to_string().contains(&home), "{problems}");
    assert!(problems.0[1].message.contains("there are no variables here"), "{problems}");
    let access = Access { environment: true, include_from: None };
    let text = text.replace("${HOME:-home}", "db");
    assert!(parse_with("body", text.as_bytes(), &access).is_ok());
}
