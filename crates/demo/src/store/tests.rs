use super::*;

fn orders() -> Namespace {
    Namespace { db: "shop".into(), collection: "orders".into() }
}

fn full_of(limits: Limits, documents: impl IntoIterator<Item = Document>) -> Store {
    let mut store = Store::with_limits(limits);
    documents.into_iter().for_each(|document| store.insert(&orders(), document).unwrap());
    store
}

fn numbered(count: i32) -> impl Iterator<Item = Document> {
    (0..count).map(|id| doc! { "_id": id })
}

fn found(store: &Store, filter: Document) -> usize {
    store.find(&orders(), &filter, usize::MAX).unwrap().len()
}

#[test]
fn an_id_is_there_once_and_comes_first() {
    let mut store = full_of(Limits::default(), [doc! { "a": 1, "_id": 1 }, doc! { "a": 2 }]);
    let failure = store.insert(&orders(), doc! { "_id": 1.0 }).unwrap_err();
    assert_eq!(failure.code, 11000);
    assert_eq!(failure.detail.get_document("keyPattern").unwrap(), &doc! { "_id": 1 });
    for (_, document) in store.find(&orders(), &doc! {}, usize::MAX).unwrap() {
        assert_eq!(document.keys().next().unwrap(), "_id");
    }
}

#[test]
fn a_unique_index_refuses_duplicates_of_old_and_new() {
    let unique = || Index::new("pair", doc! { "a": 1, "b": 1 }, true);
    let mut store = full_of(Limits::default(), [doc! { "a": 1, "b": 1 }, doc! { "a": 1, "b": 2 }]);
    assert!(store.create_index(&orders(), unique()).unwrap());
    assert!(!store.create_index(&orders(), unique()).unwrap());
    let failure = store.insert(&orders(), doc! { "a": 1, "b": 2 }).unwrap_err();
    assert_eq!(failure.detail.get_document("keyValue").unwrap(), &doc! { "a": 1, "b": 2 });
    store.insert(&orders(), doc! { "a": 2, "b": 1 }).unwrap();
    let (at, _) = store.find(&orders(), &doc! { "a": 2 }, 1).unwrap()[0];
    assert_eq!(
        store.replace(&orders(), at, doc! { "_id": 1, "a": 1, "b": 1 }).unwrap_err().code,
        11000
    );
    let on_a = Index::new("a", doc! { "a": 1 }, true);
    assert_eq!(store.create_index(&orders(), on_a).unwrap_err().code, 11000);
    assert!(store.drop_index(&orders(), "pair"));
    store.insert(&orders(), doc! { "a": 1, "b": 2 }).unwrap();
}

#[test]
fn looking_by_id_finds_what_a_scan_finds() {
    let mut store = full_of(Limits::default(), numbered(3));
    store.insert(&orders(), doc! { "_id": null }).unwrap();
    for (filter, count) in [
        (doc! { "_id": 1 }, 1),
        (doc! { "_id": { "$eq": 1.0 } }, 1),
        (doc! { "_id": 1, "a": 1 }, 0),
        (doc! { "_id": 9 }, 0),
        (doc! { "_id": null }, 1),
        (doc! { "_id": { "$gt": 0 } }, 2),
    ] {
        assert_eq!(found(&store, filter.clone()), count, "{filter}");
    }
    let (at, _) = store.find(&orders(), &doc! { "_id": 1 }, 1).unwrap()[0];
    store.remove(&orders(), at);
    assert_eq!(found(&store, doc! { "_id": 1 }), 0);
}

#[test]
fn there_is_room_for_so_many_documents_and_bytes() {
    let few = Limits { documents: 3, ..Limits::default() };
    let mut store = full_of(few, numbered(3));
    assert_eq!(store.insert(&orders(), doc! { "_id": 3 }).unwrap_err().code, 14031);

    let small = Limits { bytes: 10_000, ..Limits::default() };
    let mut store = full_of(small, [doc! { "_id": 0, "text": "x".repeat(2000) }]);
    let big = doc! { "_id": 1, "text": "x".repeat(4000) };
    assert_eq!(store.insert(&orders(), big.clone()).unwrap_err().code, 14031);
    store.drop_collection(&orders()).unwrap();
    store.insert(&orders(), big).unwrap();
}

#[test]
fn there_is_room_for_so_many_collections() {
    let mut store = full_of(Limits { collections: 1, ..Limits::default() }, numbered(1));
    let other = Namespace { collection: "other".into(), ..orders() };
    assert_eq!(store.insert(&other, doc! {}).unwrap_err().code, 14031);
    for (db, collection) in [("", "a"), ("a", ""), ("a$b", "c"), (&*"x".repeat(300), "c")] {
        let ns = Namespace { db: db.into(), collection: collection.into() };
        assert_eq!(store.insert(&ns, doc! {}).unwrap_err().code, 73, "{ns}");
    }
}

#[test]
fn the_oldest_cursor_makes_room() {
    let mut store = full_of(Limits { cursors: 2, ..Limits::default() }, []);
    let rest = || VecDeque::from([Rc::new(doc! { "_id": 1 })]);
    let [first, second, third] = [(); 3].map(|()| store.open_cursor(orders(), rest()));
    assert!(store.cursor(first).is_none());
    assert!(store.cursor(second).is_some() && store.cursor(third).is_some());
    assert_eq!(store.open_cursor(orders(), VecDeque::new()), 0);
}

#[test]
fn a_document_that_nests_too_deep_is_refused() {
    let mut deep = doc! {};
    for _ in 0..MAX_STORED_DEPTH {
        deep = doc! { "a": deep };
    }
    let mut store = full_of(Limits::default(), []);
    assert_eq!(store.insert(&orders(), deep).unwrap_err().code, 15);
}
