//! Misplaced keys: where they belong, according to the schema.

use serde_json::Value;
use std::{collections::BTreeSet, sync::LazyLock};
use values::Diagnostic;
use values::did_you_mean;

/// The maximum depth of nested maps.
const MAX_DEPTH: usize = 12;

/// Stands for a user-defined name.
const NAME: &str = "NAME";

/// Keys of other proxies for TLS.
const TLS: [&str; 5] = ["cert", "cert_file", "ssl", "ssl_certificate", "tls_context"];

/// A map of the config.
struct SchemaPath {
    /// The keys that lead there.
    path: Vec<String>,
    keys: BTreeSet<String>,
}

static PLACES: LazyLock<Vec<SchemaPath>> = LazyLock::new(|| {
    let schema = crate::schema();
    let mut places = Vec::new();
    gather(&schema, &schema, &mut Vec::new(), &mut places);
    places
});

/// The error for a key that a map does not have; `known` are the keys of the map, and `near` the
/// one with a similar spelling.
pub(super) fn unknown(key: &str, known: &[&str], near: Option<&str>) -> Diagnostic {
    if TLS.contains(&key) {
        let message = format!("unknown key `{key}`: everything about TLS is under `tls`");
        let hint = "of a listener: `tls: { certificates: { chain: FILE, key: FILE } }`; of a cluster: \
                    `tls: {}`";
        return Diagnostic::new(message, hint);
    }
    let have: Vec<&SchemaPath> = PLACES.iter().filter(|place| place.keys.contains(key)).collect();
    let below = if near.is_none() { below(&have, known) } else { Vec::new() };
    let longer = known.iter().find(|known| key.len() > 3 && known.starts_with(key));
    let near = near.or(longer.copied());
    let names = if below.is_empty() && near.is_none() { whole(&have) } else { below };
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if !names.is_empty() {
        let message = format!("unknown key `{key}` here");
        return Diagnostic::new(message, format!("it is a key of {}", names.join(", and of ")));
    }
    let hint = match known {
        [] => "nothing can be set here".to_owned(),
        _ => format!("the keys here: {}", known.join(", ")),
    };
    Diagnostic::new(format!("unknown key `{key}`{}", did_you_mean(near)), hint)
}

/// Whether a key belongs to a map inside this map, rather than being a misspelt key of this map.
pub(super) fn is_below(key: &str, known: &[&str], near: &str) -> bool {
    if strsim::damerau_levenshtein(key, near) <= 2 {
        return false;
    }
    let have: Vec<&SchemaPath> = PLACES.iter().filter(|place| place.keys.contains(key)).collect();
    !below(&have, known).is_empty()
}

/// The nearest of these places inside the map with these keys.
fn below(places: &[&SchemaPath], known: &[&str]) -> Vec<String> {
    let here: BTreeSet<&str> = known.iter().copied().collect();
    let is_here =
        |place: &&SchemaPath| place.keys.iter().map(String::as_str).eq(here.iter().copied());
    let own: Vec<&SchemaPath> = PLACES.iter().filter(is_here).collect();
    let found: BTreeSet<&[String]> = places
        .iter()
        .flat_map(|place| own.iter().filter_map(|own| place.path.strip_prefix(own.path.as_slice())))
        .filter(|rest| !rest.is_empty() && !rest.contains(&NAME.to_owned()))
        .collect();
    let nearest = found.iter().map(|path| path.len()).min();
    let found = found.iter().filter(|path| Some(path.len()) == nearest);
    found.map(|path| path.join(".")).collect()
}

/// The full paths of places, if they are few.
fn whole(places: &[&SchemaPath]) -> Vec<String> {
    let paths: BTreeSet<String> = places.iter().map(|place| place.path.join(".")).collect();
    let few = paths.len() <= 2 && !paths.contains("");
    if few { paths.into_iter().collect() } else { Vec::new() }
}

fn gather(schema: &Value, root: &Value, path: &mut Vec<String>, places: &mut Vec<SchemaPath>) {
    if path.len() > MAX_DEPTH {
        return;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let found = name.strip_prefix('#').and_then(|name| root.pointer(name));
        return found.into_iter().for_each(|found| gather(found, root, path, places));
    }
    for kind in ["anyOf", "oneOf"] {
        schema[kind].as_array().into_iter().flatten().for_each(|it| gather(it, root, path, places));
    }
    if schema["items"].is_object() {
        gather(&schema["items"], root, path, places);
    }
    let named = &schema["additionalProperties"];
    let Some(keys) = schema["properties"].as_object() else {
        if named.is_object() {
            path.push(NAME.to_owned());
            gather(named, root, path, places);
            path.pop();
        }
        return;
    };
    // A `not` in a `not`, and so on.
    if path.iter().filter(|step| *step == "not").count() > 1 {
        return;
    }
    places.push(SchemaPath { path: path.clone(), keys: keys.keys().cloned().collect() });
    for (key, value) in keys {
        path.push(key.clone());
        gather(value, root, path, places);
        path.pop();
    }
}
