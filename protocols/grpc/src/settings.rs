//! Settings under `protocol: { grpc: { … } }`.

mod switch;
mod word;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
pub use switch::{Switch, SwitchSettings};
use tollgate_http::{
    BufferLimits, CertificateStyle, ClusterSettings, RouteSettings, UnfitCluster, UpstreamVersion,
    unfit_clusters,
};
use values::{Diagnostic, Size, Text};
pub use word::{ServerStreams, StreamShape};

/// Who else than gRPC clients may call, and what the services speak. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename = "GrpcSettings",
    expecting = "keys and values, such as `{ bridge: true }`"
)]
pub struct Settings {
    /// Where calls go: the first route that matches. Without a `timeout` a call may take as long as
    /// its client waits (`grpc-timeout`). Default: all to the listener's `cluster`, as the route
    /// `default`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSettings>,
    /// Let HTTP/1.1 clients call: they post `application/grpc` or plain `application/x-protobuf`,
    /// and get the message back with `grpc-status` and `grpc-message` as headers. `true`, or its
    /// settings. Default: `false`.
    pub bridge: Switch<Bridge>,
    /// The services speak plain HTTP: take gRPC's frames off requests, and put them on answers.
    /// `true`, or its settings. Default: `false`.
    pub reverse_bridge: Switch<ReverseBridge>,
    /// Let browsers call by gRPC-Web, binary and text. `true`, or its settings. Default: `false`.
    pub web: Switch<Web>,
    /// Let clients call with JSON, as `google.api.http` in a descriptor set says. Default: not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcode: Option<Transcode>,
    /// Headers that pass on the client's certificate: `xfcc` (`x-forwarded-client-cert`), `rfc9440`
    /// (`client-cert` and `client-cert-chain`), or `off`. Such headers of clients are always removed.
    /// Default: `off`.
    pub client_certificate_header: Text<CertificateStyle>,
    /// How many bytes a message may have where all of it is held: by the bridges and by JSON.
    /// At most `1GiB`. Default: `4MiB`.
    #[serde(serialize_with = "word::show_size")]
    pub max_message: Text<Size>,
    /// How many bytes of messages may be held for one connection, requests and answers; who would
    /// go over it gets `RESOURCE_EXHAUSTED`. To read a message of the longest length takes three
    /// times that. Default: eight times `max_message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_buffered_per_connection: Option<Text<Size>>,
    /// How many bytes of messages may be held for all connections of one worker.
    /// Default: 32 times `max_message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_buffered: Option<Text<Size>>,
}

impl Settings {
    /// Whether the services speak plain HTTP.
    pub fn has_plain_services(&self) -> bool {
        self.reverse_bridge.0.is_some()
    }

    /// The clusters that can't take gRPC calls; `own` is the listener's `cluster`.
    pub fn unfit_clusters(
        &self,
        own: Option<&str>,
        settings: &BTreeMap<Arc<str>, ClusterSettings>,
    ) -> Vec<UnfitCluster> {
        if self.has_plain_services() {
            return Vec::new();
        }
        let fault = |version| {
            (version == UpstreamVersion::Http1).then_some("speaks HTTP/1.1, and gRPC needs HTTP/2")
        };
        let hint = "leave out its `http: { version: 1 }`, or write `reverse_bridge: true` if its \
                    services speak no gRPC";
        let named = tollgate_http::clusters(&self.routes).into_iter();
        let named = named.map(|(path, name)| (Some(path), name.to_owned()));
        let own = own.map(|name| (None, name.to_owned()));
        unfit_clusters(named.chain(own), fault, settings, hint)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            bridge: Switch(None),
            reverse_bridge: Switch(None),
            web: Switch(None),
            transcode: None,
            client_certificate_header: Text(CertificateStyle::Off),
            max_message: Text(Size(4 << 20)),
            max_buffered_per_connection: None,
            max_buffered: None,
        }
    }
}

/// How HTTP/1.1 clients call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename = "GrpcBridge")]
pub struct Bridge {
    /// How to return several messages: `refuse` them with 502, or pass the `frames`
    /// on as gRPC-Web has them, the status in the last. Default: `refuse`.
    pub server_streams: ServerStreams,
}

impl SwitchSettings for Bridge {
    const KEYS: &[&str] = &["server_streams"];
}

/// How gRPC clients reach a service that speaks plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename = "GrpcReverseBridge")]
pub struct ReverseBridge {
    /// The `content-type` of what the service is sent, and that its answers must have.
    /// Default: `application/x-protobuf`.
    pub content_type: String,
    /// Send the service bare messages, without the five bytes before each. With `false` it gets,
    /// and answers, gRPC's frames. Default: `true`.
    pub withhold_frames: bool,
}

impl Default for ReverseBridge {
    fn default() -> Self {
        Self { content_type: "application/x-protobuf".to_owned(), withhold_frames: true }
    }
}

impl SwitchSettings for ReverseBridge {
    const KEYS: &[&str] = &["content_type", "withhold_frames"];
}

/// How browsers call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename = "GrpcWeb")]
pub struct Web {
    /// Which other sites' pages may call (CORS): `https://shop.example`, or `*` for all. It holds
    /// for JSON too. Default: none, only pages of the same origin.
    pub origins: Vec<String>,
    /// Request headers that such pages may send beyond gRPC-Web's own and `authorization`.
    /// Default: none.
    pub headers: Vec<String>,
    /// Answers' headers that such pages may read beyond `grpc-status`, `grpc-message` and
    /// `grpc-status-details-bin`. Default: none.
    pub expose: Vec<String>,
    /// Let such pages send cookies; `origins` must then name them. Default: `false`.
    pub credentials: bool,
    /// How long a browser may remember what it is allowed, in whole seconds. Default: `1h`.
    #[serde(serialize_with = "word::show_duration")]
    pub max_age: Text<Duration>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: Text(Duration::from_secs(3600)),
        }
    }
}

impl SwitchSettings for Web {
    const KEYS: &[&str] = &["origins", "headers", "expose", "credentials", "max_age"];
}

/// How clients call with JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "GrpcTranscode")]
pub struct Transcode {
    /// The file with the descriptor set, as `protoc --include_imports --descriptor_set_out=FILE`
    /// writes it; relative to the directory that the process runs in.
    pub descriptors: String,
    /// The services that can be called so, by their full names: `shop.v1.Carts`. Default: all that
    /// have a `google.api.http` rule.
    #[serde(default)]
    pub services: Vec<String>,
    /// Let methods without a `google.api.http` rule be called too, by `POST /package.Service/Method`
    /// with the whole request as the body. Default: `false`.
    #[serde(default)]
    pub unbound_methods: bool,
    /// How answers of several messages are written: an `array`, or `lines`, a message each.
    /// Default: `array`.
    #[serde(default)]
    pub streams: StreamShape,
    /// Let query parameters pass that are no field of the request. Default: `false`, they are
    /// refused with 400.
    #[serde(default)]
    pub ignore_unknown_parameters: bool,
    /// Write fields that have their default value too. Default: `false`.
    #[serde(default)]
    pub print_defaults: bool,
    /// Write fields' names as the `.proto` file has them, not in camel case. Default: `false`.
    #[serde(default)]
    pub proto_names: bool,
}

/// Upper bound of `max_message`. A gRPC frame could announce 4 GiB.
const MAX_MESSAGE: u64 = 1 << 30;

impl Settings {
    /// Mistakes that involve several values. Routes and the descriptor set are checked elsewhere.
    pub(crate) fn mistakes(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if self.max_message.bytes() > MAX_MESSAGE {
            let message = format!("`{}` is too much", self.max_message.0.text());
            found.push(Diagnostic::at(&["max_message"], message, "at most `1GiB`"));
        }
        for (key, bound) in [
            ("max_buffered_per_connection", &self.max_buffered_per_connection),
            ("max_buffered", &self.max_buffered),
        ] {
            if let Some(Text(bound)) =
                bound.as_ref().filter(|it| it.bytes() < self.max_message.bytes())
            {
                let message = format!("`{}` is less than `max_message`", bound.text());
                let hint = "at least three times `max_message`, or no message of that length fits";
                found.push(Diagnostic::at(&[key], message, hint));
            }
        }
        if let Some(web) = &self.web.0 {
            web.mistakes(&mut found);
        }
        if let Some(reverse) = &self.reverse_bridge.0 {
            let parsed = http::HeaderValue::try_from(&reverse.content_type);
            if parsed.is_err() || !reverse.content_type.contains('/') {
                let message = format!("`{}` is no media type", reverse.content_type);
                let hint = "write one such as `application/x-protobuf`";
                found.push(Diagnostic::at(&["reverse_bridge", "content_type"], message, hint));
            }
        }
        found
    }

    /// The longest buffered message, in bytes.
    pub(crate) fn limit(&self) -> usize {
        usize::try_from(self.max_message.bytes().min(MAX_MESSAGE)).unwrap_or(usize::MAX)
    }

    /// Limits of buffered messages.
    pub(crate) fn bounds(&self) -> BufferLimits {
        let bound = |given: &Option<Text<Size>>, times: usize| match given {
            Some(Text(Size(bytes))) => usize::try_from(*bytes).unwrap_or(usize::MAX),
            None => self.limit().saturating_mul(times),
        };
        BufferLimits {
            connection: bound(&self.max_buffered_per_connection, 8),
            worker: bound(&self.max_buffered, 32),
        }
    }
}

impl Web {
    fn mistakes(&self, found: &mut Vec<Diagnostic>) {
        let lists = [("headers", &*self.headers), ("expose", &*self.expose)];
        let errors = tollgate_http::cors::errors(&self.origins, self.credentials, lists);
        found.extend(errors.into_iter().map(|it| it.below(&["web"])));
    }
}

#[cfg(test)]
mod tests;
