//! `grpc-timeout`: the client's deadline. At most eight digits and a unit (gRPC over HTTP/2,
//! "Timeout").

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The largest number of eight digits.
const MAX_VALUE: u128 = 99_999_999;
/// Units in nanoseconds, finest first.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// Parses a value. Returns `None` if it is invalid.
pub fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u128::from(digit - b'0'));
    Some(from_nanos(number * nanos))
}

/// Formats with the finest unit that fits, rounded down, so that the service never waits too long.
pub fn format(wait: Duration) -> String {
    let nanos = wait.as_nanos();
    let fits = UNITS.iter().find(|(_, unit)| nanos / unit <= MAX_VALUE);
    let (name, unit) = fits.unwrap_or(&UNITS[5]);
    format!("{}{}", (nanos / unit).min(MAX_VALUE), char::from(*name))
}

/// Whether the header is invalid or repeated. Such requests are rejected: a service may close the
/// connection over it, which would fail other clients' calls.
pub fn is_invalid(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(GRPC_TIMEOUT).iter();
    said.next().is_some_and(|first| parse(first.as_bytes()).is_none() || said.next().is_some())
}

/// Reads the header. Returns `None` if it is missing or invalid.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(GRPC_TIMEOUT)?.as_bytes())
}

/// Sets the remaining time for the service, never more than the client allowed.
pub(crate) fn shorten(headers: &mut HeaderMap, left: Duration) {
    if from_headers(headers).is_some_and(|said| said <= left) {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(format(left)) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// The maximum is 99,999,999 hours, which fit `u64` seconds.
fn from_nanos(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, wait) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("300m", Duration::from_millis(300)),
            ("4S", Duration::from_secs(4)),
            ("5M", Duration::from_secs(300)),
            ("6H", Duration::from_secs(21_600)),
            ("0n", Duration::ZERO),
            ("00000001S", Duration::from_secs(1)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(wait), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_out_is_none() {
        for text in ["", "S", "1", "100000000S", "1s", "1h", "-1S", "+1S", "1.5S", "1 S", "1SS"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse("١S".as_bytes()), None);
    }

    #[test]
    fn the_finest_unit_that_holds_it_is_written() {
        for (wait, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_000), "100000u"),
            (Duration::from_millis(1500), "1500000u"),
            (Duration::from_secs(15), "15000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(1_000_000_000), "16666666M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(format(wait), text);
        }
    }

    #[test]
    fn what_is_written_reads_as_no_more_than_it_was() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let wait = Duration::from_nanos(random.u64(..) >> random.u32(..64));
            let read = parse(format(wait).as_bytes()).unwrap();
            assert!(read <= wait, "{wait:?}");
            assert!(wait - read < wait / 10_000 + Duration::from_nanos(1), "{wait:?}: {read:?}");
        }
    }

    #[test]
    fn a_head_says_one_time_out_or_none() {
        let said = |values: &[&'static str]| {
            let value = |it: &&'static str| (GRPC_TIMEOUT, HeaderValue::from_static(it));
            let mut headers = HeaderMap::new();
            for (name, value) in values.iter().map(value) {
                headers.append(name, value);
            }
            is_invalid(&headers)
        };
        assert!(!said(&[]) && !said(&["5S"]));
        assert!(said(&["junk0"]) && said(&[""]) && said(&["5S", "5S"]) && said(&["5S", "junk"]));
    }

    #[test]
    fn a_service_gets_the_remaining_time() {
        let mut headers = HeaderMap::new();
        shorten(&mut headers, Duration::from_secs(2));
        assert_eq!(headers[GRPC_TIMEOUT], "2000000u");
        shorten(&mut headers, Duration::from_secs(3));
        assert_eq!(headers[GRPC_TIMEOUT], "2000000u");
        shorten(&mut headers, Duration::from_millis(1));
        assert_eq!(headers[GRPC_TIMEOUT], "1000000n");
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("soon"));
        shorten(&mut headers, Duration::from_millis(1));
        assert_eq!(headers[GRPC_TIMEOUT], "1000000n");
    }
}
