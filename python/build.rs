//! Puts the source of the crates `vcache` and `hotpath-macros` into the wheel, as a workspace that builds by itself: a
//! crate of hot paths that `python -m django_vcache new` starts is compiled with it. pyproject.toml says where in the
//! package the folder goes.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The folder in OUT_DIR.
const FOLDER: &str = "rust";
/// The crates; of each its manifest and its folder `src`.
const CRATES: [&str; 2] = ["vcache", "hotpath-macros"];
/// What else is copied as it is: the versions that these crates are tested with, and the terms.
const FILES: [&str; 2] = ["Cargo.lock", "LICENSE"];
/// `cargo fmt --all` formats what a crate depends on by path, and would change the copy.
const RUSTFMT: &str = "disable_all_formatting = true\n";

fn main() -> io::Result<()> {
    let checkout = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let folder = PathBuf::from(variable("OUT_DIR")).join(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut copy = Copy { checkout, folder, paths: Vec::new() };

    copy.file("Cargo.toml", workspace)?;
    for path in FILES {
        copy.file(path, str::to_owned)?;
    }
    for name in CRATES {
        copy.file(&format!("{name}/Cargo.toml"), without_tests)?;
        copy.tree(&format!("{name}/src"))?;
    }
    copy.made("rustfmt.toml", RUSTFMT)?;
    copy.list()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("cargo sets {name} for a build script: {error}"))
}

struct Copy {
    checkout: PathBuf,
    folder: PathBuf,
    /// What was copied, from the checkout's root.
    paths: Vec<String>,
}

impl Copy {
    fn file(&mut self, path: &str, change: fn(&str) -> String) -> io::Result<()> {
        let source = self.checkout.join(path);
        println!("cargo::rerun-if-changed={}", source.display());
        let text = fs::read_to_string(&source)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
        self.made(path, &change(&text))
    }

    fn made(&mut self, path: &str, text: &str) -> io::Result<()> {
        self.paths.push(path.to_owned());
        self.write(path, text)
    }

    fn tree(&mut self, path: &str) -> io::Result<()> {
        // A file that is added or removed is a change of its folder.
        println!("cargo::rerun-if-changed={}", self.checkout.join(path).display());
        let entries: Vec<_> = fs::read_dir(self.checkout.join(path))?.collect::<io::Result<_>>()?;
        for entry in entries {
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.tree(&path)?;
            } else {
                self.file(&path, str::to_owned)?;
            }
        }
        Ok(())
    }

    /// Writes the names of all files. An editable install does not remove what an earlier one left behind.
    fn list(&mut self) -> io::Result<()> {
        self.paths.sort();
        self.write("FILES", &(self.paths.join("\n") + "\n"))
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let target = self.folder.join(path);
        fs::create_dir_all(target.parent().unwrap_or(Path::new("")))?;
        fs::write(target, text)
    }
}

/// The manifest of the workspace: what the crates inherit from it.
fn workspace(manifest: &str) -> String {
    let inherited =
        sections(manifest, |header| ["[workspace.package]", "[workspace.dependencies]"].contains(&header));
    let members = CRATES.map(|name| format!("{name:?}")).join(", ");
    // The warnings of a newer compiler are for those who can mend them.
    format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{members}]\n\n{inherited}[workspace.lints.rust]\nwarnings = \"allow\"\n"
    )
}

/// The manifest of a crate whose tests stay behind.
fn without_tests(manifest: &str) -> String {
    sections(manifest, |header| !["[[test]]", "[dev-dependencies]"].contains(&header))
}

/// The sections of a manifest whose headers are wanted.
fn sections(manifest: &str, is_wanted: fn(&str) -> bool) -> String {
    let mut wanted = is_wanted("");
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            wanted = is_wanted(line.trim_end());
        }
        if wanted {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
