//! What the switch's database tells of links.

use std::sync::Arc;

use lifecycle_core::id::LinkId;
use lifecycle_core::policy::naming::OurName;
use lifecycle_linux::wiring::News;

use crate::ovsdb::{Change, Heard};

/// Passes on what the database tells.
pub(crate) fn listener(news: Arc<News>) -> impl Fn(Heard<'_>) + Send + Sync + 'static {
    move |heard| match heard {
        Heard::Synced | Heard::Lost => news.resync(),
        Heard::Changed(changes) => news.heard(changes.iter().filter_map(disturbed)),
    }
}

/// The link that a change in the database makes doubtful.
fn disturbed(change: &Change) -> Option<LinkId> {
    let old = change.old.as_ref()?;
    let columns: &[&str] = match change.table.as_str() {
        "Port" => &["name", "interfaces", "tag", "vlan_mode"],
        "Interface" => &["name", "type", "options", "ofport", "ifindex", "error"],
        _ => return None,
    };
    let Some(OurName::LinkEnd { link, .. }) = OurName::parse(old.text("name")?) else { return None };
    let Some(new) = &change.new else { return Some(link) };
    // That the switch fills in what it finds out of a new port is no news, unless it is an error.
    let differs = |column: &&&str| {
        old.get(column) != new.get(column) && (old.elements(column).next().is_some() || **column == "error")
    };
    columns.iter().find(differs).map(|_| link)
}
