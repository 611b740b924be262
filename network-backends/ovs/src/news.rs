//! What the switch's database tells of links.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle_core::id::LinkId;
use lifecycle_core::policy::naming::OurName;
use lifecycle_linux::wiring::News;
use lifecycle_linux::wiring::label::text_link;

use crate::alive::Health;
use crate::ovsdb::{Change, Heard, Row};
use crate::switch::{CONTROLLER, LABEL};

/// Passes on what the database tells.
pub(crate) fn listener(news: Arc<News>, health: Arc<Health>) -> impl Fn(Heard<'_>) + Send + Sync + 'static {
    let tags = Mutex::new(Tags::default());
    move |heard| {
        let mut tags = tags.lock().unwrap_or_else(PoisonError::into_inner);
        health.note(&heard);
        match heard {
            Heard::Synced(rows) => {
                *tags = Tags::default();
                rows.iter().for_each(|row| {
                    tags.note(row);
                });
                news.resync();
            }
            Heard::Lost | Heard::Holder { .. } => news.resync(),
            Heard::Changed(changes) => {
                if changes.iter().any(is_of_all) {
                    news.resync();
                }
                let intruded: Vec<LinkId> = changes.iter().filter_map(|change| tags.note(change)).collect();
                news.heard(changes.iter().filter_map(disturbed).chain(intruded));
            }
        }
    }
}

/// The segments of links, so that it is noticed when somebody else's port is put on one.
#[derive(Debug, Default)]
struct Tags(HashMap<i64, LinkId>);

impl Tags {
    /// Takes in a change; the link on whose segment somebody else's port is now.
    fn note(&mut self, change: &Change) -> Option<LinkId> {
        let row = change.new.as_ref().or(change.old.as_ref()).filter(|_| change.table == "Port")?;
        let tag = |row: &Option<Row>| row.as_ref().and_then(|row| row.integer("tag"));
        let (old, new) = (tag(&change.old), tag(&change.new));
        let Some(link) = link_of(row) else {
            return new.filter(|_| new != old).and_then(|tag| self.0.get(&tag).copied());
        };
        if let Some(old) = old.filter(|old| new != Some(*old) && self.0.get(old) == Some(&link)) {
            self.0.remove(&old);
        }
        self.0.extend(new.map(|tag| (tag, link)));
        None
    }
}

/// Whether a change is one of a bridge of Lifecycle's, and so one of all its links.
fn is_of_all(change: &Change) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return false };
    change.table == "Bridge"
        && ["datapath_type", "other_config"].iter().any(|column| old.get(column) != new.get(column))
        && old.map("external_ids").contains_key(CONTROLLER)
}

/// The link that a port or an interface belongs to by its label or, where somebody took that off, by its name.
fn link_of(row: &Row) -> Option<LinkId> {
    let labelled = row.map("external_ids").get(LABEL).and_then(|text| text_link(text));
    labelled.or_else(|| match OurName::parse(row.text("name")?) {
        Some(OurName::LinkEnd { link, .. }) => Some(link),
        _ => None,
    })
}

/// The link that a change in the database makes doubtful.
fn disturbed(change: &Change) -> Option<LinkId> {
    let old = change.old.as_ref()?;
    let (link, columns): (_, &[&str]) = match change.table.as_str() {
        "Port" => (link_of(old)?, &["name", "interfaces", "tag", "vlan_mode"]),
        "Interface" => (link_of(old)?, &["name", "type", "options", "ofport", "ifindex", "error"]),
        _ => return None,
    };
    let Some(new) = &change.new else { return Some(link) };
    // That the switch fills in what it finds out of a new port is no news, unless it is an error.
    let differs = |column: &&&str| {
        old.get(column) != new.get(column) && (old.elements(column).next().is_some() || **column == "error")
    };
    columns.iter().find(differs).map(|_| link)
}
