//! Services that every layer of a long-running process needs: logs that are written by threads of
//! their own, and panics that are caught, counted and logged.
//!
//! It knows neither operations nor configuration.
//!
//! - [`log_file`]: a log file or a standard stream, written by its own thread, bounded.
//! - [`panics`]: catches panics, counts them, and logs each as one line.

pub mod log_file;
pub mod panics;
