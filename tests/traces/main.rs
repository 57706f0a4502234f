//! Traces, as a collector gets them: across protocols, of attempts, and without a collector.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod attempts;
mod collector;
mod encrypted;
mod exemplars;
mod losses;
mod one_trace;
