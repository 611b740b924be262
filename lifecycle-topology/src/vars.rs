//! The variables of a template: files that are merged, later ones over earlier ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gotmpl::Value;
use serde_json::{Map, Value as Json};

use crate::diagnostics::Problems;
use crate::source::Source;
use crate::{LoadError, read_text, yaml};

/// Reads variables from `files`, or from those beside the lab file when none are given: `lab.clab_vars.yml` belongs to
/// `lab.clab.yml` and to `lab.clab.gotmpl`.
pub(crate) fn read(lab: &Path, files: &[PathBuf]) -> Result<Value, LoadError> {
    let beside = if files.is_empty() { beside(lab) } else { Vec::new() };
    let mut vars = Map::new();
    for file in files.iter().chain(&beside) {
        merge(&mut vars, read_file(file)?);
    }
    Ok(value(Json::Object(vars)))
}

fn beside(lab: &Path) -> Vec<PathBuf> {
    let stem = lab.file_stem().unwrap_or_default().to_string_lossy();
    let candidates = ["json", "yaml", "yml"].map(|extension| lab.with_file_name(format!("{stem}_vars.{extension}")));
    candidates.into_iter().filter(|path| path.is_file()).collect()
}

fn read_file(path: &Path) -> Result<Map<String, Json>, LoadError> {
    let text = read_text(path)?;
    let mut problems = Problems::new(Source::new(path.to_string_lossy(), text.as_str()));
    // JSON is read by the same reader, since YAML contains it.
    let node = yaml::parse(&text, &mut problems);
    if let Some(node) = &node
        && !matches!(node.value, yaml::Value::Mapping(_) | yaml::Value::Null)
    {
        problems.error(node.span, "expected a mapping of variables", "");
    }
    if problems.has_errors() {
        return Err(LoadError::Invalid(problems.into_report()));
    }
    Ok(match node.map(|node| node.to_json()) {
        Some(Json::Object(vars)) => vars,
        _ => Map::new(),
    })
}

fn merge(vars: &mut Map<String, Json>, more: Map<String, Json>) {
    for (key, value) in more {
        match (vars.get_mut(&key), value) {
            (Some(Json::Object(vars)), Json::Object(more)) => merge(vars, more),
            (_, value) => {
                vars.insert(key, value);
            }
        }
    }
}

fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Int)
        }
        Json::String(text) => Value::from(text),
        Json::Array(items) => Value::from(items.into_iter().map(value).collect::<Vec<_>>()),
        Json::Object(entries) => {
            let entries: BTreeMap<Arc<str>, Value> =
                entries.into_iter().map(|(key, json)| (key.into(), value(json))).collect();
            Value::from(entries)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_merge_deeply_and_later_ones_win() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let lab = directory.path().join("x.clab.gotmpl");
        assert_eq!(read(&lab, &[]).unwrap().to_string(), "map[]");
        let a = write("a.yml", "s: {num: 1, name: a}\nlist: [1, 2]\n");
        let b = write("b.json", "{\"s\": {\"num\": 2}, \"list\": [3], \"on\": true}");
        assert_eq!(read(&lab, &[a, b]).unwrap().to_string(), "map[list:[3] on:true s:map[name:a num:2]]");
        write("x.clab_vars.yaml", "from: yaml\nonly: yaml");
        write("x.clab_vars.yml", "from: yml");
        write("x_vars.yml", "from: elsewhere");
        assert_eq!(read(&lab, &[]).unwrap().to_string(), "map[from:yml only:yaml]");
        let list = write("list.yml", "- a\n");
        let error = read(&lab, &[list]).unwrap_err().to_string();
        assert!(error.contains("expected a mapping of variables"), "{error}");
        assert!(matches!(read(&lab, &[directory.path().join("none.yml")]), Err(LoadError::Read { .. })));
    }
}
