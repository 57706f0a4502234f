//! The names and the attributes of spans, by the conventions of their protocol.

use crate::{
    Settled,
    access_log::{MAX_QUERY_TEXT, MAX_TEXT, truncate},
};
use operation::{
    Attempt, AttemptField, Outcome, SHAPE_TEXT, SpanConventions, SpanField, SpanKind, SpanName,
};
use traces::{KeyValue, Span, Status, attribute};

/// Describes the spans of one listener.
pub(super) struct Describe<'a> {
    pub(super) conventions: &'static SpanConventions,
    pub(super) listener: &'a str,
}

impl Describe<'_> {
    /// The span of an operation, without ids and times.
    pub(super) fn operation(&self, done: &Settled<'_>) -> Span {
        let (conventions, how) = (self.conventions, done.how);
        let name = self.span_name(done);
        let mut attributes = self.fixed();
        for (key, field) in conventions.fields {
            self.add(&mut attributes, key, *field, done, &name);
        }
        attributes.push(attribute("tollgate.listener", self.listener));
        if let Some(cluster) = done.attribute("cluster") {
            attributes.push(attribute("tollgate.cluster", &*cluster));
        }
        let is_error = match how.outcome {
            Outcome::Failed | Outcome::Lost => true,
            Outcome::Rejected => conventions.kind == SpanKind::Client,
            Outcome::Ok | Outcome::Cancelled => false,
        };
        if how.outcome != Outcome::Ok {
            attributes.push(attribute("tollgate.outcome", how.outcome.as_str()));
        }
        let reason = how.reason.map(|reason| reason.as_str());
        attributes.extend(reason.map(|reason| attribute("tollgate.reason", reason)));
        let mut policies = done.policy_effects.iter().filter(|effect| !effect.dry_run);
        if let Some(first) = policies.next() {
            let names = policies.fold(first.policy.to_string(), |names, effect| {
                format!("{names}, {}", effect.policy)
            });
            attributes.push(attribute("tollgate.policy", names));
        }
        let status = is_error.then(|| {
            let kind = how.code.or(reason).unwrap_or(how.outcome.as_str());
            attributes.push(attribute("error.type", kind));
            Status { message: String::new(), code: Status::ERROR }
        });
        let kind = match conventions.kind {
            SpanKind::Server => Span::SERVER,
            SpanKind::Client => Span::CLIENT,
        };
        Span { name, kind, attributes, status, ..Span::default() }
    }

    /// The span of an attempt, without ids and times. `name` is the operation's.
    pub(super) fn attempt(&self, name: &str, attempt: &Attempt) -> Span {
        let name = truncate(name, MAX_TEXT).into_owned();
        let mut attributes = self.fixed();
        for (key, field) in self.conventions.attempt_fields {
            let resends = Some(attempt.resends).filter(|resends| *resends > 0);
            attributes.extend(match field {
                AttemptField::Operation => Some(attribute(key, &*name)),
                AttemptField::Status => attempt.status.map(|it| attribute(key, i64::from(it))),
                AttemptField::Resends => resends.map(|it| attribute(key, i64::from(it))),
                AttemptField::Version => attempt.version.map(|it| attribute(key, it)),
            });
        }
        if let Some(endpoint) = &attempt.endpoint {
            add_address(&mut attributes, "server", endpoint);
        }
        attributes.push(attribute("tollgate.listener", self.listener));
        let cluster = attempt.cluster.as_deref();
        attributes.extend(cluster.map(|name| attribute("tollgate.cluster", name)));
        let outcome = attempt.outcome;
        if outcome != Outcome::Ok {
            attributes.push(attribute("tollgate.outcome", outcome.as_str()));
        }
        let status =
            matches!(outcome, Outcome::Failed | Outcome::Lost | Outcome::Rejected).then(|| {
                let status =
                    attempt.status.filter(|status| *status >= 400).map(|it| it.to_string());
                attributes
                    .push(attribute("error.type", status.unwrap_or(outcome.as_str().to_owned())));
                Status { message: String::new(), code: Status::ERROR }
            });
        Span { name, kind: Span::CLIENT, attributes, status, ..Span::default() }
    }

    fn fixed(&self) -> Vec<KeyValue> {
        self.conventions.fixed.iter().map(|(key, value)| attribute(key, *value)).collect()
    }

    fn add(
        &self,
        attributes: &mut Vec<KeyValue>,
        key: &str,
        field: SpanField,
        done: &Settled<'_>,
        span_name: &str,
    ) {
        let (database, collection) = halves(self.resource(done));
        let code = done.how.code;
        let text = |text: &str| Some(truncate(text, MAX_TEXT).into_owned());
        let text = match field {
            SpanField::Operation => text(&done.key.name),
            SpanField::Resource => text(self.resource(done)),
            SpanField::Database => text(database),
            SpanField::Collection => text(collection),
            SpanField::SpanName => text(span_name),
            SpanField::Code(ok) => {
                let ok = Some(ok).filter(|_| done.how.outcome == Outcome::Ok);
                code.or(ok).and_then(text)
            }
            SpanField::CodeNumber => code.and_then(|name| {
                let mut known = self.conventions.codes.iter();
                known.find(|(_, known, _)| *known == name).map(|(number, ..)| number.to_string())
            }),
            SpanField::Text(name) => {
                let longest = if name == SHAPE_TEXT { MAX_QUERY_TEXT } else { MAX_TEXT };
                done.attribute(name).map(|value| truncate(&value, longest).into_owned())
            }
            SpanField::ReplyItems => {
                let items = i64::try_from(done.how.reply_items).unwrap_or(i64::MAX);
                return attributes.extend((items > 0).then(|| attribute(key, items)));
            }
            SpanField::Number(name) => {
                let number = done.attribute(name).and_then(|text| text.parse::<i64>().ok());
                return attributes.extend(number.map(|number| attribute(key, number)));
            }
            SpanField::Address(name) => {
                let address = done.attribute(name);
                return address.iter().for_each(|it| add_address(attributes, key, it));
            }
        };
        attributes.extend(text.filter(|text| !text.is_empty()).map(|text| attribute(key, text)));
    }

    fn span_name(&self, done: &Settled<'_>) -> String {
        let (name, resource) = (&*done.key.name, self.resource(done));
        let target = match self.conventions.name {
            SpanName::Operation => "",
            SpanName::WithResource => resource,
            SpanName::WithCollection => match halves(resource) {
                (database, "") => database,
                (_, collection) => collection,
            },
        };
        let whole = if target.is_empty() { name.to_owned() } else { format!("{name} {target}") };
        truncate(&whole, MAX_TEXT).into_owned()
    }

    /// The operation's resource; empty if it has none.
    fn resource<'d>(&self, done: &'d Settled<'_>) -> &'d str {
        Some(&*done.key.resource).filter(|it| *it != self.conventions.no_resource).unwrap_or("")
    }
}

/// The parts of a resource before and after the first dot.
fn halves(resource: &str) -> (&str, &str) {
    resource.split_once('.').unwrap_or((resource, ""))
}

/// Adds `KEY.address` and `KEY.port`.
fn add_address(attributes: &mut Vec<KeyValue>, key: &str, address: &str) {
    let split = address.rsplit_once(':');
    // An IPv6 address has colons of its own, and brackets if it has a port.
    let split = split.filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let number = |(host, port): (_, &str)| Some((host, Some(port.parse::<u16>().ok()?)));
    let (host, port) = split.and_then(number).unwrap_or((address, None));
    let host = truncate(host.trim_matches(['[', ']']), MAX_TEXT);
    attributes.push(attribute(&format!("{key}.address"), &*host));
    attributes.extend(port.map(|port| attribute(&format!("{key}.port"), i64::from(port))));
}
