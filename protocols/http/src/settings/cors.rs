//! What people write under `cors`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use values::Text;

/// Which other sites' pages may ask, and what they may send and read (CORS). Preflights are
/// answered by the proxy, and what services say of it themselves is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename = "HttpCors",
    expecting = "keys and values, such as `{ origins: [\"https://shop.example\"] }`"
)]
pub struct CorsSettings {
    /// The sites whose pages may ask: `https://shop.example`, or `*` for all. Default: none.
    pub origins: Vec<String>,
    /// The methods that they may use. Default: `[GET, HEAD, POST, PUT, PATCH, DELETE]`.
    pub methods: Vec<String>,
    /// Request headers that they may send beyond those that all pages may, such as
    /// `authorization` or `content-type`. Default: none.
    pub headers: Vec<String>,
    /// Answers' headers that they may read beyond those that all pages may. Default: none.
    pub expose: Vec<String>,
    /// Let them send cookies; `origins` must then name them. Default: `false`.
    pub credentials: bool,
    /// How long a browser may remember what it is allowed, in whole seconds. Default: `1h`.
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
