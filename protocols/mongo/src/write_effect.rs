//! Whether a request may change data, judged by the bytes that are here.

use crate::{
    commands::{self, WriteEffect},
    element::{Element, elements, is_complete, kind},
    header::opcode,
    message_view::MessageView,
    parsed_command::is_pseudo_command,
    pipeline,
};

/// Whether a request may change data; `None` if the bytes that are here do not show it. Of a field
/// that occurs twice each one counts.
pub(crate) fn writes(message: &MessageView<'_>) -> Option<bool> {
    match message.header.opcode {
        // Servers differ in which duplicate they use.
        opcode::MSG if message.has_duplicate_section || message.has_unknown_section => Some(true),
        opcode::MSG => command_writes(message, message.body),
        opcode::QUERY if message.legacy_command() => command_writes(message, message.body),
        opcode::QUERY => Some(is_pseudo_command(message.namespace)),
        opcode::GET_MORE | opcode::KILL_CURSORS => Some(false),
        _ => Some(true),
    }
}

fn command_writes(message: &MessageView<'_>, body: &[u8]) -> Option<bool> {
    let first = elements(body).next()?;
    // A field may also be sent as a sequence.
    let known = || !message.has_sequences && message.complete && is_complete(body);
    match commands::find(first.name).write_effect {
        WriteEffect::Reads => Some(false),
        WriteEffect::Writes => Some(true),
        WriteEffect::ByPipeline => {
            let stored: Vec<_> = fields_named(body, b"pipeline")
                .map(|pipeline| pipeline_writes(&pipeline))
                .collect();
            match () {
                () if stored.contains(&Some(true)) => Some(true),
                () if known() && !stored.contains(&None) => Some(false),
                () => None,
            }
        }
        WriteEffect::ByOutput => {
            let mut outs = fields_named(body, b"out").peekable();
            match outs.peek() {
                _ if !known() => None,
                None => Some(true),
                Some(_) => Some(outs.any(|out| !is_inline(&out))),
            }
        }
        WriteEffect::ByExplained if first.kind != kind::DOCUMENT => Some(true),
        WriteEffect::ByExplained => explained_writes(message, first.value),
    }
}

/// Whether the explained command writes. `explain` of `explain` is not accepted by servers.
fn explained_writes(message: &MessageView<'_>, inner: &[u8]) -> Option<bool> {
    let first = elements(inner).next()?;
    if commands::find(first.name).write_effect == WriteEffect::ByExplained {
        return Some(true);
    }
    command_writes(message, inner)
}

fn fields_named<'b>(body: &'b [u8], name: &'static [u8]) -> impl Iterator<Item = Element<'b>> {
    elements(body).filter(move |field| field.name == name)
}

/// Whether a pipeline, or one inside it, writes its results to a collection; `None` if it cannot be
/// read to its end.
fn pipeline_writes(pipeline: &Element<'_>) -> Option<bool> {
    let mut stores = false;
    let whole = pipeline::each_operator(pipeline, &mut |operator| {
        stores |= matches!(operator.name, b"$out" | b"$merge");
    });
    (stores || whole).then_some(stores)
}

/// Whether a `mapReduce` only returns its results: `{inline: 1}`.
fn is_inline(out: &Element<'_>) -> bool {
    out.kind == kind::DOCUMENT
        && is_complete(out.value)
        && elements(out.value).all(|option| option.name == b"inline")
        && elements(out.value).next().is_some()
}

#[cfg(test)]
mod tests;
