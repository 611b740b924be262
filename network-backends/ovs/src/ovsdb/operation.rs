//! Operations of a transaction and what comes of them (RFC 7047, section 5.2).

use serde_json::{Value, json};

use super::value::{Row, Uuid, uuid};

/// One operation of a transaction: all of them take effect, or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation(Value);

/// A condition on a row: column, function, value.
pub type Condition<'a> = (&'a str, &'a str, Value);

fn conditions(all: &[Condition<'_>]) -> Value {
    all.iter().map(|(column, function, value)| json!([column, function, value])).collect()
}

impl Operation {
    /// Inserts a row, to which other operations refer by `name`.
    pub fn insert(table: &str, name: &str, row: Value) -> Self {
        Self(json!({ "op": "insert", "table": table, "uuid-name": name, "row": row }))
    }

    /// Overwrites columns of the rows that meet all conditions.
    pub fn update(table: &str, which: &[Condition<'_>], row: Value) -> Self {
        Self(json!({ "op": "update", "table": table, "where": conditions(which), "row": row }))
    }

    /// Changes columns of the rows that meet all conditions, relative to their values: column, mutator, value.
    pub fn mutate(table: &str, which: &[Condition<'_>], mutations: &[Condition<'_>]) -> Self {
        let (which, mutations) = (conditions(which), conditions(mutations));
        Self(json!({ "op": "mutate", "table": table, "where": which, "mutations": mutations }))
    }

    /// Deletes the rows that meet all conditions.
    pub fn delete(table: &str, which: &[Condition<'_>]) -> Self {
        Self(json!({ "op": "delete", "table": table, "where": conditions(which) }))
    }

    /// Reads columns of the rows that meet all conditions.
    pub fn select(table: &str, which: &[Condition<'_>], columns: &[&str]) -> Self {
        Self(json!({ "op": "select", "table": table, "where": conditions(which), "columns": columns }))
    }

    /// Fails the transaction, at once, unless the rows that meet all conditions have just these values in these columns.
    pub fn wait(table: &str, which: &[Condition<'_>], columns: &[&str], rows: &[Value]) -> Self {
        let which = conditions(which);
        Self(json!({
            "op": "wait", "timeout": 0, "table": table, "where": which, "columns": columns, "until": "==", "rows": rows
        }))
    }

    /// Leaves a word about the transaction in the server's log.
    pub fn comment(text: &str) -> Self {
        Self(json!({ "op": "comment", "comment": text }))
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

/// What came of one operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// The row that was inserted.
    pub uuid: Option<Uuid>,
    /// How many rows were changed.
    pub count: u64,
    /// What was read.
    pub rows: Vec<Row>,
}

/// A transaction that was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database refused: {error}{}", details.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct Refused {
    /// Which operation; none when the whole was refused at commit.
    pub operation: Option<usize>,
    /// The server's word for it.
    pub error: String,
    /// The server's explanation.
    pub details: Option<String>,
}

impl Refused {
    /// Whether what a [`Operation::wait`] demanded was not so.
    pub fn is_outdated(&self) -> bool {
        self.error == "timed out"
    }

    /// Whether something of that name exists already.
    pub fn is_duplicate(&self) -> bool {
        self.error == "constraint violation"
    }
}

/// Reads the answer to a transaction of `count` operations.
///
/// # Errors
/// [`Refused`], when one operation failed or the commit did.
pub fn read_answer(answer: &Value, count: usize) -> Result<Vec<Done>, Refused> {
    let strange = || Refused { operation: None, error: "an answer of another shape".into(), details: None };
    let results = answer.as_array().ok_or_else(strange)?;
    for (index, result) in results.iter().enumerate() {
        if let Some(error) = result["error"].as_str() {
            let details = result["details"].as_str().map(str::to_owned);
            return Err(Refused { operation: (index < count).then_some(index), error: error.to_owned(), details });
        }
    }
    if results.len() < count {
        return Err(strange());
    }
    let read = |result: &Value| Done {
        uuid: uuid(&result["uuid"]).map(Uuid::new),
        count: result["count"].as_u64().unwrap_or_default(),
        rows: result["rows"].as_array().map(|rows| rows.iter().cloned().map(Row::new).collect()).unwrap_or_default(),
    };
    Ok(results.iter().take(count).map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an ovsdb-server 3.1 answers.
    #[test]
    fn answers_are_read() {
        let answer = json!([{ "uuid": ["uuid", "36bef046"] }, { "count": 1 }, { "rows": [{ "next_cfg": 7 }] }, {}]);
        let done = read_answer(&answer, 4).unwrap();
        assert_eq!(done[0].uuid, Some(Uuid::new("36bef046")));
        assert_eq!((done[1].count, done[2].rows[0].integer("next_cfg")), (1, Some(7)));
        assert_eq!(done[3], Done::default());
    }

    #[test]
    fn refusals_are_told_apart() {
        let at_wait = json!([{}, { "error": "timed out", "details": "\"where\" clause" }, null]);
        let refused = read_answer(&at_wait, 3).unwrap_err();
        assert!(refused.is_outdated() && refused.operation == Some(1), "{refused:?}");
        let details = "Transaction causes multiple rows in \"Port\" table to have identical values";
        let at_commit = json!([{}, {}, { "error": "constraint violation", "details": details }]);
        let refused = read_answer(&at_commit, 2).unwrap_err();
        assert!(refused.is_duplicate() && refused.operation.is_none());
        assert!(refused.to_string().contains("identical values"), "{refused}");
        for odd in [json!(null), json!([]), json!({ "x": 1 })] {
            assert!(read_answer(&odd, 1).is_err());
        }
    }
}
