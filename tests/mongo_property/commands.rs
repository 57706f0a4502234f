//! What clients ask for: commands about a database and a collection, in a plain spelling.

use super::value::{Fields, Value, fields};
use fastrand::Rng;

/// A command: its first field names it, and `$db` is apart.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) fields: Fields,
    pub(crate) database: Value,
}

/// The names that guards are about, and those that they are not about.
const DATABASES: [&str; 2] = ["audit", "shop"];
const COLLECTIONS: [&str; 2] = ["events", "orders"];

/// One of these.
pub(crate) fn one<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())].clone()
}

pub(crate) fn database(rng: &mut Rng) -> String {
    one(rng, &DATABASES).into()
}

pub(crate) fn collection(rng: &mut Rng) -> String {
    one(rng, &COLLECTIONS).into()
}

/// The other name of a pair, for decoys.
pub(crate) fn swapped(text: &str) -> String {
    let pairs = [("audit", "shop"), ("events", "orders"), ("bad", "good"), ("root", "mallory")];
    let mut swapped = text.to_owned();
    for (a, b) in pairs {
        swapped = if swapped.contains(a) { swapped.replace(a, b) } else { swapped.replace(b, a) };
    }
    swapped
}

impl Command {
    pub(crate) fn new(database: &str, fields: Fields) -> Self {
        Self { fields, database: database.into() }
    }

    /// Any command that the reference server knows.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let mut command = match rng.u8(..10) {
            0..4 => Self::plain(rng),
            4..6 => Self::aggregate(rng),
            6 => Self::bulk_write(rng),
            _ => Self::of_two(rng),
        };
        if rng.u8(..4) == 0 {
            let comment = one(rng, &["bad one", "good one"]);
            command.fields.push(("comment".into(), comment.into()));
        }
        if rng.u8(..8) == 0 {
            // That of a legacy query, which a command may have beside its own.
            let comment = one(rng, &["bad one", "good one"]);
            let place = rng.usize(1..=command.fields.len());
            command.fields.insert(place, ("$comment".into(), comment.into()));
        }
        command
    }

    /// A command that drivers send all the time, about one collection.
    pub(crate) fn usual(rng: &mut Rng, database: &str, collection: &str) -> Self {
        let filter = || Value::from([("a", 1.into())]);
        let rows =
            || -> Value { vec![[("_id", 1.into())].into(), [("_id", 2.into())].into()].into() };
        let fields = match rng.u8(..8) {
            0 => fields([("find", collection.into()), ("filter", filter())]),
            1 => fields([("count", collection.into()), ("query", filter())]),
            2 => fields([("distinct", collection.into()), ("key", "a".into())]),
            3 => fields([("insert", collection.into()), ("documents", rows())]),
            4 => fields([
                ("update", collection.into()),
                ("updates", vec![[("q", filter()), ("u", filter())].into()].into()),
            ]),
            5 => fields([
                ("delete", collection.into()),
                ("deletes", vec![[("q", filter()), ("limit", 1.into())].into()].into()),
            ]),
            6 => fields([
                ("aggregate", collection.into()),
                ("pipeline", vec![[("$match", filter())].into()].into()),
                ("cursor", Value::Document(Vec::new())),
            ]),
            _ => fields([
                ("findAndModify", collection.into()),
                ("query", filter()),
                ("update", filter()),
            ]),
        };
        Self::new(database, fields)
    }

    fn plain(rng: &mut Rng) -> Self {
        let (database, collection) = (database(rng), collection(rng));
        let named = |word: &str| Self::new(&database, fields([(word, collection.as_str().into())]));
        match rng.u8(..20) {
            0..10 => Self::usual(rng, &database, &collection),
            10..14 => named("drop"),
            14 => named(one(rng, &["dropIndexes", "deleteIndexes", "dropindexes"])),
            15 => named(one(rng, &["collStats", "collstats", "listIndexes"])),
            16 => {
                let word = one(rng, &["dropDatabase", "dropdatabase", "dbStats", "dbstats"]);
                Self::new(&database, fields([(word, 1.into())]))
            }
            17 => {
                let word =
                    one(rng, &["dataSize", "datasize", "shardCollection", "shardcollection"]);
                let namespace = format!("{database}.{collection}");
                Self::new("admin", fields([(word, namespace.into())]))
            }
            18 => {
                let asked = [("getMore", Value::Long(77)), ("collection", collection.into())];
                Self::new(&database, fields(asked))
            }
            _ => named(one(rng, &["createIndexes", "findandmodify", "create"])),
        }
    }

    fn aggregate(rng: &mut Rng) -> Self {
        let (database, own) = (database(rng), collection(rng));
        let first = if rng.u8(..4) == 0 {
            one(rng, &[Value::Int(1), Value::Double(1.0), Value::Long(1)])
        } else {
            own.into()
        };
        let pipeline = (0..rng.usize(1..3)).map(|_| stage(rng, 0)).collect::<Vec<_>>();
        let asked = [
            ("aggregate", first),
            ("pipeline", pipeline.into()),
            ("cursor", Value::Document(vec![])),
        ];
        Self::new(&database, fields(asked))
    }

    fn bulk_write(rng: &mut Rng) -> Self {
        let mut namespace = || -> Value {
            [("ns", format!("{}.{}", database(rng), collection(rng)).into())].into()
        };
        let all = vec![namespace(), namespace()];
        let ops = vec![[("insert", 0.into()), ("document", [("a", 1.into())].into())].into()];
        let asked = [("bulkWrite", 1.into()), ("ops", ops.into()), ("nsInfo", all.into())];
        Self::new("admin", fields(asked))
    }

    /// Commands that name one more collection.
    fn of_two(rng: &mut Rng) -> Self {
        let (database, own, other) = (database(rng), collection(rng), collection(rng));
        let whole = |rng: &mut Rng| format!("{}.{}", self::database(rng), collection(rng));
        let (own, target) = (own.as_str(), other.as_str());
        match rng.u8(..7) {
            0 => {
                let word = one(rng, &["renameCollection", "renamecollection"]);
                let asked = [(word, whole(rng).into()), ("to", whole(rng).into())];
                Self::new("admin", fields(asked))
            }
            1 => Self::new(&database, map_reduce(rng, own, target)),
            2 => Self::new("admin", fields([("applyOps", vec![applied(rng, target)].into())])),
            3 => {
                let asked = [
                    ("create", "view".into()),
                    ("viewOn", target.into()),
                    ("pipeline", vec![stage(rng, 1)].into()),
                ];
                Self::new(&database, fields(asked))
            }
            4 => {
                let word = one(rng, &["collMod", "collmod"]);
                Self::new(&database, fields([(word, own.into()), ("viewOn", target.into())]))
            }
            5 => {
                let asked = [
                    ("cloneCollectionAsCapped", own.into()),
                    ("toCollection", target.into()),
                    ("size", 1000.into()),
                ];
                Self::new(&database, fields(asked))
            }
            _ => {
                let inner = [
                    ("find", own.into()),
                    ("filter", [("a", 1.into())].into()),
                    ("comment", one(rng, &["bad one", "good one"]).into()),
                ];
                let asked = [("explain", inner.into()), ("verbosity", "executionStats".into())];
                Self::new(&database, fields(asked))
            }
        }
    }
}

fn map_reduce(rng: &mut Rng, own: &str, target: &str) -> Fields {
    let word = one(rng, &["mapReduce", "mapreduce"]);
    let how = one(rng, &["replace", "merge", "reduce"]);
    let out = match rng.u8(..4) {
        0 => target.into(),
        1 => [("inline", 1.into())].into(),
        2 => [(how, target.into())].into(),
        _ => [(how, target.into()), ("db", database(rng).into())].into(),
    };
    fields([(word, own.into()), ("map", "m".into()), ("out", out)])
}

/// An operation for `applyOps`: a document, one inside of another `applyOps`, or a command.
fn applied(rng: &mut Rng, target: &str) -> Value {
    let namespace = format!("{}.{}", database(rng), collection(rng));
    let document = [("_id", 1.into())].into();
    let one: Value = [("op", "i".into()), ("ns", namespace.into()), ("o", document)].into();
    match rng.u8(..3) {
        0 => one,
        1 => {
            let inner = [("applyOps", vec![one].into())].into();
            [("op", "c".into()), ("ns", "admin.$cmd".into()), ("o", inner)].into()
        }
        _ => {
            let namespace = format!("{}.$cmd", database(rng));
            let drop = [("drop", target.into())].into();
            [("op", "c".into()), ("ns", namespace.into()), ("o", drop)].into()
        }
    }
}

/// A stage of a pipeline, which may have pipelines inside.
fn stage(rng: &mut Rng, depth: usize) -> Value {
    let target = collection(rng);
    let target = target.as_str();
    let kinds = if depth < 3 { 9 } else { 6 };
    match rng.u8(..kinds) {
        0 => [("$match", [("a", 1.into())].into())].into(),
        1 => [("$unionWith", target.into())].into(),
        2 => [("$graphLookup", [("from", target.into()), ("as", "x".into())].into())].into(),
        3 => [("$out", place(rng, target))].into(),
        4 => [("$merge", [("into", place(rng, target))].into())].into(),
        5 => [("$lookup", [("from", place(rng, target)), ("as", "x".into())].into())].into(),
        6 => [("$facet", [("a", vec![stage(rng, depth + 1)].into())].into())].into(),
        7 => {
            let inner = vec![stage(rng, depth + 1)];
            [("$unionWith", [("coll", target.into()), ("pipeline", inner.into())].into())].into()
        }
        _ => {
            let inner = vec![stage(rng, depth + 1)];
            [("$lookup", [("from", target.into()), ("pipeline", inner.into())].into())].into()
        }
    }
}

/// A collection of the same database, or of any.
fn place(rng: &mut Rng, collection: &str) -> Value {
    if rng.bool() {
        return collection.into();
    }
    [("db", database(rng).into()), ("coll", self::collection(rng).into())].into()
}

/// The same command about databases that no other number has.
pub(crate) fn named_after(command: &Command, number: u64) -> Command {
    let name = |text: &str| {
        let mut text = text.to_owned();
        for database in DATABASES {
            text = text.replace(database, &format!("{database}{number}"));
        }
        text
    };
    Command {
        fields: command.fields.iter().map(|(key, it)| (key.clone(), it.renamed(&name))).collect(),
        database: command.database.renamed(&name),
    }
}
