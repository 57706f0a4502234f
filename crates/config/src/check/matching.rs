//! Policy matches: every key is known, every value is possible, and some listener is matched.

use super::policies::Policies;
use crate::scope::{self, ListenerScope};
use operation::Protocol;
use policy::{
    attributes::{connect_phase, is_late, is_matchable, normalize},
    matching::{Applicability, KnownFields, Match, MatchSetting, is_glob},
    rule::PolicyConfig,
};
use values::Diagnostic;
use values::{OneOrMore, Span, did_you_mean, glob_matches, nearest, spanned::Spanned};

/// The keys of a match that are not attributes.
const WORDS: [&str; 5] = ["listener", "protocol", "operation", "resource", "not"];

/// The maximum length of a glob, in bytes.
const MAX_GLOB: usize = 256;

impl Policies<'_> {
    /// Compiles the valid part of a match.
    pub(super) fn compile(&mut self, written: MatchSetting) -> Match {
        let mut made = Match::default();
        for (key, globs) in written.keys {
            let Some(name) = key.value else { continue };
            let name = normalize(&name);
            if self.is_key(key.at, &name) && self.is_in_time(key.at, &name) {
                self.add(&mut made, &name, globs);
            }
        }
        if let Some(written) = written.not.and_then(|not| not.value) {
            let excludes_all = written.keys.is_empty() && written.not.is_none();
            let not = self.compile(written);
            // A match of which only invalid keys are left would exclude everything.
            if excludes_all || not != Match::default() {
                made.exclude(not);
            }
        }
        made
    }

    fn add(
        &mut self,
        made: &mut Match,
        key: &str,
        Spanned { at, value }: Spanned<OneOrMore<Spanned<String>>>,
    ) {
        let Some(written) = value else { return };
        let globs: Vec<(Span, &str)> =
            written.iter().filter_map(|it| Some((it.at, it.value.as_deref()?))).collect();
        for (at, glob) in &globs {
            if let Err(error) = self.can_be(key, glob) {
                self.report.add_diagnostic(*at, error);
            }
        }
        // A protocol may report a value in another form, which the glob has to match.
        let normal = globs.iter().filter_map(|(_, text)| protocols::normal_glob(key, text));
        let normal: Vec<String> = normal.collect();
        let written = globs.iter().map(|(_, text)| *text);
        let texts: Vec<&str> = written.chain(normal.iter().map(String::as_str)).collect();
        for (index, error) in made.add(key, &texts).err().unwrap_or_default() {
            self.report.add_diagnostic(globs.get(index).map_or(at, |(at, _)| *at), error);
        }
    }

    fn is_key(&mut self, at: Span, key: &str) -> bool {
        let attributes = scope::attributes();
        if attributes.contains(key) || WORDS.contains(&key) {
            return true;
        }
        // The key has to be known to the protocol of a listener.
        let protocols = self.scope.listeners().iter().filter_map(|it| it.protocol);
        let protocols: Vec<_> = protocols.collect();
        let can_match = |by: &&Protocol, it: &&str| {
            let some = it.ends_with('.') && by.attributes.contains(it);
            some || is_matchable(by, it)
        };
        let known =
            |it: &&str| protocols.is_empty() || protocols.iter().any(|by| can_match(by, it));
        let known: Vec<&str> = WORDS.into_iter().chain(attributes.iter().filter(known)).collect();
        let near = attributes.suggest(key, &known);
        let hint = format!("the keys here: {}", known.join(", "));
        self.report.add(at, format!("unknown key `{key}`{near}"), hint);
        false
    }

    /// Whether a key is known when policies decide, on any listener that has it.
    fn is_in_time(&mut self, at: Span, key: &str) -> bool {
        let protocols = || self.scope.listeners().iter().map(|it| it.protocol);
        let can_match = |it: Option<&Protocol>| it.is_none_or(|it| is_matchable(it, key));
        let Some(late) = protocols().flatten().find(|it| is_late(it, key)) else {
            return true;
        };
        if protocols().any(can_match) {
            return true;
        }
        let hint = format!("on {} it is only in the access log", late.name);
        self.report.add(at, format!("policies are asked before `{key}` is known"), hint);
        false
    }

    /// Whether a key can have such a value.
    fn can_be(&self, key: &str, glob: &str) -> Result<(), Diagnostic> {
        if glob.len() > MAX_GLOB {
            return Err(Diagnostic::new("this is too long", format!("at most {MAX_GLOB} bytes")));
        }
        let known: Vec<&str> = match key {
            "listener" => self.scope.names().collect(),
            "protocol" => protocols::NAMES.to_vec(),
            "operation" => return self.is_on_any(|it| protocols::no_operation(it.protocol?, glob)),
            "resource" => return self.is_on_any(|it| no_resource(it, glob)),
            _ => return self.has_form(key, glob),
        };
        if is_glob(glob) || known.contains(&glob) {
            return Ok(());
        }
        let near = did_you_mean(nearest(glob, known.iter().copied()));
        let hint = format!("the {key}s here: {}", known.join(", "));
        Err(Diagnostic::new(format!("there is no {key} `{glob}`{near}"), hint))
    }

    /// Whether any of the listeners in question is suitable. `why_not` returns why one is not.
    fn is_on_any(
        &self,
        why_not: impl Fn(&ListenerScope) -> Option<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let mut wrong = Ok(());
        for listener in &self.reached {
            match why_not(listener) {
                None => return Ok(()),
                Some(error) => wrong = wrong.and(Err(error)),
            }
        }
        wrong
    }

    /// The listeners among these that a match allows.
    pub(super) fn matched_listeners(&self, written: &MatchSetting) -> Vec<ListenerScope> {
        let mut made = Match::default();
        for (key, globs) in &written.keys {
            let Some(key @ ("listener" | "protocol")) = key.value.as_deref() else { continue };
            let globs = globs.value.iter().flat_map(|globs| globs.iter());
            let globs: Vec<&str> = globs.filter_map(|it| it.value.as_deref()).collect();
            // Only globs of addresses can be invalid.
            let _ = made.add(key, &globs);
        }
        let listeners = self.scope.listeners().iter();
        listeners.filter(|it| resolves(&made, it)).cloned().collect()
    }

    /// Whether an attribute can have such a value on any listener that has it.
    fn has_form(&self, key: &str, glob: &str) -> Result<(), Diagnostic> {
        let protocols = self.scope.listeners().iter().filter_map(|it| it.protocol);
        let knows: Vec<&Protocol> = protocols.filter(|it| is_matchable(it, key)).collect();
        let form = |it: &&Protocol| it.value_formats.iter().find(|(name, ..)| *name == key);
        let mut wrong = None;
        for protocol in &knows {
            match form(protocol) {
                Some((_, part, hint)) if !glob.contains(part) && !glob.contains('*') => {
                    wrong = Some(Diagnostic::new(format!("no `{key}` is `{glob}`"), *hint));
                }
                _ => return Ok(()),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Reports keys that are not known yet when a connection is opened.
    pub(super) fn of_connections(&mut self, kind: &str, written: &MatchSetting) {
        for (key, _) in &written.keys {
            let Some(name) = key.value.as_deref() else { continue };
            if !["listener", "protocol"].contains(&name) && connect_phase(name).is_none() {
                let message = format!("`{kind}` decides before `{name}` is known");
                let hint = "it is about connections: match by listener, protocol, peer, and what TLS \
                            and PROXY headers show";
                self.report.add(key.at, message, hint);
            }
        }
        if let Some(not) = written.not.as_ref().and_then(|not| not.value.as_ref()) {
            self.of_connections(kind, not);
        }
    }

    /// Reports a policy that needs an attribute which a matched protocol does not have.
    pub(super) fn can_judge(&mut self, action: &dyn PolicyConfig, made: &Match) {
        let Some(attribute) = action.required_attribute() else { return };
        let can_match = |it: &Protocol| is_matchable(it, attribute);
        let mute = self.scope.listeners().iter().find_map(|listener| {
            let protocol =
                listener.protocol.filter(|it| !can_match(it) && reaches(made, listener))?;
            Some(format!("the listener `{}` ({})", listener.name, protocol.name))
        });
        let Some(mute) = mute else { return };
        let kind = action.kind();
        let suitable: Vec<_> =
            protocols::all().filter(|it| can_match(it)).map(|it| it.name).collect();
        let hint =
            format!("match the protocols that have it: `protocol: [{}]`", suitable.join(", "));
        let message = format!("`{kind}` needs `{attribute}`, which {mute} does not have");
        self.report.add(self.place(&[kind]), message, hint);
    }

    /// Reports a policy that changes the flow of bytes if a matched protocol has messages.
    pub(super) fn can_stream(&mut self, action: &dyn PolicyConfig, made: &Match) {
        if !action.needs_stream() {
            return;
        }
        let other = self.scope.listeners().iter().find_map(|listener| {
            let protocol = listener.protocol.filter(|it| !it.stream && reaches(made, listener))?;
            Some(format!("the listener `{}` ({})", listener.name, protocol.name))
        });
        let Some(other) = other else { return };
        let streams: Vec<_> = protocols::all().filter(|it| it.stream).map(|it| it.name).collect();
        let message = format!("this is for streams of bytes, and {other} has messages");
        let hint = format!("match streams alone: `match: {{ protocol: {} }}`", streams.join(", "));
        self.report.add(self.place(&[action.kind()]), message, hint);
    }

    /// A policy that can never apply is an error, because it would only seem to protect.
    pub(super) fn reaches_a_listener(&mut self, at: Span, made: &Match) {
        let listeners = self.scope.listeners();
        // Invalid listeners were reported already.
        if listeners.is_empty() || listeners.iter().any(|listener| reaches(made, listener)) {
            return;
        }
        let known =
            listeners.iter().filter_map(|it| Some(format!("{} ({})", it.name, it.protocol?.name)));
        let hint = match listeners.iter().find_map(|it| late(made, it)) {
            Some((listener, key)) => {
                format!("on `{listener}` policies are asked before `{key}` is known")
            }
            None => format!("the listeners here: {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.report.add(at, "this matches no operation of any listener", hint);
    }
}

/// The error if no resource of a listener matches.
fn no_resource(listener: &ListenerScope, glob: &str) -> Option<Diagnostic> {
    let known = listener.resources.as_ref()?;
    if known.iter().any(|name| glob_matches(glob, name)) {
        return None;
    }
    let near = did_you_mean(nearest(glob, known.iter().map(|name| &**name)));
    let hint = match known.as_slice() {
        [] => format!("`{}` has no route yet", listener.name),
        _ if glob.contains('/') => format!("for paths there is `path`: `path: \"{glob}\"`"),
        _ => format!("the routes of `{}`: {}", listener.name, known.join(", ")),
    };
    Some(Diagnostic::new(format!("there is no route `{glob}`{near}"), hint))
}

/// Whether any operation of a listener can match.
fn reaches(made: &Match, listener: &ListenerScope) -> bool {
    let can_match =
        |attribute| listener.protocol.is_none_or(|protocol| is_matchable(protocol, attribute));
    resolves(made, listener) && made.attributes().all(can_match)
}

/// Whether any operation can match, as far as listeners and protocols are concerned.
fn resolves(made: &Match, listener: &ListenerScope) -> bool {
    let known = KnownFields {
        listener: Some(&listener.name),
        protocol: listener.protocol.map(|it| it.name),
        ..KnownFields::default()
    };
    made.resolve(&known) != Applicability::Never
}

/// The key that is known too late, so that nothing can match, and its listener.
fn late<'a>(made: &'a Match, listener: &'a ListenerScope) -> Option<(&'a str, &'a str)> {
    let protocol = listener.protocol.filter(|_| resolves(made, listener))?;
    let late = made.attributes().find(|attribute| is_late(protocol, attribute))?;
    Some((&listener.name, late))
}

#[cfg(test)]
mod tests;
