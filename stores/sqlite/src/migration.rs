//! Brings a database to the version of the schema that this program knows.

use std::fs;
use std::path::{Path, PathBuf};

use lifecycle_core::{Error, ErrorKind, Result};
use lifecycle_crash::crash_point;
use rusqlite::{Connection, TransactionBehavior};

use crate::failure;

/// Every version of the schema by what leads to it from the one before; the first leads to version 1.
///
/// A file that was released is never changed. A new one goes to the end, and brings what stands in `body` along too.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_initial.sql")];

/// Marks a database as one of ours, in the header of the file: `lifc`.
pub(crate) const APPLICATION: i32 = 0x6c69_6663;

const OPERATION: &str = "open";

/// The version of a database.
///
/// # Errors
/// `Corrupt` when it is not one of ours.
pub(crate) fn version(connection: &Connection, path: &Path) -> Result<usize> {
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let failed = |error| failure::of_sqlite(OPERATION, path, error);
    let (application, version) = (read("application_id").map_err(failed)?, read("user_version").map_err(failed)?);
    if application == APPLICATION {
        return Ok(usize::try_from(version).unwrap_or(0));
    }
    let message = "this is a database of another program. Choose another state directory";
    Err(Error::new(ErrorKind::Corrupt, OPERATION, message).about(path.display()))
}

/// Whether a database has to be migrated to the newest of `migrations`.
///
/// # Errors
/// `Corrupt` when it is newer than that.
pub(crate) fn is_behind(version: usize, migrations: &[&str], path: &Path) -> Result<bool> {
    let known = migrations.len();
    if version > known {
        let message = format!(
            "the database is of version {version}, and this program knows none above {known}: a newer one has written \
             it. Use that newer program, or choose another state directory"
        );
        return Err(Error::new(ErrorKind::Corrupt, OPERATION, message).about(path.display()));
    }
    Ok(version < known)
}

/// Applies what is missing, one version after the other, each as a transaction of its own.
///
/// # Errors
/// When a statement fails; the database then is of the last version that was reached.
pub(crate) fn apply(connection: &mut Connection, from: usize, migrations: &[&str], path: &Path) -> Result<()> {
    let mut step = |version: usize, sql: &str| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", i64::try_from(version).unwrap_or(i64::MAX))?;
        transaction.commit()
    };
    for (version, sql) in (1..).zip(migrations).skip(from) {
        step(version, sql).map_err(|error| failure::of_sqlite("migrate", path, error))?;
        crash_point("store-migrated");
        tracing::info!(version, database = %path.display(), "the store was migrated");
    }
    Ok(())
}

/// Copies a database beside itself before it is migrated, and returns the path of the copy.
///
/// # Errors
/// When the copy cannot be written; nothing must be migrated then.
pub(crate) fn back_up(connection: &Connection, version: usize, path: &Path) -> Result<PathBuf> {
    let copy = path.with_extension(format!("v{version}.db"));
    let unfinished = path.with_extension("copy");
    let refused = |error| failure::of_file("back up", &unfinished, error);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let target = unfinished.to_str().ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "back up", "the state directory's path is not valid UTF-8")
            .about(path.display())
    })?;
    let failed = |error| failure::of_sqlite("back up", path, error);
    connection.execute("VACUUM INTO ?", [target]).map_err(failed)?;
    fs::File::open(&unfinished).and_then(|file| file.sync_all()).map_err(refused)?;
    fs::rename(&unfinished, &copy).map_err(refused)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE t (a TEXT NOT NULL) STRICT; INSERT INTO t VALUES ('kept')";
    const SECOND: &str = "ALTER TABLE t ADD COLUMN b INTEGER NOT NULL DEFAULT 2";
    const BROKEN: &str = "ALTER TABLE t ADD COLUMN c INTEGER; SELECT no_such_function()";

    fn version_1(directory: &Path) -> (Connection, PathBuf) {
        let path = directory.join("lifecycle.db");
        let mut connection = Connection::open(&path).unwrap();
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        apply(&mut connection, 0, &[FIRST], &path).unwrap();
        (connection, path)
    }

    #[test]
    fn an_older_database_is_copied_and_migrated() {
        let directory = tempfile::tempdir().unwrap();
        let (mut connection, path) = version_1(directory.path());
        let known = [FIRST, SECOND];
        assert_eq!(version(&connection, &path).unwrap(), 1);
        assert!(is_behind(1, &known, &path).unwrap());
        // A copy that an earlier migration left is replaced: the database is what it was then.
        for _ in 0..2 {
            let copy = back_up(&connection, 1, &path).unwrap();
            assert_eq!(copy, directory.path().join("lifecycle.v1.db"));
        }
        apply(&mut connection, 1, &known, &path).unwrap();
        assert_eq!(version(&connection, &path).unwrap(), 2);
        assert!(!is_behind(2, &known, &path).unwrap());
        let row = |connection: &Connection| connection.query_row("SELECT a FROM t", [], |row| row.get::<_, String>(0));
        assert_eq!(row(&connection).unwrap(), "kept");
        let copy = Connection::open(directory.path().join("lifecycle.v1.db")).unwrap();
        assert_eq!(version(&copy, &path).unwrap(), 1);
        assert_eq!(row(&copy).unwrap(), "kept");
        assert!(copy.prepare("SELECT b FROM t").is_err(), "the copy was migrated too");
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut connection, path) = version_1(directory.path());
        let error = apply(&mut connection, 1, &[FIRST, BROKEN], &path).unwrap_err();
        assert_eq!(error.operation(), "migrate");
        assert_eq!(version(&connection, &path).unwrap(), 1);
        assert!(connection.prepare("SELECT c FROM t").is_err());
    }

    #[test]
    fn a_newer_database_is_refused_with_both_versions() {
        let error = is_behind(7, &[FIRST, SECOND], Path::new("/state/lifecycle.db")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        for part in ["version 7", "above 2", "newer", "/state/lifecycle.db"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
