//! Drivers that are out of support.

/// The end of support of MongoDB 6.0: mongodb.com/legal/support-policy/lifecycles.
const REASON: &str = "made for MongoDB 6.0 or older, which is out of support since July 2025";

/// The first version of each driver that was made for MongoDB 7.0, by the compatibility tables in each
/// driver's documentation (mongodb.com/docs/drivers), read in November 2026. The name is the beginning of
/// the driver's name in `hello`, or all of it.
const FIRST_SUPPORTED: [(&str, (u32, u32)); 7] = [
    ("PyMongo", (4, 4)),
    ("nodejs", (5, 7)),
    ("mongo-java-driver", (4, 10)),
    ("mongo-go-driver", (1, 12)),
    ("mongo-csharp-driver", (2, 20)),
    ("mongo-rust-driver", (2, 6)),
    ("mongoc / ext-mongodb:PHP", (1, 16)),
];

/// Why a driver is out of support; `None` if it is supported, or not known. `driver` is its name and its
/// version, as in `hello`: `PyMongo 3.13.0`, `nodejs|Mongoose 5.9.1|7.8.0`.
pub(crate) fn outdated(driver: &str) -> Option<&'static str> {
    let (_, (name, first)) = FIRST_SUPPORTED
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| driver.starts_with(name))
        .max_by_key(|(_, (name, _))| name.len())?;
    let rest = driver.get(name.len()..)?;
    let version = match name.contains(':') {
        // The extension's version follows that of libmongoc: `1.23.1 / 1.15.0`.
        true => rest.rsplit(" / ").next()?,
        false => rest.rsplit_once(' ')?.1,
    };
    (version_of(version)? < *first).then_some(REASON)
}

/// The first two numbers of a version; names of wrapping libraries and suffixes are ignored.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let text = text.split('|').next()?.trim_start_matches('v');
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_made_for_old_servers_only_are_out_of_support() {
        for old in [
            "PyMongo 3.13.0",
            "PyMongo 4.3.3",
            "nodejs 4.17.2",
            "nodejs|Mongoose 5.6.0|7.3.1",
            "mongo-java-driver|sync 4.9.1",
            "mongo-java-driver|sync|spring-boot 4.8.2",
            "mongo-go-driver v1.11.7",
            "mongo-csharp-driver 2.19.0",
            "mongo-rust-driver 2.5.0",
            "mongoc / ext-mongodb:PHP 1.23.1 / 1.15.0",
        ] {
            assert_eq!(outdated(old), Some(REASON), "{old}");
        }
        for current in [
            "PyMongo 4.20.0",
            "PyMongo|c 4.4.1",
            "nodejs 7.9.0",
            "nodejs|Mongoose 6.18.0|8.16.0",
            "mongo-java-driver|sync 4.10.0",
            "mongo-java-driver|sync 5.5.1",
            "mongo-go-driver 2.1.0",
            "mongo-rust-driver 3.2.4",
            "mongoc / ext-mongodb:PHP 1.24.4 / 1.16.2",
            "mongo-ruby-driver 2.5.1",
            "PyMongo",
            "PyMongo next",
            "toy 0.1",
            "",
        ] {
            assert_eq!(outdated(current), None, "{current}");
        }
    }
}
