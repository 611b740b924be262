//! What the schema itself refuses, and which indexes serve which statements.

use lifecycle_core::machine::{HostState, JobState, LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{
    AuditAction, AuditQuery, AuditResult, AuditRow, HostRecord, JobRecord, LabRecord, LinkRecord, NodeRecord,
    SubjectKind, Trigger,
};
use rusqlite::{Connection, params_from_iter};
use strum::VariantArray;

use crate::table::Table;
use crate::{encode, migration, reader, writer};

fn schema() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection.pragma_update(None, "recursive_triggers", true).unwrap();
    migration::apply(&mut connection, 0, migration::MIGRATIONS, "memory".as_ref()).unwrap();
    connection
}

/// A schema with one row in each table.
fn filled() -> Connection {
    let connection = schema();
    let rows = [
        "INSERT INTO head VALUES (1, '000000000000', 0, 0, 0, 0)",
        r#"INSERT INTO labs (id, deleting, generation, body) VALUES ('00000000000a', 0, 1, '{"topology":{"name":"l"}}')"#,
        "INSERT INTO nodes VALUES ('00000000000b', '00000000000a', 'n', 'running', 'running', 'h', NULL, 0, 1, '{}')",
        "INSERT INTO links VALUES ('00000000000c', '00000000000a', 'k', 'up', 'up', 'h', 0, 1, '{}')",
        "INSERT INTO link_ends VALUES ('00000000000c', 0, '00000000000b', NULL, 'eth1', 0)",
        "INSERT INTO link_ends VALUES ('00000000000c', 1, NULL, 'h', 'eth1', 0)",
        "INSERT INTO jobs VALUES ('00000000000d', '00000000000a', 'running', 'pending', 1, '{}')",
        "INSERT INTO hosts VALUES ('h', 'online', 1, '{}')",
        "INSERT INTO audit VALUES (1, 't', 'node', 'i', 'n', NULL, 'created', NULL, NULL, 'sync', 'success', '{}')",
        "INSERT INTO events VALUES (1, 't', NULL, '{}')",
    ];
    for row in rows {
        connection.execute(row, []).unwrap();
    }
    connection
}

/// The words of an enum that does not list its own. A variant that is missing here does not compile.
macro_rules! words {
    ($type:ident: $($variant:ident),*) => {{
        let known = |value: $type| match value { $($type::$variant => (),)* };
        let all = [$($type::$variant),*];
        all.into_iter().for_each(known);
        all.map(|value| value.to_string()).to_vec()
    }};
}

fn variants<T: VariantArray + ToString>() -> Vec<String> {
    T::VARIANTS.iter().map(T::to_string).collect()
}

/// Every column whose words are those of an enum.
fn enums() -> Vec<(&'static str, &'static str, Vec<String>)> {
    vec![
        ("nodes", "desired", variants::<NodeIntent>()),
        ("nodes", "actual", variants::<NodeState>()),
        ("links", "desired", variants::<LinkIntent>()),
        ("links", "actual", variants::<LinkState>()),
        ("jobs", "intent", variants::<NodeIntent>()),
        ("jobs", "state", variants::<JobState>()),
        ("hosts", "state", variants::<HostState>()),
        ("audit", "subject", words!(SubjectKind: Lab, Node, Link, Job, Host, Object)),
        (
            "audit",
            "action",
            words!(AuditAction: Created, StateChanged, DesiredChanged, Placed, Collected, Deleted, Refused),
        ),
        (
            "audit",
            "\"trigger\"",
            words!(Trigger: UserAction, Enforcement, Sync, AgentResponse, NodeReport, Placement, Policy, Drift),
        ),
        ("audit", "result", words!(AuditResult: Success, Rejected, Failed)),
    ]
}

#[test]
fn the_words_of_constraints_are_those_of_the_enums() {
    let connection = schema();
    for (table, column, words) in enums() {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?";
        let text: String = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
        let alternatives: Vec<_> = words.iter().map(|word| format!("{column} = '{word}'")).collect();
        let clause = format!("CHECK ({})", alternatives.join(" OR "));
        assert!(text.contains(&clause), "{table}.{column} lacks {clause}: a new word needs a new migration\n{text}");
    }
}

#[test]
fn every_valid_word_is_taken_and_any_other_refused() {
    for (table, column, words) in enums() {
        let connection = filled();
        let put = |word: &str| {
            if table == "audit" {
                let sql = format!(
                    "INSERT INTO audit SELECT (SELECT max(seq) + 1 FROM audit), at, {}, body FROM audit LIMIT 1",
                    ["subject", "id", "name", "lab", "action", "\"from\"", "\"to\"", "\"trigger\"", "result"]
                        .map(|name| if name == column { format!("'{word}'") } else { name.to_owned() })
                        .join(", ")
                );
                connection.execute(&sql, [])
            } else {
                connection.execute(&format!("UPDATE {table} SET {column} = ?"), [word])
            }
        };
        for word in &words {
            assert_eq!(put(word).unwrap(), 1, "{table}.{column} refuses {word}");
        }
        for word in ["", "bogus", &words[0].to_uppercase(), &format!("{} ", words[0])] {
            let error = put(word).unwrap_err().to_string();
            assert!(error.contains("CHECK constraint failed"), "{table}.{column} takes `{word}`: {error}");
        }
    }
}

#[test]
fn rows_that_cannot_be_are_refused() {
    let cases = [
        ("CHECK", "INSERT INTO head VALUES (2, '000000000000', 0, 0, 0, 0)"),
        ("CHECK", "UPDATE head SET epoch = -1"),
        ("CHECK", "UPDATE nodes SET generation = 0"),
        ("CHECK", "UPDATE nodes SET deleting = 2"),
        ("CHECK", "UPDATE jobs SET id = 'short'"),
        ("CHECK", "INSERT INTO link_ends VALUES ('00000000000c', 2, NULL, NULL, 'eth9', 0)"),
        ("CHECK", "UPDATE link_ends SET host = 'h', node = '00000000000b'"),
        ("cannot store", "UPDATE nodes SET generation = 'x'"),
        ("NOT NULL", "UPDATE nodes SET body = NULL"),
        ("NOT NULL", "UPDATE labs SET body = '{}'"),
        (
            "UNIQUE",
            "INSERT INTO nodes SELECT '00000000000e', lab, name, desired, actual, host, job, 0, 1, '{}' FROM nodes",
        ),
        ("UNIQUE", "INSERT INTO links SELECT '00000000000e', lab, key, desired, actual, host, 0, 1, '{}' FROM links"),
        ("UNIQUE", "INSERT INTO labs (id, deleting, generation, body) SELECT '00000000000e', 0, 1, body FROM labs"),
        (
            "FOREIGN KEY",
            "INSERT INTO nodes VALUES ('00000000000e', '00000000000f', 'm', 'running', 'error', NULL, NULL, 0, 1, '{}')",
        ),
        ("FOREIGN KEY", "UPDATE links SET lab = '00000000000f'"),
        ("FOREIGN KEY", "UPDATE link_ends SET node = '00000000000f' WHERE node IS NOT NULL"),
        ("FOREIGN KEY", "DELETE FROM nodes"),
        ("FOREIGN KEY", "DELETE FROM labs"),
    ];
    let connection = filled();
    for (expected, sql) in cases {
        let error = connection.execute(sql, []).expect_err(sql).to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[test]
fn two_links_cannot_share_an_end() {
    let connection = filled();
    connection
        .execute("INSERT INTO links SELECT '00000000000e', lab, 'k2', desired, actual, host, 0, 1, '{}' FROM links", [])
        .unwrap();
    let end = |place: u8, node: Option<&str>, host: Option<&str>, interface: &str| {
        let sql = "INSERT INTO link_ends VALUES ('00000000000e', ?, ?, ?, ?, 0)";
        connection.execute(sql, (place, node, host, interface)).map_err(|error| error.to_string())
    };
    assert!(end(0, Some("00000000000b"), None, "eth1").unwrap_err().contains("link_ends.node"));
    assert!(end(0, None, Some("h"), "eth1").unwrap_err().contains("link_ends.host"));
    // Another host, another interface, and a host that is not known yet are free.
    end(0, None, Some("h2"), "eth1").unwrap();
    end(1, Some("00000000000b"), None, "eth2").unwrap();
    // What a link that is being removed has given up, too.
    connection.execute("DELETE FROM link_ends WHERE link = '00000000000e'", []).unwrap();
    connection.execute(encode::CHANGE_ENDS, ("00000000000c", "h", 1)).unwrap();
    end(0, Some("00000000000b"), None, "eth1").unwrap();
    end(1, None, Some("h"), "eth1").unwrap();
    let again = connection.execute(encode::CHANGE_ENDS, ("00000000000c", "h", 0)).unwrap_err().to_string();
    assert!(again.contains("link_ends.node"), "{again}");
    // The ends go with their link, and only then the node can.
    connection.execute("DELETE FROM links", []).unwrap();
    assert_eq!(connection.query_row("SELECT count(*) FROM link_ends", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    connection.execute("DELETE FROM nodes", []).unwrap();
}

#[test]
fn the_audit_trail_only_grows() {
    let connection = filled();
    for sql in [
        "UPDATE audit SET name = 'other'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE seq = 1",
        "INSERT OR REPLACE INTO audit SELECT seq, at, subject, id, 'other', lab, action, NULL, NULL, \"trigger\", result, body FROM audit",
    ] {
        let error = connection.execute(sql, []).expect_err(sql).to_string();
        assert!(error.contains("audit rows are never"), "{sql}: {error}");
    }
    let name: String = connection.query_row("SELECT name FROM audit", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "n");
}

/// How SQLite goes about a statement.
fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let nulls = vec![rusqlite::types::Value::Null; statement.parameter_count()];
    let steps = statement.query_map(params_from_iter(nulls), |row| row.get::<_, String>(3)).unwrap();
    steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

/// What is dropped is looked for in the tables that refer to it, too.
#[test]
fn statements_search_by_index() {
    let connection = schema();
    let cases = [
        (LabRecord::UPDATE, "SEARCH labs USING INDEX sqlite_autoindex_labs_1 (id=?)"),
        (NodeRecord::UPDATE, "SEARCH nodes USING INDEX sqlite_autoindex_nodes_1 (id=?)"),
        (LinkRecord::UPDATE, "SEARCH links USING INDEX sqlite_autoindex_links_1 (id=?)"),
        (JobRecord::UPDATE, "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"),
        (HostRecord::UPDATE, "SEARCH hosts USING INDEX sqlite_autoindex_hosts_1 (name=?)"),
        (
            encode::DROP_LAB,
            "SEARCH labs USING INDEX sqlite_autoindex_labs_1 (id=?); \
             SEARCH links USING COVERING INDEX links_by_lab (lab=?); \
             SEARCH nodes USING COVERING INDEX sqlite_autoindex_nodes_2 (lab=?)",
        ),
        (
            encode::DROP_NODE,
            "SEARCH nodes USING INDEX sqlite_autoindex_nodes_1 (id=?); \
             SEARCH link_ends USING INDEX link_ends_by_node (node=?)",
        ),
        (
            encode::DROP_LINK,
            "SEARCH links USING INDEX sqlite_autoindex_links_1 (id=?); SEARCH link_ends USING PRIMARY KEY (link=?)",
        ),
        (encode::DROP_JOB, "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"),
        (encode::CHANGE_ENDS, "SEARCH link_ends USING PRIMARY KEY (link=?)"),
        (reader::EVENTS_SINCE, "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"),
        (writer::OLDEST_EVENT, "SEARCH events"),
        (writer::PRUNE_EVENTS, "SEARCH events USING INTEGER PRIMARY KEY (rowid<?)"),
    ];
    for (sql, expected) in cases {
        assert_eq!(plan(&connection, sql), expected, "{sql}");
    }
}

#[test]
fn audit_queries_search_by_index_and_need_no_sorting() {
    let connection = schema();
    for subject in [None, Some(SubjectKind::Node)] {
        for (id, lab, expected) in [
            (None, None, "SEARCH audit USING INTEGER PRIMARY KEY (rowid>?)"),
            (Some("x".to_owned()), None, "SEARCH audit USING INDEX audit_by_id (id=? AND rowid>?)"),
            (Some("x".to_owned()), Some(1), "SEARCH audit USING INDEX audit_by_id (id=? AND rowid>?)"),
            (None, Some(1), "SEARCH audit USING INDEX audit_by_lab (lab=? AND rowid>?)"),
        ] {
            let lab = lab.map(lifecycle_core::id::LabId::from_u64);
            let (sql, params) = reader::audit_query(&AuditQuery { subject, id, lab, after: 7, limit: 0 });
            assert_eq!(plan(&connection, &sql), expected, "{sql}");
            assert_eq!(connection.prepare(&sql).unwrap().parameter_count(), params.len());
        }
    }
}

#[test]
fn the_statements_of_a_record_name_every_column() {
    let connection = schema();
    for (table, select) in [
        (LabRecord::NAME, LabRecord::SELECT),
        (NodeRecord::NAME, NodeRecord::SELECT),
        (LinkRecord::NAME, LinkRecord::SELECT),
        (JobRecord::NAME, JobRecord::SELECT),
        (HostRecord::NAME, HostRecord::SELECT),
        (AuditRow::NAME, AuditRow::SELECT),
    ] {
        let sql = "SELECT group_concat('\"' || name || '\"', ', ') FROM pragma_table_info(?) WHERE name <> 'body'";
        let columns: String = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
        assert_eq!(select, format!("{columns}, body"), "{table}");
    }
}
