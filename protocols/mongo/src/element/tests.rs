use super::*;
use crate::dice::{Dice, document};
use bson::{RawDocument, rawdoc};

#[test]
fn generated_documents_are_walked_as_bson_walks_them() {
    for seed in 0..2000 {
        let bytes = document(&mut Dice::new(seed), 3).into_bytes();
        let mut walk = elements(&bytes);
        for theirs in RawDocument::from_bytes(&bytes).unwrap().iter_elements() {
            let theirs = theirs.unwrap();
            let ours = walk.next().unwrap_or_else(|| panic!("seed {seed}: ended early"));
            assert_eq!(ours.kind, theirs.element_type() as u8, "seed {seed}");
            assert_eq!(ours.name, theirs.key().as_str().as_bytes(), "seed {seed}");
            assert_eq!(ours.value.len(), theirs.size(), "seed {seed}");
        }
        assert_eq!(walk.next(), None, "seed {seed}");
        assert!(walk.is_complete(), "seed {seed}");
    }
}

#[test]
fn a_cut_document_gives_what_is_here_of_it() {
    let bytes = rawdoc! { "a": 1, "filter": { "b": "text", "c": 2 }, "d": 3 }.into_bytes();
    for cut in 0..bytes.len() {
        let mut walk = elements(&bytes[..cut]);
        let names: Vec<_> = walk.by_ref().map(|e| e.name).collect();
        let whole: Vec<_> = elements(&bytes).map(|e| e.name).collect();
        assert!(whole.starts_with(&names), "cut at {cut}");
        assert!(!walk.is_complete(), "cut at {cut}");
    }
    let cut = &bytes[..40];
    let filter = elements(cut).find(|e| e.name == b"filter").unwrap();
    let inner: Vec<_> = elements(filter.value).map(|e| e.text()).collect();
    assert_eq!(inner, [Some("text")], "a cut document is given in part");
}

#[test]
fn a_length_beyond_its_document_ends_the_walk() {
    let good = rawdoc! { "a": { "b": 1 }, "c": 2 }.into_bytes();
    let mut long = good.clone();
    long[7] = 200;
    assert_eq!(elements(&long).count(), 0, "the document is whole, so the length is a lie");
    for claim in [0, 4, 0xFF] {
        let mut broken = good.clone();
        broken[7..11].fill(claim);
        assert_eq!(elements(&broken).count(), 0);
    }
}

#[test]
fn bytes_after_the_end_do_not_matter_and_those_before_it_do() {
    let mut bytes = rawdoc! { "a": 1 }.into_bytes();
    bytes.extend(b"more");
    let mut walk = elements(&bytes);
    assert_eq!(walk.by_ref().count(), 1);
    assert!(walk.is_complete());
    bytes[0] += 4;
    let mut walk = elements(&bytes);
    assert_eq!(walk.by_ref().count(), 1);
    assert!(!walk.is_complete(), "the end came before the length says");
}

#[test]
fn truth_is_what_the_server_takes_for_it() {
    for (value, truth) in [
        (rawdoc! { "v": 1 }, true),
        (rawdoc! { "v": 1.0 }, true),
        (rawdoc! { "v": 1_i64 }, true),
        (rawdoc! { "v": true }, true),
        (rawdoc! { "v": 0 }, false),
        (rawdoc! { "v": 0.0 }, false),
        (rawdoc! { "v": -0.0 }, false),
        (rawdoc! { "v": false }, false),
        (rawdoc! { "v": "1" }, false),
    ] {
        assert_eq!(elements(value.as_bytes()).next().unwrap().truthy(), truth, "{value:?}");
    }
}

#[test]
fn mutated_documents_never_panic_nor_give_more_than_there_is() {
    for seed in 0..20_000 {
        let mut dice = Dice::new(seed);
        let mut bytes = document(&mut dice, 2).into_bytes();
        dice.mutate(&mut bytes);
        let total: usize = elements(&bytes).map(|e| 2 + e.name.len() + e.value.len()).sum();
        assert!(total <= bytes.len(), "seed {seed}");
        for element in elements(&bytes) {
            let _ = element.text();
            assert!(!(element.truthy() && element.is_container()), "seed {seed}");
        }
    }
}
