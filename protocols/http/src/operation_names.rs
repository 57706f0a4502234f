//! Names that an operation can have.

use crate::header_policy::is_method;
use values::Diagnostic;

/// Why no operation has a name that this glob matches; `None` if one can. A method may be any word;
/// a known one is rejected in lower case.
pub fn no_operation(glob: &str) -> Option<Diagnostic> {
    let capitals = glob.to_ascii_uppercase();
    let (message, hint) = if glob.contains([' ', '/']) {
        let hint = "an operation of http is a method, such as `GET`; for paths there is `path`";
        (format!("no operation of http is called `{glob}`"), hint.to_owned())
    } else if capitals != glob && is_method(&capitals) {
        let message = format!("no operation of http is called `{glob}`");
        (message, format!("methods are in capitals: `{capitals}`"))
    } else {
        return None;
    };
    Some(Diagnostic::new(message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_is_reported_with_a_similar_one() {
        for (glob, hint) in [("get", "`GET`"), ("GET /cart", "there is `path`")] {
            let fault = no_operation(glob).unwrap();
            assert!(fault.hint.contains(hint), "{glob}: {}", fault.hint);
        }
    }

    #[test]
    fn a_name_that_an_operation_may_have_is_right() {
        for glob in ["GET", "PURGE", "X-mine", "*"] {
            assert_eq!(no_operation(glob), None, "{glob}");
        }
    }
}
