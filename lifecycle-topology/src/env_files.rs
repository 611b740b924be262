//! Files of environment variables, `NAME=value` in each line.

use std::collections::BTreeMap;
use std::fs;

use crate::decode::At;
use crate::diagnostics::Problems;
use crate::node::Scope;
use crate::paths::{expand_home, permitted};
use crate::read_text;

/// The variables of all files, later ones over earlier ones.
pub(crate) fn read(scope: &Scope<'_>, files: &[&At<String>], problems: &mut Problems) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for file in files {
        let path = expand_home(file, scope.home()).map_err(str::to_owned).and_then(|path| {
            // Read now, so that nothing of a foreign file ends up in a node before anybody checks its paths.
            permitted(&path, scope.directory, &scope.options.permissions, &|path| fs::canonicalize(path))
        });
        match path.and_then(|path| read_text(&path).map_err(|error| error.to_string())) {
            Ok(text) => variables.extend(parse(&text)),
            Err(what) => problems.error(file.span, what, ""),
        }
    }
    variables
}

fn parse(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|value: &str| value.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        Some((name.trim().to_owned(), value.to_owned())).filter(|(name, _)| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "# comment\nA=1\n export B = 'two words' \n\nC=\"x=y\"\nnothing\n=empty\nD=\n";
        let expected = [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")];
        assert_eq!(parse(text).collect::<Vec<_>>(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
