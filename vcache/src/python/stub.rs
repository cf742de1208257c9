//! Writes a module's `.pyi`: its docstring, the imports that its annotations need, and its functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Names that an annotation may use without a module, and where they come from.
const KNOWN: [(&str, &str); 9] = [
    ("Any", "typing"),
    ("Collection", "collections.abc"),
    ("Hashable", "collections.abc"),
    ("Iterable", "collections.abc"),
    ("Literal", "typing"),
    ("Mapping", "collections.abc"),
    ("MutableMapping", "collections.abc"),
    ("Sequence", "collections.abc"),
    ("Set", "collections.abc"),
];

/// One of the functions of a hot path.
pub struct Form {
    /// Its name in Python.
    pub name: &'static str,
    /// It is to be awaited.
    pub awaitable: bool,
    /// The lines of its docstring.
    pub docs: &'static [&'static str],
}

/// An entry of a signature.
pub struct Argument {
    /// With its stars; `/` and `*` stand for themselves.
    pub name: &'static str,
    /// `None` for `/` and `*`.
    pub annotation: Option<String>,
    /// As Python writes it.
    pub default: Option<&'static str>,
}

/// A stub while it is written.
pub struct Stub {
    docs: String,
    functions: Vec<Function>,
}

struct Function {
    name: &'static str,
    awaitable: bool,
    arguments: Vec<(String, Option<String>, Option<&'static str>)>,
    output: String,
    docs: String,
}

impl Stub {
    /// A stub of a module with this docstring.
    #[must_use]
    pub fn new(docs: &[&str]) -> Self {
        Self { docs: docstring(docs, ""), functions: Vec::new() }
    }

    /// Adds the functions of one hot path.
    pub fn function(&mut self, forms: &[Form], arguments: &[Argument], output: &str) {
        for form in forms {
            let arguments = arguments
                .iter()
                .map(|argument| (argument.name.to_owned(), argument.annotation.clone(), argument.default))
                .collect();
            self.functions.push(Function {
                name: form.name,
                awaitable: form.awaitable,
                arguments,
                output: output.to_owned(),
                docs: docstring(form.docs, "    "),
            });
        }
    }

    /// The text. `open`: the module has items that are not hot paths, which the stub must not deny.
    #[must_use]
    pub fn finish(self, open: bool) -> String {
        let names: BTreeSet<_> = self.functions.iter().map(|function| function.name).collect();
        let mut imports = Imports::default();
        let mut body = String::new();
        for function in &self.functions {
            let arguments: Vec<_> = function
                .arguments
                .iter()
                .map(|(name, annotation, default)| {
                    let annotation = annotation.as_ref().map(|text| imports.resolve(text, &names));
                    match (annotation, default) {
                        (Some(annotation), Some(default)) => format!("{name}: {annotation} = {default}"),
                        (Some(annotation), None) => format!("{name}: {annotation}"),
                        (None, _) => name.clone(),
                    }
                })
                .collect();
            let output = imports.resolve(&function.output, &names);
            let end = if function.docs.is_empty() { " ...\n" } else { "\n" };
            let def = if function.awaitable { "async def" } else { "def" };
            let _ = write!(body, "\n{def} {}({}) -> {output}:{end}", function.name, arguments.join(", "));
            body.push_str(&function.docs);
        }
        if open {
            let any = imports.resolve("Any", &names);
            body.push_str(
                "\n# The module also has items that are not hot paths. Their types are not known here.\n",
            );
            let _ = writeln!(body, "def __getattr__(name: {}) -> {any}: ...", imports.resolve("str", &names));
        }
        let mut text = self.docs;
        let imports = imports.text();
        if !text.is_empty() && !imports.is_empty() {
            text.push('\n');
        }
        text + &imports + &body
    }
}

/// A docstring in quotes, indented; nothing if there is none.
fn docstring(lines: &[&str], indent: &str) -> String {
    // A line of `///` begins with the space that its author put behind it.
    let text: Vec<_> = lines
        .iter()
        .flat_map(|doc| doc.split('\n'))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    let text = text.join("\n");
    let text = text.trim().replace('\\', "\\\\").replace("\"\"\"", "\\\"\\\"\\\"");
    if text.is_empty() {
        return String::new();
    }
    let text = if text.ends_with('"') { format!("{}\\\"", &text[..text.len() - 1]) } else { text };
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let mut quoted = format!("{indent}\"\"\"{first}");
    if text.contains('\n') {
        for line in rest.split('\n') {
            quoted.push('\n');
            if !line.is_empty() {
                quoted.push_str(indent);
                quoted.push_str(line);
            }
        }
        quoted.push('\n');
        quoted.push_str(indent);
    }
    quoted.push_str("\"\"\"\n");
    quoted
}

/// What the annotations of a stub need to be imported.
#[derive(Default)]
struct Imports {
    modules: BTreeSet<String>,
    names: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Imports {
    /// Notes the names in an annotation, and returns it so that none of them means a function of the module: a hot path
    /// may well be called `set`.
    fn resolve(&mut self, annotation: &str, functions: &BTreeSet<&str>) -> String {
        let mut resolved = String::with_capacity(annotation.len());
        let mut rest = annotation;
        while let Some(next) = rest.chars().next() {
            let end = if next == '"' || next == '\'' {
                rest[1..].find(next).map_or(rest.len(), |at| at + 2)
            } else if next.is_alphabetic() || next == '_' {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len())
            } else {
                next.len_utf8()
            };
            let (part, behind) = rest.split_at(end);
            resolved.push_str(&self.name(part, functions));
            rest = behind;
        }
        resolved
    }

    fn name(&mut self, name: &str, functions: &BTreeSet<&str>) -> String {
        if name.starts_with(['"', '\'']) {
            return name.to_owned();
        }
        if let Some((before_last, _)) = name.rsplit_once('.') {
            let parts: Vec<_> = name.split('.').collect();
            let class = parts.iter().position(|part| part.starts_with(char::is_uppercase));
            let module = class.map_or_else(|| before_last.to_owned(), |class| parts[..class].join("."));
            self.modules.insert(module);
            return name.to_owned();
        }
        match KNOWN.iter().find(|(known, _)| *known == name) {
            Some((known, module)) if functions.contains(known) => {
                self.modules.insert((*module).to_owned());
                format!("{module}.{known}")
            }
            Some((known, module)) => {
                self.names.entry(module).or_default().insert(known);
                name.to_owned()
            }
            None if functions.contains(name) => {
                self.modules.insert("builtins".to_owned());
                format!("builtins.{name}")
            }
            None => name.to_owned(),
        }
    }

    fn text(&self) -> String {
        let modules = self.modules.iter().filter(|module| !module.is_empty());
        let mut text: String = modules.map(|module| format!("import {module}\n")).collect();
        for (module, names) in &self.names {
            let names: Vec<_> = names.iter().copied().collect();
            let _ = writeln!(text, "from {module} import {}", names.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(name: &'static str, annotation: &str, default: Option<&'static str>) -> Argument {
        Argument { name, annotation: Some(annotation.to_owned()), default }
    }

    #[test]
    fn a_stub_has_what_its_annotations_need() {
        let mut stub = Stub::new(&[" A shop."]);
        let forms = [
            Form { name: "spend", awaitable: false, docs: &[" Spend it.", "", " Twice."] },
            Form { name: "aspend", awaitable: true, docs: &[] },
        ];
        let arguments = [
            argument("project", "Sequence[int]", None),
            Argument { name: "*", annotation: None, default: None },
            argument("cost", "decimal.Decimal | None", Some("None")),
        ];
        stub.function(&forms, &arguments, "shop.models.Order.Line");
        assert_eq!(
            stub.finish(false),
            r#""""A shop."""

import decimal
import shop.models
from collections.abc import Sequence

def spend(project: Sequence[int], *, cost: decimal.Decimal | None = None) -> shop.models.Order.Line:
    """Spend it.

    Twice.
    """

async def aspend(project: Sequence[int], *, cost: decimal.Decimal | None = None) -> shop.models.Order.Line: ...
"#
        );
    }

    #[test]
    fn a_function_does_not_hide_the_type_it_is_called_after() {
        let mut stub = Stub::new(&[]);
        let forms = [Form { name: "set", awaitable: false, docs: &[r#" Says "so"."#] }];
        stub.function(&forms, &[argument("key", "set[str] | Literal['set']", None)], "None");
        let text = stub.finish(true);
        assert!(text.contains("import builtins\nfrom typing import Any, Literal\n"), "{text}");
        assert!(text.contains("def set(key: builtins.set[str] | Literal['set']) -> None:\n"), "{text}");
        assert!(text.contains(r#"    """Says "so".""""#), "{text}");
        assert!(text.ends_with("def __getattr__(name: str) -> Any: ...\n"), "{text}");
    }

    #[test]
    fn quotes_and_backslashes_stay_what_they_are() {
        assert_eq!(docstring(&[r#" a \ """ "b""#], ""), "\"\"\"a \\\\ \\\"\\\"\\\" \"b\\\"\"\"\"\n");
    }
}
