//! Values that configs write as text: durations, sizes, rates, numbers and names, with errors for
//! users.
//!
//! The proxy's own keys and the settings of protocols and policies are made of these types. This
//! crate may not know any key, protocol or policy.
//!
//! - [`diagnostic`](Diagnostic): an error with its path, position and hint
//! - [`text`](Text): values read from text, and `off`
//! - `duration`, `number`, `amount`, `name`, `address`, `target`, `keyword`: the kinds of values
//! - `list`, `map`: one or more values, maps with names of the user's choice
//! - [`spanned`], `span`: values with their position in the file
//! - [`node`](Node): a file as a tree, before its values are read
//! - `show`: values written as in a config
//! - `files`: config files and logs that are not regular files; `files_read` records which are read
//! - `source`: an object of a config as written, with the files that it names
//! - `error_chain`: an error of a library with its causes
//! - `secret`: hides passwords in texts

mod address;
mod amount;
mod diagnostic;
mod duration;
mod error_chain;
mod files;
mod files_read;
mod glob;
mod keyword;
mod list;
mod map;
mod name;
mod node;
mod number;
mod secret;
mod show;
mod source;
mod span;
pub mod spanned;
mod target;
mod text;

use address::split_host_port;
pub use amount::{Rate, Size};
pub use diagnostic::{Diagnostic, Location, to_serde_error};
use duration::UNITS;
pub use duration::{AtLeast, duration_text};
pub use error_chain::error_chain;
pub use files::{
    irregular_file, irregular_log, open_regular, read_at_most, read_regular, read_secret,
    read_text, wrong_secret_file,
};
pub use files_read::{FilesRead, recording};
pub use glob::glob_matches;
pub use keyword::{Keyword, did_you_mean, keyword_schema, nearest, parse_keyword};
pub use list::{ONE_OR_MORE, OneOrMore};
pub use map::{MapOrOff, NamedMap, OR_OFF};
use name::NAME_PATTERN;
pub use name::{NAME_HINT, Name, Zone, is_name};
pub use node::{Node, Value};
pub use number::{Count, Factor, InRange, Limit, Percent, Share, Workers, is_digits, octal};
pub use secret::{HIDDEN, hide, secrets};
pub use show::{Show, shown, shown_or_off, shown_size};
pub use source::ObjectSource;
pub use span::{Span, text_lines};
pub use target::{HostName, HostPort, SrvTarget, Target, host_port, is_host_name};
pub use text::{FromText, OrOff, Text};

#[cfg(test)]
mod tests;
