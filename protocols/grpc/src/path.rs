//! Paths of calls: `/package.Service/Method`.

use http::{Uri, uri::PathAndQuery};

/// `package.Service/Method`: the last two segments, since a route may have another before them.
/// Empty if there are no two.
pub(crate) fn call(path: &str) -> &str {
    let before_method = path.rfind('/').filter(|at| at + 1 < path.len());
    let service = before_method.and_then(|at| path[..at].rfind('/').filter(|from| from + 1 < at));
    service.map_or("", |at| &path[at + 1..])
}

/// Takes the query away. gRPC has none.
pub(crate) fn drop_query(uri: &mut Uri) {
    if uri.query().is_some() {
        let path = uri.path().to_owned();
        set(uri, &path);
    }
}

/// Puts another path and query in the place of the ones there.
pub(crate) fn set(uri: &mut Uri, path_and_query: &str) {
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
            assert_eq!(call(path), name, "{path}");
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
