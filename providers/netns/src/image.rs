//! What stands in for images: nodes here are no containers, so each image that a lab names is given the host's file
//! system, a directory or a tarball, and a command.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lifecycle_core::ErrorKind;
use lifecycle_core::topology::NodeSpec;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::settings::Settings;

/// One line of the table of stand-ins.
///
/// ```
/// # use lifecycle_provider_netns::{StandIn, StandInRoot};
/// let line = r#"{ "image": "quay.io/frrouting/frr:*", "root": { "directory": "/srv/frr" }, "cmd": ["/usr/lib/frr/start"] }"#;
/// let stand_in: StandIn = serde_json::from_str(line)?;
/// assert_eq!(stand_in.root, StandInRoot::Directory("/srv/frr".into()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandIn {
    /// Images that it stands for: `*` is any text, `?` any character.
    pub image: String,
    /// What the node's root directory is made of.
    #[serde(default)]
    pub root: StandInRoot,
    /// Program that runs before the command and is given it.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Command of nodes that give none; a node with neither only is there.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Variables that the node gets besides its own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What runs on the console of a node without a command; the user's shell when absent.
    #[serde(default)]
    pub console: Vec<String>,
    /// Whether the command runs on the node's console, as containers of network labs do. Otherwise it reads nothing, and
    /// its output and its errors are told apart in the log.
    #[serde(default = "yes")]
    pub terminal: bool,
    /// Whether its nodes keep all rights over the host that root has, as some programs ask for: routing daemons want
    /// `CAP_SYS_ADMIN`. Means nothing for an ordinary user's.
    #[serde(default)]
    pub privileged: bool,
}

const fn yes() -> bool {
    true
}

/// What a node's root directory is made of. The node sees it through a private view: what it writes stays its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandInRoot {
    /// The host's root directory.
    #[default]
    Host,
    /// This directory.
    Directory(PathBuf),
    /// This file, unpacked once; `.tar`, or `.tar.gz`.
    Tarball(PathBuf),
}

impl StandIn {
    /// The host's file system for images that fit `image`, and nothing to run.
    pub fn host(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            root: StandInRoot::Host,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: BTreeMap::new(),
            console: Vec::new(),
            terminal: true,
            privileged: false,
        }
    }
}

/// Finds what stands in for a node's image. A node of kind `linux` without an image gets the host's file system.
pub(crate) fn resolve(settings: &Settings, spec: &NodeSpec) -> Result<StandIn, Failure> {
    let unavailable = |text: String| Err(Failure::new(ErrorKind::ImageUnavailable, text));
    let Some(image) = &spec.image else {
        return match spec.kind.as_str() {
            "linux" => Ok(StandIn::host("")),
            kind => unavailable(format!("the node names no image, and kind `{kind}` has no default; give it one")),
        };
    };
    if let Some(found) = settings.images.iter().find(|line| fits(&line.image, image)) {
        return Ok(found.clone());
    }
    let place = settings.images_file.as_ref().map_or_else(
        || "`images` in the settings of the provider `netns`".to_owned(),
        |file| format!("`images` in {}", file.display()),
    );
    unavailable(format!(
        "nothing stands in for image `{image}`, and this provider runs no container images; add a line to {place}, such \
         as: - {{ image: \"{image}\", root: host }}"
    ))
}

/// What a node runs: as in a container, an entrypoint of its own does away with the stand-in's command.
pub(crate) fn command(stand_in: &StandIn, spec: &NodeSpec) -> Vec<String> {
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&stand_in.entrypoint);
    let default = if spec.entrypoint.is_some() { &[][..] } else { &stand_in.cmd[..] };
    let command = spec.cmd.as_deref().unwrap_or(default);
    entrypoint.iter().chain(command).cloned().collect()
}

/// Whether `text` fits `pattern`.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the text after the latest `*` does not fit: with one character more for the star.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match retry {
                Some((star, start)) => {
                    (p, t) = (star + 1, start + 1);
                    retry = Some((star, start + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifecycle_core::name::NodeName;

    fn spec(image: Option<&str>) -> NodeSpec {
        let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
        spec.image = image.map(Into::into);
        spec
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("alpine:3", "alpine:3", true),
            ("alpine:3", "alpine:30", false),
            ("alpine*", "alpine", true),
            ("*frr*:10.?", "quay.io/frrouting/frr:10.5", true),
            ("*frr*:10.?", "quay.io/frrouting/frr:10.15", false),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let directory = StandIn { root: StandInRoot::Directory("/srv/a".into()), ..StandIn::host("alpine:3") };
        let settings = Settings { images: vec![directory.clone(), StandIn::host("alpine*")], ..Settings::default() };
        assert_eq!(resolve(&settings, &spec(Some("alpine:3"))).unwrap(), directory);
        assert_eq!(resolve(&settings, &spec(Some("alpine:edge"))).unwrap(), StandIn::host("alpine*"));
        assert_eq!(resolve(&settings, &spec(None)).unwrap().root, StandInRoot::Host);
    }

    #[test]
    fn an_image_without_a_stand_in_says_how_to_give_one() {
        let settings = Settings { images_file: Some("/etc/lifecycle/config.yaml".into()), ..Settings::default() };
        let failure = resolve(&settings, &spec(Some("ceos:4.32"))).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::ImageUnavailable);
        for part in ["ceos:4.32", "/etc/lifecycle/config.yaml", "- { image: \"ceos:4.32\", root: host }"] {
            assert!(failure.message.contains(part), "{failure}");
        }
        let mut frr = spec(None);
        frr.kind = "frr".into();
        assert!(resolve(&settings, &frr).unwrap_err().message.contains("`frr`"));
    }

    #[test]
    fn commands_are_put_together_as_in_a_container() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let stand_in = StandIn { entrypoint: words("/entry"), cmd: words("default"), ..StandIn::host("x") };
        let mut spec = spec(Some("x"));
        assert_eq!(command(&stand_in, &spec), words("/entry default"));
        spec.cmd = Some(words("own words"));
        assert_eq!(command(&stand_in, &spec), words("/entry own words"));
        spec.entrypoint = Some(words("/mine"));
        assert_eq!(command(&stand_in, &spec), words("/mine own words"));
        spec.cmd = None;
        assert_eq!(command(&stand_in, &spec), words("/mine"));
    }
}
