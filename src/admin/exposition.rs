//! `/metrics`, in the text format that the scraper prefers.

use super::View;
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(view): State<View>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut text = String::new();
    let media = match prefers_openmetrics(accept) {
        true => {
            view.metrics.render_openmetrics(&mut text);
            OPENMETRICS
        }
        false => {
            view.metrics.render(&mut text);
            PROMETHEUS
        }
    };
    ([(header::CONTENT_TYPE, media)], text)
}

/// Whether OpenMetrics is among the accepted formats, and not after the format of Prometheus (RFC
/// 9110, section 12.5.1).
fn prefers_openmetrics<'h>(accept: impl Iterator<Item = &'h str>) -> bool {
    let (mut openmetrics, mut prometheus) = (0.0_f32, 0.0_f32);
    for range in accept.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        let quality = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
        match media {
            "application/openmetrics-text" => openmetrics = openmetrics.max(quality),
            "text/plain" => prometheus = prometheus.max(quality),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= prometheus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let prefers = |accept: &str| prefers_openmetrics([accept].into_iter());
        // Prometheus 2.42.
        assert!(prefers(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ));
        assert!(prefers("application/openmetrics-text"));
        for other in [
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4;q=0.6, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "",
        ] {
            assert!(!prefers(other), "{other}");
        }
    }
}
