//! Reads the configuration of running nodes.

use std::fmt;
use std::time::Duration;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::plugin::provider::{ExecOutput, ExecRequest};
use lifecycle_core::plugin::vendor::SaveMethod;
use lifecycle_core::policy::extract;

use super::controller::Controller;
use super::host::{said, succeeded};

/// The configuration of a node. Its debug output does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedConfig {
    /// Name of the file that its kind keeps it in.
    pub file: String,
    /// The configuration.
    pub text: String,
}

impl fmt::Debug for SavedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedConfig").field("file", &self.file).field("bytes", &self.text.len()).finish()
    }
}

impl Controller {
    /// Reads the configuration of a running node by the means of its kind. Nothing is kept.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the kind has no means, or the provider lacks it; [`ErrorKind::Exhausted`] when
    /// there is more than the kind allows.
    ///
    /// # Cancellation
    /// Safe; the command in the node is killed.
    pub async fn save(&self, lab: &LabName, node: &NodeName) -> Result<SavedConfig> {
        let failed = |kind, message: String| {
            Error::new(kind, "read the configuration", message).about(format_args!("{lab}/{node}"))
        };
        let handle = self.handle(lab, node).await?;
        let (name, save) = match handle.kind {
            Some(kind) => (kind.kind, kind.save),
            None => ("unknown".to_owned(), None),
        };
        let Some(save) = save else {
            let message = format!("nothing says how a node of kind `{name}` tells its configuration");
            return Err(failed(ErrorKind::Unsupported, message));
        };
        if save.method != SaveMethod::Exec {
            let message = format!("kind `{name}` tells it by `{}`, which no provider can do yet", save.method);
            return Err(failed(ErrorKind::Unsupported, message));
        }
        let Some(exec) = handle.provider.exec() else {
            return Err(failed(ErrorKind::Unsupported, "its provider cannot run commands in nodes".to_owned()));
        };
        let timeout = Duration::from_secs(save.timeout.into());
        let request = ExecRequest { timeout: Some(timeout), ..ExecRequest::new(save.command.iter()) };
        // The provider kills a command that takes too long; one that does not even answer is not waited for either.
        let running = tokio::time::timeout(timeout + Duration::from_secs(5), exec.exec(&handle.instance, &request));
        let output = match running.await {
            Ok(output) => output?,
            Err(_) => return Err(failed(ErrorKind::Timeout, format!("it took more than {} s", save.timeout))),
        };
        if !succeeded(&output) {
            // What it wrote to its standard output may be half a configuration, which is nobody's business.
            let told = ExecOutput { stdout: Vec::new(), ..output };
            let why = handle.secrets.mask(&said(&told));
            return Err(failed(ErrorKind::Failed, format!("`{}`: {}{why}", save.command.join(" "), told.exit)));
        }
        if output.truncated {
            let error = extract::NotKept::TooLong { limit: save.limit };
            return Err(failed(ErrorKind::Exhausted, error.to_string()));
        }
        match extract::configuration(&save, &output.stdout) {
            Ok(text) => Ok(SavedConfig { file: save.file, text }),
            Err(error @ extract::NotKept::TooLong { .. }) => Err(failed(ErrorKind::Exhausted, error.to_string())),
            Err(error) => Err(failed(ErrorKind::Failed, error.to_string())),
        }
    }
}
