//! Names that a protocol's operations can have, so that a policy for any other name is reported as
//! one that never applies.

use super::Mongo;
use crate::policy::matching::glob_matches;
use operation::Protocol;
use values::Diagnostic;

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

/// Why no operation of a protocol has a name that this glob fits; `None` if one can.
pub(crate) fn no_operation(protocol: &Protocol, glob: &str) -> Option<Diagnostic> {
    if glob.len() > 2 && glob.starts_with('/') && glob.ends_with('/') {
        let message = format!("`{glob}` is no glob that an operation fits");
        let hint = "there are globs here, and no regular expressions: `find*` begins so";
        return Some(Diagnostic::new(message, hint));
    }
    match protocol.name {
        "mongo" => no_command(glob),
        "http" => no_method(glob),
        "grpc" => no_call(glob),
        "tcp" => (!glob_matches(glob, "session")).then(|| {
            let message = format!("no operation of tcp is called `{glob}`");
            Diagnostic::new(message, "a connection is one operation: `session`")
        }),
        _ => None,
    }
}

fn no_command(glob: &str) -> Option<Diagnostic> {
    let unnamed = <Mongo as operation::Codec>::PROTOCOL.unknown_operation;
    if glob_matches(glob, unnamed) || mongo::commands().any(|name| glob_matches(glob, name)) {
        return None;
    }
    let same = |name: &&str| {
        let plain = glob.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase());
        plain.eq(name.chars().map(|c| c.to_ascii_lowercase()))
    };
    let helper = HELPERS.iter().find(|(helper, _)| *helper == glob || same(helper));
    let near = match helper.map(|(_, name)| *name).or_else(|| mongo::commands().find(same)) {
        Some(name) => format!(", did you mean `{name}`?"),
        None => values::did_you_mean(values::nearest(glob, mongo::commands())),
    };
    let hint = format!(
        "commands are called as on the wire, whatever drivers call them; those that Tollgate does \
         not know are `{unnamed}`"
    );
    Some(Diagnostic::new(format!("there is no command `{glob}` of MongoDB{near}"), hint))
}

/// A method may be any word; one that is known is refused in lower case.
fn no_method(glob: &str) -> Option<Diagnostic> {
    let capitals = glob.to_ascii_uppercase();
    let (message, hint) = if glob.contains([' ', '/']) {
        let hint = "an operation of http is a method, such as `GET`; for paths there is `path`";
        (format!("no operation of http is called `{glob}`"), hint.to_owned())
    } else if capitals != glob && tollgate_http::is_method(&capitals) {
        let message = format!("no operation of http is called `{glob}`");
        (message, format!("methods are in capitals: `{capitals}`"))
    } else {
        return None;
    };
    Some(Diagnostic::new(message, hint))
}

/// A call is `package.Service/Method`.
fn no_call(glob: &str) -> Option<Diagnostic> {
    let message = format!("no operation of grpc is called `{glob}`");
    let hint = match glob.strip_prefix('/') {
        Some(rest) => format!("there is no slash before the service: `{rest}`"),
        None if glob.contains(['/', '*']) => return None,
        None => format!(
            "an operation of grpc is `package.Service/Method`: `*/{glob}` for a method, \
             `{glob}/*` for a service"
        ),
    };
    Some(Diagnostic::new(message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(protocol: &str, glob: &str) -> Option<String> {
        let protocol = super::super::all().into_iter().find(|it| it.name == protocol).unwrap();
        no_operation(protocol, glob).map(|error| format!("{} {}", error.message, error.hint))
    }

    #[test]
    fn a_name_that_no_operation_has_is_told_with_the_one_that_was_meant() {
        for (protocol, glob, hint) in [
            ("mongo", "insertMany", "did you mean `insert`?"),
            ("mongo", "insert_many", "did you mean `insert`?"),
            ("mongo", "FIND", "did you mean `find`?"),
            ("mongo", "finds", "did you mean `find`?"),
            ("mongo", "findandmodify", "did you mean `findAndModify`?"),
            ("mongo", "count_documents", "did you mean `aggregate`?"),
            ("mongo", "dropIndex", "did you mean `dropIndexes`?"),
            ("mongo", "/^find/", "no regular expressions"),
            ("mongo", "xyz*", "there is no command `xyz*`"),
            ("http", "get", "`GET`"),
            ("http", "GET /cart", "there is `path`"),
            ("grpc", "Add", "`*/Add`"),
            ("grpc", "/shop.v1.Cart/Add", "`shop.v1.Cart/Add`"),
            ("tcp", "find", "`session`"),
        ] {
            let told = told(protocol, glob).unwrap_or_default();
            assert!(told.contains(hint), "{protocol} {glob}: {told}");
        }
    }

    #[test]
    fn a_name_that_an_operation_may_have_is_right() {
        for (protocol, glob) in [
            ("mongo", "find"),
            ("mongo", "find*"),
            ("mongo", "*"),
            ("mongo", "other"),
            ("mongo", "create*"),
            ("mongo", "?ind"),
            ("http", "GET"),
            ("http", "PURGE"),
            ("http", "X-mine"),
            ("http", "*"),
            ("grpc", "shop.v1.Cart/Add"),
            ("grpc", "shop.*"),
            ("grpc", "*/Add"),
            ("tcp", "sess*"),
        ] {
            assert_eq!(told(protocol, glob), None, "{protocol} {glob}");
        }
    }
}
