//! `exec`: a command in a node.

use super::args::Exec;
use super::{Context, target};
use crate::api::wire::ExecCommand;
use crate::failure::{Exit, Result};
use crate::output::complain;

pub(super) async fn run(context: &Context, args: Exec) -> Result {
    let client = context.client().await?;
    let target = target::node(&client, &args.node, args.lab.lab.as_ref()).await?;
    let command = ExecCommand {
        argv: args.command,
        env: args.env.into_iter().collect(),
        user: args.user,
        timeout_ms: args.timeout.map(|span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)),
    };
    let result = client.exec(&target, &command).await?;
    if context.output.format.is_table() {
        context.output.bytes(&result.stdout.0)?;
        complain(&result.stderr.0)?;
        if result.truncated {
            context.screen.say("the output is longer than is kept; its end is missing");
        }
    } else {
        context.output.one(&result, String::new)?;
    }
    Ok(Exit::Command(code(result.exit.code, result.exit.signal)))
}

/// The exit code that a shell would give.
fn code(code: Option<i32>, signal: Option<i32>) -> u8 {
    match (code, signal) {
        (_, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        (Some(code), None) => (code & 0xff) as u8,
        // Nobody saw how it ended, which is no success.
        (None, None) => Exit::Failure.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(code(Some(0), None), 0);
        assert_eq!(code(Some(42), None), 42);
        assert_eq!(code(None, Some(9)), 137);
        assert_eq!(code(None, None), 1);
    }
}
