//! What routes match, how they change requests, and their mistakes.

mod lookup;
mod making;
mod matching;
mod mistakes;
mod written;

use super::{Captures, Route, Routes, Variables};
use crate::settings::Settings;
use http::{HeaderValue, Request, request::Parts};
use serde_json::Value;
use std::sync::Arc;
use values::Diagnostic;
use written::read;

/// Settings with these routes, as in a config.
fn settings(routes: &Value) -> Settings {
    read(serde_json::json!({ "routes": routes }))
        .unwrap_or_else(|error| panic!("{error}: {routes}"))
}

fn routes(routes: Value) -> Routes {
    let settings = settings(&routes);
    Routes::new(&settings.routes, settings.defaults())
        .unwrap_or_else(|mistakes| panic!("{mistakes:?}: {routes}"))
}

fn mistakes(routes: &Value) -> Vec<Diagnostic> {
    let settings = settings(routes);
    Routes::new(&settings.routes, settings.defaults()).err().unwrap_or_default()
}

/// The head of `METHOD target` with these headers.
fn head(line: &str, headers: &[(&'static str, &str)]) -> Parts {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_str(value).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

fn find(routes: &Routes, head: &Parts) -> (Arc<Route>, Captures) {
    routes.find(head, "shop.example.com").unwrap()
}

fn variables<'a>() -> Variables<'a> {
    Variables {
        peer: "10.0.0.7:4711".parse().unwrap(),
        host: "shop.example.com",
        request_id: "id-1",
        cluster: "shop",
    }
}
