//! The command line: what was asked for, and the exit code.

fn main() -> std::process::ExitCode {
    tollgate::cli::main()
}
