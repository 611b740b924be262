//! Progress of a lab, as bars on a terminal and as nothing elsewhere.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::wants_no_color;

/// Draws progress on standard error if that is a terminal, and keeps other lines from running into it.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: MultiProgress,
}

impl Default for Screen {
    fn default() -> Self {
        let terminal = io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target) }
    }
}

impl Screen {
    /// Bars for so many nodes and links of a lab.
    pub fn bars(&self, nodes: usize, links: usize) -> Bars {
        Bars { nodes: self.bar("nodes", nodes), links: self.bar("links", links) }
    }

    fn bar(&self, what: &'static str, length: usize) -> ProgressBar {
        let template = if wants_no_color() {
            "{prefix:>8} [{bar:30}] {pos}/{len} {msg}"
        } else {
            "{prefix:>8} [{bar:30.green}] {pos}/{len} {msg:.dim}"
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(length as u64).with_style(style.progress_chars("=> ")).with_prefix(what);
        self.bars.add(bar)
    }

    /// Tells people something, above the bars.
    pub fn say(&self, text: impl std::fmt::Display) {
        self.bars.suspend(|| super::say(text));
    }
}

/// A writer for logs that goes around the bars.
#[derive(Debug, Clone)]
pub struct LogWriter(pub Screen);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Bars for the nodes and the links of a lab. They vanish when dropped.
#[derive(Debug)]
pub struct Bars {
    nodes: ProgressBar,
    links: ProgressBar,
}

impl Bars {
    /// Shows how many nodes and links are where they are wanted, and what is waited for.
    pub fn show(&self, nodes: (usize, usize), links: (usize, usize), waiting: &str) {
        for (bar, (done, all)) in [(&self.nodes, nodes), (&self.links, links)] {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
        self.nodes.set_message(waiting.chars().take(60).collect::<String>());
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.nodes.finish_and_clear();
        self.links.finish_and_clear();
    }
}
