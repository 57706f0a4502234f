//! Settings under `cors`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use values::Text;

/// Which other origins' pages may call, and what they may send and read (CORS). The proxy answers
/// preflights, and replaces the services' own CORS headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename = "HttpCors",
    expecting = "keys and values, such as `{ origins: [\"https://shop.example\"] }`"
)]
pub struct CorsSettings {
    /// The origins whose pages may call: `https://shop.example`, or `*` for all. Default: none.
    pub origins: Vec<String>,
    /// The methods that they may use. Default: `[GET, HEAD, POST, PUT, PATCH, DELETE]`.
    pub methods: Vec<String>,
    /// Request headers that they may send beyond those that are always allowed, such as
    /// `authorization` or `content-type`. Default: none.
    pub headers: Vec<String>,
    /// Response headers that they may read beyond those that are always allowed. Default: none.
    pub expose: Vec<String>,
    /// Allow cookies; `origins` must then list the origins. Default: `false`.
    pub credentials: bool,
    /// How long a browser may cache a preflight response, in whole seconds. Default: `1h`.
    pub max_age: Text<Duration>,
}

impl Default for CorsSettings {
    fn default() -> Self {
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        Self {
            origins: Vec::new(),
            methods: methods.map(str::to_owned).into(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: Text(Duration::from_secs(3600)),
        }
    }
}
