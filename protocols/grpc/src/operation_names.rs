//! Names that an operation can have.

use values::Diagnostic;

/// Why no call has a name that this glob matches; `None` if one can. A call is
/// `package.Service/Method`.
pub fn no_operation(glob: &str) -> Option<Diagnostic> {
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

    #[test]
    fn an_unknown_name_is_reported_with_a_similar_one() {
        for (glob, hint) in [("Add", "`*/Add`"), ("/shop.v1.Cart/Add", "`shop.v1.Cart/Add`")] {
            let fault = no_operation(glob).unwrap();
            assert!(fault.hint.contains(hint), "{glob}: {}", fault.hint);
        }
    }

    #[test]
    fn a_name_that_an_operation_may_have_is_right() {
        for glob in ["shop.v1.Cart/Add", "shop.*", "*/Add"] {
            assert_eq!(no_operation(glob), None, "{glob}");
        }
    }
}
