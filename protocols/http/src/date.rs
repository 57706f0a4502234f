//! The value of `date` (RFC 9110, 6.6.1), made once a second.

use http::HeaderValue;
use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

thread_local! {
    /// The last value, and the second that it names.
    static LAST: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// The value for now.
pub(crate) fn now() -> HeaderValue {
    at(SystemTime::now())
}

fn at(time: SystemTime) -> HeaderValue {
    let second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second
            && let Ok(text) = HeaderValue::from_str(&httpdate::fmt_http_date(time))
        {
            (*last, *value) = (second, text);
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_date_changes_with_each_second() {
        let begin = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(at(begin), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(begin + Duration::from_millis(999)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(begin + Duration::from_secs(1)), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
