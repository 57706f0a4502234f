//! Paths: which are refused, and what a prefix of one is.

/// Why a path is refused.
pub fn path_fault(_path: &str) -> Option<&'static str> {
    None
}
