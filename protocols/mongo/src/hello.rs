//! Rewrites `hello` and its reply so that drivers stay on the proxy: the compressors, and the
//! members' addresses.
//!
//! A driver connects to every member that it learns of, so each address in a reply is replaced with
//! one that leads to the proxy. Source: the driver specifications `mongodb-handshake` and, for what
//! drivers do with the lists, `server-discovery-and-monitoring`.

use crate::{
    MongoListener, Settings,
    bson_writer::{BsonWriter, string_array, string_value},
    decompressor::SUPPORTED,
    element::{Element, elements, kind},
    header::{Header, opcode},
    message_edit::{ElementEdit, body_range, edit, splice},
};
use std::{borrow::Cow, net::SocketAddr};

/// Removes the unsupported compressors from a `hello`, so that no reply uses them.
///
/// Takes and returns a whole message; `None` if nothing needs to change.
pub(crate) fn rewrite_request(message: &[u8]) -> Option<Vec<u8>> {
    change_request(message, without_unsupported)
}

/// Removes what a `hello` may not have on a pooled connection: who the client is, which a server
/// accepts once; compressors; and a wish to wait for the reply.
///
/// Takes and returns a whole message; `None` if nothing needs to change.
pub(crate) fn rewrite_pooled_request(message: &[u8]) -> Option<Vec<u8>> {
    change_request(message, |hello| {
        edit(hello, |element| match element.name {
            b"client" | b"compression" | b"topologyVersion" | b"maxAwaitTimeMS"
            | b"loadBalanced" => ElementEdit::Drop,
            _ => ElementEdit::Keep,
        })
    })
}

/// The elements of a `hello` reply that answer a log-in, encoded. Takes a whole message; `None` if
/// the reply is an error, or can't be read.
pub(crate) fn login_elements(message: &[u8]) -> Option<Vec<u8>> {
    let hello = &message[body_range(message)?];
    if !is_ok(hello) {
        return None;
    }
    let mut out = BsonWriter::new();
    elements(hello)
        .filter(|it| matches!(it.name, b"speculativeAuthenticate" | b"saslSupportedMechs"))
        .for_each(|it| out.element(it.kind, it.name, it.value));
    let document = out.finish();
    Some(document[4..document.len() - 1].to_vec())
}

fn change_request(message: &[u8], change: fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let body = body_range(message)?;
    let hello = &message[body.clone()];
    let first = elements(hello).next()?;
    let wrapped = matches!(first.name, b"$query" | b"query") && first.kind == kind::DOCUMENT;
    let legacy = Header::read(message).ok()??.opcode == opcode::QUERY;
    let changed = if wrapped && legacy {
        edit(hello, |element| match element.name {
            name if name == first.name => {
                change(element.value).map_or(ElementEdit::Keep, ElementEdit::Put)
            }
            _ => ElementEdit::Keep,
        })?
    } else {
        change(hello)?
    };
    splice(message, body, &changed)
}

/// The `hello` command without unsupported compressors.
fn without_unsupported(hello: &[u8]) -> Option<Vec<u8>> {
    if !matches!(elements(hello).next()?.name, b"hello" | b"isMaster" | b"ismaster") {
        return None;
    }
    edit(hello, |element| match element.name {
        b"compression" if element.kind == kind::ARRAY => {
            // `none` (sent by one driver that wants no compression) and `noop` compress nothing.
            let readable =
                |name: &&str| SUPPORTED.contains(name) || matches!(*name, "none" | "noop");
            let names = elements(element.value).filter_map(|name| name.text());
            ElementEdit::Put(string_array(names.filter(readable)).finish())
        }
        _ => ElementEdit::Keep,
    })
}

/// Replaces the members' addresses in a `hello` reply with addresses that lead to the proxy.
/// `local` is the address at which the client connected.
///
/// Takes and returns a whole message; `None` if nothing needs to change, as for a standalone
/// server, a mongos or an error.
pub(crate) fn rewrite_reply(
    message: &[u8],
    settings: &Settings,
    local: SocketAddr,
) -> Option<Vec<u8>> {
    if !settings.rewrite_hello {
        return None;
    }
    let body = body_range(message)?;
    let hello = &message[body.clone()];
    if !is_ok(hello) {
        return None;
    }
    let member = ReplyingMember::new(hello, settings, local);
    let changed = edit(hello, |element| match (element.name, element.kind) {
        (b"hosts" | b"passives" | b"arbiters", kind::ARRAY) => {
            ElementEdit::Put(member.list(element))
        }
        (b"me", kind::STRING) => ElementEdit::Put(string_value(&member.shown_as)),
        (b"primary", kind::STRING) => match element.text().and_then(|host| member.shown(host)) {
            Some(host) => ElementEdit::Put(string_value(&host)),
            None => ElementEdit::Drop,
        },
        _ => ElementEdit::Keep,
    })?;
    splice(message, body, &changed)
}

/// Records the replica set members that a `hello` reply names. Takes a whole message.
pub(crate) fn record_members(message: &[u8], listener: &MongoListener) {
    let Some(body) = body_range(message) else { return };
    let hello = &message[body];
    let text = |name: &[u8]| elements(hello).find(|field| field.name == name)?.text();
    let (Some(me), Some(set)) = (text(b"me"), text(b"setName")) else { return };
    listener.record_member(me, set);
    let settings = &listener.settings;
    if settings.members.is_empty() {
        return;
    }
    let lists = elements(hello).filter(|list| matches!(list.name, b"hosts" | b"passives"));
    let hosts = lists.filter_map(|list| list.elements()).flatten();
    let mut hidden =
        hosts.filter_map(|host| host.text()).filter(|it| lookup(settings, it).is_none());
    if let Some(host) = hidden.next() {
        listener.notices.record_hidden(host, set);
    }
}

/// The member that sent the reply, as shown to the client.
struct ReplyingMember<'a> {
    settings: &'a Settings,
    /// The member's own name for itself.
    me: Option<&'a str>,
    /// Its address for the client.
    shown_as: Cow<'a, str>,
    /// The list that contains it: `hosts` unless found in another.
    listed_in: &'a [u8],
}

impl<'a> ReplyingMember<'a> {
    fn new(hello: &'a [u8], settings: &'a Settings, local: SocketAddr) -> Self {
        let me = elements(hello).find(|element| element.name == b"me").and_then(|me| me.text());
        let named = me.and_then(|me| lookup(settings, me)).map(Cow::Borrowed);
        let shown_as = named.unwrap_or_else(|| shown_address(settings.advertise.as_deref(), local));
        let listed_in = elements(hello)
            .filter(|list| {
                matches!(list.name, b"passives" | b"arbiters") && list.kind == kind::ARRAY
            })
            .find(|list| {
                elements(list.value).any(|host| me.is_some() && same_host(host.text(), me))
            })
            .map_or(&b"hosts"[..], |list| list.name);
        Self { settings, me, shown_as, listed_in }
    }

    /// The address of a member for the client; `None` if the member is hidden.
    fn shown(&self, host: &str) -> Option<Cow<'a, str>> {
        let answers = self.settings.members.is_empty() || same_host(Some(host), self.me);
        match lookup(self.settings, host) {
            Some(host) => Some(Cow::Borrowed(host)),
            // The replying member is reachable, so it is never hidden: drivers drop a server that
            // is not in the lists of its own reply.
            None => answers.then(|| self.shown_as.clone()),
        }
    }

    /// A list of members as shown to the client.
    fn list(&self, list: &Element<'a>) -> Vec<u8> {
        let one_address = self.settings.members.is_empty();
        let mut hosts: Vec<Cow<'a, str>> = Vec::new();
        // If one address stands for all members, it is in the list of the replying member.
        if !one_address || list.name == self.listed_in {
            for host in elements(list.value).filter_map(|host| host.text()) {
                if let Some(host) = self.shown(host)
                    && !hosts.contains(&host)
                {
                    hosts.push(host);
                }
            }
        }
        string_array(hosts.iter().map(|host| &**host)).finish()
    }
}

/// The address of the only server that a client sees: `advertise`, or else the one that the client has
/// reached.
pub(crate) fn shown_address(advertise: Option<&str>, local: SocketAddr) -> Cow<'_, str> {
    advertise.map_or_else(
        // A listener on `[::]` sees IPv4 clients as `::ffff:127.0.0.1`.
        || SocketAddr::new(local.ip().to_canonical(), local.port()).to_string().into(),
        Cow::Borrowed,
    )
}

/// Whether the reply is no error.
fn is_ok(reply: &[u8]) -> bool {
    elements(reply).any(|element| element.name == b"ok" && element.truthy())
}

fn lookup<'s>(settings: &'s Settings, host: &str) -> Option<&'s str> {
    let named = |(real, _): &(&String, &String)| same_host(Some(real), Some(host));
    settings.members.iter().find(named).map(|(_, proxy)| proxy.as_str())
}

fn same_host(a: Option<&str>, b: Option<&str>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests;
