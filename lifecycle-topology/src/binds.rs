//! Files and directories of the host that nodes see, and volumes.

use std::path::PathBuf;

use lifecycle_core::topology::Bind;

use crate::decode::At;
use crate::diagnostics::Problems;
use crate::node::Scope;
use crate::paths::expand_home;
use crate::precedence::Layers;

const FORM: &str = "expected `source:/path[:options]`, or only `/path` for a volume without a name";

/// The path inside the node, by which a bind of a more specific level replaces another.
fn target(text: &str) -> &str {
    text.split(':').nth(1).unwrap_or(text)
}

/// The binds and the volumes of a node, each in the order of their paths inside the node.
pub(crate) fn read(
    scope: &Scope<'_>,
    node: &str,
    layers: &Layers<'_>,
    problems: &mut Problems,
) -> (Vec<Bind>, Vec<String>) {
    let mut binds = Vec::new();
    let mut volumes = Vec::new();
    for text in layers.keyed(|level| &level.binds, target) {
        // A path alone asks for a volume without a name.
        match check(text, problems) {
            Some((None, target, _)) => volumes.push(target.to_owned()),
            Some((Some(source), target, options)) => {
                binds.extend(bind(scope, node, text, source, target, options, problems));
            }
            None => {}
        }
    }
    for text in layers.keyed(|level| &level.volumes, target) {
        volumes.extend(check(text, problems).map(|_| text.value.clone()));
    }
    (binds, volumes)
}

/// The source, the target and the options of a bind or volume.
type Parts<'a> = (Option<&'a str>, &'a str, Option<&'a str>);

fn check<'a>(text: &'a At<String>, problems: &mut Problems) -> Option<Parts<'a>> {
    let parts: Vec<&str> = text.split(':').collect();
    let parts = match parts[..] {
        [target] => (None, target, None),
        [source, target] => (Some(source), target, None),
        [source, target, options] => (Some(source), target, Some(options)),
        _ => {
            problems.error(text.span, format!("`{:.80}` has too many parts", text.value), FORM);
            return None;
        }
    };
    if parts.0 == Some("") || !parts.1.starts_with('/') {
        let what = if parts.0 == Some("") { "no source" } else { "no absolute path inside the node" };
        problems.error(text.span, format!("`{:.80}` has {what}", text.value), FORM);
        return None;
    }
    Some(parts)
}

fn bind(
    scope: &Scope<'_>,
    node: &str,
    text: &At<String>,
    source: &str,
    target: &str,
    options: Option<&str>,
    problems: &mut Problems,
) -> Option<Bind> {
    let source = expand_home(&scope.replace_magic(source, node), scope.home());
    let source = source.map_err(|what| problems.error(text.span, what, "")).ok()?;
    let mut bind = Bind { source, target: PathBuf::from(target), read_only: false, options: Vec::new() };
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        match option {
            "ro" => bind.read_only = true,
            "rw" => {}
            "z" | "Z" | "nocopy" | "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                bind.options.push(option.to_owned());
            }
            _ => problems.error(
                text.span,
                format!("the mount option `{option:.80}` is not known"),
                "expected `ro`, for example",
            ),
        }
    }
    Some(bind)
}
