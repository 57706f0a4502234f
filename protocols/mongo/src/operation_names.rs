//! Names that an operation can have, and those by which drivers call it.

use crate::{Mongo, commands::commands};
use operation::Codec;
use values::{Diagnostic, glob_matches};

/// What drivers call what MongoDB calls otherwise.
const HELPERS: [(&str, &str); 22] = [
    ("bulk_write", "bulkWrite"),
    ("countDocuments", "aggregate"),
    ("count_documents", "aggregate"),
    ("createIndex", "createIndexes"),
    ("deleteMany", "delete"),
    ("deleteOne", "delete"),
    ("dropIndex", "dropIndexes"),
    ("estimatedDocumentCount", "count"),
    ("estimated_document_count", "count"),
    ("findOne", "find"),
    ("findOneAndDelete", "findAndModify"),
    ("findOneAndReplace", "findAndModify"),
    ("findOneAndUpdate", "findAndModify"),
    ("insertMany", "insert"),
    ("insertOne", "insert"),
    ("query", "find"),
    ("remove", "delete"),
    ("replaceOne", "update"),
    ("select", "find"),
    ("updateMany", "update"),
    ("updateOne", "update"),
    ("watch", "aggregate"),
];

/// Why no operation has a name that this glob matches; `None` if one can.
pub fn no_operation(glob: &str) -> Option<Diagnostic> {
    let unnamed = <Mongo as Codec>::PROTOCOL.unknown_operation;
    if glob_matches(glob, unnamed) || commands().any(|name| glob_matches(glob, name)) {
        return None;
    }
    let same = |name: &&str| {
        let plain = glob.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase());
        plain.eq(name.chars().map(|c| c.to_ascii_lowercase()))
    };
    let helper = HELPERS.iter().find(|(helper, _)| *helper == glob || same(helper));
    let near = match helper.map(|(_, name)| *name).or_else(|| commands().find(same)) {
        Some(name) => format!(", did you mean `{name}`?"),
        None => values::did_you_mean(values::nearest(glob, commands())),
    };
    let hint = format!(
        "commands are called as on the wire, whatever drivers call them; those that Tollgate does \
         not know are `{unnamed}`"
    );
    Some(Diagnostic::new(format!("there is no command `{glob}` of MongoDB{near}"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_reported_with_a_similar_one() {
        for (glob, expected) in [
            ("insertMany", "did you mean `insert`?"),
            ("insert_many", "did you mean `insert`?"),
            ("FIND", "did you mean `find`?"),
            ("finds", "did you mean `find`?"),
            ("findandmodify", "did you mean `findAndModify`?"),
            ("count_documents", "did you mean `aggregate`?"),
            ("dropIndex", "did you mean `dropIndexes`?"),
            ("xyz*", "there is no command `xyz*`"),
        ] {
            let fault = no_operation(glob).unwrap();
            assert!(fault.message.contains(expected), "{glob}: {}", fault.message);
        }
    }

    #[test]
    fn a_name_that_an_operation_may_have_is_right() {
        for glob in ["find", "find*", "*", "other", "create*", "?ind"] {
            assert_eq!(no_operation(glob), None, "{glob}");
        }
    }
}
