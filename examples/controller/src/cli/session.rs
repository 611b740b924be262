//! The controller that a command works against: the running one, or one of its own for its duration.

use std::time::Duration;

use super::Context;
use crate::client::Client;
use crate::embedded::Embedded;
use crate::failure::{Exit, Failure, Result};
use crate::paths::Places;

/// How long a controller that holds the state may take until it can be reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// A controller that a command works against.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// The one of this process, if it is that one.
    pub(super) embedded: Option<Embedded>,
}

impl Session {
    /// Joins the running controller, or becomes one. Of several that try at once one becomes it and the others join.
    pub(super) async fn attach(context: &Context, owner: &str) -> Result<Self> {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(client) = Client::find(&context.places.socket()).await? {
                return Ok(Self { client, embedded: None });
            }
            match Self::embed(context, owner).await {
                // Another one holds the state: it is just starting, or just ending.
                Err(failure) if failure.exit == Exit::Conflict && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                started => return started,
            }
        }
    }

    /// As [`attach`](Self::attach), but nothing is made where there has never been a state.
    pub(super) async fn attach_existing(context: &Context, owner: &str) -> Result<Option<Self>> {
        let state = &context.places.state;
        match state.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Self::attach(context, owner).await.map(Some),
            Err(error) => Err(Failure::io(format_args!("look at the state directory {}", state.display()), &error)),
        }
    }

    async fn embed(context: &Context, owner: &str) -> Result<Self> {
        let places = Places::prepare(Some(&context.places.state), &context.surroundings)?;
        let embedded = Embedded::start(&places, &context.config, owner).await?;
        match embedded.client().await {
            Ok(client) => Ok(Self { client, embedded: Some(embedded) }),
            Err(failure) => {
                embedded.stop().await;
                Err(failure)
            }
        }
    }

    /// Ends the controller, if it is one of this process. Nodes stay as they are.
    pub(super) async fn end(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}
