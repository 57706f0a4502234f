//! Hosts: names in lower case without trailing dot, and addresses in their shortest form.

use std::{borrow::Cow, net::Ipv6Addr};

/// The normal form of a host. `host` is in lower case, without port and brackets.
pub(crate) fn normal(host: &str) -> Cow<'_, str> {
    if memchr::memchr(b':', host.as_bytes()).is_some()
        && let Ok(address) = host.parse::<Ipv6Addr>()
    {
        return Cow::Owned(address.to_string());
    }
    Cow::Borrowed(host.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(host))
}

/// The normal form of a host as written in a config: in any case, an address with or without
/// brackets.
pub(crate) fn written(host: &str) -> String {
    let lower = host.to_ascii_lowercase();
    let bare = lower.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    normal(bare.unwrap_or(&lower)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_hosts_have_one_normal_form() {
        for (host, same) in [
            ("shop.example", "shop.example"),
            ("shop.example.", "shop.example"),
            (".", "."),
            ("", ""),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("2001:db8:0::0:1", "2001:db8::1"),
        ] {
            assert_eq!(normal(host), same, "{host}");
        }
        for (host, same) in
            [("Shop.Example.", "shop.example"), ("[2001:DB8:0:0::1]", "2001:db8::1"), ("*", "*")]
        {
            assert_eq!(written(host), same, "{host}");
        }
    }
}
