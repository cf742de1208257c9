//! What the macros tell an author who gets something wrong: each message, and the words that it points at.
//!
//! Each `ui/*.rs` must not compile, and what the compiler says must be in the `.stderr` beside it. Messages of the
//! macros' own are always compared. Those in `ui/rustc` are partly the compiler's, whose words change, and are compared
//! only with the compiler that they were written with. `UI=overwrite` writes them anew.
//!
//! The compiler is called without cargo, on the library that this test was built with: its own project would
//! compile all dependencies once more.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// The compiler that `ui/rustc` was written with.
const WRITTEN_WITH: &str = "rustc 1.95.";

#[test]
#[cfg_attr(feature = "spawn", ignore = "run without the feature spawn, whose absence has a message too")]
fn messages_of_the_macros() {
    let mut folders = vec!["tests/ui"];
    let version = Command::new(rustc()).arg("--version").output().expect("the compiler runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if version.starts_with(WRITTEN_WITH) {
        folders.extend(["tests/ui/rustc", "tests/ui/rustc/no_spawn"]);
    } else {
        eprintln!("tests/ui/rustc is skipped: it was written with {WRITTEN_WITH}x, and this is {version}");
    }
    let cases: Vec<PathBuf> = folders.into_iter().flat_map(cases).collect();
    assert!(cases.len() > 10, "tests/ui has lost its files: {cases:?}");

    let library = library();
    let left = Mutex::new(VecDeque::from(cases));
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = { left.lock().unwrap().pop_front() } {
                    if let Err(told) = compare(&case, &library) {
                        wrong.lock().unwrap().push(told);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{}\n`UI=overwrite` writes what the compiler says.", wrong.join("\n"));
}

fn rustc() -> OsString {
    env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// The Rust files of a folder, relative to this crate's.
fn cases(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("the folder is there").map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|ending| ending == "rs")).collect();
    files.sort();
    files
}

/// The library that this test is linked with. There may be others beside it, of other features: cargo knows which it is,
/// and builds nothing if it is asked as it was for this test.
fn library() -> PathBuf {
    let features = [
        ("admission", cfg!(feature = "admission")),
        ("awaitable", cfg!(feature = "awaitable")),
        ("aws-lc-rs", cfg!(feature = "aws-lc-rs")),
        ("dict", cfg!(feature = "dict")),
        ("driver", cfg!(feature = "driver")),
        ("http", cfg!(feature = "http")),
        ("json", cfg!(feature = "json")),
        ("python", cfg!(feature = "python")),
        ("spawn", cfg!(feature = "spawn")),
        ("testing", cfg!(feature = "testing")),
        ("tokio", cfg!(feature = "tokio")),
    ];
    let features: Vec<String> =
        features.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| (*name).to_owned()).collect();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-run", "-p", "vcache", "--test", "ui", "--message-format", "json"]);
    cargo.args(["--features", &features.join(",")]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo sets for a test are reasons for the build scripts of some crates to run again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|set| name.starts_with(set))
        {
            cargo.env_remove(name);
        }
    }
    let built = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(built.status.success(), "cargo does not build what it has built for this test");
    let messages = String::from_utf8(built.stdout).expect("cargo writes UTF-8");
    let mut files = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).expect("each line is a message");
        let is_ours = message["reason"] == "compiler-artifact"
            && message["target"]["name"] == "vcache"
            && message["profile"]["test"] == false;
        let files = message["filenames"].as_array().filter(|_| is_ours)?;
        let files = files.iter().filter_map(|file| file.as_str());
        files.map(PathBuf::from).find(|file| file.extension().is_some_and(|ending| ending == "rmeta"))
    });
    files.next().expect("cargo names the library")
}

/// Whether a file's messages are those beside it; what there is to say if they are not.
fn compare(case: &Path, library: &Path) -> Result<(), String> {
    let compiled = Command::new(rustc())
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--emit",
            "metadata",
            "-o",
            "/dev/null",
            "--color",
            "never",
        ])
        .arg("--extern")
        .arg(format!("vcache={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", library.parent().expect("it is in a folder").display()))
        // The compiler shows lines of the library's source, which it was told relative to the workspace.
        .arg(Path::new("vcache").join(case))
        .current_dir("..")
        .output()
        .expect("the compiler runs");
    if compiled.status.success() {
        return Err(format!("{} compiles, and should not.", case.display()));
    }
    let said = normal(&String::from_utf8_lossy(&compiled.stderr));
    let file = case.with_extension("stderr");
    if env::var("UI").is_ok_and(|wanted| wanted == "overwrite") {
        fs::write(&file, said).expect("the messages are written");
        return Ok(());
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    if said == expected {
        return Ok(());
    }
    Err(format!("{}: expected:\n{expected}\nThe compiler says:\n{said}", case.display()))
}

/// Messages as they are in any checkout, with any version of a dependency, wherever a line of ours or of theirs moves.
fn normal(said: &str) -> String {
    let said = said.replace("vcache/tests/ui/", "tests/ui/").replace("--> vcache/src/", "--> src/");
    let messages = said.split("\n\n").map(str::trim_end).filter(|message| {
        let is_count = message.starts_with("error: aborting due to");
        !message.is_empty()
            && !is_count
            && !message.starts_with("For more information about")
            && !message.starts_with("Some errors have detailed explanations")
    });
    let messages: Vec<String> = messages.map(normal_message).collect();
    messages.join("\n\n") + "\n"
}

fn normal_message(message: &str) -> String {
    let mut is_case = true;
    let lines: Vec<(String, Option<usize>)> = message
        .lines()
        .map(|line| {
            if let Some((gutter, path)) = line.split_once("--> ").or_else(|| line.split_once("::: ")) {
                is_case = path.starts_with("tests/ui/");
                return match is_case {
                    true => (line.to_owned(), None),
                    false => (format!("{gutter}--> {}", place(path)), None),
                };
            }
            let digits = line.trim_start();
            let digits =
                &digits[..digits.len() - digits.trim_start_matches(|each: char| each.is_ascii_digit()).len()];
            let is_source = !digits.is_empty() && line.trim_start()[digits.len()..].starts_with(" |");
            if !is_source {
                return (others(line), None);
            }
            let width = line.len() - line.trim_start().len() + digits.len();
            if is_case {
                return (line.to_owned(), Some(digits.len()));
            }
            (" ".repeat(width) + &line[width..], None)
        })
        .collect();
    // Without the numbers of lines that are not the case's, the gutter may be narrower.
    let gutter = |line: &str| {
        line.find(" |").filter(|at| line[..*at].chars().all(|each| each == ' ' || each.is_ascii_digit()))
    };
    let wide = lines.iter().filter_map(|(line, _)| gutter(line)).max().unwrap_or_default();
    let narrow = lines.iter().filter_map(|(_, width)| *width).max().unwrap_or(wide);
    let spare = " ".repeat(wide.saturating_sub(narrow));
    let lines: Vec<&str> = lines.iter().map(|(line, _)| line.strip_prefix(&spare).unwrap_or(line)).collect();
    lines.join("\n")
}

/// A place in another file than the case: without its line, and without where a dependency lies and which version it is.
fn place(path: &str) -> String {
    let path = path.trim_end_matches(|each: char| each.is_ascii_digit() || each == ':');
    let Some((_, path)) = path.split_once("/registry/src/") else { return path.to_owned() };
    let (_, path) = path.split_once('/').unwrap_or(("", path));
    let (package, path) = path.split_once('/').unwrap_or((path, ""));
    let name = package.rsplit_once('-').map_or(package, |(name, _)| name);
    format!("$CARGO/{name}-$VERSION/{path}")
}

/// `and 12 others` depends on the features and versions of dependencies.
fn others(line: &str) -> String {
    let Some(count) = line.trim_start().strip_prefix("and ").and_then(|rest| rest.strip_suffix(" others"))
    else {
        return line.to_owned();
    };
    line.replace(count, "$N")
}
