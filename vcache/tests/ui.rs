//! What the macros tell an author who gets something wrong: each message, and the words that it points at.
//!
//! Messages of the macros' own are always compared. Those in `ui/rustc` are partly the compiler's, whose words change,
//! and are compared only with the compiler that they were written with. `TRYBUILD=overwrite` writes them anew.

use std::process::Command;

/// The compiler that `ui/rustc` was written with.
const WRITTEN_WITH: &str = "rustc 1.95.";

#[test]
#[cfg_attr(feature = "spawn", ignore = "run without the feature spawn, whose absence has a message too")]
fn messages_of_the_macros() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("the compiler runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if version.starts_with(WRITTEN_WITH) {
        cases.compile_fail("tests/ui/rustc/*.rs");
        cases.compile_fail("tests/ui/rustc/no_spawn/*.rs");
    } else {
        eprintln!("tests/ui/rustc is skipped: it was written with {WRITTEN_WITH}x, and this is {version}");
    }
}
