//! Whether a request may change data, as far as its front tells. What can't be read may.

use crate::{
    commands::{self, Effect},
    element::{Element, complete, elements, kind},
    header::opcode,
    message::Message,
};

/// Whether a request may change data. Judged as if the server took every liberty: of a field that
/// is there twice each one counts, and what is not all here may hold anything.
pub(crate) fn writes(message: &Message<'_>) -> bool {
    match message.header.opcode {
        opcode::MSG => message.body.is_empty() || !message.mapped || command(message, message.body),
        opcode::QUERY if message.legacy_command() => command(message, message.body),
        // `$cmd.sys.killop` and its like were commands, once.
        opcode::QUERY => {
            message.namespace.is_empty() || message.namespace.windows(5).any(|w| w == b".$cmd")
        }
        opcode::GET_MORE | opcode::KILL_CURSORS => false,
        _ => true,
    }
}

fn command(message: &Message<'_>, body: &[u8]) -> bool {
    let Some(first) = elements(body).next() else { return true };
    // Fields that came as sequences are the server's to put in their places, if it does.
    let known = || !message.apart && complete(body);
    match commands::find(first.name).effect {
        Effect::Reads => false,
        Effect::Writes => true,
        Effect::Stages => !known() || all(body, b"pipeline").any(|pipeline| stores(&pipeline)),
        Effect::Output => {
            !known()
                || all(body, b"out").next().is_none()
                || all(body, b"out").any(|out| !inline(&out))
        }
        Effect::Explains => first.kind != kind::DOCUMENT || explains(message, first.value),
    }
}

/// Whether what is explained writes. Nobody explains an explanation.
fn explains(message: &Message<'_>, inner: &[u8]) -> bool {
    let twice = |first: Element<'_>| commands::find(first.name).effect == Effect::Explains;
    elements(inner).next().is_none_or(twice) || command(message, inner)
}

fn all<'b>(body: &'b [u8], name: &'static [u8]) -> impl Iterator<Item = Element<'b>> {
    elements(body).filter(move |field| field.name == name)
}

/// Whether a stage of a pipeline stores what comes out of those before it, or can't be read.
fn stores(pipeline: &Element<'_>) -> bool {
    let storing = |operator: Element<'_>| matches!(operator.name, b"$out" | b"$merge");
    let stored = |stage: Element<'_>| {
        stage.kind != kind::DOCUMENT || !complete(stage.value) || elements(stage.value).any(storing)
    };
    pipeline.kind != kind::ARRAY
        || !complete(pipeline.value)
        || elements(pipeline.value).any(stored)
}

/// Whether the results of a `mapReduce` come back and go nowhere else: `{inline: 1}`.
fn inline(out: &Element<'_>) -> bool {
    out.kind == kind::DOCUMENT
        && complete(out.value)
        && elements(out.value).all(|option| option.name == b"inline")
        && elements(out.value).next().is_some()
}

#[cfg(test)]
mod tests;
