//! The config: what people write, what runs, and the way from one to the other.

pub mod plan;
