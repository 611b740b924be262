//! Every lab of `labs/` loads, would be deployed by this program, and says what it shows and what to try.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use lifecycle_controller::config::Config;
use lifecycle_controller::embedded::world;
use lifecycle_engine::decide;
use lifecycle_topology::{Options, check_deployment, load};

/// Name of the file, number of nodes, number of links.
const LABS: [(&str, usize, usize); 6] = [
    ("health.clab.yml", 3, 1),
    ("names.clab.yml", 3, 0),
    ("quickstart.clab.yml", 3, 2),
    ("ring-of-ten.clab.yml", 10, 10),
    ("switch.clab.yml", 4, 3),
    ("triangle.clab.yml", 3, 3),
];

#[test]
fn every_lab_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../labs");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".clab.yml") {
            files.insert(name, path);
        }
    }
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, LABS.map(|(name, ..)| name), "labs and this table");
    let world = world(&Config::default()).unwrap();
    for (name, nodes, links) in LABS {
        let options = Options { strict: true, ..Options::default() };
        let topology = load(&files[name], &options).unwrap_or_else(|error| panic!("{error}")).topology;
        assert_eq!((topology.nodes.len(), topology.links.len()), (nodes, links), "{name}");
        assert_eq!(format!("{}.clab.yml", topology.name), name, "a lab is called what its file is called");
        decide::plan(&world, &topology).unwrap_or_else(|error| panic!("{name}: {error}"));
        let refusals = check_deployment(&topology, &options.permissions, &|path| std::fs::canonicalize(path));
        assert!(refusals.is_empty(), "{name}: {refusals:?}");
        let text = std::fs::read_to_string(&files[name]).unwrap();
        for heading in ["# What it shows", "# What to try", &format!("labs/{name}")] {
            assert!(text.contains(heading), "{name} lacks `{heading}`");
        }
    }
}
