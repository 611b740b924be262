//! `docs/state-machines.md` is generated from the tables; this test fails when it is stale.
//!
//! `UPDATE_DOCS=1 cargo test -p lifecycle-core --test state_machines_doc` rewrites it.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;

use lifecycle_core::machine::{
    CarrierState, FleetState, HostState, ImageState, InstallState, JobState, Lifecycle, LinkState, NodeState,
    TunnelState, mermaid,
};

const INTRODUCTION: &str = "# State machines

<!-- Generated from the tables in lifecycle-core/src/machine; do not edit. Rewrite it with
     UPDATE_DOCS=1 cargo test -p lifecycle-core --test state_machines_doc -->

A change that somebody commands obeys these tables; anything else is refused, and the refusal lists what is valid. A
change that was observed is always accepted, since the world is right, and is marked as drift when the table lacks it.
";

fn section<S: Lifecycle>(text: &mut String, title: &str) {
    write!(text, "\n## {title}\n\n| from | may go to |\n|---|---|\n").unwrap();
    for &from in S::VARIANTS {
        let to: Vec<String> = from.next().iter().map(S::to_string).collect();
        let to = if to.is_empty() { "(final)".to_owned() } else { to.join(", ") };
        writeln!(text, "| {from} | {to} |").unwrap();
    }
    write!(text, "\n```mermaid\n{}```\n", mermaid::<S>()).unwrap();
}

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    section::<NodeState>(&mut text, "Node");
    section::<LinkState>(&mut text, "Link");
    section::<JobState>(&mut text, "Job");
    section::<HostState>(&mut text, "Host");
    section::<TunnelState>(&mut text, "Tunnel");
    section::<CarrierState>(&mut text, "Carrier");
    section::<ImageState>(&mut text, "Image on a host");
    section::<InstallState>(&mut text, "Installed machine");
    section::<FleetState>(&mut text, "Fleet host");
    text
}

#[test]
fn the_document_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/state-machines.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == document(), "docs/state-machines.md is stale; run this test with UPDATE_DOCS=1 to rewrite it");
}
