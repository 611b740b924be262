//! Logs of this process, on standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::cli::args::{LogFormat, LogLevel};
use crate::output::progress::{LogWriter, Screen};
use crate::output::wants_no_color;

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Logs what Lifecycle tells at a level and above, and of its libraries what may be a failure.
pub(crate) fn start(level: LogLevel, format: LogFormat, screen: &Screen) {
    let level = LevelFilter::from(level);
    let filter = Targets::new().with_target("lifecycle", level).with_default(level.min(LevelFilter::WARN));
    let screen = screen.clone();
    let writer = move || LogWriter(screen.clone());
    let layer = match format {
        LogFormat::Text => {
            let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && !wants_no_color();
            fmt::layer().with_writer(writer).with_ansi(color).boxed()
        }
        LogFormat::Json => fmt::layer().with_writer(writer).json().flatten_event(true).boxed(),
    };
    // An error means that somebody logs already, which is as good.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
