//! Names that an operation can have.

use values::{Diagnostic, glob_matches};

/// Why no operation has a name that this glob matches; `None` if one can.
pub fn no_operation(glob: &str) -> Option<Diagnostic> {
    (!glob_matches(glob, "session")).then(|| {
        let message = format!("no operation of tcp is called `{glob}`");
        Diagnostic::new(message, "a connection is one operation: `session`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_reported_with_the_one_that_there_is() {
        assert!(no_operation("find").unwrap().hint.contains("`session`"));
        assert_eq!(no_operation("sess*"), None);
    }
}
