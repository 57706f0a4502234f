//! What the access log shows of a request is bounded, whatever the client sent.

use crate::support::http::{Client, Service, Version, at, get, proxy};

/// The most bytes that a text of a line has.
const LONGEST: usize = 256;

#[test]
fn a_long_text_is_cut_in_the_log_and_whole_at_the_service() {
    for version in [Version::One, Version::Two] {
        let service = Service::replying(version, "ok");
        let tollgate = proxy(&service, "");
        let agent = "\"".repeat(4000);
        let path = format!("/{}", "p".repeat(4000));
        let client = Client::connect(at(&tollgate), version);
        assert_eq!(client.round_trip(get(&path).header("user-agent", &agent)).status, 200);
        let asked = &service.received()[0];
        assert_eq!((asked.header("user-agent"), &asked.target), (agent.clone(), &path));

        let line = tollgate.logged(1, |_| true).remove(0);
        for (field, whole) in [("user_agent", &agent), ("path", &path)] {
            let shown = line[field].as_str().unwrap();
            assert_eq!(shown.len(), LONGEST, "{version:?} {field}");
            assert!(whole.starts_with(shown.strip_suffix('…').unwrap()), "{version:?} {field}");
        }
        let bytes = tollgate.access_log_text().len();
        assert!(bytes < 2000, "{bytes} bytes for one line");
    }
}
