//! Images, by what stands in for them.

use std::sync::Arc;

use async_trait::async_trait;
use lifecycle_core::plugin::provider::Images;
use lifecycle_core::topology::{ImagePullPolicy, NodeSpec};
use lifecycle_core::{ErrorKind, Result};

use super::NetnsProvider;
use crate::failure::{Doing, Failure};
use crate::image::{self, StandInRoot};
use crate::tarball;

impl NetnsProvider {
    /// Whether all is there that a node's image needs; an error where nothing stands in for it.
    fn is_ready(&self, spec: &NodeSpec) -> Result<bool, Failure> {
        Ok(match image::resolve(&self.settings, spec)?.root {
            StandInRoot::Host => true,
            StandInRoot::Directory(path) => path.is_dir(),
            StandInRoot::Tarball(path) => path.exists() && tarball::find(&self.layout, &path)?.is_some(),
        })
    }
}

fn subject(spec: &NodeSpec) -> &str {
    spec.image.as_deref().unwrap_or(&spec.kind)
}

#[async_trait]
impl Images for NetnsProvider {
    async fn is_present(&self, spec: &NodeSpec) -> Result<bool> {
        match self.is_ready(spec) {
            Err(failure) if failure.kind == ErrorKind::ImageUnavailable => Ok(false),
            other => other.map_err(|failure| failure.during("look for image", subject(spec))),
        }
    }

    async fn ensure(&self, spec: &NodeSpec, _policy: ImagePullPolicy) -> Result<()> {
        // There is no registry to pull from: all policies come to the same.
        let error = |failure: Failure| failure.during("provide image", subject(spec));
        match image::resolve(&self.settings, spec).map_err(error)?.root {
            StandInRoot::Host => Ok(()),
            StandInRoot::Directory(path) if path.is_dir() => Ok(()),
            StandInRoot::Directory(path) => {
                let text = format!("{}, which stands in for it, is not a directory", path.display());
                Err(error(Failure::new(ErrorKind::ImageUnavailable, text)))
            }
            StandInRoot::Tarball(path) => {
                let layout = Arc::new(self.layout.clone());
                let unpacked = tokio::task::spawn_blocking(move || tarball::ensure(&layout, &path)).await;
                let unpacked = unpacked.map_err(std::io::Error::other).doing("unpack the tarball").map_err(error)?;
                unpacked.map(drop).map_err(error)
            }
        }
    }
}
