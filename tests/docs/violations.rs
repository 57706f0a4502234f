//! HTTP's page names every kind of violation that there is.

use crate::read;

/// The words in quotes that look like kinds.
fn kinds(file: &str) -> Vec<String> {
    let text = read(&format!("protocols/http/src/{file}"));
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let quoted = code.split('"').skip(1).step_by(2);
    // These are headers that are looked at.
    let kind = |word: &&str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit();
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && !["trailers", "transfer_encoding"].contains(word)
            && word.bytes().all(plain)
    };
    quoted.filter(kind).map(str::to_owned).collect()
}

#[test]
fn every_kind_of_violation_of_http_is_on_its_page() {
    let page = read("docs/http.md");
    let checks =
        ["check.rs", "check/fields.rs", "check/method.rs"].map(|it| format!("header_policy/{it}"));
    let files = ["h1_validator/error.rs".to_owned()].into_iter().chain(checks);
    let mut found: Vec<_> = files.flat_map(|file| kinds(&file)).collect();
    assert!(found.len() > 50, "{found:?}");
    let more = ["unreadable", "http2_protocol", "http2_flood", "header_flood", "folded_name"];
    found.extend(more.map(str::to_owned));
    for kind in found {
        assert!(page.contains(&format!("`{kind}`")), "`{kind}`");
    }
}
