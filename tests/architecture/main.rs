//! What reviews would otherwise have to watch: layers, sizes of files, names of types, and the English of comments.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is all test, helpers too")]

mod circles;
mod config_keys;
mod files;
mod layers;
mod policies;
mod prose;
mod public;
mod vocabulary;
mod walk;
