//! Keeps secrets out of what people and programs are shown: logs, the audit trail, the feed, errors and answers.
//!
//! What a user wants has to be kept whole, since nodes are made from it again and again: the store holds it, and
//! providers are given it. Everything else is given [`Topology::redacted`], or text that went through
//! [`Secrets::mask`]. The debug output of a [`NodeSpec`] is redacted always.

use std::fmt;

use serde_json::Value;

use crate::plugin::provider::ExecRequest;
use crate::topology::{NodeSpec, Topology};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Parts of the name of a variable that say that its value is a secret.
const TELLING: [&str; 9] =
    ["PASS", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "APIKEY", "API_KEY", "ACCESS_KEY", "AUTH"];
/// Shorter values are not looked for in texts: they would be found everywhere.
const SHORTEST: usize = 4;
/// The field of a lab file with the name and password by which a node is entered.
const CREDENTIALS: &str = "credentials";

/// The secrets of a node, to be looked for in texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.len()).finish()
    }
}

impl Secrets {
    /// The secrets of a node: the values of variables whose names say so, and the password of its credentials.
    pub fn of(spec: &NodeSpec) -> Self {
        let is_telling = |name: &str| {
            let name = name.to_ascii_uppercase();
            TELLING.iter().any(|part| name.contains(part))
        };
        let variables = spec.env.iter().filter(|(name, _)| is_telling(name)).map(|(_, value)| value.clone());
        let password = spec.extra.get(CREDENTIALS).and_then(|it| it.get("password")).and_then(Value::as_str);
        let mut all: Vec<String> =
            variables.chain(password.map(str::to_owned)).filter(|secret| secret.len() >= SHORTEST).collect();
        // One that contains another is hidden whole.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        Self(all)
    }

    /// Whether a text has one of them.
    pub fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret.as_str()))
    }

    /// The text with every secret hidden.
    pub fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }
}

impl NodeSpec {
    /// The same node without what may be secret: the values of its variables, its credentials, a configuration that is
    /// given as text, and its secrets where its commands have them.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let (mut shown, secrets) = (self.clone(), Secrets::of(self));
        let commands = [shown.entrypoint.as_mut(), shown.cmd.as_mut(), Some(&mut shown.exec)];
        let check = shown.healthcheck.as_mut().map(|check| &mut check.test);
        let of_stages = shown.stage_commands.iter_mut().map(|command| &mut command.argv);
        for word in commands.into_iter().chain([check]).flatten().chain(of_stages).flatten() {
            *word = secrets.mask(word);
        }
        shown.env.values_mut().for_each(|value| HIDDEN.clone_into(value));
        if let Some(Value::Object(fields)) = shown.extra.get_mut(CREDENTIALS) {
            fields.values_mut().for_each(|value| *value = HIDDEN.into());
        }
        if let Some(text) = shown.startup_config.as_mut().filter(|text| text.contains('\n')) {
            HIDDEN.clone_into(text);
        }
        shown
    }
}

impl Topology {
    /// The same lab without what may be secret, for showing. It is not for applying again.
    #[must_use]
    pub fn redacted(&self) -> Self {
        Self { nodes: self.nodes.iter().map(NodeSpec::redacted).collect(), ..self.clone() }
    }
}

impl fmt::Debug for NodeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self.redacted()) {
            Ok(value) => write!(f, "NodeSpec {value}"),
            Err(_) => write!(f, "NodeSpec {}", self.name),
        }
    }
}

impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { argv, env, user, timeout } = self;
        let names: Vec<&String> = env.keys().collect();
        let mut shown = f.debug_struct("ExecRequest");
        shown.field("argv", argv).field("env", &names).field("user", user).field("timeout", timeout).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{LabName, NodeName};

    fn spec() -> NodeSpec {
        let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
        let env = [("API_TOKEN", "tok-123456"), ("Db_Password", "tok-1"), ("PIN_SECRET", "12"), ("MODE", "running")];
        spec.env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let credentials = serde_json::json!({ "username": "admin", "password": "hunter22" });
        spec.extra.insert(CREDENTIALS.to_owned(), credentials);
        spec.exec = vec!["login hunter22".to_owned()];
        spec.cmd = Some(vec!["serve".to_owned(), "--token=tok-123456".to_owned()]);
        spec.startup_config = Some("username admin\npassword hunter33".to_owned());
        spec
    }

    #[test]
    fn what_is_shown_of_a_node_has_none_of_its_values() {
        let spec = spec();
        let mut topology = Topology::new(LabName::new("lab").unwrap(), "/");
        topology.nodes.push(spec.clone());
        let shown = [
            format!("{spec:?}"),
            format!("{topology:?}"),
            serde_json::to_string(&topology.redacted()).unwrap(),
            format!("{:?}", ExecRequest { env: spec.env.clone(), ..ExecRequest::new(["env"]) }),
        ];
        for text in shown {
            for secret in ["tok-1", "hunter", "admin"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
            assert!(text.contains("API_TOKEN") || text.contains("r1"), "{text}");
        }
        // What is kept and handed to providers is whole.
        let kept: NodeSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(kept, spec);
    }

    #[test]
    fn secrets_are_hidden_in_texts_and_all_else_is_left() {
        let secrets = Secrets::of(&spec());
        let text = "logged in with tok-123456 and hunter22, then tok-1; 12 nodes are running";
        assert!(secrets.are_in(text));
        assert_eq!(secrets.mask(text), "logged in with *** and ***, then ***; 12 nodes are running");
        assert!(!secrets.are_in("12 nodes are running"));
        assert!(!format!("{secrets:?}").contains("tok"));
    }
}
