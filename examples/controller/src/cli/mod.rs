//! The commands.

pub mod args;
mod completion;
mod condition;
mod console;
mod deploy;
mod destroy;
mod doctor;
mod events;
mod exec;
mod graph;
mod history;
mod inspect;
mod lab_file;
mod logs;
mod operate;
mod progress;
mod report;
mod save;
mod selfcheck;
mod serve;
mod session;
mod settle;
mod signals;
pub mod target;
mod up;
mod validate;
mod version;
mod wait;

use std::process::ExitCode;

use args::{Cli, Command, Global, LogFormat, LogLevel};
pub use condition::Condition;

use crate::client::Client;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::output::progress::Screen;
use crate::output::{Output, say};
use crate::paths::{Places, Surroundings};
use crate::{logging, tool};

/// What every command works with.
#[derive(Debug)]
struct Context {
    surroundings: Surroundings,
    global: Global,
    places: Places,
    config: Config,
    output: Output,
    screen: Screen,
}

impl Context {
    fn new(global: Global) -> Result<Self> {
        let surroundings = Surroundings::of_process();
        let places = Places::find(global.state_dir.as_deref(), &surroundings)?;
        let mut config = Config::read(global.config.as_deref(), &places.state)?;
        config.more_vendors.clone_from(&global.vendor_dir);
        let output = Output::new(global.output.or(config.output).unwrap_or_default());
        Ok(Self { surroundings, global, places, config, output, screen: Screen::default() })
    }

    /// The controller that is running.
    async fn client(&self) -> Result<Client> {
        Client::connect(&self.places.socket(), &self.places.state).await
    }
}

/// Runs a command to its end and tells what went wrong.
pub fn main(cli: Cli) -> ExitCode {
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                say(&failure);
            }
            failure.exit.into()
        }
    }
}

fn start(cli: Cli) -> Result {
    let Cli { global, command } = cli;
    match &command {
        Command::Completion { shell } => return completion::run(*shell),
        Command::NodeTool(tool) => return tool::run(&tool.name),
        _ => {}
    }
    let context = Context::new(global)?;
    let usual = if matches!(command, Command::Serve) { LogLevel::Info } else { LogLevel::Warn };
    let level = context.global.log_level.or(context.config.log_level).unwrap_or(usual);
    let format = context.global.log_format.or(context.config.log_format).unwrap_or(LogFormat::Text);
    logging::start(level, format, &context.screen);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("start", &error))?;
    let ended = runtime.block_on(run(&context, command));
    // A thread may still wait for something to be typed.
    runtime.shutdown_background();
    ended
}

async fn run(context: &Context, command: Command) -> Result {
    match command {
        Command::Up(args) => up::run(context, args).await,
        Command::Serve => serve::run(context).await,
        Command::Deploy(args) => deploy::run(context, args).await,
        Command::Destroy(args) => destroy::run(context, args).await,
        Command::Inspect(args) => inspect::run(context, args).await,
        Command::Start(args) => operate::start(context, args).await,
        Command::Stop(args) => operate::stop(context, args).await,
        Command::Restart(args) => operate::restart(context, args).await,
        Command::Exec(args) => exec::run(context, args).await,
        Command::Console(args) => console::run(context, args).await,
        Command::Logs(args) => logs::run(context, args).await,
        Command::Save(args) => save::run(context, args).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Wait(args) => wait::run(context, args).await,
        Command::History(args) => history::run(context, args).await,
        Command::Validate(args) => validate::run(context, &args).await,
        Command::Graph(args) => graph::run(context, args).await,
        Command::Doctor => doctor::run(context),
        Command::Selfcheck => selfcheck::run(context).await,
        Command::Completion { shell } => completion::run(shell),
        Command::Version => version::run(context).await,
        Command::NodeTool(tool) => tool::run(&tool.name),
    }
}
