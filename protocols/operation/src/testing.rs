//! The conformance suite that every codec runs with its fixtures.
