//! `serve`: a controller that others deploy labs to.

use super::Context;
use super::signals::Signals;
use crate::embedded::Embedded;
use crate::failure::{Exit, Result};
use crate::paths::Places;

pub(super) async fn run(context: &Context) -> Result {
    let mut signals = Signals::new()?;
    let places = Places::prepare(Some(&context.places.state), &context.surroundings)?;
    let embedded = Embedded::start(&places, &context.config, "serve").await?;
    context.screen.say(format_args!(
        "serving the state directory {} at {}",
        places.state.display(),
        places.socket().display()
    ));
    let ended = tokio::select! {
        () = signals.next() => Ok(Exit::Ok),
        failure = embedded.ended() => Err(failure),
    };
    embedded.stop().await;
    if ended.is_ok() {
        context.screen.say("stopped; nodes stay as they are");
    }
    ended
}
