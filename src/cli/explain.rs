//! `tollgate check --explain`: which route takes a request, which policies would apply to an
//! operation, and which key of the others says no.

use config::{
    attributes,
    plan::{ListenerPlan, Plan},
    printable,
};
use operation::{AttributeValue, Attributes, OTHER_RESOURCES, Operation, Protocol};
use policy::{
    Rule,
    attributes::{is_late, is_matchable, normalize},
    matching::{Explanation, KnownFields, Mismatch},
};
use protocols::{DryRequest, DryRunReport, ProtocolEntry};
use serde_json::{Value, json};
use std::{borrow::Cow, fmt::Write, net::IpAddr};

/// What a question looks like.
const EXAMPLE: &str = "--explain 'mongo find shop.users app=reports peer=10.0.0.7 listener=db', or \
                       'http GET http://shop.example/cart/7 x-team=blue'";

/// What requests that no route takes are about.
const UNROUTED: &str = "unrouted";

/// The value of an attribute that is unknown before run time.
const UNKNOWN: &str = "?";

/// The operation to explain.
#[derive(Clone, Debug)]
pub(super) struct Question {
    entry: &'static dyn ProtocolEntry,
    protocol: &'static Protocol,
    operation: String,
    resource: String,
    listener: Option<String>,
    peer: Option<IpAddr>,
    attributes: Vec<(String, String)>,
    /// The target of a request, whose resource is the route that takes it.
    target: Option<String>,
}

/// What was found for one listener.
pub(super) struct ListenerReport<'p> {
    listener: &'p ListenerPlan,
    /// What its route does with a request, or why it goes nowhere.
    routed: Option<Result<DryRunReport, String>>,
    policies: Vec<Found<'p>>,
}

/// What was found about one policy.
struct Found<'p> {
    rule: &'p Rule,
    explained: Explanation,
}

impl Question {
    /// Reads `PROTOCOL OPERATION [RESOURCE] [ATTRIBUTE=VALUE]…`; instead of a resource a request
    /// has its target: a path, or a URL.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{why}; ask such as {EXAMPLE}");
        let words = words(text).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
        // The query of a target has one, too.
        let is_target = |word: &str| word.starts_with('/') || word.contains("://");
        let is_fact = |word: &&String| {
            word.split_once('=').is_some_and(|(key, _)| !is_target(key) && !key.is_empty())
        };
        let (facts, names): (Vec<_>, Vec<_>) = words.iter().partition(is_fact);
        let (protocol, operation, resource) = match names.as_slice() {
            [protocol, operation] => (protocol, operation, ""),
            [protocol, operation, resource] => (protocol, operation, resource.as_str()),
            [] | [_] => {
                return Err(wrong("a protocol and an operation are to be named".to_owned()));
            }
            [_, _, _, more, ..] => {
                return Err(wrong(format!("`{more}` is no `attribute=value`")));
            }
        };
        let Some(entry) = protocols::find(protocol) else {
            let near =
                values::did_you_mean(values::nearest(protocol, protocols::NAMES.iter().copied()));
            return Err(wrong(format!("there is no protocol `{protocol}`{near}")));
        };
        let has_targets = entry.has_targets();
        // A gRPC call needs only its path: `grpc /shop.v1.Cart/Add`.
        let call = has_targets && resource.is_empty() && operation.contains('/');
        let (operation, target) = match () {
            () if call && is_target(operation) => ("POST", Some((*operation).clone())),
            () if call => ("POST", Some(format!("/{operation}"))),
            () => {
                let target = has_targets && is_target(resource);
                (operation.as_str(), target.then(|| resource.to_owned()))
            }
        };
        let mut question = Self {
            entry,
            protocol: entry.describe(),
            operation: operation.to_owned(),
            resource: resource.to_owned(),
            target,
            listener: None,
            peer: None,
            attributes: Vec::new(),
        };
        for (key, value) in facts.into_iter().filter_map(|fact| fact.split_once('=')) {
            question.add(key, value).map_err(wrong)?;
        }
        Ok(question)
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        let key = &*normalize(key);
        match key {
            "listener" => self.listener = Some(value.to_owned()),
            "peer" => {
                let peer = value.parse().map_err(|_| format!("`{value}` is no IP address"))?;
                self.peer = Some(peer);
            }
            _ if is_late(self.protocol, key) => {
                return Err(format!("policies are asked before `{key}` is known"));
            }
            _ if is_matchable(self.protocol, key) => {
                self.attributes.push((key.to_owned(), value.to_owned()));
            }
            // If a request has a target, the other words are headers.
            _ if self.target.is_some() && is_header(key) => {
                self.attributes
                    .push((format!("header.{}", key.to_ascii_lowercase()), value.to_owned()));
            }
            _ => {
                let attributes = attributes();
                let known = attributes.iter().filter(|it| is_matchable(self.protocol, it));
                let known: Vec<_> = known.chain(["listener"]).collect();
                let near = attributes.suggest(key, &known);
                return Err(format!("{} has no `{key}`{near}", self.protocol.name));
            }
        }
        Ok(())
    }

    /// What policies make of it, for the listener that it names or each that speaks its protocol.
    pub(super) fn answers<'p>(&self, plan: &'p Plan) -> Result<Vec<ListenerReport<'p>>, String> {
        let speaks = |it: &&ListenerPlan| it.protocol.name() == self.protocol.name;
        let meant =
            |it: &&ListenerPlan| self.listener.as_ref().is_none_or(|name| *it.name == **name);
        let listeners = plan.listeners.iter().map(|it| &**it);
        let found: Vec<_> = listeners.clone().filter(speaks).filter(meant).collect();
        if found.is_empty() {
            let name = self
                .listener
                .as_ref()
                .map_or("no listener".to_owned(), |name| format!("no listener `{name}`"));
            let known: Vec<_> =
                listeners.map(|it| format!("{} ({})", it.name, it.protocol.name())).collect();
            let known = known.join(", ");
            return Err(format!("{name} speaks {}; there is {known}", self.protocol.name));
        }
        let answer = |listener: &'p ListenerPlan| {
            let routed = self.routed(listener);
            let asked = match &routed {
                Some(Ok(routed)) => &self.taken_by(routed),
                Some(Err(_)) => &Self { resource: UNROUTED.to_owned(), ..self.clone() },
                None => self,
            };
            let policies = plan.policies.iter().map(|rule| asked.about(rule, listener)).collect();
            ListenerReport { listener, routed, policies }
        };
        Ok(found.into_iter().map(answer).collect())
    }

    /// The route and result of a request on a listener.
    fn routed(&self, listener: &ListenerPlan) -> Option<Result<DryRunReport, String>> {
        let header = |(name, value): &(String, String)| {
            let name = match name.as_str() {
                "user_agent" => "user-agent",
                "host" => "host",
                name => name.strip_prefix("header.")?,
            };
            Some((name.to_owned(), value.clone()))
        };
        let headers = self.attributes.iter().filter_map(header).collect();
        let target = self.target.as_ref()?;
        listener.protocol.dry_run(&DryRequest {
            method: &self.operation,
            target,
            headers,
            peer: self.peer,
        })
    }

    /// The operation that a request is, as policies see it.
    fn taken_by(&self, routed: &DryRunReport) -> Self {
        let own = routed.attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let told = self
            .attributes
            .iter()
            .filter(|(key, _)| !routed.attributes.iter().any(|(own, _)| own == key));
        Self {
            operation: routed.operation.clone(),
            resource: routed.resource.clone(),
            attributes: own.chain(told.cloned()).collect(),
            ..self.clone()
        }
    }

    fn about<'p>(&self, rule: &'p Rule, listener: &ListenerPlan) -> Found<'p> {
        let operation = Operation {
            protocol: self.protocol,
            name: &self.operation,
            resource: &self.resource,
            head: b"",
            attributes: self,
            long_poll: false,
            limit_exempt: false,
            may_have_callsite: true,
            known_names: false,
            partial: false,
            may_have_other_resources: true,
            query_shape: None,
        };
        let known = KnownFields::of(&listener.name, &operation);
        Found { rule, explained: rule.matching.explain(&known, &operation) }
    }
}

impl Attributes for Question {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        let found = self.attributes.iter().filter(|(known, _)| known == name);
        let values: Vec<&str> = found.map(|(_, value)| value.as_str()).collect();
        match values.as_slice() {
            [] => AttributeValue::Absent,
            [UNKNOWN] => AttributeValue::Unknown,
            [one] => self.entry.attribute_value(name, one),
            several if name == OTHER_RESOURCES => {
                AttributeValue::Multiple(several.iter().map(|it| Cow::Borrowed(*it)).collect())
            }
            several => {
                AttributeValue::Repeated(several.iter().map(|it| Cow::Borrowed(*it)).collect())
            }
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

/// Whether this is the name of a header, and hardly an attribute that is spelt wrong.
fn is_header(name: &str) -> bool {
    const OTHERS: [&str; 6] = ["accept", "authorization", "cookie", "origin", "range", "referer"];
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let lower = name.to_ascii_lowercase();
    name.chars().all(plain) && (name.contains('-') || OTHERS.contains(&&*lower))
}

/// The words of a text. In double quotes, blanks are part of a word; `None` if one is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            _ if c.is_whitespace() && !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

impl Found<'_> {
    /// The key by which it does not apply, and why.
    fn mismatch(&self) -> Option<&Mismatch> {
        match &self.explained {
            Explanation::Applies => None,
            Explanation::No(mismatch) => Some(mismatch),
            // What keeps something out applies to whatever it may be meant for.
            Explanation::InDoubt(mismatch) => {
                Some(mismatch).filter(|_| !self.rule.config.fails_closed())
            }
        }
    }

    /// The key whose value is not known, for which reason it applies.
    fn doubt(&self) -> Option<&Mismatch> {
        match &self.explained {
            Explanation::InDoubt(mismatch) => Some(mismatch).filter(|_| self.mismatch().is_none()),
            Explanation::Applies | Explanation::No(_) => None,
        }
    }

    fn text(&self) -> String {
        let Rule { enabled, dry_run, .. } = *self.rule;
        let what = if self.rule.is_for_connections() { "its connection" } else { "it" };
        let doubt = self.doubt().map_or(String::new(), |doubt| format!(": {}", doubt.why));
        match self.mismatch() {
            Some(mismatch) => format!("no: {}", mismatch.why),
            None if !enabled => format!("no: `enabled` is `false`, or it would apply to {what}"),
            None if dry_run => {
                format!("applies to {what}, but only counts and logs (`dry_run`){doubt}")
            }
            None => format!("applies to {what}{doubt}"),
        }
    }

    fn json(&self) -> Value {
        let Rule { enabled, dry_run, .. } = *self.rule;
        let mut json = json!({
            "name": &*self.rule.name,
            "kind": self.rule.config.kind(),
            "enabled": enabled,
            "dry_run": dry_run,
            "about": if self.rule.is_for_connections() { "connection" } else { "operation" },
            "applies": enabled && self.mismatch().is_none(),
        });
        if let Some(Mismatch { key, why }) = self.mismatch().or_else(|| self.doubt()) {
            json["key"] = key.as_str().into();
            json["why"] = why.as_str().into();
        }
        json
    }
}

/// For people: a table for each listener.
pub(super) fn text(answers: &[ListenerReport<'_>]) -> String {
    let mut text = String::new();
    for ListenerReport { listener, routed, policies } in answers {
        let _ = writeln!(text, "{} ({}):", listener.name, listener.protocol.name());
        match routed {
            None => {}
            Some(Err(why)) => {
                let _ = writeln!(text, "  {}", printable(why));
            }
            Some(Ok(DryRunReport { actions, .. })) => {
                let width = actions.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
                for (what, how) in actions {
                    let _ = writeln!(text, "  {what:width$}  {}", printable(how));
                }
            }
        }
        if routed.is_some() {
            text.push_str("policies:\n");
        }
        if policies.is_empty() {
            text.push_str("  there is no policy\n");
        }
        let widest = |of: fn(&Rule) -> &str| policies.iter().map(|it| of(it.rule).len()).max();
        let name = widest(|rule| &rule.name).unwrap_or(0);
        let kind = widest(|rule| rule.config.kind()).unwrap_or(0);
        for found in policies {
            let rule = found.rule;
            let (own, does) = (&rule.name, rule.config.kind());
            let _ = writeln!(text, "  {own:name$}  {does:kind$}  {}", printable(&found.text()));
        }
    }
    text
}

/// For machines: a list of listeners, each with its policies in order.
pub(super) fn json(answers: &[ListenerReport<'_>]) -> Value {
    let one = |answer: &ListenerReport<'_>| {
        let policies: Vec<Value> = answer.policies.iter().map(Found::json).collect();
        let mut json = json!({
            "listener": &*answer.listener.name,
            "protocol": answer.listener.protocol.name(),
            "policies": policies,
        });
        match &answer.routed {
            None => {}
            Some(Err(why)) => json["nowhere"] = why.as_str().into(),
            Some(Ok(DryRunReport { operation, actions, .. })) => {
                json["operation"] = operation.as_str().into();
                json["routed"] = actions.iter().map(|(what, how)| (*what, how.as_str())).collect();
            }
        }
        json
    };
    answers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_words_and_facts_in_any_order() {
        let question =
            Question::read("app=\"the reports\" mongo find peer=::1 shop.users listener=db")
                .unwrap();
        assert_eq!((question.protocol.name, &*question.operation), ("mongo", "find"));
        assert_eq!((&*question.resource, question.listener.as_deref()), ("shop.users", Some("db")));
        assert_eq!(question.peer, Some("::1".parse().unwrap()));
        assert_eq!(question.attributes, [("app".to_owned(), "the reports".to_owned())]);
        assert_eq!(Question::read("tcp session").unwrap().resource, "");
        let asked = Question::read("http GET cart header.x-team=a path=/cart/7").unwrap();
        assert_eq!(
            (asked.protocol.name, &*asked.operation, &*asked.resource),
            ("http", "GET", "cart")
        );
        assert_eq!(asked.get(b"", "header.x-team"), AttributeValue::known("a"));
        let call = Question::read("grpc shop.v1.Cart/Add").unwrap();
        assert_eq!(call.target.as_deref(), Some("/shop.v1.Cart/Add"));
        let asked = Question::read("http GET http://a/b?c=d x-team=blue").unwrap();
        assert_eq!(asked.target.as_deref(), Some("http://a/b?c=d"));
        assert_eq!(asked.get(b"", "header.x-team"), AttributeValue::known("blue"));
        let comment = Question::read("mongo find comment=a=b").unwrap().attributes;
        assert_eq!(comment, [("comment".to_owned(), "a=b".to_owned())]);
    }

    #[test]
    fn the_error_for_an_invalid_question_has_an_example() {
        for (text, told) in [
            ("", "a protocol and an operation are to be named"),
            ("mongo", "a protocol and an operation are to be named"),
            ("mango find", "there is no protocol `mango`, did you mean `mongo`?"),
            ("mongo find shop.users reports", "`reports` is no `attribute=value`"),
            ("mongo find ap=x", "mongo has no `ap`, did you mean `app`?"),
            ("tcp session app=x", "tcp has no `app`"),
            ("http GET cart header.=a", "http has no `header.`"),
            ("http GET cart usr_agent=a", "http has no `usr_agent`, did you mean `user_agent`?"),
            ("mongo find peer=db-1", "`db-1` is no IP address"),
            ("mongo find app=\"x", "a quote is not closed"),
        ] {
            let wrong = Question::read(text).unwrap_err();
            assert!(wrong.starts_with(told) && wrong.ends_with(EXAMPLE), "{wrong}");
        }
    }
}
