//! What a monitor has told of the database: a copy of the tables that are watched.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::value::{Row, Uuid};

/// A copy of the tables that are watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replica {
    tables: HashMap<String, Table>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Table {
    rows: HashMap<Uuid, Row>,
    names: HashMap<String, Uuid>,
}

/// A row that came, changed or went.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its table.
    pub table: String,
    /// Which row.
    pub uuid: Uuid,
    /// How it was; none if it is new.
    pub old: Option<Row>,
    /// How it is; none if it is gone.
    pub new: Option<Row>,
}

impl Replica {
    /// Takes in the table updates of a monitor's answer or of an update notification (RFC 7047, section 4.1.6).
    pub fn apply(&mut self, updates: Value) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, rows) in members(updates) {
            let table = self.tables.entry(name.clone()).or_default();
            for (uuid, mut update) in members(rows) {
                let uuid = Uuid::new(uuid);
                let new = update.get_mut("new").map(Value::take).filter(Value::is_object).map(Row::new);
                let old = match &new {
                    Some(new) => table.rows.insert(uuid.clone(), new.clone()),
                    None => table.rows.remove(&uuid),
                };
                if let Some(name) = old.as_ref().and_then(|row| row.text("name"))
                    && table.names.get(name) == Some(&uuid)
                {
                    table.names.remove(name);
                }
                if let Some(name) = new.as_ref().and_then(|row| row.text("name")) {
                    table.names.insert(name.to_owned(), uuid.clone());
                }
                changes.push(Change { table: name.clone(), uuid, old, new });
            }
        }
        changes
    }

    /// A row by its identifier.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<&Row> {
        self.tables.get(table)?.rows.get(uuid)
    }

    /// A row by its name, in a table whose names are unique.
    pub fn named(&self, table: &str, name: &str) -> Option<(&Uuid, &Row)> {
        let table = self.tables.get(table)?;
        table.rows.get_key_value(table.names.get(name)?)
    }

    /// The rows of a table that a column of another one refers to.
    pub fn referred<'a>(
        &'a self,
        row: &'a Row,
        column: &str,
        table: &str,
    ) -> impl Iterator<Item = (&'a Uuid, &'a Row)> + use<'a> {
        let table = self.tables.get(table);
        row.references(column).filter_map(move |uuid| table?.rows.get_key_value(uuid))
    }

    /// All rows of a table.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.tables.get(table).into_iter().flat_map(|table| &table.rows)
    }
}

/// The members of an object; none of anything else.
fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_come_change_and_go() {
        let mut replica = Replica::default();
        let first = json!({ "Port": { "u1": { "new": { "name": "p", "tag": 1 } }, "u2": { "new": { "name": "q", "tag": 2 } } } });
        assert_eq!(replica.apply(first).len(), 2);
        // What a server sends of a changed row: the old values of what changed, and the whole of the new ones.
        let changes =
            replica.apply(json!({ "Port": { "u1": { "old": { "tag": 1 }, "new": { "name": "p", "tag": 9 } } } }));
        assert_eq!(changes[0].old.as_ref().unwrap().integer("tag"), Some(1));
        assert_eq!(replica.named("Port", "p").unwrap().1.integer("tag"), Some(9));
        // A row may take the name of one that goes in the same transaction, in whatever order they are told.
        let swap = json!({ "Port": { "u0": { "new": { "name": "p", "tag": 3 } }, "u1": { "old": { "name": "p" } } } });
        replica.apply(swap);
        assert_eq!(replica.named("Port", "p").unwrap().0, &Uuid::new("u0"));
        let gone = replica.apply(json!({ "Port": { "u2": { "old": { "name": "q", "tag": 2 } } } }));
        assert!(gone[0].new.is_none() && replica.named("Port", "q").is_none());
        assert_eq!(replica.rows("Port").count(), 1);
        for odd in [json!(null), json!({ "Port": 3 }), json!({ "Port": { "x": 1 } })] {
            replica.apply(odd);
        }
    }
}
