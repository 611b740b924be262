//! Images: looked up, and fetched by policy.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use lifecycle_core::plugin::provider::Images;
use lifecycle_core::topology::{ImagePullPolicy, NodeSpec};
use lifecycle_core::{ErrorKind, Result};

use crate::client::optional;
use crate::failure::{Failure, late};
use crate::provider::ContainerProvider;
use crate::spec::image_of;

/// How often at most progress is told of.
const TELL: Duration = Duration::from_secs(2);

/// The name with a tag: without one, daemons would fetch all that there are.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

impl ContainerProvider {
    async fn has(&self, image: &str) -> std::result::Result<bool, Failure> {
        let found = self.client.ask(async |docker| docker.inspect_image(image).await).await;
        match found {
            // A text that cannot be an image's name names none that is here.
            Err(failure) if failure.kind == ErrorKind::InvalidInput => Ok(false),
            other => Ok(optional(other)?.is_some()),
        }
    }

    async fn provide(&self, spec: &NodeSpec, policy: ImagePullPolicy) -> std::result::Result<(), Failure> {
        let image = image_of(spec)?;
        let is_here = self.has(image).await?;
        match policy {
            ImagePullPolicy::IfNotPresent | ImagePullPolicy::Never if is_here => Ok(()),
            ImagePullPolicy::Never => {
                let text = format!(
                    "it is not on this host, and `image-pull-policy` is `never`; bring it with `{0} pull {image}`, `{0} \
                     load` or `{0} import`, or change the policy",
                    self.name
                );
                Err(Failure::new(ErrorKind::ImageUnavailable, text))
            }
            ImagePullPolicy::IfNotPresent | ImagePullPolicy::Always => self.pull(image).await,
        }
    }

    async fn pull(&self, image: &str) -> std::result::Result<(), Failure> {
        let advice = |failure: Failure| {
            if failure.is_of_connection() {
                return failure;
            }
            let text = format!(
                "it cannot be fetched: {}; check its name and the registry, log in and fetch it with `{1} pull {image}`, \
                 or bring it with `{1} load`",
                failure.message, self.name
            );
            Failure::new(ErrorKind::ImageUnavailable, text)
        };
        let docker = self.client.docker().await?;
        let options = CreateImageOptions { from_image: Some(tagged(image)), ..CreateImageOptions::default() };
        let mut progress = docker.create_image(Some(options), None, None);
        let mut told = Instant::now();
        loop {
            let step = tokio::time::timeout(self.client.settings().pull_silence(), progress.next()).await;
            let Some(step) = step.map_err(|_| late())? else { return Ok(()) };
            let step = step.map_err(|error| advice(error.into()))?;
            if told.elapsed() >= TELL {
                told = Instant::now();
                let detail = step.progress_detail.unwrap_or_default();
                let (done, total) = (detail.current.unwrap_or(0), detail.total.unwrap_or(0));
                let (layer, status) = (step.id.unwrap_or_default(), step.status.unwrap_or_default());
                tracing::info!(image, layer, status, done, total, "an image is being fetched");
            }
        }
    }
}

fn subject(spec: &NodeSpec) -> &str {
    spec.image.as_deref().unwrap_or(&spec.kind)
}

#[async_trait]
impl Images for ContainerProvider {
    async fn is_present(&self, spec: &NodeSpec) -> Result<bool> {
        let Some(image) = &spec.image else { return Ok(false) };
        self.has(image).await.map_err(|failure| failure.during("look for image", image))
    }

    async fn ensure(&self, spec: &NodeSpec, policy: ImagePullPolicy) -> Result<()> {
        self.provide(spec, policy).await.map_err(|failure| failure.during("provide image", subject(spec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag() {
        for (given, asked) in [
            ("alpine", "alpine:latest"),
            ("alpine:3", "alpine:3"),
            ("host:5000/alpine", "host:5000/alpine:latest"),
            ("alpine@sha256:00", "alpine@sha256:00"),
        ] {
            assert_eq!(tagged(given), asked);
        }
    }
}
