#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle_core::name::{IfName, PortName};
use lifecycle_core::policy::naming::interface_for;
use lifecycle_core::topology::Topology;

mod binds;
mod checks;
mod decode;
mod deploy;
pub mod diagnostics;
mod endpoints;
mod env_files;
mod envsubst;
mod extra;
mod file;
mod git;
mod links;
mod mgmt;
mod node;
mod paths;
mod precedence;
mod resolve;
mod source;
mod template;
mod template_functions;
mod values;
mod vars;
mod yaml;

pub use deploy::{Refusal, check_deployment};
pub use paths::Permissions;

use decode::FromTree;
use diagnostics::{Diagnostic, Problems, Report, Severity};
use source::Source;

/// The longest text that is read, in bytes: of a file, of what its template makes, and with its variables replaced.
pub const MAX_TEXT: usize = 4 << 20;

/// How a lab file is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Files of variables for the template, later ones over earlier ones. Without any, those beside the lab file count.
    pub vars: Vec<PathBuf>,
    /// The environment that `$NAME` in the file refers to. `HOME` is what `~` stands for, `CLAB_LABDIR_BASE` where the
    /// lab's own directory is made.
    pub environment: BTreeMap<String, String>,
    /// Directory that relative paths given by the caller start at; the process's own when absent.
    pub current_directory: Option<PathBuf>,
    /// Whether warnings are errors.
    pub strict: bool,
    /// What the lab may use beyond its own directory while it is read: its files of environment variables.
    pub permissions: Permissions,
    /// How the ports of nodes map to interfaces.
    pub interfaces: InterfaceNames,
}

/// Gives the interface, by the kernel's name, that is meant by a port of a node of some kind.
#[derive(Clone)]
pub struct InterfaceNames(Arc<PortMapping>);

type PortMapping = dyn Fn(&str, &PortName) -> IfName + Send + Sync;

impl InterfaceNames {
    /// A mapping that asks `names` with the node's kind and its port, for those who know the vendors of nodes. Two ports
    /// of a node must not become one interface unless they are two spellings of one.
    pub fn new(names: impl Fn(&str, &PortName) -> IfName + Send + Sync + 'static) -> Self {
        Self(Arc::new(names))
    }
}

impl Default for InterfaceNames {
    /// Every port is the interface of its name, or of a derived one where the kernel does not take the name.
    fn default() -> Self {
        Self::new(|_, port| interface_for(port))
    }
}

impl fmt::Debug for InterfaceNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterfaceNames")
    }
}

impl Options {
    /// Options with the environment of this process. Variables that are not text are left out.
    pub fn from_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { environment: std::env::vars_os().filter_map(text).collect(), ..Self::default() }
    }
}

/// A lab that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the user wants.
    pub topology: Topology,
    /// What people should know about their file.
    pub warnings: Vec<Diagnostic>,
}

/// A lab could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file could not be read at all.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lab file or one of its variables' files has errors: all that were found.
    #[error("{0}")]
    Invalid(Report),
}

/// Reads the lab file at `path` and all that belongs to it: helpers and variables of its template, and files of
/// environment variables. Nothing is fetched, run or changed.
///
/// # Errors
/// [`LoadError::Read`] when a file is not there or cannot be read, [`LoadError::Invalid`] with every problem otherwise.
pub fn load(path: &Path, options: &Options) -> Result<Loaded, LoadError> {
    let absolute = |path: &Path| match &options.current_directory {
        Some(current) => current.join(path),
        None => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    let full = absolute(path);
    let text = read_text(&full).map_err(|error| error.called(path))?;
    let files: Vec<PathBuf> = options.vars.iter().map(|file| absolute(file)).collect();
    let vars = vars::read(&full, &files)?;
    let directory = full.parent().unwrap_or(Path::new("/"));
    read(Source::new(path.to_string_lossy(), text), directory, &vars, options)
}

/// Reads a lab from `text`, as [`load`] does for a file called `name` in `directory`. Variables for its template are only
/// those of `options`.
///
/// # Errors
/// As for [`load`].
pub fn load_text(name: &str, text: &str, directory: &Path, options: &Options) -> Result<Loaded, LoadError> {
    if text.len() > MAX_TEXT {
        return Err(unreadable(Path::new(name), too_long(), None));
    }
    let vars = if options.vars.is_empty() {
        gotmpl::tmap! {}
    } else {
        vars::read(&directory.join(name), &options.vars)?
    };
    read(Source::new(name, text), directory, &vars, options)
}

fn read(source: Source, directory: &Path, vars: &gotmpl::Value, options: &Options) -> Result<Loaded, LoadError> {
    let source = template::fill_in(source, directory, vars).map_err(LoadError::Invalid)?;
    let expanded = envsubst::expand(source.shown(), &options.environment, MAX_TEXT);
    let mut problems = Problems::new(source);
    problems.source_mut().set_pieces(expanded.pieces);
    for (at, what) in expanded.problems {
        problems.error_shown(at, what, "expected `${NAME}` or `${NAME:-default}`; write `$$` for a dollar sign");
    }
    let topology = yaml::parse(&expanded.text, &mut problems)
        .and_then(|node| file::File::from_tree(&node, &mut problems))
        .and_then(|file| resolve::resolve(&file, directory, options, &mut problems));
    let report = problems.into_report();
    let refused = report.count(Severity::Error) + if options.strict { report.count(Severity::Warning) } else { 0 };
    match topology {
        Some(topology) if refused == 0 => Ok(Loaded { topology, warnings: report.diagnostics }),
        _ => Err(LoadError::Invalid(report)),
    }
}

impl LoadError {
    /// The same error about the file as the caller called it.
    fn called(self, path: &Path) -> Self {
        match self {
            Self::Read { source, .. } => Self::Read { path: path.to_owned(), source },
            Self::Invalid(mut report) => {
                report.diagnostics.iter_mut().for_each(|found| found.file = path.to_string_lossy().into_owned());
                Self::Invalid(report)
            }
        }
    }
}

/// Reads a whole text file, without the mark that some editors put in front of UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // Bounded by what is read, not by the file's length: a device or a pipe has none.
    let limit = MAX_TEXT as u64 + 1;
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_TEXT {
        return Err(unreadable(path, too_long(), None));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        unreadable(path, "this is not UTF-8 text".to_owned(), Some(&before))
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

fn too_long() -> String {
    format!("the file is longer than {MAX_TEXT} bytes")
}

/// An error about a text that cannot even be shown, but for what comes before its fault.
fn unreadable(path: &Path, message: String, before: Option<&str>) -> LoadError {
    let mut problems = Problems::new(Source::new(path.to_string_lossy(), before.unwrap_or_default()));
    let end = before.map_or(0, str::len);
    problems.error_shown(end..end, message, "");
    let mut report = problems.into_report();
    if before.is_none() {
        report.diagnostics.iter_mut().for_each(|found| (found.position, found.line) = (None, None));
    }
    LoadError::Invalid(report)
}
