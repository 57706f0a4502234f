//! Call paths: `/package.Service/Method`.

use http::{Uri, uri::PathAndQuery};

/// `package.Service/Method`: the last two segments, since a route may have a prefix. Empty if the
/// path has fewer.
pub(crate) fn full_method(path: &str) -> &str {
    let before_method = path.rfind('/').filter(|at| at + 1 < path.len());
    let service = before_method.and_then(|at| path[..at].rfind('/').filter(|from| from + 1 < at));
    service.map_or("", |at| &path[at + 1..])
}

/// Why a service might read this path as another method's than [`full_method`] returns, or
/// `None`.
///
/// Policies compare names as they are written. gRPC has one spelling of each (gRPC over HTTP/2,
/// "Path"), but a service of plain HTTP decodes percent signs, drops parameters after a `;` and
/// merges slashes. What is left are the characters that RFC 3986 lets stand for themselves.
pub(crate) fn ambiguity(path: &str) -> Option<&'static str> {
    if path.contains('%') {
        return Some("a gRPC path has no percent signs: write the method's name as it is");
    }
    if path.contains("//") {
        return Some("a gRPC path has no empty segments");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:@!$&'()*+,=".contains(&byte);
    let strange = "a gRPC path is made of letters, digits and `/-._~:@!$&'()*+,=`";
    (!path.bytes().all(plain)).then_some(strange)
}

/// Removes the query: gRPC has none.
pub(crate) fn drop_query(uri: &mut Uri) {
    if uri.query().is_some() {
        let path = uri.path().to_owned();
        replace(uri, &path);
    }
}

/// Replaces path and query.
pub(crate) fn replace(uri: &mut Uri, path_and_query: &str) {
    let Ok(path) = PathAndQuery::try_from(path_and_query) else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(path);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_the_last_two_segments() {
        for (path, name) in [
            ("/shop.v1.Carts/Get", "shop.v1.Carts/Get"),
            ("/api/shop.v1.Carts/Get", "shop.v1.Carts/Get"),
            ("/Get", ""),
            ("/", ""),
            ("", ""),
            ("*", ""),
            ("//Get", ""),
            ("/a.B/", ""),
            ("/a//b", ""),
        ] {
            assert_eq!(full_method(path), name, "{path}");
        }
    }

    #[test]
    fn paths_that_can_be_read_in_another_way_are_faulty() {
        for path in ["/shop.v1.Carts/Get", "/api/shop.v1.Carts/Get", "/a-b_c~d/E:f", "/a.B/C,d=e"] {
            assert_eq!(ambiguity(path), None, "{path}");
        }
        for path in [
            "/t.Tree/%41dmin",
            "/t%2eTree/Admin",
            "/%74.Tree/Admin",
            "/t.Tree%2fAdmin/x",
            "//t.Tree/Admin",
            "/x//t.Tree/Admin",
            "/t.Tree/Admin;v=1",
            "/t.Tree;v=1/Admin",
            "/t.Tree\\Admin/x",
            "/t.Tree/Ädmin",
            "/t.Tree/Admin\"",
            "/t.Tree/Admin|",
        ] {
            assert!(ambiguity(path).is_some(), "{path}");
        }
    }

    #[test]
    fn a_query_goes_and_the_rest_stays() {
        for (from, to) in [
            ("http://h:1/a.B/C?x=1", "http://h:1/a.B/C"),
            ("/a.B/C?", "/a.B/C"),
            ("/a.B/C", "/a.B/C"),
        ] {
            let mut uri = Uri::try_from(from).unwrap();
            drop_query(&mut uri);
            assert_eq!(uri.to_string(), to);
        }
    }
}
