//! Every file of a folder of containerlab's own labs and tests loads, or is refused for the reason for which containerlab
//! refuses it. The folder is not part of this repository: `LIFECYCLE_FIXTURES` names it, or it stands beside the
//! repository. Where it is absent each case is shown as ignored, or fails if `LIFECYCLE_TEST_REQUIRE` has `fixtures`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use lifecycle_topology::{Options, load};

/// What is expected of one file of the folder.
enum Expect {
    /// It is a lab, with so many nodes and links.
    Lab(usize, usize),
    /// It is a file of variables for the lab beside it, which then has so many nodes and links.
    Vars(&'static str, usize, usize),
    /// Containerlab refuses it, and this is part of our reason.
    Refused(&'static str),
    /// It is neither a lab nor variables, but what is said here.
    Other(&'static str),
}
use Expect::{Lab, Other, Refused, Vars};

const FRR: &str = "configuration that a node binds";
const GOMPLATE: &str = "template for the program gomplate, run by the lab's user";

#[rustfmt::skip]
const FILES: &[(&str, Expect)] = &[
    ("LICENSE", Other("licence of these files")),
    ("core/test_data/topo1.yml", Lab(2, 0)),
    ("core/test_data/topo11-ext-cont.yaml", Lab(2, 0)),
    ("core/test_data/topo13.yml", Lab(1, 0)),
    ("core/test_data/topo15.yml", Lab(1, 0)),
    ("core/test_data/topo17.yml", Lab(2, 0)),
    ("core/test_data/topo3.yml", Lab(2, 0)),
    ("core/test_data/topo5.yml", Lab(1, 0)),
    // Containerlab's own test expects: root network namespace endpoint "eth76" defined by multiple nodes.
    ("core/test_data/topo7-dup-rootnetns.yml", Refused("`eth76` exists once in the host's network namespace")),
    ("core/test_data/topo8_nornir_groups.yml", Lab(4, 0)),
    ("core/test_data/topo_inv_defaults_creds.yml", Lab(2, 0)),
    ("core/test_data/topo_inv_two_node_passwords.yml", Lab(2, 0)),
    ("lab-examples/asav01/asav01.clab.yml", Lab(3, 2)),
    ("lab-examples/br01/br01.clab.yml", Lab(4, 3)),
    ("lab-examples/cert01/cert01.clab.yml", Lab(1, 0)),
    ("lab-examples/ciena_saos/ciena_saos.clab.yml", Lab(2, 1)),
    ("lab-examples/clos01/clos01.clab.yml", Lab(5, 4)),
    ("lab-examples/clos02/clos02.clab.yml", Lab(14, 16)),
    ("lab-examples/clos02/setup.clos02.clab.yml", Lab(14, 16)),
    ("lab-examples/cvx01/topo.clab.yml", Lab(2, 1)),
    ("lab-examples/cvx02/topo.clab.yml", Lab(2, 1)),
    ("lab-examples/f5bigipve01/f5bigipve01.clab.yml", Lab(2, 1)),
    ("lab-examples/fortigate/fortigate.clab.yml", Lab(2, 1)),
    ("lab-examples/freebsd01/freebsd01.clab.yml", Lab(3, 2)),
    ("lab-examples/frr01/README.md", Other("text about the lab")),
    ("lab-examples/frr01/frr01.clab.yml", Lab(6, 6)),
    ("lab-examples/frr01/router1/daemons", Other(FRR)),
    ("lab-examples/frr01/router1/frr.conf", Other(FRR)),
    ("lab-examples/frr01/router2/daemons", Other(FRR)),
    ("lab-examples/frr01/router2/frr.conf", Other(FRR)),
    ("lab-examples/frr01/router3/daemons", Other(FRR)),
    ("lab-examples/frr01/router3/frr.conf", Other(FRR)),
    ("lab-examples/ftdv01/ftdv01.yml", Lab(3, 2)),
    ("lab-examples/generic_vm01/generic_vm.clab.yml", Lab(2, 1)),
    ("lab-examples/ixiac01/ixiac01.clab.yml", Lab(2, 2)),
    ("lab-examples/k8s_kind01/k8s_kind01.clab.yml", Lab(6, 3)),
    ("lab-examples/openbsd01/openbsd01.yml", Lab(3, 2)),
    ("lab-examples/ost-srl/ost-srl.clab.yml", Lab(2, 2)),
    ("lab-examples/osvbng01/osvbng01.clab.yml", Lab(3, 2)),
    ("lab-examples/sonic01/sonic01.clab.yml", Lab(2, 1)),
    ("lab-examples/sr-sim/lab-distributed-components.clab.yaml", Lab(2, 2)),
    ("lab-examples/sr-sim/lab-distributed.clab.yaml", Lab(8, 2)),
    ("lab-examples/sr-sim/lab-integrated.clab.yaml", Lab(2, 2)),
    ("lab-examples/sr-sim/lab.clab.yaml", Lab(5, 3)),
    ("lab-examples/sr-sim/sr-14s-components.clab.yaml", Lab(1, 3)),
    ("lab-examples/sr-sim/sr-14s.clab.yaml", Lab(8, 2)),
    ("lab-examples/sr-sim/sr-2s.clab.yaml", Lab(4, 2)),
    ("lab-examples/sr-sim/sros-srl.clab.yml", Lab(2, 1)),
    ("lab-examples/srl-quickstart/srl01.clab.yml", Lab(1, 0)),
    ("lab-examples/srl-quickstart/srl02.clab.yml", Lab(2, 2)),
    ("lab-examples/srl01/srl01.clab.yml", Lab(1, 0)),
    ("lab-examples/srl02/srl02.clab.yml", Lab(2, 1)),
    ("lab-examples/srl03/srl03.clab.yml", Lab(8, 18)),
    ("lab-examples/srlarcos01/srlarcos01.clab.yml", Lab(2, 1)),
    ("lab-examples/srlceos01/srlceos01.clab.yml", Lab(2, 1)),
    ("lab-examples/srlcjunosevo/srlcjunosevo.clab.yml", Lab(2, 3)),
    ("lab-examples/srlcrpd01/srlcrpd01.clab.yml", Lab(2, 1)),
    ("lab-examples/srlfrr01/srlfrr01.clab.yml", Lab(2, 1)),
    ("lab-examples/srlvjunos01/srlvjunos01.clab.yml", Lab(2, 3)),
    ("lab-examples/srlvjunos02/srlvjunos02.clab.yml", Lab(2, 3)),
    ("lab-examples/srlxrd01/srlxrd01.clab.yml", Lab(2, 1)),
    ("lab-examples/templated01/configure.sh", Other("script that configures the running lab")),
    ("lab-examples/templated01/templated01.clab.gotmpl", Lab(6, 8)),
    ("lab-examples/templated01/templated01.clab_vars.yaml", Vars("templated01.clab.gotmpl", 6, 8)),
    ("lab-examples/templated01/topology_config.gotmpl", Other(GOMPLATE)),
    ("lab-examples/templated02/configure.sh", Other("script that configures the running lab")),
    ("lab-examples/templated02/templated02.clab.gotmpl", Lab(26, 48)),
    ("lab-examples/templated02/templated02.clab_vars.yaml", Vars("templated02.clab.gotmpl", 26, 48)),
    ("lab-examples/templated02/topology_config.gotmpl", Other(GOMPLATE)),
    ("lab-examples/vr01/vr01.clab.yml", Lab(2, 1)),
    ("lab-examples/vr02/vr02.clab.yml", Lab(2, 1)),
    ("lab-examples/vr03/vr03.clab.yml", Lab(2, 1)),
    ("lab-examples/vr04/vr04.clab.yml", Lab(2, 1)),
    ("lab-examples/vr05/sros4.clab.yml", Lab(4, 4)),
    ("lab-examples/vr05/vr01.clab.yml", Lab(2, 1)),
    ("lab-examples/vsrx01/vsrx01.yml", Lab(3, 2)),
    ("lab-examples/vxlan01/vxlan-sros.clab.yml", Lab(1, 2)),
    ("lab-examples/vxlan01/vxlan-vmx.clab.yml", Lab(1, 2)),
    ("schemas/clab.schema.json", Other("JSON schema for editors")),
    ("tests/01-smoke/01-linux-nodes.clab.yml", Lab(3, 6)),
    ("tests/01-smoke/03-linux-nodes-to-bridge-and-host.clab.yml", Lab(3, 3)),
    ("tests/01-smoke/07-linux-single-node.clab.yml", Lab(1, 0)),
    ("tests/01-smoke/10-internal-ca.clab.yml", Lab(3, 0)),
    ("tests/01-smoke/16-mgmtnetinterface.clab.yml", Lab(1, 1)),
    ("tests/01-smoke/24-bridge-in-ns.clab.yaml", Lab(3, 1)),
    ("tests/01-smoke/27-exited-container-cli.clab.yml", Lab(1, 1)),
    ("tests/01-smoke/29-apply.clab.yml", Lab(6, 3)),
    ("tests/01-smoke/29-apply.vars.add-node.yml", Vars("29-apply.clab.yml", 7, 4)),
    ("tests/01-smoke/29-apply.vars.deploy-drift.yml", Vars("29-apply.clab.yml", 6, 3)),
    ("tests/01-smoke/30-bridge-reconcile.clab.yml", Lab(2, 2)),
    ("tests/01-smoke/30-bridge-reconcile.vars.remap.yml", Vars("30-bridge-reconcile.clab.yml", 2, 2)),
    ("tests/01-smoke/netmodes.clab.yml", Lab(2, 0)),
    ("tests/01-smoke/single-topo-folder/lab1.clab.yml", Lab(1, 0)),
    ("tests/01-smoke/stages.clab.yml", Lab(4, 4)),
];

fn main() {
    let folder = std::env::var_os("LIFECYCLE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/containerlab"),
        PathBuf::from,
    );
    let is_there = folder.is_dir();
    let is_required =
        std::env::var("LIFECYCLE_TEST_REQUIRE").is_ok_and(|list| list.split(',').any(|what| what.trim() == "fixtures"));
    let trial = |name: String, test: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
        if is_there {
            Trial::test(name, test)
        } else if is_required {
            Trial::test(name, || Err("the folder of fixtures is required and absent: set LIFECYCLE_FIXTURES".into()))
        } else {
            Trial::test(name, test).with_ignored_flag(true).with_kind("absent: set LIFECYCLE_FIXTURES")
        }
    };
    let mut trials: Vec<Trial> = FILES
        .iter()
        .map(|(name, expected)| {
            let path = folder.join(name);
            trial(title(name, expected), Box::new(move || check(&path, expected)))
        })
        .collect();
    trials.push(trial("no file is left out".to_owned(), Box::new(move || compare(&folder))));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The name of a case, which says what is expected.
fn title(name: &str, expected: &Expect) -> String {
    match expected {
        Lab(nodes, links) => format!("{name}: {nodes} nodes, {links} links"),
        Vars(lab, nodes, links) => format!("{name}: variables of {lab}, {nodes} nodes, {links} links"),
        Refused(reason) => format!("{name}: refused, {reason}"),
        Other(what) => format!("{name}: {what}"),
    }
}

fn check(path: &Path, expected: &Expect) -> Result<(), Failed> {
    let count = |path: &Path, vars: Vec<PathBuf>| {
        let loaded = load(path, &Options { vars, ..Options::default() }).map_err(|error| error.to_string())?;
        Ok::<_, String>((loaded.topology.nodes.len(), loaded.topology.links.len()))
    };
    let same = |found: (usize, usize), expected: (usize, usize)| {
        if found == expected { Ok(()) } else { Err(format!("found {found:?} nodes and links, expected {expected:?}")) }
    };
    Ok(match expected {
        Lab(nodes, links) => same(count(path, Vec::new())?, (*nodes, *links)),
        Vars(lab, nodes, links) => same(count(&path.with_file_name(lab), vec![path.to_owned()])?, (*nodes, *links)),
        Refused(reason) => match count(path, Vec::new()) {
            Err(error) if error.contains(reason) => Ok(()),
            Err(error) => Err(format!("refused for another reason: {error}")),
            Ok(found) => Err(format!("loaded, with {found:?} nodes and links")),
        },
        Other(_) if path.is_file() => Ok(()),
        Other(_) => Err("the file is gone".to_owned()),
    }?)
}

/// Compares the table with what is in the folder.
fn compare(folder: &Path) -> Result<(), Failed> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_string_lossy().into_owned());
            }
        }
    }
    let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let difference: Vec<_> = listed.symmetric_difference(&found).collect();
    if difference.is_empty() {
        Ok(())
    } else {
        Err(format!("not in the table, or not in the folder: {difference:?}").into())
    }
}
