//! Makes, opens and checks the database in a state directory.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifecycle_core::id::ControllerId;
use lifecycle_core::{Error, ErrorKind, Result};
use lifecycle_crash::crash_point;
use rusqlite::{Connection, OpenFlags};

use crate::failure;
use crate::hold::Hold;
use crate::migration::{self, MIGRATIONS};

const OPERATION: &str = "open";

/// Name of the database in the state directory.
const FILE: &str = "lifecycle.db";

/// How long a statement waits for a program that has the database locked.
const BUSY: Duration = Duration::from_secs(5);

/// The two connections to a database, checked and of the present version.
pub(crate) struct Connections {
    pub(crate) path: PathBuf,
    pub(crate) writing: Connection,
    pub(crate) reading: Connection,
}

/// Opens the database in `directory`, and makes both when they are not there.
///
/// # Errors
/// `Corrupt` when it is damaged, newer than this program or none of ours; `PermissionDenied`, `Exhausted`; `Conflict`
/// when it has to be made or migrated while another controller holds it.
pub(crate) fn open(directory: &Path) -> Result<Connections> {
    let path = directory.join(FILE);
    let mut writing = match connect(&path)? {
        Some(connection) => connection,
        None => {
            make(directory, &path)?;
            connect(&path)?.ok_or_else(|| {
                Error::new(ErrorKind::Conflict, OPERATION, "somebody removes the database while it is being made")
                    .about(path.display())
            })?
        }
    };
    let version = migration::version(&writing, &path)?;
    let behind = migration::is_behind(version, MIGRATIONS, &path)?;
    check(&writing, &path)?;
    if behind {
        let _hold = Hold::take(directory, "migrating")?;
        // Read again, since it may have been migrated before the hold was ours.
        let version = migration::version(&writing, &path)?;
        let copy = migration::back_up(&writing, version, &path)?;
        tracing::info!(copy = %copy.display(), "the store was copied before it is migrated");
        migration::apply(&mut writing, version, MIGRATIONS, &path)?;
    }
    let reading = connect(&path)?.ok_or_else(|| {
        Error::new(ErrorKind::Conflict, OPERATION, "somebody removed the database").about(path.display())
    })?;
    reading.pragma_update(None, "query_only", true).map_err(|error| failure::of_sqlite(OPERATION, &path, error))?;
    Ok(Connections { path, writing, reading })
}

/// Connects to the database at `path`, if there is a file.
fn connect(path: &Path) -> Result<Option<Connection>> {
    match fs::metadata(path) {
        // A database appears under its name when it is complete, so an empty file is what somebody left of one.
        Ok(file) if file.len() == 0 => {
            return Err(Error::new(ErrorKind::Corrupt, OPERATION, failure::DAMAGED).about(path.display()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure::of_file(OPERATION, path, error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        Ok(connection)
    };
    connect().map(Some).map_err(|error| failure::of_sqlite(OPERATION, path, error))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A commit is on the disk when it returns, and survives the loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Else REPLACE would remove rows of the audit trail behind its trigger's back.
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    // Rows that change often go back into the file once per 16 MB of log, not once per 4.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // The log shrinks again after an unusually large batch.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)
}

/// Makes a new database. It is complete before it gets its name, so that a half-made one is never taken for a store.
fn make(directory: &Path, path: &Path) -> Result<()> {
    let refused = |error| failure::of_file(OPERATION, directory, error);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
    let _hold = Hold::take(directory, "making the store")?;
    if path.exists() {
        return Ok(());
    }
    let unfinished = path.with_extension("new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut leftover = unfinished.clone().into_os_string();
        leftover.push(suffix);
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
    }
    let failed = |error| failure::of_sqlite(OPERATION, &unfinished, error);
    let mut connection = Connection::open(&unfinished).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let message = "the file system has no shared memory for SQLite's log; choose a directory on a local disk";
        return Err(Error::new(ErrorKind::Unsupported, OPERATION, message).about(directory.display()));
    }
    migration::apply(&mut connection, 0, MIGRATIONS, &unfinished)?;
    begin(&connection).map_err(failed)?;
    // The last connection to close brings the log into the file.
    connection.close().map_err(|(_, error)| failed(error))?;
    crash_point("store-complete");
    let published = || {
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, path)?;
        crash_point("store-named");
        File::open(directory)?.sync_all()
    };
    published().map_err(refused)
}

fn begin(connection: &Connection) -> rusqlite::Result<()> {
    let random: i64 = connection.query_row("SELECT random()", [], |row| row.get(0))?;
    let controller = ControllerId::from_u64(random.cast_unsigned());
    let sql = "INSERT INTO head (one, controller, epoch, batch, audit, event) VALUES (1, ?, 0, 0, 0, 0)";
    connection.execute(sql, [controller.to_string()]).map(drop)
}

/// Reads the whole database once and compares it with itself.
fn check(connection: &Connection, path: &Path) -> Result<()> {
    let failed = |error| failure::of_sqlite(OPERATION, path, error);
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" {
        return Ok(());
    }
    let message = format!("{} ({})", failure::DAMAGED, verdict.replace('\n', " "));
    Err(Error::new(ErrorKind::Corrupt, OPERATION, message).about(path.display()))
}
